"""Batch, as a DAG author's own code would use it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch import models, policies
from airflow_provider_tcbatch.connection.deployment import api_patience
from airflow_provider_tcbatch.exceptions import ApiError, NotFound, ResourceBusy, TCBatchError, Throttled
from airflow_provider_tcbatch.hooks._batch.compute_env_care import ComputeEnvCare
from airflow_provider_tcbatch.hooks._batch.task_templates import TaskTemplateMethods
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.request import PAGE, Filters, filters_of, portions
from airflow_provider_tcbatch.models.states import FAILED_STATES, State
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.job.notifications import FINAL_JOB_EVENTS, with_notification
from airflow_provider_tcbatch.policies.job.outcome import counts_of, judge
from airflow_provider_tcbatch.policies.lookup import newest_named
from airflow_provider_tcbatch.policies.outage import Outage, can_not_be_asked, outage_pause

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.logs.reader import InstanceOutput, LogReader
    from airflow_provider_tcbatch.client.time_limit import TimeLimit
    from airflow_provider_tcbatch.models.job_reading import (
        DescribeJobMonitorDataResult,
        DescribeJobResult,
        DescribeJobSubmitInfoResult,
        DescribeTaskResult,
    )
    from airflow_provider_tcbatch.models.job_writing import SubmitJob
    from airflow_provider_tcbatch.models.views import JobView, TaskInstanceView
    from airflow_provider_tcbatch.policies.job.failure_report import FailedInstance

__all__ = ["UNKNOWN_SECONDS", "TCBatchHook", "failed_instance", "has_machines", "named"]

#: A job that was just submitted may be unknown to the Describe actions for a moment.
UNKNOWN_SECONDS = 30.0

_UNFINISHED = tuple(state.value for state in State if not state.is_terminal)

#: States of a task of which no instance has failed. (One that still runs may have some already.)
_UNHARMED = (State.SUCCEED.value, State.SUBMITTED.value, State.PENDING.value)


def has_machines(view: DescribeJobResult) -> bool:
    """Whether a job may still use machines although its state is final.

    FAILED_INTERRUPTED keeps them until it is terminated. And whether a job is FAILED at its first failed instance or at
    its last one is not documented.
    """
    counts = counts_of(view)
    return view.job_state == State.FAILED_INTERRUPTED or (
        view.job_state == State.FAILED and counts is not None and counts.active > 0
    )


def failed_instance(output: InstanceOutput) -> FailedInstance:
    """What a report says of an instance."""
    return policies.job.failure_report.FailedInstance(
        task=output.task_name,
        index=output.view.task_instance_index,
        exit_code=output.view.exit_code,
        reason=output.view.state_reason,
        machine=output.view.compute_node_instance_id,
        stderr=output.stderr,
        stdout="" if str(output.view.task_instance_state) in FAILED_STATES else output.stdout,
    )


def named(task_name: str, view: TaskInstanceView) -> str:
    """An instance in a few words."""
    return f"task {task_name!r} instance {view.task_instance_index} ({view.task_instance_state})"


class TCBatchHook(ComputeEnvCare, TaskTemplateMethods):
    """A method for every action of Batch; ``hook.api.call(action)`` sends the bare action."""

    @cached_property
    def log_reader(self) -> LogReader:
        """Reads what the instances of a job printed."""
        from airflow_provider_tcbatch.client.logs.reader import LogReader

        return LogReader(self.api, self.settings.cos_client())

    def submit_job(
        self,
        job: Job | Mapping[str, Any],
        *,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        client_token: str | None = None,
        notify: bool = True,
    ) -> str:
        """Submit a job and return its id.

        :param job: the job, as a model or as a mapping in either spelling.
        :param zone: availability zone; default is the connection's.
        :param placement: a whole Placement, instead of ``zone``.
        :param client_token: at most 64 ASCII characters: the same token submits the same job only once, and a
            lost answer is asked for again. Without one, a network error may leave a job behind.
        :param notify: let the job publish its end to the connection's ``event_topic``, if it has one.
        :raises InvalidRequest: if the job is wrong, before anything is sent.
        """
        request = self.submission(job, zone=zone, placement=placement, client_token=client_token, notify=notify)
        return self.api.call(request).job_id

    def submission(
        self,
        job: Job | Mapping[str, Any],
        *,
        zone: str | None = None,
        placement: Mapping[str, Any] | None = None,
        client_token: str | None = None,
        notify: bool = True,
        events: Sequence[str] = FINAL_JOB_EVENTS,
    ) -> SubmitJob:
        """The request that :meth:`submit_job` sends, checked and not sent.

        :param events: events that the job publishes, if it publishes any.
        """
        model = job if isinstance(job, Job) else Job.parse(job, at="Job")
        if notify and self.settings.event_topic:
            model = Job.parse(with_notification(model.to_wire(), self.settings.event_topic, events), at="Job")
        return models.job_writing.SubmitJob(
            placement=self.placement(zone, placement), job=model, client_token=client_token
        )

    def describe_job(self, job_id: str) -> DescribeJobResult:
        """One job with its tasks, counts, reason and next action."""
        return self.api.call(models.job_reading.DescribeJob(job_id=job_id))

    def describe_jobs(self, job_ids: Sequence[str] | None = None, filters: Filters | None = None) -> Iterator[JobView]:
        """Iterate over jobs, by id or by filter.

        :param job_ids: any number of ids; those that the service does not know are left out.
        :param filters: values by filter name (``job-state``, ``job-name``, ``zone``, ``tag-key`` ...).
        """
        if job_ids is not None:
            for ids in portions(job_ids):
                yield from self.api.call(models.job_reading.DescribeJobs(job_ids=ids, limit=len(ids))).job_set
            return
        for page in self.api.pages(models.job_reading.DescribeJobs(filters=filters_of(filters)), PAGE):
            yield from page.job_set

    def newest_job(self, name: str) -> JobView | None:
        """The job of exactly this name that was submitted last, by anybody; ``None`` if there is none."""
        return newest_named(self.describe_jobs(filters={"job-name": [name]}), name)

    def describe_job_submit_info(self, job_id: str) -> DescribeJobSubmitInfoResult:
        """A job as it was submitted. Secrets in it come back in clear: they are ``SecretStr`` here."""
        return self.api.call(models.job_reading.DescribeJobSubmitInfo(job_id=job_id))

    def describe_task(self, job_id: str, task_name: str, *, limit: int = 100) -> DescribeTaskResult:
        """One task with its first ``limit`` instances."""
        return self.api.call(models.job_reading.DescribeTask(job_id=job_id, task_name=task_name, limit=limit))

    def terminate_job(self, job_id: str, *, patience: float = 0.0) -> None:
        """Ask for a job's end. The service takes its time, and refuses while the job is still SUBMITTED.

        :param patience: for how many seconds to ask again when the service refuses or can't be reached. Which error
            it uses for SUBMITTED is not documented. Without it the request still waits its turn, as any other does.
        """
        until = time.monotonic() + patience
        while True:
            turn = max(0.1, until - time.monotonic()) if patience else self.api.settings.patience
            try:
                self.api.call(models.job_writing.TerminateJob(job_id=job_id), attempts=1, patience=turn)
                return
            except ApiError as error:
                if time.monotonic() >= until or not (error.retryable or isinstance(error, ResourceBusy)):
                    raise
            time.sleep(0.5)

    def end_job(self, job_id: str, *, patience: float = 120.0) -> DescribeJobResult | None:
        """Terminate a job and wait until it has ended and given its machines back.

        :param patience: for how many seconds to go on: asking again while the service refuses (SUBMITTED) or can't be
            reached, then looking. Waiting for the request's turn does not count.
        :returns: the job as it was last seen, which may still be ending when ``patience`` is over; ``None`` if it does
            not exist (any more).
        :raises ApiError: if the service refuses for good, or can't be reached within ``patience``.
        """
        begun = time.monotonic()
        asked = False
        while True:
            late = time.monotonic() - begun >= patience
            try:
                view = self.describe_job(job_id)
                if judge(view.job_state).is_final and (not has_machines(view) or (asked and late)):
                    return view
                if not asked or not (view.next_action or late):
                    sent = time.monotonic()
                    try:
                        self.api.call(
                            models.job_writing.TerminateJob(job_id=job_id),
                            attempts=1,
                            patience=self.api.settings.patience,
                        )
                    finally:
                        begun += time.monotonic() - sent
                    asked = True
                if late:
                    return view
            except NotFound:
                # A job that was just submitted may be unknown for a moment.
                if asked or time.monotonic() - begun >= min(patience, 10.0):
                    return None
            except ApiError as error:
                if late or not (error.retryable or isinstance(error, ResourceBusy)):
                    raise
            time.sleep(min(2.0, max(0.25, (time.monotonic() - begun) / 4)))

    def terminate_task_instance(self, job_id: str, task_name: str, task_instance_index: int) -> None:
        """End one instance; it becomes FAILED. Without effect on one that has ended."""
        self.api.call(
            models.job_writing.TerminateTaskInstance(
                job_id=job_id, task_name=task_name, task_instance_index=task_instance_index
            )
        )

    def retry_jobs(self, job_ids: Sequence[str]) -> None:
        """Run the failed instances of FAILED jobs again; what succeeded is left alone. Asynchronous."""
        for ids in portions(job_ids):
            self.api.call(models.job_writing.RetryJobs(job_ids=ids))

    def delete_job(self, job_id: str) -> None:
        """Forget a job that is SUCCEED or FAILED, with all its instances; nothing can be asked about it afterwards.

        :raises ResourceBusy: if it has not ended.
        """
        self.api.call(models.job_writing.DeleteJob(job_id=job_id))

    def task_log_previews(
        self, job_id: str, task_name: str, task_instance_indexes: Sequence[int]
    ) -> dict[int, tuple[str, str]]:
        """First look at the output of instances: at most 2048 bytes of stdout and stderr each, by index."""
        return self.log_reader.previews(job_id, task_name, task_instance_indexes)

    def job_monitor_data(
        self, job_id: str, task_name: str, task_instance_index: int, metric: str, **span: Any
    ) -> DescribeJobMonitorDataResult:
        """What an instance used of its machine; not for jobs in a compute environment.

        :param metric: ``CpuUsage``, ``MemUsage``, ``LanOuttraffic``, ``LanIntraffic``, ``MaxDiskUsage`` or
            ``TargetDiskUsage``.
        :param span: ``start_time`` and ``end_time`` (UTC, ``2025-01-31T12:00:00Z``), ``dimensions``.
        """
        request = {"job_id": job_id, "task_name": task_name, "task_instance_index": task_instance_index}
        return self.api.call(
            models.job_reading.DescribeJobMonitorData.parse({**request, "metric_name": metric, **span})
        )

    # -- why it failed -------------------------------------------------------------------------------

    def instance_outputs(
        self,
        job: DescribeJobResult,
        *,
        failed_only: bool = True,
        limit: int | None = None,
        size: int | None = None,
        within: TimeLimit | None = None,
    ) -> Iterator[InstanceOutput]:
        """What the instances of a job printed.

        :param job: the job as :meth:`describe_job` returned it.
        :param failed_only: leave out the instances that did not fail.
        :param limit: most instances in all; default is as many as a report shows.
        :param size: most bytes of each stream, counted from its end; default 16 KB.
        :param within: time to read it in: then come previews only, or less; default is no limit.
        """
        found: list[tuple[str, TaskInstanceView]] = []
        problem: TCBatchError | None = None
        try:
            found.extend(self._instances_of(job, "failed" if failed_only else "all", limit, within))
        except TCBatchError as error:
            problem = error  # what has been found is shown before it is told
        yield from self.log_reader.outputs_of(job.job_id, found, size, within)
        if problem is not None:
            raise problem

    def instances_of(
        self, job: DescribeJobResult, which: str, *, limit: int | None = None, within: TimeLimit | None = None
    ) -> list[tuple[str, TaskInstanceView]]:
        """The first instances of a job, each with the name of its task; fewer, or none, where they can't be read.

        :param job: the job as :meth:`describe_job` returned it.
        :param which: ``failed``, ``unfinished`` or ``all``.
        :param limit: most instances in all.
        :param within: time to read them in; default is no limit.
        """
        found: list[tuple[str, TaskInstanceView]] = []
        try:
            found.extend(self._instances_of(job, which, limit, within))
        except TCBatchError as error:
            self.log.warning("Instances of job %s can't be read: %s", job.job_id, error)
        return found

    def _instances_of(
        self, job: DescribeJobResult, which: str, limit: int | None, within: TimeLimit | None
    ) -> Iterator[tuple[str, TaskInstanceView]]:
        states = {"failed": FAILED_STATES, "unfinished": _UNFINISHED, "all": ()}[which]
        left = policies.job.failure_report.SHOWN if limit is None else limit
        for task in job.task_set or ():
            if left <= 0:
                return
            state = str(task.task_state)
            passed = (which == "failed" and state in _UNHARMED) or (which == "unfinished" and judge(state).is_final)
            if task.task_name is None or passed:
                continue
            views = self.log_reader.instances(job.job_id, task.task_name, states, left, within)
            left -= len(views)
            for view in views:
                yield task.task_name, view

    def failed_instances(self, job: DescribeJobResult) -> Iterator[TaskInstanceView]:
        """All instances of a job that ended badly, up to 1000 a call.

        :param job: the job as :meth:`describe_job` returned it.
        """
        for _, view in self._instances_of(job, "failed", 10**6, None):
            yield view

    def unfinished_instances(self, job: DescribeJobResult, *, limit: int | None = None) -> list[str]:
        """The first instances of a job that have not ended, each in a few words.

        :param job: the job as :meth:`describe_job` returned it.
        :param limit: most instances in all; default is as many as a report shows.
        """
        return [named(*found) for found in self._instances_of(job, "unfinished", limit, None)]

    def explain_failure(
        self, job: DescribeJobResult, outputs: Sequence[InstanceOutput], *, act: str | None = None
    ) -> str:
        """Say why a job failed, with exit codes and the last lines of stderr.

        :param job: the job as :meth:`describe_job` returned it.
        :param outputs: failed instances, as :meth:`instance_outputs` returned them.
        :param act: who ended it and why, if it did not end by itself: what follows on its name.
        """
        metrics = job.task_instance_metrics
        return policies.job.failure_report.failure_report(
            job.job_id,
            str(job.job_state),
            job_name=job.job_name,
            reason=job.state_reason,
            failed=[failed_instance(output) for output in outputs],
            failed_count=metrics.failed if metrics else None,
            total_count=metrics.total if metrics else None,
            link=self.settings.job_url(job.job_id),
            act=act,
        )

    def wait(self, job_id: str, *, poll_interval: float = 30.0) -> Iterator[DescribeJobResult]:
        """Look at a job again and again, blocking in between: young jobs often, old ones every ``poll_interval``.

        The caller stops iterating. A throttle only costs time; a job that was just submitted may be unknown for half a
        minute. While the API can't be asked it goes on, for ``[tcbatch] api_patience``.

        :param poll_interval: longest time in seconds between two looks.
        """
        begun = time.monotonic()
        failures = 0
        away_since = 0.0
        while True:
            pause = pace(time.monotonic() - begun, poll_interval)
            try:
                view = self.describe_job(job_id)
            except Throttled as error:
                self.log.info("Looking at %s was throttled: %s", job_id, error)
            except NotFound:
                if time.monotonic() - begun > UNKNOWN_SECONDS:
                    raise
            except TCBatchError as error:
                if not can_not_be_asked(error):
                    raise
                failures += 1
                if failures == 1:
                    away_since = time.time()
                    self.log.warning("%s", Outage(away_since, str(error)))
                elif time.time() >= away_since + api_patience():
                    raise
                pause = outage_pause(failures, random.random())
            else:
                if failures:
                    self.log.info("%s", Outage(away_since, "", time.time()))
                failures = 0
                yield view
            time.sleep(pause)
