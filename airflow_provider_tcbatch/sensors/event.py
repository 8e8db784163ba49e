"""Waiting for an event of Batch, whoever submitted the job or made the environment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_tcbatch.exceptions import (
    ComputeEnvError,
    ConfigurationError,
    InvalidRequest,
    JobError,
    JobFailed,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.job.failure import failure_of
from airflow_provider_tcbatch.execution.job.instance_failure import why_instances_failed
from airflow_provider_tcbatch.links import TCBatchComputeEnvLink, TCBatchJobLink
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.policies.event.awaited import AwaitedEvents
from airflow_provider_tcbatch.policies.job.targets import TargetVerdict
from airflow_provider_tcbatch.sensors._base.sensor import SensesJobs
from airflow_provider_tcbatch.triggers.event_wait import EVENT_ARGUMENTS, TCBatchEventWaitTrigger, event_links

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context
    from airflow.sdk.definitions.xcom_arg import XComArg

    from airflow_provider_tcbatch.waits.event_inference import Finding

__all__ = ["TCBatchEventSensor"]


class _GoOn(Exception):
    """A wait on a worker goes on after an error."""

    def __init__(self, carried: Mapping[str, Any]) -> None:
        super().__init__()
        self.carried = carried


class TCBatchEventSensor(SensesJobs):
    """Wait until one of some events has come. It only observes.

    An event is a hint: it counts once the API shows what it says, so that a forged one is ignored. And where something
    is named whose state the API shows, the event need not be heard: a job that has SUCCEEDed must have been RUNNING.
    That is so for all events of a named job, of a named task and of its instances, for COMPUTE_ENV_CREATED and _DELETED
    of a named environment, and for COMPUTE_NODE_CREATED and _RUNNING in it. All others, and all that are chosen by
    ``variables``, must be heard on the connection's ``event_topic``, while the sensor waits.

    Return value: a dictionary with ``event_id`` (the same for all deliveries of one event), ``name``, ``job_id``,
    ``job_name``, ``task_name``, ``task_instance_index``, ``env_id``, ``env_name``, ``node_id``, ``time``, ``variables``
    and ``heard``. What is not known is ``None``: what an event tells besides its name and an id depends on the service,
    and if it was not ``heard`` then it has no ``event_id``, ``time`` and ``variables``.

    :param event_names: one or more of the 19 events, such as ``JOB_FAILED``; one is enough.
    :param job_id: the job, for JOB_, TASK_ and TASK_INSTANCE_ events. (templated)
    :param job_name: instead, exactly the name of a job, which need not be submitted yet. An event of any job of that
        name counts; if none is heard, the state of the newest does. (templated)
    :param task_name: the task, for TASK_ and TASK_INSTANCE_ events. (templated)
    :param task_instance_index: an instance of that task, counted from 0, or several, one of which is enough; default is
        all. (templated)
    :param env_id: the compute environment, for COMPUTE_ENV_ and COMPUTE_NODE_ events. (templated)
    :param env_name: instead, exactly the name of one, which need not exist yet. (templated)
    :param variables: EventVars that the event must carry, with these values. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is Airflow's
        ``[operators] default_deferrable``.
    :param poke_interval: longest time in seconds between two looks, where there is something to look at.
    :param timeout: seconds after which it gives up, as with every sensor; so is ``soft_fail``.
    :param mode: ``poke`` waits on the worker, with a queue of its own if the event must be heard; ``reschedule`` can't
        hear, and is refused then.
    :raises InvalidRequest: if no such event can come, or can't be waited for in this mode, when the DAG is parsed.
    :raises ConfigurationError: if the event must be heard, and the connection has no ``event_topic``.
    :raises NotFound: if there is no such job, task or environment.
    :raises JobFailed: if a job, task or instance has failed, and the event can't come any more, saying why. There is no
        retry, and with ``soft_fail`` the Airflow task is skipped.
    :raises JobError: if it can't come for another reason.
    :raises ComputeEnvError: if the environment is being deleted, so that it can't come any more.
    """

    template_fields: Sequence[str] = (
        "job_id",
        "job_name",
        "task_name",
        "task_instance_index",
        "env_id",
        "env_name",
        "variables",
        "tencentcloud_conn_id",
        "region",
    )
    trigger_class = TCBatchEventWaitTrigger
    operator_extra_links: tuple[BaseOperatorLink, ...] = (TCBatchJobLink(), TCBatchComputeEnvLink())

    #: Ends the wait on this worker, while there is one.
    _end_wait: Callable[[], None] | None = None

    def __init__(
        self,
        *,
        event_names: str | Sequence[str],
        job_id: str | XComArg | None = None,
        job_name: str | XComArg | None = None,
        task_name: str | XComArg | None = None,
        task_instance_index: int | str | Sequence[int] | XComArg | None = None,
        env_id: str | XComArg | None = None,
        env_name: str | XComArg | None = None,
        variables: Mapping[str, str] | XComArg | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.event_names = event_names
        self.job_id = job_id
        self.job_name = job_name
        self.task_name = task_name
        self.task_instance_index = (
            list(task_instance_index) if isinstance(task_instance_index, range) else task_instance_index
        )
        self.env_id = env_id
        self.env_name = env_name
        self.variables = variables
        awaited = self._awaited(rendered=False)
        if awaited.heard_only and self.mode == "reschedule" and not self.deferrable:
            raise InvalidRequest(
                f"Task {self.task_id!r}: {' or '.join(awaited.heard_only)} must be heard, and with mode='reschedule' "
                "nobody listens between two looks; write deferrable=True"
            )
        self.prepare_start()

    def execute(self, context: Context) -> Any:
        """Look; if it has not come, go on in the triggerer, here, or as every sensor does that is rescheduled."""
        if self.deferrable or self.mode == "reschedule":
            return super().execute(context)
        # The way on which Airflow heeds soft_fail and never_fail, whoever has waited.
        return self.resume_execution("wait_on_worker", {}, context)

    def wait_on_worker(self, context: Context) -> Any:
        """Wait on the worker, listening all the time where that is needed."""
        from airflow_provider_tcbatch.policies.deadlines import Deadlines
        from airflow_provider_tcbatch.waits.event import EventWait
        from airflow_provider_tcbatch.waits.sessions import listen_here, wait_here

        if self.poke(context):
            return self._found
        carried: Mapping[str, Any] = {"errors": 0, "give_up_at": time.time() + self.timeout}
        awaited = self._awaited()
        while True:
            deadlines = Deadlines(timeout=carried["give_up_at"])
            wait = EventWait(awaited, poll_interval=self.longest_pause, deadlines=deadlines, log_line=self.log.info)
            if awaited.heard_only:
                try:
                    end = listen_here(self.hook.settings, wait, self._can_be_ended_by)
                except asyncio.CancelledError:
                    raise TCBatchError(f"Task {self.task_id!r} was ended while it waited for {awaited}") from None
            else:
                end = wait_here(self.hook.settings, wait)
            try:
                return self.execute_complete(context, {**end.to_event(), **carried})
            except _GoOn as again:
                carried = again.carried

    def on_kill(self) -> None:
        """End the wait, so that its queue is removed before the worker is."""
        if self._end_wait is not None:
            self._end_wait()

    def _can_be_ended_by(self, end_wait: Callable[[], None]) -> None:
        self._end_wait = end_wait

    def see(self, context: Context) -> bool:
        """Look once, where there is something to look at."""
        from airflow_provider_tcbatch.waits.blocking import run_here
        from airflow_provider_tcbatch.waits.event_inference import look_once

        awaited = self._awaited()
        if awaited.heard_only and self.hook.settings.event_topic is None:
            raise ConfigurationError(
                f"Task {self.task_id!r}: {' or '.join(awaited.heard_only)} must be heard; set field event_topic of "
                f"connection {self.tencentcloud_conn_id!r} to the topic that jobs publish to"
            )
        if awaited.job_id is not None:
            self.show_link(context, awaited.job_id)
            self.find_job(awaited.job_id)  # which may just have been submitted
        looks = run_here(look_once(self.hook.settings, awaited))
        for seen in looks:
            self.log.info("%s", seen.words)
            if seen.event is not None and awaited.proven:
                self._found = self._result(context, seen.event.to_json(), heard=False)
                return True
        hopeless = [seen for seen in looks if seen.verdict is TargetVerdict.FAILED]
        if {seen.family for seen in hopeless} >= set(awaited.families):
            raise self._failure(awaited, hopeless[0])
        return False

    def told(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """The event."""
        return self._result(context, event["event"], heard=bool(event["heard"]))

    def trigger_arguments(self) -> dict[str, Any]:
        """What the trigger waits for."""
        return {name: getattr(self, name) for name in EVENT_ARGUMENTS}

    def words(self) -> str:
        """What is waited for."""
        return f"Event {self._awaited()}"

    def subject(self) -> str:
        """The job, for errors."""
        return str(self.job_id or self.job_name or "")

    def _defer(self, carried: Mapping[str, Any]) -> NoReturn:
        if not self.deferrable:
            raise _GoOn(carried)
        super()._defer(carried)

    def _awaited(self, *, rendered: bool = True) -> AwaitedEvents:
        """What is waited for.

        :param rendered: whether templates have been rendered; before, anything may stand in their place.
        """

        given = {name: getattr(self, name) for name in EVENT_ARGUMENTS}
        if not rendered:
            given = {name: _stand_in(name, value) for name, value in given.items()}
        try:
            return AwaitedEvents.parse(**given)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None

    def _result(self, context: Context, event: Mapping[str, Any], *, heard: bool) -> dict[str, Any]:
        for key, url in event_links(event, self.hook.settings).items():
            push(context, key, url)
        return {**event, "heard": heard}

    def _failure(self, awaited: AwaitedEvents, seen: Finding) -> TCBatchError:
        """Why the events can't come any more."""
        said = f"{seen.words}, and {' or '.join(awaited.names)} can't come any more"
        if seen.job_id is None:
            return ComputeEnvError(said, env_id=str(seen.env_id))
        view = self.hook.describe_job(seen.job_id)
        if view.job_state not in (State.FAILED, State.FAILED_INTERRUPTED) and seen.family == "JOB":
            return JobError(said, job_id=seen.job_id)
        if seen.family == "JOB":
            failure = failure_of(self.hook, [seen.job_id])
            failure.args = (f"{said}\n{failure}",)
            return failure
        indexes = awaited.indexes if seen.family == "TASK_INSTANCE" and awaited.indexes else None
        reasons, codes = why_instances_failed(self.hook, seen.job_id, str(awaited.task_name), indexes)
        text = "\n".join([said, *reasons])
        if not codes:
            return JobError(text, job_id=seen.job_id)
        return JobFailed(text, job_id=seen.job_id, exit_codes=codes)


def _stand_in(name: str, value: Any) -> Any:
    """What an argument may turn out to be that is only known when the task runs."""
    if name == "variables" and isinstance(value, Mapping):
        return {key: str(one) if known_later(one) else one for key, one in value.items()}
    if name == "task_instance_index" and isinstance(value, (list, tuple)):
        return [0 if known_later(one) else one for one in value]
    if not known_later(value):
        return value
    return {"task_instance_index": 0, "variables": {"": ""}}.get(name, "later")
