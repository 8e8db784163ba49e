"""Waiting for a job without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.triggers._base.log_writer import lines_waiting
from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.waits.job import JobWait

__all__ = ["TCBatchJobTrigger", "TCBatchQuotaTrigger"]


class TCBatchJobTrigger(BaseOneEventTrigger):
    """Wait until a job has ended; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, a dictionary:

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
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
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
        super().__init__(deferral)
        self.job_id = job_id
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = deadlines or None
        self.submitted_at = submitted_at
        self.errors = errors
        self.min_success = min_success
        self.fail_fast = fail_fast
        self.progress = progress
        self.stream = stream
        self.cancel_on_kill = cancel_on_kill

    def carries(self) -> Mapping[str, Any]:
        """The job, and what is handed on."""
        return {"job_id": self.job_id, "submitted_at": self.submitted_at, "errors": self.errors}

    def owned(self) -> tuple[Sequence[str], str | None]:
        """The job, where it is to go with the task."""
        return (self.job_id,) if self.cancel_on_kill else (), None

    def make_wait(self) -> JobWait:
        """The job's end."""
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.client.logs.budget import SHARED, LineBudget
        from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy
        from airflow_provider_tcbatch.waits.job import JobWait

        return JobWait(
            self.job_id,
            **self.options,
            policy=SuccessPolicy(self.min_success, self.fail_fast),
            progress=self.progress,
            stream=self.stream,
            budget=LineBudget(SHARED, lines_waiting) if self.stream else None,
            brief=not self.stream,
        )


class TCBatchQuotaTrigger(BaseOneEventTrigger):
    """Wait until it is time to submit again what a quota of the account did not allow.

    Its event is ``{"status": "quota", "waiting_since": ..., "attempts": ..., "record": ...}``.

    :param until: unix seconds.
    :param waiting_since: unix seconds when the quota was first in the way; handed on.
    :param attempts: how often the quota has been in the way so far; handed on.
    :param record: what the task knows of its job, where Airflow does not keep that; handed on.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
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
        super().__init__(deferral)
        self.until = until
        self.waiting_since = waiting_since
        self.attempts = attempts
        self.record = record

    def carries(self) -> Mapping[str, Any]:
        """What the task knows."""
        return {} if self.record is None else {"record": self.record}

    async def wait(self) -> dict[str, Any]:
        """Wait until then."""
        await asyncio.sleep(max(0.0, self.until - time.time()))
        return {"status": "quota", "waiting_since": self.waiting_since, "attempts": self.attempts}
