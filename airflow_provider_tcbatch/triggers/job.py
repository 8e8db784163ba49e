"""Waiting for a job without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_tcbatch.policies.killing import state_of, terminates
from airflow_provider_tcbatch.policies.outcome import judge

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.waiting import JobSnapshot, Subscription

__all__ = ["TCBatchJobTrigger"]

#: A wait that ends sooner is held back until this many seconds after its trigger started. Up to 3.3.2 the scheduler may
#: take the end of the process that deferred the task for the end of the resumed one, if that has begun in the meantime,
#: and fails a task whose job succeeded (apache/airflow#72716). That process may linger for ``[workers]
#: min_heartbeat_interval``, 5 s by default.
_SETTLE_SECONDS = 6.0

#: Seconds that on_kill goes on asking for a job's end: a SUBMITTED job can't be ended yet.
_KILL_SECONDS = 20.0


class TCBatchJobTrigger(BaseTrigger):
    """Wait until a job has ended; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, for errors too: a trigger that raised would fail its task before the operator could
    say why. The event is a dictionary:

    - ``status``: ``ended``, ``timeout`` or ``error``
    - ``job_id``, ``submitted_at``, ``state``: the job and the last state that was read
    - ``source``: ``event`` if an event led to the last read, else ``poll``
    - ``observed_at``, ``event_received_at``: unix seconds; the second is ``None`` without an event
    - ``message``: what went wrong, for ``error``

    :param job_id: the job.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks while no events flow.
    :param deadline: unix seconds at which to give up; ``None`` to wait for ever.
    :param submitted_at: unix seconds of the submission; only handed on in the event.
    :param errors: how often waiting for this job has failed so far; only handed on.
    :param cancel_on_kill: terminate the job when the user marks the waiting task as failed, succeeded or skipped
        (Airflow 3.3 and later tell the trigger).
    """

    def __init__(
        self,
        *,
        job_id: str,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadline: float | None = None,
        submitted_at: float | None = None,
        errors: int = 0,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.submitted_at = submitted_at
        self.errors = errors
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_id": self.job_id,
                "tencentcloud_conn_id": self.tencentcloud_conn_id,
                "region": self.region,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "submitted_at": self.submitted_at,
                "errors": self.errors,
                "cancel_on_kill": self.cancel_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say how it ended."""
        started = time.monotonic()
        try:
            event = await self._wait()
        except Exception as error:
            self.log.exception("Waiting for job %s failed", self.job_id)
            event = self._event("error", message=f"{type(error).__name__}: {error}")
        if self.task_instance is not None:  # there is none, and no scheduler, under dag.test()
            await asyncio.sleep(max(0.0, started + _SETTLE_SECONDS - time.monotonic()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Terminate the job if the user has put an end to the task.

        Airflow 3.3.0 to 3.3.2 call this also when a trigger is merely handed to another triggerer, so what has become
        of the task decides, see :mod:`~airflow_provider_tcbatch.policies.killing`. Airflow gives this 30 seconds.
        """
        ti = self.task_instance
        if not self.cancel_on_kill or ti is None:  # under dag.test() there is none
            return
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import terminate

        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id]
        )
        state = state_of(states, ti.run_id, ti.task_id, ti.map_index)
        if not terminates(state, worker=False):
            self.log.info("Job %s is left alone: the task is %s", self.job_id, state or "cleared")
            return
        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        await terminate(settings, self.job_id, patience=_KILL_SECONDS)
        self.log.info("Job %s is being terminated: the task is %s", self.job_id, state)

    async def _wait(self) -> dict[str, Any]:
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import job_watcher

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        async with job_watcher(settings) as watcher:
            with watcher.subscribe(self.job_id, self.poll_interval) as subscription:
                return await self._follow(subscription)

    async def _follow(self, subscription: Subscription) -> dict[str, Any]:
        state: str | None = None
        while True:
            left = None if self.deadline is None else max(0.0, self.deadline - time.time())
            snapshot = await subscription.next(left)
            if snapshot is None:
                return self._event("timeout", state=state)
            if snapshot.error is not None:
                return self._event("error", state=state, message=str(snapshot.error))
            if snapshot.state != state:
                state = snapshot.state
                self.log.info("Job %s is %s", self.job_id, state)
            if judge(state).is_final:
                return self._event("ended", state=state, snapshot=snapshot)

    def _event(
        self,
        status: str,
        *,
        state: str | None = None,
        message: str | None = None,
        snapshot: JobSnapshot | None = None,
    ) -> dict[str, Any]:
        return {
            "status": status,
            "job_id": self.job_id,
            "submitted_at": self.submitted_at,
            "errors": self.errors,
            "state": state,
            "message": message,
            "source": snapshot.source if snapshot else None,
            "observed_at": snapshot.observed_at if snapshot else None,
            "event_received_at": snapshot.event_received_at if snapshot else None,
        }
