"""Client-side request rates.

Tencent counts requests per API, access region and sub-account (CN figures: product documentation
599/30660; international: 599/30458), in windows of a second, while a window here lives in one process: so a process
takes only a share of the documented rate, halves it when the service throttles, and recovers slowly.

That is for what a triggerer reads at a pace of its own. What thousands of tasks send at once (jobs that are submitted,
ended, repaired) waits for a *place*: see :mod:`~airflow_provider_tcbatch.client.places`.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

__all__ = ["CN_LIMITS", "INTL_LIMITS", "RateLimiter", "rate_of"]

#: Requests per second on the Chinese site.
CN_LIMITS: Mapping[str, float] = {
    "SubmitJob": 20,
    "DescribeJob": 50,
    "DescribeJobs": 10,
    "DescribeTask": 20,
    "DescribeTaskLogs": 20,
    "DescribeJobSubmitInfo": 20,
    "DescribeJobMonitorData": 20,
    "TerminateJob": 10,
    "TerminateTaskInstance": 2,
    "RetryJobs": 10,
    "DeleteJob": 30,
    "DescribeComputeEnvs": 10,
    "DescribeComputeEnvCreateInfos": 20,
    "AttachInstances": 20,
    "DetachInstances": 20,
    "TerminateComputeNode": 20,
    "TerminateComputeNodes": 20,
    "DescribeTaskTemplates": 10,
    "DescribeCvmZoneInstanceConfigInfos": 5,
    "DescribeInstanceCategories": 20,
}

#: Requests per second on the international site, where they differ from the floor of 2.
INTL_LIMITS: Mapping[str, float] = {
    "DescribeTask": 3,
    "DescribeTaskLogs": 20,
    "DeleteJob": 30,
    "DescribeComputeEnvCreateInfos": 20,
    "AttachInstances": 20,
    "DetachInstances": 20,
    "TerminateComputeNode": 20,
    "TerminateComputeNodes": 20,
}

#: Every action without a figure of its own. TDMQ's Cmq* actions allow 20.
_FLOOR = 2.0
_CMQ_RATE = 20.0


def rate_of(action: str, limits: Mapping[str, float]) -> float:
    """Requests of an action that an account may send a second.

    :param limits: those with a figure of their own.
    """
    return limits.get(action, _CMQ_RATE if "Cmq" in action else _FLOOR)


#: How much longer than the service's window ours is: requests do not all take the same time on their way.
_MARGIN = 0.1

#: A throttled action works its way back to its full rate in about this many seconds.
_RECOVERY_SECONDS = 60.0
_LOWEST_FACTOR = 1 / 16


class _Window:
    """So many requests in any window of so many seconds. It hands out reservations: how long to wait before sending."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._most = max(1, int(rate))
        # Not shorter than the service's window: of a share that is no whole number it would hold more.
        self._seconds = max(1.0, self._most / rate) * (1.0 + _MARGIN)
        self._factor = 1.0
        self._clock = clock
        self._updated = clock()
        #: When the last requests were sent, or will be.
        self._sent: deque[float] = deque(maxlen=self._most)
        #: Those of them that were given back before their time: for whoever comes next, the earliest first.
        self._free: list[float] = []
        self._not_before = float("-inf")

    def _now(self) -> float:
        now = self._clock()
        self._factor = min(1.0, self._factor + max(0.0, now - self._updated) / _RECOVERY_SECONDS)
        self._updated = now
        return now

    def _next(self, now: float) -> float:
        full = len(self._sent) == self._most
        free = self._sent[0] + self._seconds / self._factor if full else now
        return max(now, free, self._not_before)

    def _given_back(self, now: float) -> float:
        """The earliest that was given back; infinite if there is none."""
        while self._free and self._free[0] < max(now, self._not_before):
            heapq.heappop(self._free)
        return self._free[0] if self._free else float("inf")

    def reserve(self) -> float:
        now = self._now()
        at = self._next(now)
        if self._given_back(now) <= at:
            return heapq.heappop(self._free) - now
        self._sent.append(at)
        return at - now

    def give_back(self, left: float) -> None:
        heapq.heappush(self._free, self._now() + left)

    def pause(self) -> float:
        now = self._now()
        if (free := self._given_back(now)) <= self._next(now):
            return free - now
        evenly = self._sent[-1] + self._seconds / self._factor / self._most if self._sent else now
        return max(self._next(now), evenly) - now

    def throttled(self) -> None:
        now = self._now()
        self._factor = max(_LOWEST_FACTOR, self._factor / 2)
        self._not_before = now + self._seconds / self._factor / self._most


class RateLimiter:
    """Windows for all actions of one account and access region.

    :param limits: requests per second by action.
    :param share: part of each limit that this process takes, 0 to 1.
    :param clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        limits: Mapping[str, float] = CN_LIMITS,
        share: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, it is {share}")
        self._limits = limits
        self._share = share
        self._clock = clock
        self._windows: dict[str, _Window] = {}
        # Sync calls may come from several threads; the lock is never held across a wait.
        self._lock = threading.Lock()

    def reserve(self, action: str) -> float:
        """Take a place in the line and return the seconds to wait before sending."""
        with self._lock:
            return self._window(action).reserve()

    def give_back(self, action: str, left: float) -> None:
        """Let others have a place whose time has not come: nothing is sent.

        :param left: seconds until then.
        """
        with self._lock:
            self._window(action).give_back(left)

    def pause(self, action: str) -> float:
        """Seconds to wait before a request is put together that is to go out at once.

        For those who can gather more meanwhile: their requests follow one another evenly, instead of a burst and a
        silence.
        """
        with self._lock:
            return self._window(action).pause()

    def throttled(self, action: str) -> None:
        """Note that the service refused ``action`` for its rate: go on at half of it."""
        with self._lock:
            self._window(action).throttled()

    def _window(self, action: str) -> _Window:
        if action not in self._windows:
            self._windows[action] = _Window(rate_of(action, self._limits) * self._share, self._clock)
        return self._windows[action]
