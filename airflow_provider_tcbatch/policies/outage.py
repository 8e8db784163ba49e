"""The API can't be asked: which errors say so, how long the pauses are, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from airflow_provider_tcbatch.exceptions import ApiUnavailable, InfrastructureError, Throttled

__all__ = ["Outage", "can_not_be_asked", "outage_pause", "patient_until", "utc"]

#: Shortest and longest pause between two questions to an API that is away, in seconds.
_SHORTEST, _LONGEST = 4.0, 60.0


@dataclass(frozen=True, slots=True)
class Outage:
    """Since when the API can't be asked.

    :param since: unix seconds of the first question that failed.
    :param error: why the last one failed.
    :param until: unix seconds of the first answer; ``None`` as long as it is away.
    """

    since: float
    error: str = ""
    until: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"since": self.since, "error": self.error, "until": self.until}

    def __str__(self) -> str:
        """What a task's log says of it."""
        if self.until is None:
            return f"The API of Batch can't be asked since {utc(self.since)}: {self.error}"
        return (
            f"The API of Batch can be asked again: it could not from {utc(self.since)} to {utc(self.until)} "
            f"({self.until - self.since:.0f} s)"
        )


def can_not_be_asked(error: BaseException) -> bool:
    """Whether an error says that the API can't be asked now, and nothing about the request, or what it is about.

    The service is down or overloaded, can't be reached, does not answer in time, or takes no more requests a second.

    :param error: the error.
    """
    if isinstance(error, ApiUnavailable):
        return False  # whoever raised it has been patient already
    return isinstance(error, (InfrastructureError, Throttled)) and error.retryable


def outage_pause(failures: int, spread: float) -> float:
    """Seconds until the API is asked again: 3 to 5 at first, 45 to 75 at last.

    :param failures: how often it could not be asked so far, at least 1.
    :param spread: a random number from 0 to 1, so that not all come back at once.
    """
    return min(_LONGEST, _SHORTEST * float(2 ** min(failures - 1, 10))) * (0.75 + spread / 2)


def patient_until(since: float, limit: float | None, patience: float) -> float:
    """Until when to go on, in unix seconds.

    :param since: when the outage began.
    :param limit: when a limit of the task's own is reached, which decides if there is one; one that was reached before
        the outage began does not count.
    :param patience: seconds to go on without such a limit: ``[tcbatch] api_patience``.
    """
    return limit if limit is not None and limit > since else since + patience


def utc(at: float) -> str:
    """An instant for a message: ``12:34:56 UTC``.

    :param at: unix seconds.
    """
    return f"{datetime.fromtimestamp(at, timezone.utc):%H:%M:%S} UTC"
