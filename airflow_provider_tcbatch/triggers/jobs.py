"""Waiting for several jobs, or for instances of a task, without holding a worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.triggers._base.ending import end_job, put_to_an_end
from airflow_provider_tcbatch.triggers._base.one_event import OneEvent

if TYPE_CHECKING:
    from airflow_provider_tcbatch.waits.jobs import JobsEnd


__all__ = ["TCBatchJobsTrigger", "TCBatchTaskInstancesTrigger"]


class TCBatchJobsTrigger(OneEvent):
    """Wait until all of some jobs have ended; all triggers of a triggerer that use one account share one watcher.

    It yields exactly one event, a dictionary:

    - ``status``: ``ended`` if all jobs have; ``timeout``; ``away`` if the API could not be asked for too long, and no
      limit is set; ``error`` as soon as one of them can't be watched
    - ``states``: the states that were read last, by job id
    - ``limit``: ``timeout`` or ``execution_timeout``, whichever was reached
    - ``message``: what went wrong, for ``error``
    - ``source``, ``observed_at``, ``event_received_at``: the look that ended the wait
    - ``outage``: what the task's log has not been told of an outage; only if there is something
    - and what is in ``carried``

    :param job_ids: the jobs.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadlines.Deadlines`.
    :param interrupted: whether FAILED_INTERRUPTED is an end: nothing more happens by itself, but machines are kept.
    :param cancel_on_kill: terminate the jobs when the user marks the waiting task as failed, succeeded or skipped
        (Airflow 3.3 and later tell the trigger).
    :param carried: handed on in the event.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.deferral.DeferredTrigger`.
    """

    def __init__(
        self,
        *,
        job_ids: Sequence[str],
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        interrupted: bool = True,
        cancel_on_kill: bool = False,
        carried: Mapping[str, Any] | None = None,
        deferral: str | None = None,
    ) -> None:
        self.job_ids = list(job_ids)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        self.interrupted = interrupted
        self.cancel_on_kill = cancel_on_kill
        arguments = {
            "job_ids": self.job_ids,
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
            "interrupted": interrupted,
            "cancel_on_kill": cancel_on_kill,
        }
        super().__init__(arguments, carried, deferral)

    async def on_kill(self) -> None:
        """Terminate the jobs if the user has put an end to the task. Airflow gives this 30 seconds."""
        begun = time.monotonic()
        if not self.cancel_on_kill or not await put_to_an_end(self, ", ".join(self.job_ids)):
            return
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        endings = [end_job(self, settings, job_id, begun) for job_id in self.job_ids]
        for job_id, result in zip(self.job_ids, await asyncio.gather(*endings, return_exceptions=True), strict=True):
            if result is not None:
                self.log.warning("Job %s could not be terminated, it may still be running: %s", job_id, result)

    async def _wait(self) -> JobsEnd:
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.policies.deadlines import Deadlines
        from airflow_provider_tcbatch.waits.jobs import JobsWait
        from airflow_provider_tcbatch.waits.sessions import job_watcher

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = JobsWait(
            self.job_ids,
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            interrupted=self.interrupted,
            say=self.say,
        )
        async with job_watcher(settings) as watcher:
            return await wait.run(watcher, settings)


class TCBatchTaskInstancesTrigger(OneEvent):
    """Wait until instances of a task have ended.

    It yields exactly one event, as :class:`TCBatchJobsTrigger` does; ``states`` holds the instances that have not
    ended, by index.

    :param job_id: the job.
    :param task_name: the task.
    :param indexes: its instances.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadlines.Deadlines`.
    :param carried: handed on in the event.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.deferral.DeferredTrigger`.
    """

    def __init__(
        self,
        *,
        job_id: str,
        task_name: str,
        indexes: Sequence[int],
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        carried: Mapping[str, Any] | None = None,
        deferral: str | None = None,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = list(indexes)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        arguments = {
            "job_id": job_id,
            "task_name": task_name,
            "indexes": self.indexes,
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
        }
        super().__init__(arguments, carried, deferral)

    async def _wait(self) -> JobsEnd:
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.policies.deadlines import Deadlines
        from airflow_provider_tcbatch.waits.jobs import InstancesWait

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = InstancesWait(
            self.job_id,
            self.task_name,
            set(self.indexes),
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            say=self.say,
        )
        return await wait.run(settings)
