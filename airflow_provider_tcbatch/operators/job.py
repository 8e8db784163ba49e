"""Submitting a job and waiting for it."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, PermissionDenied, QuotaExceeded, TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.links import (
    TCBatchComputeEnvLink,
    TCBatchJobLink,
    TCBatchLogsLink,
    TCBatchTaskTemplateLink,
)
from airflow_provider_tcbatch.models.job import Job, Task
from airflow_provider_tcbatch.models.wire import to_wire_form
from airflow_provider_tcbatch.operators._base.job_argument import TakesJob
from airflow_provider_tcbatch.operators._base.job_waiting import LOG_BYTES, WaitsForJob
from airflow_provider_tcbatch.operators._base.object_argument import mask_secrets_of
from airflow_provider_tcbatch.operators._base.operator import duration, flag
from airflow_provider_tcbatch.policies.backoff import quota_pause
from airflow_provider_tcbatch.policies.job.on_retry import OnRetry
from airflow_provider_tcbatch.policies.job.outcome import Verdict

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.execution.job.submission import JobSpec, Settled

__all__ = ["TCBatchSubmitJobOperator"]

#: What :meth:`TCBatchSubmitJobOperator.render_request` shows instead of a ClientToken.
_NO_TOKEN = "0" * 32

#: Seconds that a deferrable task waits on its worker for its turn to submit: to defer it takes about as long.
_TURN_SECONDS = 15.0

_ON_RETRY = frozenset(choice.value for choice in OnRetry)


class TCBatchSubmitJobOperator(TakesJob, WaitsForJob):
    """Submit a Batch job and wait for its end.

    The job is checked when the DAG is parsed, as far as it can be seen there, and again after rendering. A failed job
    fails the task; the error names the instances that failed, their exit codes and the end of their stderr.

    One *generation* of the task owns one job. A retry after a crash goes on with the job that is there; a retry after
    a failure submits another (or repairs it, see ``on_retry``); clearing the task ends the old job and submits
    another. A task that is killed, or marked as failed or succeeded, takes its job with it. This needs Airflow's task
    state store (3.3 and later); on 3.1 and 3.2 a warning says what is lost.

    The job carries its owner in a tag, and in environment variables ``AIRFLOW_CTX_DAG_ID``, ``..._DAG_RUN_ID``,
    ``..._TASK_ID``, ``..._MAP_INDEX``, ``..._TRY_NUMBER`` (the try that submitted it), ``..._LOGICAL_DATE`` and
    ``..._DATA_INTERVAL_START`` / ``_END``. Without a JobName it is called after its task.

    XComs: ``job_id`` as soon as the job exists (also the return value); ``tcbatch_summary`` at its end, see
    :func:`~airflow_provider_tcbatch.policies.job.summary.summarise`; ``tcbatch_timeline``: unix seconds of
    ``submitted_at``, ``event_received_at`` (``None`` without an event), ``confirmed_at`` (the API told the final
    state) and ``resumed_at`` (this task went on).

    :param job: the job: a :class:`~airflow_provider_tcbatch.models.job.Job`, a dictionary in either spelling
        (``TaskName`` or ``task_name``), JSON or YAML text, or the path of a ``.yaml``, ``.yml`` or ``.json`` file
        that is looked for where the DAG looks for templates. Jinja may stand anywhere inside. A task with a
        ``TaskTemplateId`` or ``TaskTemplateName`` is that task template with the other fields put onto it. (templated)
    :param zone: availability zone of the machines; default is the connection's. (templated)
    :param placement: a whole ``Placement``, instead of ``zone``. (templated)
    :param preflight: before a job is submitted, ask whether its machines can be had: of each task with a ``ComputeEnv``
        that names instance types, one in its zone. An error names others, with their prices.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the job is submitted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at the job while no events flow.
    :param timeout: seconds from submission after which the job has to be over; ``None`` for ever.
    :param queue_timeout: seconds from submission after which an instance of the job has to have started.
        ``execution_timeout``, from the start of the try, ends a deferred wait likewise.
    :param min_success: how many instances of the job must succeed: a number, or a share as a float (``0.95``);
        ``None`` for what the service calls a success.
    :param fail_fast: end the job as soon as it can't succeed any more: at the first failed instance, or when
        ``min_success`` is out of reach.
    :param skip_on_exit_code: exit codes that mean "nothing to do": if all failed instances ended with one of them, the
        task is skipped.
    :param on_retry: what a retry does about a failed job: ``resubmit`` it, or ``repair`` it (RetryJobs: only its failed
        instances run again).
    :param durable: ``False`` to keep nothing about the job between tries: every try submits its own.
    :param cancel_on_kill: terminate the job when the task is killed on a worker, or marked as failed, succeeded or
        skipped while it is deferred (the latter on Airflow 3.3 and later), and when the task was cleared. ``False``
        leaves all these jobs running.
    :param cancel_on_failure: terminate the job when the task fails although the job still runs: a limit was reached, or
        it can't be watched any more and no retry will.
    :param wait_for_quota: whether to wait when the account's quota does not allow another job now, deferred if the
        operator is; seconds or a timedelta to wait no longer than that. ``False`` fails the try.
    :param logs: whose output to show in the task log at the end: ``failed`` instances, ``all`` (the first
        ``log_instances``), or ``none``.
    :param log_instances: most instances whose output is shown.
    :param log_bytes: most bytes of each of their streams, counted from its end: 16 KB unless you ask for more, at most
        16 MB, and of these the last 5,000 lines. More than the service's preview of 2 KB is there where the job
        redirects its output to COS.
    :param stream_logs: show the output of running instances while the task waits, of up to ``log_instances`` at a time.
    :raises InvalidRequest: if the job is wrong. (No retry.)
    :raises PermissionDenied: if the keys may not do this. (No retry.)
    :raises ComputeEnvFailed: if all instance types of a task are sold out, with ``preflight=True``; types that are not
        offered in the zone at all are an ``InvalidRequest``.
    :raises JobFailed: if the job ended badly; :class:`~airflow_provider_tcbatch.exceptions.JobMachinesFailed` if none
        of its programs did.
    :raises JobTimeout: if it did not end within ``timeout``;
        :class:`~airflow_provider_tcbatch.exceptions.ExecutionTimeout` within ``execution_timeout``.
    :raises QueueTimeout: if nothing of it started within ``queue_timeout``.
    :raises QuotaExceeded: if the quota did not allow it in time.
    """

    template_fields: Sequence[str] = ("job", "zone", "placement", "tencentcloud_conn_id", "region")
    # Not template_ext: Airflow would take *every* string inside the job that ends in ".yaml" for a file.
    template_fields_renderers = {"job": "json", "placement": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (TCBatchJobLink(), TCBatchComputeEnvLink(), TCBatchTaskTemplateLink(), TCBatchLogsLink())

    zone: str | None
    placement: Mapping[str, Any] | None
    preflight: bool
    wait_for_completion: bool
    on_retry: str
    wait_for_quota: bool | float

    # Of a run; while a DAG is parsed they are not set.
    _job_id: str | None = None
    #: The job as it was made in this process.
    _made: Job | None = None

    def __init__(
        self,
        *,
        job: Job | Mapping[str, Any] | str,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        preflight: bool = False,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 30.0,
        timeout: float | timedelta | None = None,
        queue_timeout: float | timedelta | None = None,
        min_success: int | float | None = None,
        fail_fast: bool = False,
        skip_on_exit_code: int | Collection[int] | None = None,
        on_retry: str = OnRetry.RESUBMIT.value,
        durable: bool = True,
        cancel_on_kill: bool = True,
        cancel_on_failure: bool = True,
        wait_for_quota: bool | float | timedelta = True,
        logs: str = "failed",
        log_instances: int = 10,
        log_bytes: int = LOG_BYTES,
        stream_logs: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.own(durable=durable, cancel_on_kill=cancel_on_kill, cancel_on_failure=cancel_on_failure)
        self.wait_with(
            deferrable=deferrable,
            poll_interval=poll_interval,
            timeout=timeout,
            queue_timeout=queue_timeout,
            min_success=min_success,
            fail_fast=fail_fast,
            skip_on_exit_code=skip_on_exit_code,
            logs=logs,
            log_instances=log_instances,
            log_bytes=log_bytes,
            stream_logs=stream_logs,
        )
        self.keep(zone=zone, placement=placement)
        self.take(job)
        if on_retry not in _ON_RETRY:
            raise InvalidRequest(f"Task {self.task_id!r}: on_retry is {on_retry!r}; write resubmit or repair")
        if on_retry == OnRetry.REPAIR.value and not self.durable:
            raise InvalidRequest(f"Task {self.task_id!r}: on_retry='repair' needs durable=True: the job must be known")
        if not isinstance(wait_for_quota, bool):
            wait_for_quota = duration("wait_for_quota", wait_for_quota, self.task_id)
        self.keep(
            preflight=flag("preflight", preflight, self.task_id),
            wait_for_completion=flag("wait_for_completion", wait_for_completion, self.task_id),
            on_retry=on_retry,
            wait_for_quota=wait_for_quota,
        )

    # -- before a run --------------------------------------------------------------------------------

    def _spec(self, context: Context) -> JobSpec:
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.job.submission import JobSpec
        from airflow_provider_tcbatch.policies.job.notifications import FAIL_FAST_EVENTS, FINAL_JOB_EVENTS

        job = self.final_job()
        instances = sum(1 if task.task_instance_num is None else task.task_instance_num for task in job.tasks)
        if isinstance(self.min_success, int) and self.min_success > instances:
            raise InvalidRequest(
                f"Task {self.task_id!r}: min_success is {self.min_success}, but the job has {instances} instances"
            )
        self._made = job
        return JobSpec(
            job,
            owner_of(context),
            mark=self.hook.settings.mark,
            zone=self.zone,
            placement=self.placement,
            events=FINAL_JOB_EVENTS + (FAIL_FAST_EVENTS if self.fail_fast and self.wait_for_completion else ()),
        )

    def _variables(self, context: Context) -> dict[str, str]:
        """Environment variables for every instance."""
        from airflow_provider_tcbatch.execution.airflow_context import variables_of
        from airflow_provider_tcbatch.policies.ownership.marks import KEEP_VARIABLE

        variables = variables_of(context)
        if not (self.wait_for_completion and self.cancel_on_kill and self.cancel_on_failure):
            # It may outlive its task, which is no reason to take it for an orphan.
            variables[KEEP_VARIABLE] = "1"
        return variables

    def render_request(self, context: Context) -> dict[str, Any]:
        """The SubmitJob request that this task would send, checked; it is not sent. (Task templates are read.)

        Secrets are masked, and the token, which every submission has anew, is made of zeros.

        :param context: context of a task instance whose templates have been rendered.
        :returns: wire JSON.
        :raises InvalidRequest: if the job is wrong.
        """
        from airflow_provider_tcbatch.models.actions import SubmitJob

        request = self._spec(context).request(self.hook, _NO_TOKEN, self._variables(context))
        wire: dict[str, Any] = to_wire_form(SubmitJob, request).data
        return wire

    def requested(self) -> Mapping[str, Any]:
        """The job in wire JSON, without secrets."""
        if self._job_id is not None and self.from_templates():
            # As it was submitted: its templates may have changed since.
            read = functools.partial(self.hook.describe_job_submit_info, self._job_id)
            job: Any = self._explanation.within.run(read).to_wire()
        else:
            job = self.final_job()
        mask_secrets_of(Job, job)
        wire: dict[str, Any] = to_wire_form(Job, job).data
        return wire

    # -- a run ---------------------------------------------------------------------------------------

    def execute(self, context: Context) -> str | None:
        """See to the job; wait for it, or leave the waiting to the triggerer."""
        with permanent_errors():
            return self._run(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str | None:
        """Go on after the triggerer has waited.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.job.TCBatchJobTrigger` or
            :class:`~airflow_provider_tcbatch.triggers.job.TCBatchQuotaTrigger` yielded.
        """
        with permanent_errors():
            if event["status"] == "quota":
                self.take_over(context, event.get("record"))
                self.tell_outage(event.get("outage"))
                return self._run(
                    context,
                    attempts=event["attempts"],
                    waiting_since=event["waiting_since"],
                    outage=event.get("outage"),
                )
            self.mask_secrets()
            self._job_id = str(event["job_id"])
            self.arm(context, self._job_id)
            return self.go_on(context, event)

    def _run(
        self,
        context: Context,
        *,
        attempts: int = 0,
        waiting_since: float | None = None,
        outage: Mapping[str, Any] | None = None,
    ) -> str | None:
        make = functools.cache(lambda: self._spec(context))
        try:
            if not self.from_templates():
                make()
            self.hook.settings.check_pages()  # a wrong template must be found before there is a job
        except TCBatchError as error:
            if isinstance(error, (InvalidRequest, PermissionDenied)) or not self.is_retried(context):
                # Edited since an earlier try, say: nobody will come back for that try's job.
                self.abandon(context)
            raise
        while True:
            resume = {"status": "quota", "attempts": attempts, "waiting_since": waiting_since, "outage": outage}

            def settle(resume: dict[str, Any] = resume, attempts: int = attempts) -> Settled:
                try:
                    return self._settle(context, make, attempts)
                finally:
                    if (record := self.handed_over(context)) is not None:
                        resume["record"] = record

            try:
                settled = self.patiently(
                    settle,
                    resume,
                    limit=self.deadlines(context, None).execution_timeout,
                    subject="A job of an earlier try, if there is one, goes on",
                    job_ids=functools.partial(self.to_end, context),
                )
                break
            except QuotaExceeded as error:
                attempts, waiting_since, outage = attempts + 1, waiting_since or time.time(), None
                self._wait_for_quota(context, error, attempts, waiting_since)
        tasks = self._tasks(settled)
        self._announce(context, tasks, settled)
        if not self.wait_for_completion:
            self.mark_done(context)
            return settled.job_id
        if settled.done:
            return self._repeat(context, settled)
        several = len(tasks) != 1 or (tasks[0].task_instance_num or 1) > 1
        return self.wait(context, settled.job_id, settled.waiting_since, progress=several)

    def _settle(self, context: Context, make: Callable[[], JobSpec], attempts: int) -> Settled:
        from airflow_provider_tcbatch.execution.airflow_context import this_try
        from airflow_provider_tcbatch.execution.job.submission import Submission
        from airflow_provider_tcbatch.execution.ownership.state_store import warn_of_loss

        records = self.records(context)
        if not attempts:
            warn_of_loss(records)
        submission = Submission(
            self.hook,
            records,
            this_try(context, self),
            make,
            self._variables(context),
            policy=self._policy,
            on_retry=OnRetry(self.on_retry),
            end_superseded=self.cancel_on_kill,
            attempts=attempts,
            # Those who wait longer do so in the triggerer, which lets them through one after the other.
            patience=_TURN_SECONDS if self.deferrable else None,
            on_job=lambda job_id: self.arm(context, job_id),
            check=self.check_alive,
            preflight=self._check_machines,
        )
        return submission.settle()

    def _check_machines(self, spec: JobSpec) -> None:
        if not self.preflight:
            return
        from airflow_provider_tcbatch.execution.preflight import check_machines
        from airflow_provider_tcbatch.policies.compute_env.instance_types import machines_of

        wanted = {}
        for number, task in enumerate(spec.job.tasks):
            if task.compute_env is not None:
                zone = self.hook.placement(self.zone, self.placement).zone
                if (machines := machines_of(task.compute_env.env_data, zone)) is not None:
                    wanted[f"Job.Tasks[{number}] ({task.task_name})"] = machines
        check_machines(self.hook, wanted)

    def _tasks(self, settled: Settled) -> Sequence[Task]:
        """The job's tasks, as far as they can be known: its templates may have changed since, or may be gone."""
        if self._made is not None:
            return self._made.tasks
        try:
            return self.hook.describe_job_submit_info(settled.job_id).tasks or ()
        except TCBatchError as error:
            self.log.info("How job %s was submitted can't be read: %s", settled.job_id, error)
            return ()

    def _announce(self, context: Context, tasks: Sequence[Task], settled: Settled) -> None:
        """Tell the id and the console's pages at once: whatever comes, they can be looked up."""
        self._job_id = settled.job_id
        settings = self.hook.settings
        push(context, "job_id", settled.job_id)
        push(context, TCBatchJobLink.key, settings.job_url(settled.job_id))
        env_id = next((task.env_id for task in tasks if task.env_id), None)
        if env_id is not None:
            push(context, TCBatchComputeEnvLink.key, settings.env_url(env_id))
        if self._template_ids:
            push(context, TCBatchTaskTemplateLink.key, settings.template_url(self._template_ids[0]))
        if (folder := _log_folder(tasks)) is not None:
            push(context, TCBatchLogsLink.key, settings.cos_url(*folder))

    def _repeat(self, context: Context, settled: Settled) -> str | None:
        """The work was done by an earlier try that did not live to say so."""
        from airflow_provider_tcbatch.execution.job.evaluation import judge_job

        try:
            view = self.hook.describe_job(settled.job_id)
        except TCBatchError as error:
            self.log.warning("Job %s can't be summed up any more: %s", settled.job_id, error)
            return settled.job_id
        # It was done: as a success, or as a skip.
        verdict = judge_job(self.hook, view, self._policy).verdict
        return self.finish(context, view, Verdict.SKIP if verdict is Verdict.SKIP else Verdict.SUCCESS, streamed=False)

    # -- waiting for a quota -------------------------------------------------------------------------

    def _wait_for_quota(self, context: Context, error: QuotaExceeded, attempts: int, since: float) -> None:
        """Defer, or sleep, until it is time to submit again.

        :raises QuotaExceeded: if there is no time left, or waiting is not wanted.
        """
        until = time.time() + quota_pause(attempts, random.random())
        ends = [self.deadlines(context, None).execution_timeout]
        if not isinstance(self.wait_for_quota, bool):
            ends.append(since + self.wait_for_quota)
        last = min((end for end in ends if end is not None), default=None)
        if self.wait_for_quota is False or (last is not None and time.time() >= last):
            raise error
        until = until if last is None else min(until, last)
        self.log.info("No quota for another job, submitting again in %.0f s: %s", until - time.time(), error)
        if self.deferrable:
            from airflow_provider_tcbatch.triggers.job import TCBatchQuotaTrigger

            record = self.handed_over(context)
            trigger = TCBatchQuotaTrigger(until=until, waiting_since=since, attempts=attempts, record=record)
            self.defer(trigger=trigger, method_name="execute_complete")
        time.sleep(max(0.0, until - time.time()))


def _log_folder(tasks: Sequence[Task]) -> tuple[str, str] | None:
    """Bucket and key of the first folder in COS that output goes to."""
    from airflow_provider_tcbatch.models.storage import CosLocation

    for task in tasks:
        info = task.redirect_info
        path = info and (info.stdout_redirect_path or info.stderr_redirect_path)
        if path and path.startswith("cos://"):
            try:
                place = CosLocation.parse(path)
            except ValueError:
                continue  # a host that says nothing of bucket and region
            return place.bucket, place.key
    return None
