"""Waiting for a job in an operator: deferred or on the worker, and what follows from how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_tcbatch.exceptions import (
    InvalidRequest,
    JobError,
    JobFailed,
    JobMachinesFailed,
    NotFound,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.operators._base.job_ownership import OwnsJob
from airflow_provider_tcbatch.operators._base.operator import (
    AirflowSkipException,
    AirflowTaskTimeout,
    deferral,
    duration,
    flag,
)
from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy, Verdict, counts_of, judge

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.client.logs.reader import InstanceOutput
    from airflow_provider_tcbatch.execution.job.failure import Explanation, Instances
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
    from airflow_provider_tcbatch.policies.job.outcome import Outcome

__all__ = ["LOG_BYTES", "WaitsForJob"]

#: Bytes of each stream of an instance that the task log shows, by default and at most: the log is read in a browser.
LOG_BYTES = 16 * 1024
MOST_LOG_BYTES = 16 * 1024 * 1024

#: How often a wait goes on after an error.
_WAIT_ERRORS = 3


class WaitsForJob(OwnsJob):
    """Base of operators that wait for a job which is theirs. An operator hands its arguments to :meth:`wait_with`."""

    deferrable: bool
    poll_interval: float
    timeout: float | None
    queue_timeout: float | None
    min_success: int | float | None
    fail_fast: bool
    skip_on_exit_code: int | Collection[int] | None
    logs: str
    log_instances: int
    log_bytes: int
    stream_logs: bool
    _policy: SuccessPolicy

    # Of a run; while a DAG is parsed they are not set.
    _explains: Explanation | None = None
    #: The job as it was when this task ended it because it could not succeed any more, and its failed instances then.
    _early: tuple[DescribeJobResult, Instances] | None = None
    _reason: str | None = None

    def wait_with(
        self,
        *,
        deferrable: bool | None,
        poll_interval: float | timedelta,
        timeout: float | timedelta | None,
        queue_timeout: float | timedelta | None,
        min_success: int | float | None,
        fail_fast: bool,
        skip_on_exit_code: int | Collection[int] | None,
        logs: str,
        log_instances: int,
        log_bytes: int,
        stream_logs: bool,
    ) -> None:
        """Check and keep how the job is waited for.

        :param deferrable: wait in the triggerer, without a worker; ``None`` for Airflow's ``[operators]
            default_deferrable``.
        :param poll_interval: longest time in seconds between two looks at the job while no events flow.
        :param timeout: seconds from submission after which the job has to be over; ``None`` for ever.
        :param queue_timeout: seconds from submission after which an instance of the job has to have started.
        :param min_success: how many instances must succeed, see
            :class:`~airflow_provider_tcbatch.policies.job.outcome.SuccessPolicy`.
        :param fail_fast: end the job as soon as it can't succeed any more.
        :param skip_on_exit_code: exit codes that skip the task, if all failed instances ended with one of them.
        :param logs: whose output to show at the end: ``failed``, ``all``, ``none``.
        :param log_instances: most instances whose output is shown.
        :param log_bytes: most bytes of each of their streams, counted from its end.
        :param stream_logs: show the output of running instances while waiting.
        :raises InvalidRequest: if one of them is wrong.
        """
        if logs not in ("failed", "all", "none"):
            raise InvalidRequest(f"Task {self.task_id!r}: logs is {logs!r}; write failed, all or none")
        fail_fast = flag("fail_fast", fail_fast, self.task_id)
        try:
            policy = SuccessPolicy(min_success, fail_fast, _codes(skip_on_exit_code))
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None
        self.keep(
            _policy=policy,
            deferrable=deferral(deferrable, self.task_id),
            poll_interval=duration("poll_interval", poll_interval, self.task_id),
            timeout=None if timeout is None else duration("timeout", timeout, self.task_id),
            queue_timeout=None if queue_timeout is None else duration("queue_timeout", queue_timeout, self.task_id),
            min_success=min_success,
            fail_fast=fail_fast,
            skip_on_exit_code=skip_on_exit_code,
            logs=logs,
            log_instances=log_instances,
            log_bytes=log_bytes,
            stream_logs=flag("stream_logs", stream_logs, self.task_id),
        )
        if isinstance(log_instances, bool) or not isinstance(log_instances, int) or log_instances < 0:
            raise InvalidRequest(f"Task {self.task_id!r}: log_instances is {log_instances!r}; write a number from 0 on")
        if isinstance(log_bytes, bool) or not isinstance(log_bytes, int) or not 1 <= log_bytes <= MOST_LOG_BYTES:
            raise InvalidRequest(
                f"Task {self.task_id!r}: log_bytes is {log_bytes!r}; write a number of bytes from 1 to {MOST_LOG_BYTES}"
            )

    def requested(self) -> Mapping[str, Any]:
        """The job in wire JSON, as far as it is known here."""
        return {}

    def deadlines(self, context: Context, since: float | None, *, queued: bool = True) -> Deadlines:
        """When to give up.

        :param since: unix seconds from which ``timeout`` and ``queue_timeout`` count.
        :param queued: whether nothing of the job is known to have started.
        """

        from airflow_provider_tcbatch.policies.deadlines import Deadlines

        started = context["ti"].start_date
        return Deadlines.of(
            submitted_at=since,
            try_started_at=None if started is None else started.timestamp(),
            timeout=self.timeout,
            queue_timeout=self.queue_timeout if queued else None,
            # Airflow itself does not apply it to a task that is deferred.
            execution_timeout=None if self.execution_timeout is None else self.execution_timeout.total_seconds(),
        )

    def wait(
        self,
        context: Context,
        job_id: str,
        since: float | None,
        *,
        errors: int = 0,
        progress: bool = True,
        queued: bool = True,
    ) -> str | None:
        """Wait for the job, and do what follows from its end.

        :param since: unix seconds from which ``timeout`` and ``queue_timeout`` count.
        :param errors: how often waiting has failed so far.
        :param progress: whether there are instances to count.
        :param queued: whether nothing of the job is known to have started.
        """

        from airflow_provider_tcbatch.policies.deadlines import Limit

        deadlines = self.deadlines(context, since, queued=queued)
        stream = self.log_instances if self.stream_logs else 0
        if self.deferrable:
            from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

            trigger = TCBatchJobTrigger(
                job_id=job_id,
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                poll_interval=self.poll_interval,
                deadlines=deadlines.to_json(),
                submitted_at=since,
                errors=errors,
                min_success=self.min_success,
                fail_fast=self.fail_fast,
                progress=progress,
                stream=stream,
                cancel_on_kill=self.cancel_on_kill,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        from airflow_provider_tcbatch.waits.job import JobWait, WaitEnd
        from airflow_provider_tcbatch.waits.sessions import wait_here

        wait = JobWait(
            job_id,
            poll_interval=self.poll_interval,
            # Here Airflow itself raises at execution_timeout, once: not while the job is being ended for it.
            deadlines=deadlines._replace(execution_timeout=None),
            enforced=deadlines.execution_timeout,
            policy=self._policy,
            progress=progress,
            stream=stream,
            log_line=self.log.info,
        )
        try:
            end = wait_here(self.hook.settings, wait)
        except AirflowTaskTimeout:
            end = WaitEnd("timeout", limit=Limit.EXECUTION_TIMEOUT)
        return self.go_on(context, {**end.to_event(), "job_id": job_id, "submitted_at": since, "errors": errors})

    def go_on(self, context: Context, event: Mapping[str, Any]) -> str | None:
        """The wait is over: look at the job once, whatever has been heard, and judge it.

        Airflow's timer for ``execution_timeout`` may strike meanwhile: in an outage that takes long. It strikes once.
        """
        try:
            return self._conclude(context, event)
        except AirflowTaskTimeout:
            from airflow_provider_tcbatch.policies.deadlines import Limit

            self.log.warning("execution_timeout is over: looking at job %s once more", event["job_id"])
            # What has ended is not to be ended. The rest is as if the wait itself had reached the limit.
            status = "ended" if event["status"] == "ended" else "timeout"
            late = {"status": status, "limit": Limit.EXECUTION_TIMEOUT.value, "patient_from": time.time()}
            return self._conclude(context, {**event, **late})

    def _conclude(self, context: Context, event: Mapping[str, Any]) -> str | None:
        from airflow_provider_tcbatch.policies.deadlines import Limit

        resumed_at = time.time()
        job_id = str(event["job_id"])
        self.tell_outage(event.get("outage"))
        looked = self._look_patiently(context, event)
        if looked is None:
            return self._trust(context, event)
        view, outcome = looked
        counts = counts_of(view)
        queued = str(view.job_state) != "RUNNING" and not (counts is not None and counts.started)
        if not outcome.is_final and (event["status"] == "timeout" or event.get("limit")):
            limit = Limit(event["limit"])
            if limit is Limit.QUEUE_TIMEOUT and not queued:
                # It has started since the triggerer looked.
                errors = int(event.get("errors") or 0)
                return self.wait(context, job_id, event.get("submitted_at"), errors=errors, queued=False)
            self._give_up(context, view, limit, streamed=bool(event.get("streamed")))
        if not outcome.is_final:
            errors = int(event.get("errors") or 0)
            if event["status"] == "error":
                # Only what went wrong in a row counts.
                errors = 1 if event.get("state") else errors + 1
                if errors > _WAIT_ERRORS:
                    from airflow_provider_tcbatch.execution.job.failure import unfinished_report

                    raise JobError(
                        f"Waiting for job {job_id} failed {errors} times, the last time with: {event.get('message')}. "
                        f"It was {view.job_state}; {self._left_alone(context, job_id)}\n"
                        f"{unfinished_report(self.hook, [job_id], self._explanation)}\n"
                        f"Console: {self.hook.settings.job_url(job_id)}",
                        job_id=job_id,
                    )
                self.log.warning("Waiting failed, but the service answers; going on. It was: %s", event.get("message"))
            return self.wait(context, job_id, event.get("submitted_at"), errors=errors, queued=queued)
        heard = event.get("source") if event["status"] == "ended" else "last look"
        self.log.info("Job %s is %s (heard by %s)", job_id, view.job_state, heard)
        if outcome.early or (outcome.verdict is Verdict.FAILURE and self._still_runs(view)):
            view = self._end_early(context, view)
        self._push_timeline(context, event, resumed_at)
        return self.finish(context, view, outcome.verdict, streamed=bool(event.get("streamed")))

    def _look_patiently(self, context: Context, event: Mapping[str, Any]) -> tuple[DescribeJobResult, Outcome] | None:
        """The job as it is now, and what that means; ``None`` if it can't be looked at, but is known to have succeeded.

        While the API can't be asked the look is put off: a limit that is over by then ends a job only if it still runs.

        :raises TCBatchError: if the job can't be looked at. It is ended only if there was a reason before the look.
        """
        job_id, status = str(event["job_id"]), event["status"]
        try:
            return self.patiently(lambda: self._look(event), event, job_ids=[job_id] if self.cancel_on_kill else ())
        except NotFound as error:
            raise self._deleted(event, error) from error
        except TCBatchError as error:
            if status == "ended":
                why, words = f"it ended as {event['state']}, but", "its outputs can't be read either"
            elif status in ("timeout", "failing"):
                why = "it can't succeed any more, but" if status == "failing" else f"{event.get('limit')} is over, but"
                words = self._end_unseen(context, job_id, error, str(event.get("limit") or "fail_fast"))
            else:
                why = f"waiting failed ({event.get('message')}), and" if event.get("message") else "while waiting"
                words = self._left_alone(context, job_id)
            again = type(error)(
                f"Job {job_id}: {why} it can't be looked at: {error}. {words[0].upper()}{words[1:]}. See "
                f"{self.hook.settings.job_url(job_id)}"
            )
            again.__dict__.update(error.__dict__)
            raise again from None

    def _look(self, event: Mapping[str, Any]) -> tuple[DescribeJobResult, Outcome] | None:
        from airflow_provider_tcbatch.execution.job.evaluation import judge_job

        job_id = str(event["job_id"])
        try:
            view = self.hook.describe_job(job_id)
        except TCBatchError as error:
            succeeded = event["status"] == "ended" and judge(str(event["state"])).verdict is Verdict.SUCCESS
            if not succeeded or isinstance(self.min_success, int):
                raise
            self.log.warning("Job %s succeeded, but can't be summed up: %s", job_id, error)
            return None
        return view, judge_job(self.hook, view, self._policy)

    def _end_unseen(self, context: Context, job_id: str, error: TCBatchError, reason: str) -> str:
        """End a job that can't be looked at, for a reason that was there before; words for what is known then."""
        from airflow_provider_tcbatch.exceptions import ApiUnavailable

        if not isinstance(error, ApiUnavailable):
            return self.end_job(context, job_id, reason)[1]
        return self.ask_for_end(context, job_id, reason)

    def _left_alone(self, context: Context, job_id: str) -> str:
        """Words for a job that is not ended: nothing is known that would be a reason."""
        if self.is_retried(context):
            return "it was not ended for that, and a retry goes on with it"
        return (
            "it was not ended for that, and may still be running: look after it, or end what no task waits for with "
            "`airflow tcbatch orphans --end`"
        )

    def _trust(self, context: Context, event: Mapping[str, Any]) -> str:
        """The triggerer has read from the API that the job succeeded; no more can be learned now."""
        self._push_timeline(context, event, time.time())
        self.mark_done(context)
        return str(event["job_id"])

    def _push_timeline(self, context: Context, event: Mapping[str, Any], resumed_at: float) -> None:
        timeline = {
            "submitted_at": event.get("submitted_at"),
            "event_received_at": event.get("event_received_at"),
            "confirmed_at": event.get("observed_at") or resumed_at,
            "resumed_at": resumed_at,
        }
        push(context, "tcbatch_timeline", timeline)

    # -- the end -------------------------------------------------------------------------------------

    def finish(self, context: Context, view: DescribeJobResult, verdict: Verdict, *, streamed: bool) -> str | None:
        from airflow_provider_tcbatch import policies
        from airflow_provider_tcbatch.hooks.batch import has_machines

        failed = verdict is Verdict.FAILURE
        partly = str(view.job_state) != "SUCCEED"
        self._summarise(context, view, partly=partly)
        if not failed and has_machines(view):
            # Interrupted instances, which nobody will look at: their machines are kept until the job is terminated.
            self.log.info("Job %s: %s", view.job_id, self.end_job(context, view.job_id, "done")[1])
        if verdict is Verdict.SKIP:
            self.mark_done(context)
            known = sorted(self._policy.skip_on_exit_code)
            raise AirflowSkipException(f"All failed instances of job {view.job_id} ended with an exit code of {known}")
        early = self._early
        outputs: list[InstanceOutput] = []
        if failed:
            # Those that were ended with it have not failed by themselves.
            outputs = (
                self._explanation.failed(view) if early is None else self._explanation.outputs(view.job_id, early[1])
            )
        others = self._explanation.others(view, outputs) if self.logs == "all" else []
        if not streamed:
            self._show([*outputs, *others], logging.ERROR if failed else logging.WARNING)
        if failed:
            codes = [output.view.exit_code for output in outputs]
            kind = JobFailed if any(codes) or self._has_exit_code(view, len(outputs)) else JobMachinesFailed
            reason = self._reason if early is not None else self._asked_for(context, view)
            act = policies.job.failure_report.ended_for(reason)
            report = self.hook.explain_failure(view if early is None else early[0], outputs, act=act)
            raise kind(report + self._explanation.note(), job_id=view.job_id, exit_codes=codes)
        if partly:
            self.log.warning("Enough instances succeeded. %s", self.hook.explain_failure(view, []))
        self.mark_done(context)
        return view.job_id

    @property
    def _explanation(self) -> Explanation:
        """What explains the end; all that is read for it shares one time."""
        from airflow_provider_tcbatch.execution.job.failure import Explanation

        if self._explains is None:
            self._explains = Explanation(self.hook, self.log_instances, self.log_bytes)
        return self._explains

    def _asked_for(self, context: Context, view: DescribeJobResult) -> str | None:
        """Why this task, or an earlier try of it, has asked for the job's end; ``None`` if it has not."""
        try:
            record = self.records(context).load()
        except Exception as error:
            self.log.info("Whether the task itself has ended job %s can't be read: %s", view.job_id, error)
            return None
        known = record is not None and record.job_id == view.job_id and record.ending is not None
        return record.ending.reason if record is not None and record.ending is not None and known else None

    def _deleted(self, event: Mapping[str, Any], error: NotFound) -> NotFound:
        """The error for a job whose record is gone. Only what has ended can be deleted."""
        job_id = str(event["job_id"])
        state = f"It was {event['state']} when it was looked at last. " if event.get("state") else ""
        return NotFound(
            f"Job {job_id} does not exist any more: somebody has deleted its record while this task waited for it. "
            f"{state}Only a job that has ended can be deleted, so nothing of it runs; how it ended can't be read any "
            "more. What to do: see what it has left (its output paths, its logs in COS), and clear this task to run it "
            f"again. Console: {self.hook.settings.job_url(job_id)}\n{error}",
            code=error.code,
            action=error.action,
            request_id=error.request_id,
        )

    def _has_exit_code(self, view: DescribeJobResult, looked_at: int) -> bool:
        """Whether a program of the job ended with an error; also if that can't be found out.

        :param looked_at: how many failed instances have been looked at, none of which did.
        """
        metrics = view.task_instance_metrics
        if looked_at and metrics is not None and metrics.failed <= looked_at:
            return False

        def look() -> bool:
            codes = [instance.exit_code for instance in self.hook.failed_instances(view)]
            return any(codes) or not codes

        return self._explanation.read(look, True)

    def _summarise(self, context: Context, view: DescribeJobResult, *, partly: bool) -> None:
        from airflow_provider_tcbatch.policies.job.summary import summarise

        explanation = self._explanation
        tasks = [str(task.task_name) for task in view.task_set or () if str(task.task_state) != "SUCCEED"]
        details = {}
        for name in (tasks if partly else [])[:10]:
            if (detail := explanation.read(partial(self.hook.describe_task, view.job_id, name), None)) is not None:
                details[name] = detail
        try:
            requested = self.requested()
        except TCBatchError as error:
            self.log.warning("Job %s can't be summed up in full: %s", view.job_id, error)
            requested = {}
        push(context, "tcbatch_summary", summarise(view, requested, details))

    def _show(self, outputs: Sequence[InstanceOutput], level: int) -> None:
        """Show what instances printed, as ``logs`` and ``log_instances`` say.

        :param level: level of the stderr of instances that failed.
        """
        from airflow_provider_tcbatch.execution.job.failure import show_output

        for output in outputs[: self.log_instances] if self.logs != "none" else ():
            show_output(self.log, output, level)

    # -- ending early --------------------------------------------------------------------------------

    @staticmethod
    def _still_runs(view: DescribeJobResult) -> bool:
        """Whether instances of a FAILED job go on. (One that was interrupted on purpose keeps its machines.)"""
        from airflow_provider_tcbatch.hooks.batch import has_machines

        return str(view.job_state) == "FAILED" and has_machines(view)

    def _end_early(self, context: Context, view: DescribeJobResult) -> DescribeJobResult:
        """The job can't succeed any more, but instances of it run."""
        self.log.info("Job %s can't succeed any more, but still runs: ending it", view.job_id)
        # Afterwards those that are ended with it look like those that failed.
        self._early = view, self._explanation.find(view, "failed")
        self._reason = "fail_fast" if self.fail_fast else "failed"
        ended, words = self.end_job(context, view.job_id, self._reason)
        self.log.info("Job %s: %s", view.job_id, words)
        return ended or view

    def _give_up(self, context: Context, view: DescribeJobResult, limit: Limit, *, streamed: bool) -> NoReturn:
        from airflow_provider_tcbatch.execution.job.failure import given_up, has_run

        job_id, explanation = view.job_id, self._explanation
        # Afterwards those that are ended look like those that failed.
        failed, unfinished = explanation.find(view, "failed"), explanation.find(view, "unfinished")
        ended, words = self.end_job(context, job_id, limit.value)
        outputs = explanation.outputs(job_id, [found for found in (*failed, *unfinished) if has_run(found[1])])
        others = self._explanation.others(view, outputs) if self.logs == "all" else []
        if not streamed:
            self._show([*outputs, *others], logging.ERROR)
        self._summarise(context, ended or view, partly=True)
        error = given_up(
            view,
            limit,
            self._length(limit),
            words,
            unfinished=unfinished,
            outputs=outputs,
            link=self.hook.settings.job_url(job_id),
            note=explanation.note(),
        )
        raise error

    def _length(self, limit: Limit) -> str:
        """A limit of this task, in words."""
        from airflow_provider_tcbatch.policies.deadlines import Limit

        if limit is Limit.EXECUTION_TIMEOUT:
            return f"{self.execution_timeout} from the start of this try"
        seconds = self.timeout if limit is Limit.TIMEOUT else self.queue_timeout
        return f"{seconds:.0f} s from its submission"


def _codes(given: int | Collection[int] | None) -> frozenset[int]:
    if given is None:
        return frozenset()
    codes = [given] if isinstance(given, int) else given
    if isinstance(codes, str) or not all(isinstance(code, int) for code in codes):
        raise ValueError(f"skip_on_exit_code is {given!r}: write a number, or a list of numbers")
    return frozenset(codes)
