"""Waiting for several jobs, or for instances of a task, without holding a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.waits.jobs import JobsWait

__all__ = ["TCBatchJobsTrigger", "TCBatchTaskInstancesTrigger"]


class TCBatchJobsTrigger(BaseOneEventTrigger):
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
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
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
        super().__init__(deferral)
        self.job_ids = list(job_ids)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = deadlines or None
        self.interrupted = interrupted
        self.cancel_on_kill = cancel_on_kill
        self.carried = carried or None

    def owned(self) -> tuple[Sequence[str], str | None]:
        """The jobs, where they are to go with the task."""
        return self.job_ids if self.cancel_on_kill else (), None

    def make_wait(self) -> JobsWait:
        """The end of all jobs."""
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.waits.jobs import JobsWait

        return JobsWait(self.job_ids, **self.options, interrupted=self.interrupted)


class TCBatchTaskInstancesTrigger(BaseOneEventTrigger):
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
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
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
        super().__init__(deferral)
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = list(indexes)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = deadlines or None
        self.carried = carried or None

    async def wait(self) -> dict[str, Any]:
        """Wait; the watcher does not look at instances."""
        from airflow_provider_tcbatch.waits.jobs import InstancesWait

        wait = InstancesWait(self.job_id, self.task_name, set(self.indexes), **self.options)
        return (await wait.run(await self.settings())).to_event()
