"""How often to look at something that has not ended yet."""

from __future__ import annotations

__all__ = ["LONGEST", "pace", "quota_pause"]

#: Most seconds of any limit or pause, a hundred years: Python itself refuses to wait for more than some centuries.
LONGEST = 100 * 365 * 86_400.0


def pace(age: float, slowest: float) -> float:
    """Seconds until the next look: young jobs are looked at soon, old ones seldom.

    A short job is then noticed within about half of its own duration, a long one costs few calls.

    :param age: seconds since the wait began, or since something happened.
    :param slowest: longest time between two looks, in seconds.
    """
    return min(slowest, max(1.0, age / 2))


def quota_pause(attempts: int, spread: float) -> float:
    """Seconds until the next try to submit what a quota did not allow: 8 to 15 at first, 5 to 10 minutes at last.

    :param attempts: how often the quota has been in the way so far, at least 1.
    :param spread: a random number from 0 to 1, so that many tasks do not come back all at once.
    """
    longest: float = min(600.0, 15.0 * 2.0 ** min(attempts - 1, 10))
    return longest * (0.5 + spread / 2)
