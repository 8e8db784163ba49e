"""Doing something to jobs that are there already: running them again, ending them, deleting them."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import (
    InvalidRequest,
    JobError,
    NotFound,
    ResourceBusy,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.job.failure import Explanation, failure_of, show_output
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.operators._base.jobs_waiting import WaitsForJobs
from airflow_provider_tcbatch.operators._base.operator import flag
from airflow_provider_tcbatch.policies.job.outcome import Verdict, judge

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.client.logs.reader import InstanceOutput
    from airflow_provider_tcbatch.execution.job.termination import Views
    from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch

__all__ = ["TCBatchDeleteJobOperator", "TCBatchRetryJobsOperator", "TCBatchTerminateJobOperator"]

#: Seconds to go on with a job that has ended, while a part of it has not.
_REST_SECONDS = 60.0


class TCBatchRetryJobsOperator(WaitsForJobs):
    """Let the failed instances of FAILED jobs run again (RetryJobs), and wait for the jobs' ends.

    What succeeded is left alone. A job that still runs is waited for, and one that has succeeded is nothing to do for:
    so a try that follows a crash goes on where the one before was. A try that follows a failure lets the jobs run once
    more.

    The jobs belong to whoever submitted them. A task that is killed, or reaches a limit, leaves them running, unless
    ``cancel_on_kill`` or ``cancel_on_failure`` say otherwise.

    XComs: the ids (return value), and ``tcbatch_states``: the jobs' states by id.

    :param job_ids: the jobs: one id, several, or the output of other tasks. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the jobs run again, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param timeout: seconds from the beginning of the task after which all jobs have to be over; ``None`` for ever.
    :param cancel_on_kill: terminate the jobs when the task is killed on a worker, or marked as failed, succeeded or
        skipped while it is deferred (the latter on Airflow 3.3 and later).
    :param cancel_on_failure: terminate the jobs that still run when a limit is reached.
    :param logs: whose output to show in the task log at the end: ``failed`` instances, or ``none``.
    :param log_instances: most instances of a job whose output is shown.
    :raises NotFound: if a job does not exist.
    :raises JobError: if a job is FAILED_INTERRUPTED, which has to be terminated first, or does not run again.
    :raises JobFailed: if one of the jobs ended badly; :class:`~airflow_provider_tcbatch.exceptions.JobMachinesFailed`
        if no program of them did.
    :raises JobTimeout: if one did not end within ``timeout``;
        :class:`~airflow_provider_tcbatch.exceptions.ExecutionTimeout` within ``execution_timeout``.
    """

    def __init__(
        self,
        *,
        cancel_on_kill: bool = False,
        cancel_on_failure: bool = False,
        logs: str = "failed",
        log_instances: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if logs not in ("failed", "none"):
            raise InvalidRequest(f"Task {self.task_id!r}: logs is {logs!r}; write failed or none")
        self.cancel_on_kill = flag("cancel_on_kill", cancel_on_kill, self.task_id)
        self.cancel_on_failure = flag("cancel_on_failure", cancel_on_failure, self.task_id)
        self.logs = logs
        self.log_instances = log_instances
        self.cancels = self.cancel_on_kill
        self._kill_switches: list[KillSwitch] = []
        self._killed = False

    def begin(self, context: Context, job_ids: Sequence[str]) -> Views:
        """Let those run again that are FAILED."""
        from airflow_provider_tcbatch.execution.job.repair import run_again
        from airflow_provider_tcbatch.execution.job.termination import UNKNOWN_SECONDS, look

        views = look(self.hook, job_ids, patience=UNKNOWN_SECONDS)
        if missing := [job_id for job_id, view in views.items() if view is None]:
            raise NotFound(f"There is no job {', '.join(missing)}")
        present = [view for view in views.values() if view is not None]
        for view in present:
            if view.job_state == State.FAILED_INTERRUPTED:
                raise JobError(
                    f"Job {view.job_id} is FAILED_INTERRUPTED: its machines are kept, and it has to be terminated "
                    "before it can run again (TCBatchTerminateJobOperator)",
                    job_id=view.job_id,
                )
        # As they read before this task asked for the first time. After an outage what has been done is not asked for.
        before: dict[str, Any] = self.asked.setdefault("before", {})
        accepted: list[str] = self.asked.setdefault("accepted", [])
        failed = []
        for view in present:
            if view.job_state != State.FAILED:
                self.log.info("Job %s is %s: there is nothing to run again", view.job_id, view.job_state)
            elif before.setdefault(view.job_id, view.end_time) != view.end_time:
                self.log.info("The failed instances of job %s have run again, and it has failed again", view.job_id)
            else:
                failed.append(view)
        self._note_failures()
        self._check_alive()
        if failed:
            self.log.info("Running the failed instances of %s again", ", ".join(view.job_id for view in failed))
            run_again(self.hook, failed, accepted=accepted, on_accepted=accepted.extend)
        return look(self.hook, job_ids)

    def finish(self, context: Context, views: Views) -> None:
        """Judge the jobs."""
        if not self.wait_for_completion:
            return
        if missing := [job_id for job_id, view in views.items() if view is None]:
            raise NotFound(f"While it was waited for, job {', '.join(missing)} was deleted")
        states = {job_id: str(view.job_state) for job_id, view in views.items() if view is not None}
        if failed := [job_id for job_id, state in states.items() if judge(state).verdict is not Verdict.SUCCESS]:
            raise failure_of(self.hook, failed, Explanation(self.hook, self.log_instances), self._show)

    def _show(self, job_id: str, outputs: list[InstanceOutput]) -> None:
        for output in outputs[: self.log_instances] if self.logs == "failed" else ():
            show_output(self.log, output, logging.ERROR, f"{job_id} ")

    # -- when the task is put to an end ----------------------------------------------------------------

    def abandon(self, job_ids: Sequence[str]) -> str:
        """Terminate the jobs at a limit, if that is wanted."""
        from airflow_provider_tcbatch.execution.job.termination import ask_to_end

        if not self.cancel_on_failure:
            return "; they go on (cancel_on_failure=False)"
        try:
            ask_to_end(self.hook, job_ids, patience=60.0)
        except TCBatchError as error:
            return f"; not all of them could be terminated: {error}"
        return "; their termination was asked for"

    def arm(self, context: Context, job_ids: Sequence[str]) -> None:
        """Make what ends the jobs when the worker is killed, with client and keys: none are read while it dies."""
        if not self.cancel_on_kill:
            return
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
        from airflow_provider_tcbatch.execution.ownership.state_store import StoredRecords, VolatileRecords
        from airflow_provider_tcbatch.models import job_writing  # noqa: F401 - nothing is imported while it dies, either

        ti, accessor = context["ti"], context.get("task_state_store")
        # Nothing is kept there about these jobs. It says only whether this Airflow can be asked what became of a task.
        records = VolatileRecords() if accessor is None else StoredRecords(accessor)
        hook = self.hook.apart()
        self._kill_switches = [KillSwitch(hook, job_id, owner_of(context), str(ti.id), records) for job_id in job_ids]
        self._note_failures()
        if self._killed:
            # It was killed meanwhile: some of its five seconds are left.
            self.on_kill()
            self._check_alive()

    def _note_failures(self) -> None:
        """Tell what ends the jobs which of them are about to run again: a job that reads FAILED is not ended then."""
        before = self.asked.get("before") or {}
        for switch in self._kill_switches:
            switch.failed_before = before.get(switch.job_id)

    def _check_alive(self) -> None:
        """Do not let anything run again once the task has been killed."""
        if self._killed and self.cancel_on_kill:
            raise TCBatchError(f"Task {self.task_id!r} was killed")

    def on_kill(self) -> None:
        """Terminate the jobs if they are to go with the task, in the few seconds that Airflow gives."""
        self._killed = True
        if self._kill_switches:
            from airflow_provider_tcbatch.execution.ownership.kill_switch import pull_all

            pull_all(self._kill_switches)


class TCBatchTerminateJobOperator(WaitsForJobs):
    """Terminate jobs, and wait until they have ended and given their machines back.

    What has ended is left alone, so it does no harm to do it twice. While a job is SUBMITTED the service refuses to
    terminate it: it is asked again for up to two minutes. FAILED_INTERRUPTED jobs, whose machines are kept and cost
    money, become FAILED. Fit for a clean-up task with ``trigger_rule="all_done"``: where a job does not exist, or
    ``job_ids`` is an XCom that is not there, there is nothing to do.

    XComs: the ids (return value), and ``tcbatch_states``: the jobs' states by id, ``None`` for one that is not there.
    A job may have succeeded before its end was asked for.

    :param job_ids: the jobs: one id, several, or the output of other tasks. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param missing_ok: ``False`` to fail if a job does not exist.
    :param wait_for_completion: ``False`` to succeed as soon as the terminations are accepted, whatever ``deferrable``
        says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param timeout: seconds from the beginning of the task after which all jobs have to be over; ``None`` for ever.
    :raises NotFound: if a job does not exist, with ``missing_ok=False``.
    :raises ApiError: if the service refuses to terminate a job. (The others are terminated all the same.)
    :raises JobTimeout: if one did not end within ``timeout``;
        :class:`~airflow_provider_tcbatch.exceptions.ExecutionTimeout` within ``execution_timeout``.
    """

    interrupted_ends = False

    def __init__(self, *, missing_ok: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing_ok = flag("missing_ok", missing_ok, self.task_id)

    def begin(self, context: Context, job_ids: Sequence[str]) -> Views:
        """Ask for the ends."""
        from airflow_provider_tcbatch.execution.job.termination import ask_to_end, look

        views = ask_to_end(self.hook, job_ids)
        missing = [job_id for job_id, view in views.items() if view is None]
        if missing and not self.missing_ok:
            raise NotFound(f"There is no job {', '.join(missing)} (missing_ok=False)")
        return views if not self.pending(views) else look(self.hook, job_ids)

    def finish(self, context: Context, views: Views) -> None:
        """Wait for the last instances of jobs that are FAILED already."""
        from airflow_provider_tcbatch.execution.job.termination import is_over

        for job_id, view in views.items() if self.wait_for_completion else ():
            if view is not None and not is_over(self.hook, view):
                self.log.info("Job %s is %s, but instances of it still run", job_id, view.job_state)
                self.hook.end_job(job_id, patience=_REST_SECONDS)


class TCBatchDeleteJobOperator(WaitsForJobs):
    """Delete the records of jobs: nothing can be asked about them afterwards, and they no longer count for the quota.

    A job must be SUCCEED or FAILED, with all its instances. One that still runs is waited for; with ``terminate=True``
    it is terminated instead. A job that does not exist is deleted already. Jobs that can be deleted are, even if
    others can't.

    XComs: the ids (return value), and ``tcbatch_states``: the last states by id, ``None`` for a job that was not there.

    :param job_ids: the jobs: one id, several, or the output of other tasks. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param terminate: terminate what has not ended, and what is FAILED_INTERRUPTED, before deleting it.
    :param wait_for_completion: ``False`` to fail, instead of waiting, if a job can't be deleted yet.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param timeout: seconds from the beginning of the task after which all jobs have to be over; ``None`` for ever.
    :raises ResourceBusy: if a job can't be deleted yet.
    :raises JobError: if a job is FAILED_INTERRUPTED, without ``terminate``: it never ends by itself.
    :raises JobTimeout: if one did not end within ``timeout``;
        :class:`~airflow_provider_tcbatch.exceptions.ExecutionTimeout` within ``execution_timeout``.
    """

    def __init__(self, *, terminate: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.terminate = flag("terminate", terminate, self.task_id)
        # Without a termination nothing more would happen to a job that is FAILED_INTERRUPTED.
        self.interrupted_ends = not terminate

    def begin(self, context: Context, job_ids: Sequence[str]) -> Views:
        """Ask for the ends of what runs, if that is wanted."""
        from airflow_provider_tcbatch.execution.job.termination import UNKNOWN_SECONDS, ask_to_end, look

        if not self.terminate:
            return look(self.hook, job_ids, patience=UNKNOWN_SECONDS)
        views = ask_to_end(self.hook, job_ids)
        return views if not self.pending(views) else look(self.hook, job_ids)

    def finish(self, context: Context, views: Views) -> None:
        """Delete the jobs."""
        until = time.monotonic() + (_REST_SECONDS if self.wait_for_completion else 0.0)
        errors: list[TCBatchError] = []
        for job_id, view in views.items():
            try:
                if view is not None and view.job_state == State.FAILED_INTERRUPTED and not self.terminate:
                    raise JobError(
                        f"Job {job_id} is FAILED_INTERRUPTED: its machines are kept, and it has to be terminated "
                        "before it can be deleted (terminate=True)",
                        job_id=job_id,
                    )
                if view is not None:
                    self._delete(job_id, until)
            except TCBatchError as error:
                self.log.warning("Job %s can't be deleted: %s", job_id, error)
                errors.append(error)
        if errors:
            raise errors[0]

    def _delete(self, job_id: str, until: float) -> None:
        while True:
            try:
                self.hook.delete_job(job_id)
            except NotFound:
                self.log.info("Job %s is deleted already", job_id)
                return
            except ResourceBusy as error:
                # The job may have ended before the last of its instances.
                if time.monotonic() >= until:
                    raise
                self.log.info("Job %s can't be deleted yet: %s", job_id, error)
                time.sleep(1.0)
            else:
                self.log.info("Deleted job %s", job_id)
                return
