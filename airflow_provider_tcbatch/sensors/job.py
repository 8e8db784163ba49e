"""Waiting for jobs, whoever submitted them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, JobError, NotFound, TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.job.failure import failure_of
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.operators._base.jobs_waiting import several
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.policies.job.targets import Targets, TargetVerdict
from airflow_provider_tcbatch.sensors._base.sensor import SensesJobs
from airflow_provider_tcbatch.triggers.states import TCBatchJobStatesTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = ["TCBatchJobSensor", "parsed_targets"]


class TCBatchJobSensor(SensesJobs):
    """Wait until jobs come to a state, whoever submitted them. It only observes.

    A state that a job leaves by itself counts as reached also where the job is further already: one that has SUCCEEDed
    has been RUNNING. Deferred, it is enough that each of several jobs has been seen in such a state once.

    Return value: the jobs' states by id. XCom ``tcbatch_summaries``, with ``summary``: by id what
    :class:`.TCBatchSubmitJobOperator` says of its job in ``tcbatch_summary``, as far as DescribeJob shows it.

    :param job_ids: the jobs, all of which must come to it: one id, several, or the output of other tasks. Nothing is
        waited for where it turns out to be empty, or to be an XCom that is not there. (templated)
    :param job_name: instead, exactly the name of a job: the newest one of that name, which need not be submitted yet. A
        job of the day before counts too, so let names differ from run to run. (templated)
    :param target_states: one or more of STARTING, RUNNING, SUCCEED, FAILED, FAILED_INTERRUPTED; one is enough.
    :param failure_states: states in which the sensor fails, out of the same; default is all final ones that are no
        targets. ``[]`` to go on whatever happens: somebody may let the job run again.
    :param summary: push the summaries; not with ``end_from_trigger``.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is Airflow's
        ``[operators] default_deferrable``.
    :param start_from_trigger: begin in the triggerer, too, without a worker; not for mapped tasks and outputs of other
        tasks.
    :param end_from_trigger: let the trigger end the task where it succeeds, or is skipped by ``soft_fail``.
    :param poke_interval: seconds between two looks; deferred, the longest time between them while no events flow.
    :param timeout: seconds after which it gives up, as with every sensor; so are ``mode`` and ``soft_fail``.
    :raises InvalidRequest: if states or jobs are not given as above, when the DAG is parsed.
    :raises NotFound: if there is no job with one of the ids.
    :raises JobFailed: if a job is FAILED or FAILED_INTERRUPTED instead, saying why;
        :class:`~airflow_provider_tcbatch.exceptions.JobMachinesFailed` if no program of it is to blame. There is no
        retry, and with ``soft_fail`` the task is skipped.
    :raises JobError: if a job is in another failure state.
    """

    trigger_class = TCBatchJobStatesTrigger
    template_fields: Sequence[str] = ("job_ids", "job_name", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        job_ids: str | Sequence[str] | XComArg | None = None,
        job_name: str | XComArg | None = None,
        target_states: str | Sequence[str] = ("SUCCEED",),
        failure_states: str | Sequence[str] | None = None,
        summary: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (job_ids is None) is (job_name is None):
            raise InvalidRequest(f"Task {self.task_id!r}: give job_ids or job_name, and not both")
        if isinstance(job_ids, (list, tuple)):
            several("job_ids", [item for item in job_ids if not known_later(item)], str, self.task_id)
        elif job_ids is not None and not known_later(job_ids):
            several("job_ids", job_ids, str, self.task_id)
        self.job_ids = job_ids
        self.job_name = job_name
        self.target_states = target_states
        self.failure_states = failure_states
        self.summary = flag("summary", summary, self.task_id)
        self._targets = parsed_targets(self.task_id, target_states, failure_states)
        self.prepare_start()

    def see(self, context: Context) -> bool:
        states = self._states()
        if states is None:
            self._seen = f"there is no job called {self.job_name!r}"
            self.log.info("There is no job called %r yet", self.job_name)
            return False
        if len(states) == 1:
            self.show_link(context, next(iter(states)))
        verdicts = {job_id: self._targets.judge(state) for job_id, state in states.items()}
        if failed := {job: states[job] for job, verdict in verdicts.items() if verdict is TargetVerdict.FAILED}:
            raise self._failure(failed)
        waiting = [f"{job} ({states[job]})" for job, verdict in verdicts.items() if verdict is TargetVerdict.WAITING]
        if waiting:
            more = f" and {len(waiting) - 5} more" if len(waiting) > 5 else ""
            links = "" if len(states) > 1 else f". Console: {self.hook.settings.job_url(next(iter(states)))}"
            self._seen = f"{', '.join(waiting[:5])}{more}{links}"
            self.log.info("Waiting until %s%s: %s", ", ".join(waiting[:5]), more, self._targets)
            return False
        self._finish(context, states)
        return True

    def told(self, context: Context, event: Mapping[str, Any]) -> dict[str, str]:
        """The jobs' states by id."""
        if len(event["states"]) == 1:
            self.show_link(context, next(iter(event["states"])))
        return self._finish(context, event["states"])

    def trigger_arguments(self) -> dict[str, Any]:
        """What the trigger waits for."""
        return {
            "job_ids": self.job_ids,
            "job_name": self.job_name,
            "target_states": self._targets.wanted,
            "failure_states": self._targets.failures,
        }

    def words(self) -> str:
        """What is waited for."""
        jobs = f"job {self.job_name!r}" if self.job_name is not None else f"jobs {', '.join(self._ids())}"
        return f"State {self._targets} of {jobs}"

    def subject(self) -> str:
        """The first job, for errors."""
        return str(self.job_name) if self.job_name is not None else self._ids()[0]

    def _ids(self) -> list[str]:
        return [] if self.job_name is not None else several("job_ids", self.job_ids, str, self.task_id)

    def _states(self) -> dict[str, str] | None:
        """States by id; ``None`` if there is no job of the name."""
        if self.job_name is not None:
            newest = self.hook.newest_job(self.text("job_name"))
            return None if newest is None else {newest.job_id: str(newest.job_state)}
        if not (job_ids := self._ids()):
            self.log.warning("job_ids is empty: there is nothing to wait for")
            return {}
        from airflow_provider_tcbatch.execution.job.termination import UNKNOWN_SECONDS, look

        views = look(self.hook, job_ids, patience=UNKNOWN_SECONDS)
        if missing := [job_id for job_id, view in views.items() if view is None]:
            raise NotFound(f"There is no job {', '.join(missing)}")
        return {job_id: str(view.job_state) for job_id, view in views.items() if view is not None}

    def _failure(self, failed: Mapping[str, str]) -> JobError:
        ended_badly = (State.FAILED.value, State.FAILED_INTERRUPTED.value)
        if badly := [job_id for job_id, state in failed.items() if state in ended_badly]:
            return failure_of(self.hook, badly)
        names = ", ".join(f"{job_id} is {state}" for job_id, state in failed.items())
        return JobError(f"Job {names}, and not {self._targets}", job_id=next(iter(failed)))

    def _finish(self, context: Context, states: Mapping[str, str]) -> dict[str, str]:
        found = self._found = dict(states)
        if self.summary:
            summaries = {job_id: self._summarise(job_id) for job_id in states}
            push(context, "tcbatch_summaries", summaries)
        return found

    def _summarise(self, job_id: str) -> dict[str, Any] | None:
        from airflow_provider_tcbatch.policies.job.summary import summarise

        try:
            return summarise(self.hook.describe_job(job_id), {}, {})
        except TCBatchError as error:
            self.log.warning("Job %s can't be summed up: %s", job_id, error)
            return None


def parsed_targets(task_id: str, target_states: object, failure_states: object) -> Targets:
    """What a sensor waits for.

    :raises InvalidRequest: if that is no state, or is wanted and feared at once.
    """
    try:
        return Targets.parse(target_states, failure_states)
    except ValueError as error:
        raise InvalidRequest(f"Task {task_id!r}: {error}") from None
