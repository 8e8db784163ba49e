"""An emulator's services together, on one host."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import Any

from airflow_provider_tcbatch.emulator.batch.jobs.accidents import hit_node
from airflow_provider_tcbatch.emulator.batch.machine.processes import Watchdog
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.cmq.actions import create_durable_topic
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.cos.service import CosService
from airflow_provider_tcbatch.emulator.faults import Fault
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.persistence.folder import DataFolder
from airflow_provider_tcbatch.emulator.settings import Settings

log = logging.getLogger("tcbatch_emulator")


class Services:
    """Batch, CMQ and COS of one emulator. Used from its event loop only.

    :param host: what they share.
    :param watchdog: cleans up after a killed emulator.
    """

    def __init__(self, host: Host, watchdog: Watchdog) -> None:
        self.host = host
        self.cmq = CmqService(host)
        self.cos = CosService(host)
        self.batch = BatchService(host, self.cmq, self.cos.store, watchdog)

    def make_topic(self) -> None:
        """Make the topic that exists from the start, unless it is there already."""
        # SubmitJob accepts a topic only when somebody subscribes to it, hence the durable base queue.
        topic = self.host.identity.topic
        if self.cmq.broker.topic(topic) is None:
            create_durable_topic(self.cmq.broker, topic)

    def restore(self, folder: DataFolder) -> None:
        """Take over what was left in a folder, and write down there what happens from now on.

        :raises OSError: when the state cannot be read or written.
        """
        # Late: temporary emulators have no use for them.
        from airflow_provider_tcbatch.emulator.batch.records import BatchRecords
        from airflow_provider_tcbatch.emulator.batch.restoration import restore
        from airflow_provider_tcbatch.emulator.cmq.records import CmqRecords

        ledger, times = folder.open(self.host.shown)
        self.host.keep(ledger, times)
        self.cmq.begin(folder.first_message)
        self.cos.keep(folder.database)
        queues, batch = CmqRecords(self.cmq), BatchRecords(self.batch)
        ledger.register(queues)
        ledger.register(batch)
        queues.restore(folder.database)
        restore(self.batch, folder.database, batch)
        if folder.starts > 1:
            log.info(
                "%d jobs, %d compute environments and %d queues of the data folder %s",
                len(self.batch.jobs),
                len(self.batch.envs),
                len(self.cmq.broker.queues),
                self.host.data_dir,
            )

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """Change behaviour at run time.

        :raises SettingsError: for an unknown name or an impossible value.
        """
        settings = self.host.change_settings(changes)
        self.batch.capacity.serve()
        return settings

    def add_fault(self, kind: str, /, **members: Any) -> Fault:
        """Add a fault; one that names a compute node meets it at once.

        :raises FaultError: for an unknown kind or member, or an impossible value.
        """
        fault = self.host.faults.add(kind, **members)
        hit_node(self.batch, fault)
        return fault

    async def reset(self) -> None:
        """Forget all jobs, messages, objects, calls and changed settings."""
        await self.host.stop_background()
        self.cmq.close()
        self.host.reset()
        self.cmq.begin()
        self.batch.reset()
        self.make_topic()
        await asyncio.to_thread(shutil.rmtree, self.host.data_dir / "jobs", ignore_errors=True)
        await self.cos.reset()

    async def stop(self) -> None:
        """End all that happens, and what waits for a message."""
        # What ends now is lost as if its machine were; the next emulator on this folder says so.
        self.host.ledger.close()
        await self.host.stop_background()
        self.cmq.close()

    def close(self) -> None:
        """Let go of what outlives the last answer: buckets and the watchdog."""
        self.cos.close()
        self.batch.watchdog.close()
