"""How often to look at something that has not ended yet."""

from __future__ import annotations

__all__ = ["pace"]


def pace(age: float, slowest: float) -> float:
    """Seconds until the next look: young jobs are looked at soon, old ones seldom.

    A short job is then noticed within about half of its own duration, a long one costs few calls.

    :param age: seconds since the wait began, or since something happened.
    :param slowest: longest time between two looks, in seconds.
    """
    return min(slowest, max(1.0, age / 2))
