"""Waiting for states of jobs that belong to somebody else: these triggers only observe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.links import TCBatchJobLink
from airflow_provider_tcbatch.policies.arguments import selection, several_of, text_of
from airflow_provider_tcbatch.policies.job.quorum import Quorum
from airflow_provider_tcbatch.policies.job.targets import Targets, states_of
from airflow_provider_tcbatch.triggers._base.sensor_trigger import BaseSensorTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.waits.job_parts import QuorumWait, TaskTargetsWait
    from airflow_provider_tcbatch.waits.job_states import JobTargetsWait, NamedJobWait

__all__ = ["TCBatchJobStatesTrigger", "TCBatchQuorumTrigger", "TCBatchTaskStateTrigger"]


class TCBatchJobStatesTrigger(BaseSensorTrigger):
    """Wait until all of some jobs have been seen in a state, or the newest job of a name has; whatever becomes of the
    waiting task, the jobs are left alone.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached`` if all have; ``failed`` as soon as one is in a failure state; ``timeout``;
      ``away``; ``error``
    - ``states``: the states that were read last, by job id
    - ``limit``: ``timeout``, if that was reached
    - ``message``: what went wrong, for ``error``
    - ``source``, ``observed_at``, ``event_received_at``: the look that ended the wait; the first is ``event`` if an
      event led to it, else ``poll``
    - and what is in ``carried``

    :param job_ids: the jobs.
    :param job_name: the name, instead of ``job_ids``.
    :param target_states: one of these is enough.
    :param failure_states: one of these ends the wait; ``None`` for all final states that are no targets.
    :param common: what all triggers of sensors take, see :class:`~.triggers._base.sensor_trigger.BaseSensorTrigger`.
    """

    def __init__(
        self,
        *,
        job_ids: str | Sequence[str] | None = None,
        job_name: str | None = None,
        target_states: Sequence[str] = ("SUCCEED",),
        failure_states: Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        self.job_ids = job_ids
        self.job_name = job_name
        self.target_states = target_states
        self.failure_states = failure_states
        super().__init__(**common)

    def make_wait(self) -> JobTargetsWait | NamedJobWait:
        """The jobs, or the one of that name."""
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.waits.job_states import JobTargetsWait, NamedJobWait

        targets = Targets.parse(self.target_states, self.failure_states)
        if self.job_name is not None:
            return NamedJobWait(text_of("job_name", self.job_name), targets, **self.options)
        job_ids = several_of("job_ids", self.job_ids, str)
        if not job_ids:
            self.log.warning("job_ids is empty: there is nothing to wait for")
        return JobTargetsWait(job_ids, **self.options, targets=targets)

    def result(self, event: Mapping[str, Any]) -> dict[str, str]:
        """The jobs' states by id."""
        return dict(event["states"])

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The job's page, where there is only one."""
        job_ids = list(event["states"])
        return {TCBatchJobLink.key: settings.job_url(job_ids[0])} if len(job_ids) == 1 else {}


class TCBatchTaskStateTrigger(BaseSensorTrigger):
    """Wait until a task of a job has been seen in a state; whatever becomes of the waiting task, the job is left alone.

    It yields exactly one event, as :class:`TCBatchJobStatesTrigger` does; ``states`` holds the state by task name. It
    is ``failed``, too, when the job has ended and the task can't come to it any more.

    :param job_id: the job.
    :param task_name: its task.
    :param target_states: one of these is enough.
    :param failure_states: one of these ends the wait; ``None`` for all final states that are no targets.
    :param common: what all triggers of sensors take, see :class:`~.triggers._base.sensor_trigger.BaseSensorTrigger`.
    """

    def __init__(
        self,
        *,
        job_id: str,
        task_name: str,
        target_states: Sequence[str] = ("SUCCEED",),
        failure_states: Sequence[str] | None = None,
        **common: Any,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.target_states = target_states
        self.failure_states = failure_states
        super().__init__(**common)

    def make_wait(self) -> TaskTargetsWait:
        """The task."""
        from airflow_provider_tcbatch.waits.job_parts import TaskTargetsWait

        targets = Targets.parse(self.target_states, self.failure_states)
        job_id, task_name = text_of("job_id", self.job_id), text_of("task_name", self.task_name)
        return TaskTargetsWait(job_id, task_name, targets, **self.options)

    def result(self, event: Mapping[str, Any]) -> str:
        """The task's state."""
        return str(event["states"][text_of("task_name", self.task_name)])

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The job's page."""
        return {TCBatchJobLink.key: settings.job_url(text_of("job_id", self.job_id))}


class TCBatchQuorumTrigger(BaseSensorTrigger):
    """Wait until enough instances of a task have come to a state; whatever becomes of the waiting task, the job is left
    alone.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached``; ``failed`` when so many can't come to it any more that the others are too few;
      ``timeout``; ``away``; ``error``
    - ``counts``: how many instances ``have`` come to it, ``never`` can any more, are ``needed``, are there in ``total``
    - ``limit``: ``timeout``, if that was reached
    - ``message``: what went wrong, for ``error``
    - ``source``, ``observed_at``, ``event_received_at``: the look that ended the wait; the first is ``event`` if an
      event led to it, else ``poll``
    - and what is in ``carried``

    :param job_id: the job.
    :param task_name: its task.
    :param indexes: its instances, as :class:`.TCBatchTaskInstanceSensor` takes them.
    :param states: one of these is enough for an instance.
    :param quorum: how many instances: ``all``, ``any``, a number, or a share.
    :param common: what all triggers of sensors take, see :class:`~.triggers._base.sensor_trigger.BaseSensorTrigger`.
    """

    def __init__(
        self,
        *,
        job_id: str,
        task_name: str,
        indexes: int | str | Sequence[int] = "all",
        states: Sequence[str] = ("SUCCEED",),
        quorum: str | int | float = "all",
        **common: Any,
    ) -> None:
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = indexes
        self.states = states
        self.quorum = quorum
        super().__init__(**common)

    def make_wait(self) -> QuorumWait:
        """The instances."""
        from airflow_provider_tcbatch.waits.job_parts import QuorumWait

        chosen = selection(self.indexes)
        return QuorumWait(
            text_of("job_id", self.job_id),
            text_of("task_name", self.task_name),
            frozenset(states_of("states", self.states)),
            Quorum.parse(self.quorum),
            None if chosen is None else frozenset(chosen),
            **self.options,
        )

    def result(self, event: Mapping[str, Any]) -> dict[str, int]:
        """The numbers of instances."""
        return dict(event["counts"])

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The job's page."""
        return {TCBatchJobLink.key: settings.job_url(text_of("job_id", self.job_id))}
