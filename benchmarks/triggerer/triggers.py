"""Triggers that Airflow's triggerer loads: a wait of ours, one that only sleeps, and one that measures the loop."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger
from benchmarks.meters import LoopLag

__all__ = ["CountedJobTrigger", "IdleTrigger", "ProbeTrigger"]

#: How many triggers of this process have started.
_started = 0


class CountedJobTrigger(TCBatchJobTrigger):
    """A wait for a job, which counts itself."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait."""
        global _started
        _started += 1
        _ = self.log  # made for its first line, which may come after memory has been measured
        async for event in super().run():
            yield event


class IdleTrigger(BaseTrigger):
    """The floor: it sleeps until a moment and fires.

    :param until: unix seconds.
    """

    def __init__(self, *, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        return f"{__name__}.IdleTrigger", {"until": self.until}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep."""
        global _started
        _started += 1
        await asyncio.sleep(max(0.0, self.until - time.time()))
        yield TriggerEvent({"status": "ended"})  # type: ignore[no-untyped-call]


class ProbeTrigger(BaseTrigger):
    """Measures the triggerer's loop from inside, and never fires.

    Twice a second it writes a line of JSON: the time, how many triggers have started, and the lags since the last line
    in milliseconds.

    :param path: the file.
    :param connection: one that it reads first, as any trigger does that talks to a service; ``None`` for none.
    :param settle_at: how many triggers have to have started for one more pass of the collector: the first one after all
        modules are loaded goes through all of Airflow's objects, some 0.16 s, comes once, and would be counted as
        somebody's stall.
    """

    def __init__(self, *, path: str, connection: str | None, settle_at: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        self.connection = connection
        self.settle_at = settle_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        arguments = {"path": self.path, "connection": self.connection, "settle_at": self.settle_at}
        return f"{__name__}.ProbeTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Measure."""
        if self.connection is not None:
            await BaseHook.aget_connection(self.connection)
        # A pass of the collector touches all objects, whose pages the process shares with its parent until then. It
        # comes sooner or later, and would be counted as memory of the waits.
        gc.collect()
        async with LoopLag() as lag:
            while True:
                await asyncio.sleep(0.5)
                self._write(lag)
                if self.settle_at is not None and _started >= self.settle_at:
                    self.settle_at = None
                    gc.collect()
        yield TriggerEvent({})

    def _write(self, lag: LoopLag) -> None:
        lags = [round(1000 * value, 1) for value in lag.lags]
        lag.take()
        with Path(self.path).open("a") as file:
            file.write(json.dumps({"at": time.time(), "started": _started, "lags": lags}) + "\n")
