"""Hearing events as they are, for those who wait for one and not for what becomes of a job."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.background import Alarm

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["Ear"]

#: Events that wait to be taken. Who is slower than that loses the oldest ones, as with a queue that overflows.
_ROOM = 1000


class Ear:
    """Hears some of the events that a watcher's listener receives.

    :param wants: whether an event matters.
    :param forget: called with it when nobody listens any more.
    """

    __slots__ = ("_alarm", "_events", "_forget", "_wants")

    def __init__(self, wants: Callable[[BatchEvent], bool], forget: Callable[[Ear], None]) -> None:
        self._wants = wants
        self._forget = forget
        self._events: deque[tuple[BatchEvent, float]] = deque(maxlen=_ROOM)
        self._alarm = Alarm()

    def take(self, event: BatchEvent, received_at: float) -> bool:
        """Offer an event; says whether it matters."""
        if not self._wants(event):
            return False
        self._events.append((event, received_at))
        self._alarm.ring()
        return True

    @property
    def pending(self) -> bool:
        """Whether an event waits to be taken."""
        return bool(self._events)

    async def next(self, timeout: float | None = None) -> tuple[BatchEvent, float] | None:
        """Return the next event and when it arrived (unix seconds); ``None`` when ``timeout`` seconds passed."""
        if not self._events and (timeout is None or timeout > 0):
            await self._alarm.sleep(timeout)
        return self._events.popleft() if self._events else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget(self)
