"""Client-side request rates.

Tencent counts requests per API, access region and sub-account (CN figures: product documentation
599/30660; international: 599/30458), while a bucket here lives in one process: so a process takes
only a share of the documented rate, halves it when the service throttles, and recovers slowly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

__all__ = ["CN_LIMITS", "INTL_LIMITS", "RateLimiter"]

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

#: A throttled action works its way back to its full rate in about this many seconds.
_RECOVERY_SECONDS = 60.0
_LOWEST_FACTOR = 1 / 16


class _Bucket:
    """Token bucket that hands out reservations: how long to wait before sending."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self.rate = rate
        self.factor = 1.0
        self._clock = clock
        self._tokens = self._burst
        self._updated = clock()

    @property
    def _burst(self) -> float:
        return max(1.0, self.rate * self.factor)

    def reserve(self) -> float:
        now = self._clock()
        passed = max(0.0, now - self._updated)
        self._updated = now
        self.factor = min(1.0, self.factor + passed / _RECOVERY_SECONDS)
        self._tokens = min(self._burst, self._tokens + passed * self.rate * self.factor)
        self._tokens -= 1
        return 0.0 if self._tokens >= 0 else -self._tokens / (self.rate * self.factor)

    def throttled(self) -> None:
        self.factor = max(_LOWEST_FACTOR, self.factor / 2)
        self._tokens = min(self._tokens, 0.0)


class RateLimiter:
    """Buckets for all actions of one account and access region.

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
        self._buckets: dict[str, _Bucket] = {}
        # Sync calls may come from several threads; the lock is never held across a wait.
        self._lock = threading.Lock()

    def reserve(self, action: str) -> float:
        """Take a place in the line and return the seconds to wait before sending."""
        with self._lock:
            return self._bucket(action).reserve()

    def throttled(self, action: str) -> None:
        """Note that the service refused ``action`` for its rate: go on at half of it."""
        with self._lock:
            self._bucket(action).throttled()

    def _bucket(self, action: str) -> _Bucket:
        if action not in self._buckets:
            default = _CMQ_RATE if "Cmq" in action else _FLOOR
            rate = self._limits.get(action, default) * self._share
            self._buckets[action] = _Bucket(rate, self._clock)
        return self._buckets[action]
