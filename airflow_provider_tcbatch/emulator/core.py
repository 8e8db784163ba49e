"""What all parts of a running emulator share."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.batch.capacity import Capacity
from airflow_provider_tcbatch.emulator.batch.entities import Job
from airflow_provider_tcbatch.emulator.batch.processes import Watchdog
from airflow_provider_tcbatch.emulator.batch.state import BatchState
from airflow_provider_tcbatch.emulator.clock import Clock
from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cos.store import ObjectStore
from airflow_provider_tcbatch.emulator.faults import Fault, Faults
from airflow_provider_tcbatch.emulator.journal import CallLog
from airflow_provider_tcbatch.emulator.persistence.ledger import Ledger
from airflow_provider_tcbatch.emulator.post import Post
from airflow_provider_tcbatch.emulator.rates import RateLimiter
from airflow_provider_tcbatch.emulator.settings import Settings
from airflow_provider_tcbatch.emulator.signing.access import Access

log = logging.getLogger("tcbatch_emulator")


@dataclass(frozen=True)
class Identity:
    """Who and where the emulated account is."""

    region: str
    zone: str
    secret_id: str
    secret_key: str
    topic: str
    bucket: str
    control_token: str = ""


class Core:
    """State of one emulator. Used from its event loop only.

    :param identity: account, region and the names that exist from the start.
    :param settings: behaviour.
    :param data_dir: the folder that everything is written below.
    :param watchdog: cleans up after a killed emulator.
    :param access: accepted keys; by default those of the identity.
    """

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        data_dir: Path,
        watchdog: Watchdog,
        access: Access | None = None,
    ) -> None:
        self.identity = identity
        self._initial_settings = settings
        self.settings = settings.model_copy()
        self.data_dir = data_dir
        self.watchdog = watchdog
        self.store = ObjectStore((identity.bucket,))
        #: Is told of everything that changes and outlives the emulator; with a data folder it writes that down.
        self.ledger = Ledger()
        self._first_message = 1
        self.access = access or Access({identity.secret_id: identity.secret_key})
        self.faults = Faults()
        self.rates = RateLimiter()
        #: Jobs and machines live by this clock, queues by the other, signatures by the wall's.
        self.clock = Clock(settings.speed, settings.clock_skew_seconds)
        self.queue_clock = Clock(settings.cmq_speed)
        self.broker = self._new_broker()
        self.post = Post(self.broker, self.faults)
        self.calls = CallLog(settings.call_log_size)
        self.capacity = Capacity(lambda: self.settings.capacity)
        self.jobs: dict[str, Job] = {}
        self.batch = BatchState()
        #: Job id, digest of the request and time by ClientToken.
        self.client_tokens: dict[str, tuple[str, str, float]] = {}
        self.endpoint = self.cos_endpoint = ""
        self._background: set[asyncio.Task[None]] = set()

    def _new_broker(self) -> Broker:
        return Broker(
            self.queue_clock, lambda queue: self.faults.queue(queue) is not None, self.ledger, self._first_message
        )

    def now(self) -> float:
        """The clock of jobs and machines: epoch seconds."""
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of that clock; everything in a job's life that takes time goes through here."""
        await self.clock.sleep(seconds)

    def server_time(self) -> float:
        """The time by which signatures are judged. Clients do not live faster because jobs do."""
        return time.time() + self.settings.clock_skew_seconds

    def make_topic(self) -> None:
        """Make the topic that exists from the start, unless it is there already."""
        # SubmitJob accepts a topic only when somebody subscribes to it, hence the durable base queue.
        from airflow_provider_tcbatch.emulator.cmq.actions import create_durable_topic

        if self.broker.topic(self.identity.topic) is None:
            create_durable_topic(self.broker, self.identity.topic)

    def keep(self, ledger: Ledger, first_message: int, times: tuple[float, float]) -> None:
        """Write changes down from now on, and go on after an emulator before this one.

        :param first_message: number that no message had so far.
        :param times: what the clocks of jobs and of queues have shown, epoch seconds.
        """
        self.ledger, self._first_message = ledger, first_message
        self.clock = Clock(self.settings.speed, self.settings.clock_skew_seconds, times[0])
        self.queue_clock = Clock(self.settings.cmq_speed, earliest=times[1])
        self.broker = self._new_broker()
        self.post = Post(self.broker, self.faults)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something in the background; a failure of it is logged, not lost."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("%s failed", task.get_name(), exc_info=task.exception())

    async def stop_background(self) -> None:
        """Cancel everything that was spawned and wait for it, processes included."""
        while self._background:
            tasks = list(self._background)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """Change behaviour at run time.

        :raises SettingsError: for an unknown name or an impossible value.
        """
        self.settings = self.settings.updated(changes)
        self._apply_settings()
        return self.settings

    def _apply_settings(self) -> None:
        self.clock.speed, self.clock.skew = self.settings.speed, self.settings.clock_skew_seconds
        self.queue_clock.speed = self.settings.cmq_speed
        self.calls.resize(self.settings.call_log_size)
        self.capacity.serve()

    def add_fault(self, kind: str, /, **members: Any) -> Fault:
        """Add a fault; one that names a compute node meets it at once.

        :raises FaultError: for an unknown kind or member, or an impossible value.
        """
        from airflow_provider_tcbatch.emulator.batch.accidents import hit_node

        fault = self.faults.add(kind, **members)
        hit_node(self, fault)
        return fault

    async def reset(self) -> None:
        """Forget all jobs, messages, objects, calls and changed settings."""
        await self.stop_background()
        self.broker.close()
        self.faults.clear()
        self.rates = RateLimiter()
        self.jobs.clear()
        self.batch = BatchState()
        self.client_tokens.clear()
        self.ledger.clear()
        await asyncio.to_thread(shutil.rmtree, self.data_dir / "jobs", ignore_errors=True)
        self.settings = self._initial_settings.model_copy()
        # Fast clocks have run ahead of the wall's.
        self.clock, self.queue_clock = Clock(), Clock()
        self.broker = self._new_broker()
        self.post = Post(self.broker, self.faults)
        self.capacity = Capacity(lambda: self.settings.capacity)
        self.calls = CallLog(self.settings.call_log_size)
        self._apply_settings()
        self.make_topic()
        await asyncio.to_thread(self.store.reset)
