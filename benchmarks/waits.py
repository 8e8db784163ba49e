"""The waits of either side, started as a triggerer starts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger

__all__ = ["Waits", "trigger_maker"]


def trigger_maker(side: str, poll_interval: float) -> Callable[[str], BaseTrigger]:
    """What makes a trigger for a job id.

    :param side: ``ours`` or ``peer``.
    :param poll_interval: seconds between two looks.
    """
    if side == "ours":
        from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

        return lambda job_id: TCBatchJobTrigger(job_id=job_id, poll_interval=poll_interval)
    from airflow.providers.amazon.aws.triggers.batch import BatchJobTrigger

    # As BatchOperator defers.
    return lambda job_id: BatchJobTrigger(
        job_id=job_id,
        region_name=None,
        aws_conn_id="aws_default",
        waiter_delay=int(poll_interval),
        waiter_max_attempts=4200,
    )


class Waits:
    """Many triggers on the running loop.

    :param make: makes a trigger for a job id.
    """

    def __init__(self, make: Callable[[str], BaseTrigger]) -> None:
        self._make = make
        self._tasks: set[asyncio.Task[None]] = set()
        #: When each wait ended (unix seconds), by job id.
        self.ended: dict[str, float] = {}
        #: What each wait ended with.
        self.payloads: dict[str, Any] = {}

    async def start(self, job_ids: Sequence[str]) -> None:
        """Start a wait for each job, in the way of Airflow's triggerer: it lets the loop turn twice for each."""
        for job_id in job_ids:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task = asyncio.create_task(self._run(job_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def until(self, count: int, patience: float) -> None:
        """Wait until so many waits have ended.

        :raises TimeoutError: after ``patience`` seconds.
        """
        deadline = time.monotonic() + patience
        while len(self.ended) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.ended)} of {count} waits have ended within {patience:g} s")
            await asyncio.sleep(0.05)

    async def cancel(self) -> None:
        """End the waits that are left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str) -> None:
        trigger = self._make(job_id)
        _ = trigger.log  # made for its first line, which may come after memory has been measured
        async for event in trigger.run():
            self.ended[job_id] = time.time()
            self.payloads[job_id] = event.payload
            return
