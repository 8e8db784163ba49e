"""What all services of a running emulator share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.clock import Clock
from airflow_provider_tcbatch.emulator.faults import Faults
from airflow_provider_tcbatch.emulator.journal import CallLog
from airflow_provider_tcbatch.emulator.persistence.ledger import Ledger
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


class Host:
    """What every service stands on: settings, clocks, keys, faults, the log of calls. It knows none of the services.

    Used from the emulator's event loop only.

    :param identity: account, region and the names that exist from the start.
    :param settings: behaviour.
    :param data_dir: the folder that everything is written below.
    :param access: accepted keys; by default those of the identity.
    """

    def __init__(self, identity: Identity, settings: Settings, data_dir: Path, access: Access | None = None) -> None:
        self.identity = identity
        self._initial_settings = settings
        self.settings = settings.model_copy()
        self.data_dir = data_dir
        #: Is told of everything that changes and outlives the emulator; with a data folder it writes that down.
        self.ledger = Ledger()
        self.access = access or Access({identity.secret_id: identity.secret_key})
        self.faults = Faults()
        self.rates = RateLimiter()
        #: Jobs and machines live by this clock, queues by the other, signatures by the wall's.
        self.clock = Clock(settings.speed, settings.clock_skew_seconds)
        self.queue_clock = Clock(settings.cmq_speed)
        self.calls = CallLog(settings.call_log_size)
        self.endpoint = self.cos_endpoint = ""
        self._background: set[asyncio.Task[None]] = set()

    def now(self) -> float:
        """The clock of jobs and machines: epoch seconds."""
        return self.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of that clock; everything in a job's life that takes time goes through here."""
        await self.clock.sleep(seconds)

    def server_time(self) -> float:
        """The time by which signatures are judged. Clients do not live faster because jobs do."""
        return time.time() + self.settings.clock_skew_seconds

    def shown(self) -> tuple[float, float]:
        """What the clocks of jobs and of queues show, their skew apart: epoch seconds."""
        return self.clock.elapsed, self.queue_clock.elapsed

    def keep(self, ledger: Ledger, times: tuple[float, float]) -> None:
        """Write changes down from now on, and go on after an emulator before this one.

        :param times: what the clocks of jobs and of queues have shown, epoch seconds.
        """
        self.ledger = ledger
        self.clock = Clock(self.settings.speed, self.settings.clock_skew_seconds, times[0])
        self.queue_clock = Clock(self.settings.cmq_speed, earliest=times[1])

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

    def reset(self) -> None:
        """Forget faults, calls, changed settings and all that was written down; what was spawned has been stopped."""
        self.faults.clear()
        self.rates = RateLimiter()
        self.ledger.clear()
        self.settings = self._initial_settings.model_copy()
        # Fast clocks have run ahead of the wall's.
        self.clock, self.queue_clock = Clock(), Clock()
        self.calls = CallLog(self.settings.call_log_size)
        self._apply_settings()
