"""Waiting for a task inside a job, whoever submitted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import JobError, JobFailed
from airflow_provider_tcbatch.execution.job.instance_failure import why_instances_failed
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.job.targets import TargetVerdict
from airflow_provider_tcbatch.sensors._base.sensor import SensesJobs
from airflow_provider_tcbatch.sensors.job import parsed_targets
from airflow_provider_tcbatch.triggers.states import TCBatchTaskStateTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = ["TCBatchTaskSensor"]


class TCBatchTaskSensor(SensesJobs):
    """Wait until a task inside a job comes to a state, whatever the rest of the job does. It only observes.

    A state that a task leaves by itself counts as reached also where the task is further already: one that has
    SUCCEEDed has been RUNNING.

    Return value: the task's state.

    :param job_id: the job. (templated)
    :param task_name: its task. (templated)
    :param target_states: one or more of STARTING, RUNNING, SUCCEED, FAILED, FAILED_INTERRUPTED; one is enough.
    :param failure_states: states in which the sensor fails, out of the same; default is all final ones that are no
        targets. It also fails when the job has ended and the task has not come to its turn. ``[]`` to go on whatever
        happens: somebody may let the job run again.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is Airflow's
        ``[operators] default_deferrable``.
    :param start_from_trigger: begin in the triggerer, too, without a worker; not for mapped tasks and outputs of other
        tasks.
    :param end_from_trigger: let the trigger end the task where it succeeds, or is skipped by ``soft_fail``.
    :param poke_interval: seconds between two looks; deferred, the longest time between them while no events flow.
    :param timeout: seconds after which it gives up, as with every sensor; so are ``mode`` and ``soft_fail``.
    :raises InvalidRequest: if the states are not given as above, when the DAG is parsed.
    :raises NotFound: if there is no such job or task.
    :raises JobFailed: if the task is FAILED or FAILED_INTERRUPTED instead, saying why. There is no retry, and with
        ``soft_fail`` the Airflow task is skipped.
    :raises JobError: if the task can't come to it for another reason.
    """

    trigger_class = TCBatchTaskStateTrigger
    template_fields: Sequence[str] = ("job_id", "task_name", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        job_id: str | XComArg,
        task_name: str | XComArg,
        target_states: str | Sequence[str] = ("SUCCEED",),
        failure_states: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.task_name = task_name
        self.target_states = target_states
        self.failure_states = failure_states
        self._targets = parsed_targets(self.task_id, target_states, failure_states)
        self.prepare_start()

    def see(self, context: Context) -> bool:
        """Look once."""
        from airflow_provider_tcbatch.waits.job_parts import is_still, task_state

        job_id, task_name = self.text("job_id"), self.text("task_name")
        self.show_link(context, job_id)
        view = self.find_job(job_id)
        state = task_state(view, task_name)
        if state is None:
            self.log.info("Job %s (%s) does not show its tasks yet", job_id, view.job_state)
            return False
        verdict = self._targets.judge(state, over=is_still(view.job_state, view.task_instance_metrics))
        if verdict is TargetVerdict.FAILED:
            said = f"Task {task_name!r} of job {job_id} ({view.job_state}) is {state}, and not {self._targets}"
            if state in (State.FAILED, State.FAILED_INTERRUPTED):
                reasons, codes = why_instances_failed(self.hook, job_id, task_name)
                raise JobFailed("\n".join([said, *reasons]), job_id=job_id, exit_codes=codes)
            raise JobError(said, job_id=job_id)
        self._seen = f"it is {state} ({view.job_state} job). Console: {self.hook.settings.job_url(job_id)}"
        self.log.info("Task %r of job %s is %s", task_name, job_id, state)
        self._found = state
        return verdict is TargetVerdict.REACHED

    def told(self, context: Context, event: Mapping[str, Any]) -> str:
        """The task's state."""
        self.show_link(context, self.text("job_id"))
        return str(event["states"][self.text("task_name")])

    def trigger_arguments(self) -> dict[str, Any]:
        """What the trigger waits for."""
        return {
            "job_id": self.job_id,
            "task_name": self.task_name,
            "target_states": self._targets.wanted,
            "failure_states": self._targets.failures,
        }

    def words(self) -> str:
        """What is waited for."""
        return f"State {self._targets} of task {self.task_name!r} of job {self.job_id}"

    def subject(self) -> str:
        """The job."""
        return str(self.job_id)
