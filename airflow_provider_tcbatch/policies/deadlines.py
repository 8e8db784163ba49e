"""When to give up, as instants on the wall clock: they mean the same in a worker and in a triggerer."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

__all__ = ["Deadlines", "Limit"]


class Limit(str, Enum):
    """Which limit was reached; the value is the name of the operator's argument."""

    TIMEOUT = "timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    EXECUTION_TIMEOUT = "execution_timeout"


class Deadlines(NamedTuple):
    """Instants in unix seconds; ``None`` where there is no limit.

    :param timeout: the job must have ended.
    :param queue_timeout: an instance of the job must have begun to run.
    :param execution_timeout: this try of the task must have ended.
    """

    timeout: float | None = None
    queue_timeout: float | None = None
    execution_timeout: float | None = None

    @classmethod
    def of(
        cls,
        *,
        submitted_at: float | None,
        try_started_at: float | None,
        timeout: float | None = None,
        queue_timeout: float | None = None,
        execution_timeout: float | None = None,
    ) -> Deadlines:
        """Turn durations into instants.

        :param submitted_at: unix seconds from which ``timeout`` and ``queue_timeout`` count.
        :param try_started_at: unix seconds from which ``execution_timeout`` counts.
        :param timeout: seconds.
        :param queue_timeout: seconds.
        :param execution_timeout: seconds.
        """
        return cls(
            _after(submitted_at, timeout),
            _after(submitted_at, queue_timeout),
            _after(try_started_at, execution_timeout),
        )

    def to_json(self) -> dict[str, float]:
        """Plain JSON, without the limits that are not set."""
        return {limit.value: at for limit in Limit if (at := getattr(self, limit.value)) is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Deadlines:
        """Read what :meth:`to_json` made."""
        return cls(**(data or {}))

    def next(self, *, started: bool) -> tuple[float, Limit] | None:
        """The earliest instant and its limit; ``None`` to wait for ever.

        :param started: whether an instance of the job has begun to run: the queue is left behind then.
        """
        instants = [
            (at, limit)
            for limit in Limit
            if (at := getattr(self, limit.value)) is not None and not (started and limit is Limit.QUEUE_TIMEOUT)
        ]
        return min(instants, key=lambda entry: entry[0], default=None)

    def reached(self, now: float, *, started: bool) -> Limit | None:
        """The limit that has been reached by ``now``, if one has."""
        first = self.next(started=started)
        return first[1] if first is not None and now >= first[0] else None


def _after(start: float | None, seconds: float | None) -> float | None:
    return None if start is None or seconds is None else start + seconds
