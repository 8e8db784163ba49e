"""Which things have changed since they were last written down."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.persistence.database import Database, Row

    #: Makes the records of a thing, without values when there is no such thing any more.
    Maker = Callable[[Any], Iterable[Row]]

#: Seconds until a change is written that no answer has told anybody of.
_LATEST = 0.05


class Ledger:
    """Keeps nothing: the ledger of an emulator whose folder is temporary."""

    #: Whether there is anything to write to.
    keeps = False

    def touch(self, thing: Any) -> None:
        """A job, task, instance, environment, node, queue, message … was made, changed or removed."""

    def note(self, kind: str, name: str, value: Any) -> None:
        """Write a single value down with all else that has changed."""

    def flush(self) -> None:
        """Write what has changed; when this returns it survives the process."""

    def clear(self) -> None:
        """Forget everything."""

    def close(self) -> None:
        """Write what has changed, and nothing any more: what is being stopped is no news of a job."""


class Records(Protocol):
    """Makes records of what a service has."""

    @property
    def makers(self) -> Mapping[type, Maker]:
        """What makes records of a thing of which type."""

    def distrust(self) -> None:
        """Be told that nothing that was to be written last is sure to be."""


class KeptLedger(Ledger):
    """Collects what has changed and writes it in one transaction, before the next answer and soon in any case.

    A thing that changed ten times in between is written once. Belongs to the emulator's event loop.

    :param database: where things are written to.
    :param clocks: makes records of what the clocks show, which are written with all others.
    """

    keeps = True

    def __init__(self, database: Database, clocks: Callable[[], Iterable[Row]]) -> None:
        self._database = database
        self._clocks = clocks
        self._records: list[Records] = []
        self._makers: dict[type, Maker] = {}
        self._changed: dict[Any, None] = {}
        self._notes: dict[tuple[str, str], Any] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def register(self, records: Records) -> None:
        """Write down what a service has."""
        self._records.append(records)
        self._makers.update(records.makers)

    def touch(self, thing: Any) -> None:
        """Remember that a thing has changed."""
        if not self._closed:
            self._changed[thing] = None
            self._soon()

    def note(self, kind: str, name: str, value: Any) -> None:
        """Remember a value."""
        if not self._closed:
            self._notes[kind, name] = value
            self._soon()

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST, self.flush)

    def flush(self) -> None:
        """Write what has changed.

        :raises OSError: when it cannot be written; it is tried again with the next answer.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._changed and not self._notes:
            return
        rows = [row for thing in self._changed for row in self._makers[type(thing)](thing)]
        rows.extend(self._clocks())
        rows.extend((kind, name, value) for (kind, name), value in self._notes.items())
        try:
            self._database.write(rows)
        except OSError:
            for records in self._records:
                records.distrust()
            raise
        self._changed.clear()
        self._notes.clear()

    def clear(self) -> None:
        """Forget everything that was written."""
        self._changed.clear()
        self._notes.clear()
        self._database.clear()

    def close(self) -> None:
        """Write what has changed, and nothing any more."""
        self.flush()
        self._closed = True
