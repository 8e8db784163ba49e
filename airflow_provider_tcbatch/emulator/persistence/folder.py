"""A data folder: what an emulator before this one left in it, and where this one writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.persistence.database import Database, FolderLock, Row
from airflow_provider_tcbatch.emulator.persistence.ledger import KeptLedger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.host import Host

#: Numbers of messages that each start has for itself, so that none is given twice.
_MESSAGES = 10**9


class DataFolder:
    """The state of an emulator in a folder that one emulator at a time uses.

    :param path: the folder.
    :raises OSError: when another emulator uses it, or its state cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._lock = FolderLock(path)
        try:
            self.database = Database(path / "state.sqlite3")
        except BaseException:
            self._lock.release()
            raise
        #: How many emulators, this one included, were started on it; known once it is opened.
        self.starts = 0

    @property
    def first_message(self) -> int:
        """Number that no message had so far."""
        return (self.starts - 1) * _MESSAGES + 1

    def open(self, host: Host) -> KeptLedger:
        """Let a host's clocks go on and write down what happens from now on. Belongs to its event loop.

        :return: the host's ledger; the services register with it what they have.
        :raises OSError: when the state cannot be read or written.
        """
        values: dict[str, Any] = dict(self.database.read("emulator"))
        self.starts = int(values.get("starts", 0)) + 1
        jobs, queues = values.get("clocks", (0.0, 0.0))

        def clocks() -> Iterator[Row]:
            shown = host.clock.elapsed, host.queue_clock.elapsed
            # They are told only where one has run ahead of the wall's.
            if max(shown) > time.time() + 1.0:
                yield "emulator", "clocks", shown

        ledger = KeptLedger(self.database, clocks)
        host.keep(ledger, (jobs, queues))
        ledger.note("emulator", "starts", self.starts)
        return ledger

    def close(self) -> None:
        """Let another emulator have the folder."""
        self.database.close()
        self._lock.release()
