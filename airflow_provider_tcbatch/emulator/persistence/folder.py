"""A data folder: what an emulator before this one left in it, and where this one writes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.cos.keeping import ObjectFolder
from airflow_provider_tcbatch.emulator.persistence.database import Database, FolderLock
from airflow_provider_tcbatch.emulator.persistence.ledger import KeptLedger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.core import Core

log = logging.getLogger("tcbatch_emulator")

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
        self._ledger: KeptLedger | None = None

    def restore(self, core: Core) -> None:
        """Give an emulator what was left, and write down what it does from now on. Belongs to its event loop.

        :raises OSError: when the state cannot be read or written.
        """
        # Late: temporary emulators have no use for them.
        from airflow_provider_tcbatch.emulator.persistence.records import Records
        from airflow_provider_tcbatch.emulator.persistence.restore import restore

        values: dict[str, Any] = dict(self.database.read("emulator"))
        start = int(values.get("starts", 0)) + 1
        jobs, queues = values.get("clocks", (0.0, 0.0))
        records = Records(core)
        ledger = KeptLedger(self.database, records)
        core.keep(ledger, (start - 1) * _MESSAGES + 1, (jobs, queues))
        ledger.note("emulator", "starts", start)
        core.store.folder = ObjectFolder(self.database, core.data_dir / "objects")
        restore(core, self.database, records)
        self._ledger = ledger
        if start > 1:
            log.info(
                "%d jobs, %d compute environments and %d queues of the data folder %s",
                len(core.jobs),
                len(core.batch.envs),
                len(core.broker.queues),
                core.data_dir,
            )

    def close(self) -> None:
        """Let another emulator have the folder."""
        self.database.close()
        self._lock.release()
