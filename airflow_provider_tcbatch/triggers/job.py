"""Waiting for a job without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_tcbatch.triggers._base.deferral import DeferredTrigger, Hold
from airflow_provider_tcbatch.triggers._base.ending import end_job, put_to_an_end
from airflow_provider_tcbatch.triggers._base.log_writer import Says, Told, lines_waiting
from airflow_provider_tcbatch.triggers._base.serialization import given

if TYPE_CHECKING:
    pass

__all__ = ["TCBatchJobTrigger", "TCBatchQuotaTrigger"]


class TCBatchJobTrigger(Says, DeferredTrigger):
    """Wait until a job has ended; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, for errors too: a trigger that raised would fail its task before the operator could
    say why. The event is a dictionary:

    - ``status``: ``ended``; ``failing`` (with ``fail_fast``: the job runs but can't succeed any more); ``timeout``;
      ``away`` (the API could not be asked for longer than ``[tcbatch] api_patience``, and no limit is set); ``error``
    - ``job_id``, ``submitted_at``, ``state``: the job and the last state that was read
    - ``limit``: ``timeout``, ``queue_timeout`` or ``execution_timeout``, whichever was reached
    - ``source``: ``event`` if an event led to the last read, else ``poll``
    - ``observed_at``, ``event_received_at``: unix seconds; the second is ``None`` without an event
    - ``streamed``: whether the output of the instances has been shown
    - ``message``: what went wrong, for ``error``
    - ``outage``: what the task's log has not been told of an outage, see :class:`~.policies.outage.Outage`; only if
      there is something

    :param job_id: the job.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks while no events flow.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadlines.Deadlines`.
    :param submitted_at: unix seconds of the submission; only handed on in the event.
    :param errors: how often waiting for this job has failed so far; only handed on.
    :param min_success: instances that must succeed, see :class:`~.policies.job.outcome.SuccessPolicy`.
    :param fail_fast: end the wait as soon as the job can't succeed any more.
    :param progress: log how many instances have ended.
    :param stream: show the output of so many running instances at a time.
    :param cancel_on_kill: terminate the job when the user marks the waiting task as failed, succeeded or skipped
        (Airflow 3.3 and later tell the trigger).
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.deferral.DeferredTrigger`.
    """

    def __init__(
        self,
        *,
        job_id: str,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        submitted_at: float | None = None,
        errors: int = 0,
        min_success: int | float | None = None,
        fail_fast: bool = False,
        progress: bool = False,
        stream: int = 0,
        cancel_on_kill: bool = False,
        deferral: str | None = None,
    ) -> None:
        super().__init__(deferral=deferral)
        self.job_id = job_id
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        self.submitted_at = submitted_at
        self.errors = errors
        self.min_success = min_success
        self.fail_fast = fail_fast
        self.progress = progress
        self.stream = stream
        self.cancel_on_kill = cancel_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        arguments = {
            "job_id": self.job_id,
            "tencentcloud_conn_id": self.tencentcloud_conn_id,
            "region": self.region,
            "poll_interval": self.poll_interval,
            "deadlines": self.deadlines,
            "submitted_at": self.submitted_at,
            "errors": self.errors,
            "min_success": self.min_success,
            "fail_fast": self.fail_fast,
            "progress": self.progress,
            "stream": self.stream,
            "cancel_on_kill": self.cancel_on_kill,
            "deferral": self.deferral,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", given(TCBatchJobTrigger, arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say how it ended."""
        hold = Hold(self)
        try:
            event = await self._wait()
        except Exception as error:
            self.log.exception("Waiting for job %s failed", self.job_id)
            event = {"status": "error", "message": f"{type(error).__name__}: {error}"}
        await self.all_said()
        await hold.over()
        carried = {"job_id": self.job_id, "submitted_at": self.submitted_at, "errors": self.errors}
        yield TriggerEvent(Told({**event, **carried}))  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Terminate the job if the user has put an end to the task. Airflow gives this 30 seconds."""
        begun = time.monotonic()
        if not self.cancel_on_kill or not await put_to_an_end(self, f"job {self.job_id}"):
            return
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        await end_job(self, settings, self.job_id, begun)

    async def _wait(self) -> dict[str, Any]:
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.client.logs.budget import SHARED, LineBudget
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.policies.deadlines import Deadlines
        from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy
        from airflow_provider_tcbatch.waits.job import JobWait
        from airflow_provider_tcbatch.waits.sessions import job_watcher

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = JobWait(
            self.job_id,
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            policy=SuccessPolicy(self.min_success, self.fail_fast),
            progress=self.progress,
            stream=self.stream,
            budget=LineBudget(SHARED, lines_waiting) if self.stream else None,
            say=self.say,
            brief=not self.stream,
        )
        async with job_watcher(settings) as watcher:
            return (await wait.run(watcher, settings)).to_event()


class TCBatchQuotaTrigger(DeferredTrigger):
    """Wait until it is time to submit again what a quota of the account did not allow.

    :param until: unix seconds.
    :param waiting_since: unix seconds when the quota was first in the way; handed on.
    :param attempts: how often the quota has been in the way so far; handed on.
    :param record: what the task knows of its job, where Airflow does not keep that; handed on.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.deferral.DeferredTrigger`.
    """

    def __init__(
        self,
        *,
        until: float,
        waiting_since: float,
        attempts: int,
        record: Mapping[str, Any] | None = None,
        deferral: str | None = None,
    ) -> None:
        super().__init__(deferral=deferral)
        self.until = until
        self.waiting_since = waiting_since
        self.attempts = attempts
        self.record = record

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        arguments: dict[str, Any] = {
            "until": self.until,
            "waiting_since": self.waiting_since,
            "attempts": self.attempts,
        }
        if self.record is not None:
            arguments["record"] = dict(self.record)
        return f"{type(self).__module__}.{type(self).__qualname__}", self.with_deferral(arguments)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; the event is ``{"status": "quota", "waiting_since": ..., "attempts": ..., "record": ...}``."""
        hold = Hold(self)
        await asyncio.sleep(max(0.0, self.until - time.time()))
        await hold.over()
        event: dict[str, Any] = {"status": "quota", "waiting_since": self.waiting_since, "attempts": self.attempts}
        if self.record is not None:
            event["record"] = self.record
        yield TriggerEvent(Told(event))  # type: ignore[no-untyped-call]
