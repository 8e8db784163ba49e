"""Waiting for states of jobs that belong to somebody else: these triggers only observe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.policies.quorum import Quorum
from airflow_provider_tcbatch.policies.targets import Targets, states_of
from airflow_provider_tcbatch.triggers.jobs import OneEvent

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.jobs_wait import JobsEnd
    from airflow_provider_tcbatch.hooks.parts_wait import QuorumEnd

__all__ = ["TCBatchJobStatesTrigger", "TCBatchQuorumTrigger", "TCBatchTaskStateTrigger"]


class TCBatchJobStatesTrigger(OneEvent):
    """Wait until all of some jobs have been seen in a state, or the newest job of a name has; whatever becomes of the
    waiting task, the jobs are left alone.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached`` if all have; ``failed`` as soon as one is in a failure state; ``timeout``; ``error``
    - ``states``: the states that were read last, by job id
    - ``limit``: ``timeout``, if that was reached
    - ``message``: what went wrong, for ``error``
    - and what is in ``carried``

    :param job_ids: the jobs.
    :param job_name: the name, instead of ``job_ids``.
    :param target_states: one of these is enough.
    :param failure_states: one of these ends the wait; ``None`` for all final states that are no targets.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadline.Deadlines`.
    :param carried: handed on in the event.
    """

    def __init__(
        self,
        *,
        job_ids: Sequence[str] = (),
        job_name: str | None = None,
        target_states: Sequence[str] = ("SUCCEED",),
        failure_states: Sequence[str] | None = None,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        self.job_ids = list(job_ids)
        self.job_name = job_name
        self.targets = Targets.parse(target_states, failure_states)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        arguments = {
            "job_ids": self.job_ids,
            "job_name": job_name,
            "target_states": list(self.targets.wanted),
            "failure_states": list(self.targets.failures),
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
        }
        super().__init__(arguments, carried)

    async def _wait(self) -> JobsEnd:
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.hooks.targets_wait import JobTargetsWait, NamedJobWait
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import job_watcher
        from airflow_provider_tcbatch.policies.deadline import Deadlines

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        deadlines = Deadlines.from_json(self.deadlines)
        wait: JobTargetsWait | NamedJobWait
        if self.job_name is not None:
            wait = NamedJobWait(self.job_name, self.targets, self.poll_interval, deadlines, self.log.info)
        else:
            wait = JobTargetsWait(
                self.job_ids,
                poll_interval=self.poll_interval,
                deadlines=deadlines,
                say=self.log.info,
                targets=self.targets,
            )
        async with job_watcher(settings) as watcher:
            return await wait.run(watcher, settings)


class TCBatchTaskStateTrigger(OneEvent):
    """Wait until a task of a job has been seen in a state; whatever becomes of the waiting task, the job is left alone.

    It yields exactly one event, as :class:`TCBatchJobStatesTrigger` does; ``states`` holds the state by task name. It
    is ``failed``, too, when the job has ended and the task can't come to it any more.

    :param job_id: the job.
    :param task_name: its task.
    :param target_states: one of these is enough.
    :param failure_states: one of these ends the wait; ``None`` for all final states that are no targets.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks at the job while no events flow.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadline.Deadlines`.
    :param carried: handed on in the event.
    """

    def __init__(
        self,
        *,
        job_id: str,
        task_name: str,
        target_states: Sequence[str] = ("SUCCEED",),
        failure_states: Sequence[str] | None = None,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.targets = Targets.parse(target_states, failure_states)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        arguments = {
            "job_id": job_id,
            "task_name": task_name,
            "target_states": list(self.targets.wanted),
            "failure_states": list(self.targets.failures),
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
        }
        super().__init__(arguments, carried)

    async def _wait(self) -> JobsEnd:
        from airflow_provider_tcbatch.hooks.parts_wait import TaskTargetsWait
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import job_watcher
        from airflow_provider_tcbatch.policies.deadline import Deadlines

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = TaskTargetsWait(
            self.job_id,
            self.task_name,
            self.targets,
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            say=self.log.info,
        )
        async with job_watcher(settings) as watcher:
            return await wait.run(watcher, settings)


class TCBatchQuorumTrigger(OneEvent):
    """Wait until enough instances of a task have come to a state; whatever becomes of the waiting task, the job is left
    alone.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached``; ``failed`` when so many can't come to it any more that the others are too few;
      ``timeout``; ``error``
    - ``counts``: how many instances ``have`` come to it, ``never`` can any more, are ``needed``, are there in ``total``
    - ``limit``: ``timeout``, if that was reached
    - ``message``: what went wrong, for ``error``
    - and what is in ``carried``

    :param job_id: the job.
    :param task_name: its task.
    :param indexes: its instances; ``None`` for all.
    :param states: one of these is enough for an instance.
    :param quorum: how many instances: ``all``, ``any``, a number, or a share as a float.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadline.Deadlines`.
    :param carried: handed on in the event.
    """

    def __init__(
        self,
        *,
        job_id: str,
        task_name: str,
        indexes: Sequence[int] | None = None,
        states: Sequence[str] = ("SUCCEED",),
        quorum: str | int | float = "all",
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        carried: Mapping[str, Any] | None = None,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = None if indexes is None else list(indexes)
        self.states = states_of("states", states)
        self.quorum = Quorum.parse(quorum)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = dict(deadlines or {})
        arguments = {
            "job_id": job_id,
            "task_name": task_name,
            "indexes": self.indexes,
            "states": list(self.states),
            "quorum": self.quorum.wanted,
            "tencentcloud_conn_id": tencentcloud_conn_id,
            "region": region,
            "poll_interval": poll_interval,
            "deadlines": self.deadlines,
        }
        super().__init__(arguments, carried)

    async def _wait(self) -> QuorumEnd:
        from airflow_provider_tcbatch.hooks.parts_wait import QuorumWait
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
        from airflow_provider_tcbatch.hooks.watching import job_watcher
        from airflow_provider_tcbatch.policies.deadline import Deadlines

        settings = await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()
        wait = QuorumWait(
            self.job_id,
            self.task_name,
            frozenset(self.states),
            self.quorum,
            None if self.indexes is None else frozenset(self.indexes),
            poll_interval=self.poll_interval,
            deadlines=Deadlines.from_json(self.deadlines),
            say=self.log.info,
        )
        async with job_watcher(settings) as watcher:
            return await wait.run(watcher, settings)
