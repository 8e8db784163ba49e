"""A data folder: what an emulator before this one left in it, and where this one writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.persistence.database import Database, FolderLock, Row
from airflow_provider_tcbatch.emulator.persistence.ledger import KeptLedger

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

    def open(self, shown: Callable[[], tuple[float, float]]) -> tuple[KeptLedger, tuple[float, float]]:
        """Write down what happens from now on. Belongs to the event loop of the emulator.

        :param shown: answers what the clocks of jobs and of queues show, epoch seconds.
        :return: the ledger, with which services register what they have, and what the clocks have shown last.
        :raises OSError: when the state cannot be read or written.
        """
        values: dict[str, Any] = dict(self.database.read("emulator"))
        self.starts = int(values.get("starts", 0)) + 1
        jobs, queues = values.get("clocks", (0.0, 0.0))

        def clocks() -> Iterator[Row]:
            now = shown()
            # They are told only where one has run ahead of the wall's.
            if max(now) > time.time() + 1.0:
                yield "emulator", "clocks", now

        ledger = KeptLedger(self.database, clocks)
        ledger.note("emulator", "starts", self.starts)
        return ledger, (jobs, queues)

    def close(self) -> None:
        """Let another emulator have the folder."""
        self.database.close()
        self._lock.release()
