"""The published limits of requests per second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# Tencent publishes two tables, for the site in China and for the international one. None: the international table does
# not have the action; it then has the other one's figure.
_PUBLISHED: dict[str, tuple[int, int | None]] = {
    # From a page of 2022: newer ones do not list SubmitJob.
    "SubmitJob": (20, 7),
    "DescribeJob": (50, 2),
    "DescribeJobs": (10, 2),
    "DescribeTask": (20, 3),
    "DescribeTaskLogs": (20, 20),
    "DescribeJobSubmitInfo": (20, 2),
    "DescribeJobMonitorData": (20, None),
    "TerminateJob": (10, 2),
    "TerminateTaskInstance": (2, 2),
    "RetryJobs": (10, 2),
    "DeleteJob": (30, 30),
    "CreateComputeEnv": (2, 2),
    "DeleteComputeEnv": (2, 2),
    "ModifyComputeEnv": (2, 2),
    "DescribeComputeEnv": (2, 2),
    "DescribeComputeEnvActivities": (2, 2),
    "DescribeComputeEnvCreateInfo": (2, 2),
    "DescribeComputeEnvs": (10, 2),
    "DescribeComputeEnvCreateInfos": (20, 20),
    "AttachInstances": (20, 20),
    "DetachInstances": (20, 20),
    "TerminateComputeNode": (20, 20),
    "TerminateComputeNodes": (20, 20),
    "CreateTaskTemplate": (2, 2),
    "DeleteTaskTemplates": (2, 2),
    "ModifyTaskTemplate": (2, 2),
    "DescribeTaskTemplates": (10, 2),
    "DescribeAvailableCvmInstanceTypes": (2, None),
    "DescribeCvmZoneInstanceConfigInfos": (5, None),
    "DescribeInstanceCategories": (20, None),
}
#: What Tencent's APIs allow where no page says otherwise.
_USUAL = 20


def limit(site: str, service: str, action: str, unlisted: int = 0) -> int:
    """Requests per second of an action.

    :param site: ``cn`` or ``intl``.
    :param unlisted: for actions that the international table does not have; 0: as in China.
    """
    if service == "tdmq":
        return _USUAL
    cn, intl = _PUBLISHED.get(action, (_USUAL, None))
    if site == "intl":
        return intl or unlisted or cn
    return cn


class RateLimiter:
    """Counts the calls of the last second by action and SecretId; refused ones do not count.

    :param now: a clock in seconds that never steps back. Clients do not send faster when jobs run faster, so it is not
        the clock of jobs.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._calls: dict[tuple[str, str, str], deque[float]] = {}

    def admit(self, site: str, service: str, action: str, secret_id: str, unlisted: int = 0) -> int | None:
        """Count a call.

        :return: None, or the limit that it would exceed.
        """
        allowed = limit(site, service, action, unlisted)
        calls = self._calls.setdefault((service, action, secret_id), deque(maxlen=allowed))
        if calls.maxlen != allowed:
            calls = self._calls[service, action, secret_id] = deque(calls, maxlen=allowed)
        now = self._now()
        # With the deque full its oldest call is the one that has to be a second ago.
        if len(calls) == allowed and now - calls[0] < 1.0:
            return allowed
        calls.append(now)
        return None
