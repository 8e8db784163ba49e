"""COS: the buckets and the application that answers for them."""

from __future__ import annotations

import asyncio

from airflow_provider_tcbatch.emulator.cos.app import CosApp
from airflow_provider_tcbatch.emulator.cos.object_folder import ObjectFolder
from airflow_provider_tcbatch.emulator.cos.store import ObjectStore
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.persistence.database import Database


class CosService:
    """The state of COS.

    :param host: what it stands on.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.store = ObjectStore((host.identity.bucket,))

    def app(self) -> CosApp:
        """The application of the COS port."""
        host = self.host
        return CosApp(self.store, host.access, host.faults, host.server_time)

    def keep(self, database: Database) -> None:
        """Write objects down from now on, and have those that are."""
        self.store.folder = ObjectFolder(database, self.host.data_dir / "objects")

    async def reset(self) -> None:
        """Forget all objects."""
        await asyncio.to_thread(self.store.reset)

    def close(self) -> None:
        """Let go of the buckets."""
        self.store.close()
