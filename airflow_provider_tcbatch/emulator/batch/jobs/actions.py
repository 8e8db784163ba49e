"""The job actions of the Batch API."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_tcbatch.emulator.batch.filters import Filters, in_order, page
from airflow_provider_tcbatch.emulator.batch.jobs import monitor_actions, scheduler, views
from airflow_provider_tcbatch.emulator.batch.jobs.entities import FAILED, FINISHED, SUBMITTED, Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.jobs.rules import check_submission, check_task_name
from airflow_provider_tcbatch.emulator.batch.publication import subscribers
from airflow_provider_tcbatch.emulator.batch.rules import (
    check_not_both,
    check_zone_filter,
    digest_of,
    known_by_token,
)
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.ids import new_id
from airflow_provider_tcbatch.emulator.schema import printable

Params = dict[str, Any]
Handler = Callable[[BatchService, Params], Params]

_JOB_ID = re.compile(r"^job-[0-9a-z]+$")


def submit_job(batch: BatchService, params: Params) -> Params:
    """SubmitJob."""
    host = batch.host
    token = params.get("ClientToken")
    digest = digest_of(params) if token else ""
    if token:
        known = known_by_token(host, batch.job_tokens, token, digest)
        if known is not None:
            return {"JobId": known}
    check_submission(batch, params)
    held = len(batch.jobs)
    if held >= host.settings.job_quota and not host.settings.job_quota_counts_ended:
        held = sum(job.state not in FINISHED for job in batch.jobs.values())
    if held >= host.settings.job_quota:
        raise ApiError(
            "LimitExceeded.JobQuota",
            f"There are {held} job records and the quota is {host.settings.job_quota}; delete some.",
        )
    job = _make_job(batch, params)
    batch.jobs[job.job_id] = job
    if token:
        batch.job_tokens[token] = (job.job_id, digest, host.now())
        host.ledger.note("job_token", json.dumps(token), batch.job_tokens[token])
    scheduler.start_job(batch, job)
    return {"JobId": job.job_id}


def _make_job(batch: BatchService, params: Params) -> Job:
    host = batch.host
    return job_of(host, new_id("job", batch.jobs), params, host.identity.region, host.now())


def job_of(host: Host, job_id: str, params: Params, region: str, created_at: float) -> Job:
    """A job as it is when its request was just accepted."""
    job = Job(job_id, params, region, created_at, host.data_dir / "jobs" / job_id)
    for spec in params["Job"]["Tasks"]:
        task = Task(job, spec["TaskName"], spec)
        task.instances = [Instance(task, index) for index in range(spec.get("TaskInstanceNum") or 1)]
        job.tasks[task.name] = task
    for edge in params["Job"].get("Dependences", ()):
        predecessors = job.tasks[edge["EndTask"]].predecessors
        if edge["StartTask"] not in predecessors:
            predecessors.append(edge["StartTask"])
    job.notifications = subscribers(host, job.spec)
    return job


def find_job(batch: BatchService, job_id: str) -> Job:
    """The job of an id.

    :raises ApiError: InvalidParameter.JobIdMalformed or ResourceNotFound.Job.
    """
    check_job_id(job_id)
    job = batch.jobs.get(job_id)
    if job is None:
        raise ApiError("ResourceNotFound.Job", f"The job {job_id} does not exist.")
    return job


def check_job_id(job_id: str) -> None:
    """Refuse what cannot be a job id."""
    if not _JOB_ID.fullmatch(job_id):
        raise ApiError("InvalidParameter.JobIdMalformed", f"The job id {printable(job_id, 60)!r} is malformed.")


def _find_task(job: Job, name: str) -> Task:
    task = job.tasks.get(name)
    if task is None:
        raise ApiError("ResourceNotFound.Task", f"The job {job.job_id} has no task {printable(name, 60)!r}.")
    return task


def describe_job(batch: BatchService, params: Params) -> Params:
    """DescribeJob."""
    return views.job_detail(find_job(batch, params["JobId"]), batch.host.settings)


def describe_jobs(batch: BatchService, params: Params) -> Params:
    """DescribeJobs: newest first, unless ``listing_order`` says otherwise."""
    host = batch.host
    ids, filters = params.get("JobIds"), params.get("Filters")
    check_not_both(params, "JobIds", host.settings.max_job_ids)
    jobs: Sequence[Job]
    if ids:
        for job_id in ids:
            check_job_id(job_id)
            if job_id not in batch.jobs and host.settings.describe_jobs_unknown == "error":
                raise ApiError("ResourceNotFound.Job", f"The job {job_id} does not exist.")
        wanted = dict.fromkeys(ids)
        jobs = [batch.jobs[job_id] for job_id in wanted if job_id in batch.jobs]
        jobs.sort(key=lambda job: job.created_at, reverse=host.settings.listing_order == "newest")
    else:
        jobs = in_order(host.settings, batch.jobs.values())
        if filters:
            check_zone_filter(host, filters)
            jobs = Filters(
                filters,
                {
                    "job-id": lambda job: job.job_id,
                    "job-name": lambda job: job.name,
                    "job-state": lambda job: job.state,
                    "zone": lambda job: job.request["Placement"]["Zone"],
                },
                tags=lambda job: job.spec.get("Tags", ()),
                unknown=host.settings.unknown_filter_error,
                parts_of_names=host.settings.name_filter == "contains",
            ).select(jobs)
    shown = page(jobs, params, default=20, largest=100)
    return {"TotalCount": len(jobs), "JobSet": [views.job_row(job) for job in shown]}


def describe_task(batch: BatchService, params: Params) -> Params:
    """DescribeTask. An unknown job is ResourceNotFound.Task, the only such code that this action documents."""
    check_job_id(params["JobId"])
    job = batch.jobs.get(params["JobId"])
    if job is None:
        raise ApiError("ResourceNotFound.Task", f"The job {params['JobId']} does not exist.")
    task = _find_task(job, params["TaskName"])
    instances: Sequence[Instance] = task.instances
    if params.get("Filters"):
        by_state: Callable[[Instance], str] = lambda instance: instance.state  # noqa: E731
        # Older documents call the same filter task-instance-type.
        instances = Filters(
            params["Filters"], {"task-instance-state": by_state, "task-instance-type": by_state}
        ).select(instances)
    shown = page(instances, params, default=100, largest=1000)
    return views.task_detail(task, list(shown), len(instances), batch.host.settings)


def describe_task_logs(batch: BatchService, params: Params) -> Params:
    """DescribeTaskLogs."""
    host = batch.host
    check_task_name(host, params["TaskName"], "TaskName")
    task = _find_task(find_job(batch, params["JobId"]), params["TaskName"])
    indexes = params.get("TaskInstanceIndexes")
    if indexes:
        if "Offset" in params or "Limit" in params:
            raise ApiError("InvalidParameterValue", "`TaskInstanceIndexes` excludes `Offset` and `Limit`.")
        if len(indexes) > 10:
            raise ApiError("InvalidParameterValue", "`TaskInstanceIndexes` has at most 10 entries.")
        for index in indexes:
            if index < 0:
                raise ApiError("InvalidParameterValue.Negative", "`TaskInstanceIndexes` must not be negative.")
            if index >= len(task.instances):
                raise ApiError(
                    "ResourceNotFound.TaskInstance", f"The task {printable(task.name, 60)} has no instance {index}."
                )
        shown: Sequence[Instance] = [task.instances[index] for index in indexes]
    else:
        shown = page(task.instances, params, default=5, largest=10)
    if host.settings.missing_logs != "empty":
        known = [instance for instance in shown if views.has_logs(instance, host.settings)]
        if host.settings.missing_logs == "error" and len(known) < len(shown):
            raise ApiError(
                "ResourceNotFound.TaskInstance", f"The task {printable(task.name, 60)} has instances without logs."
            )
        shown = known
    return {
        "TotalCount": len(task.instances),
        "TaskInstanceLogSet": [views.instance_log(instance, host.settings) for instance in shown],
    }


def describe_job_submit_info(batch: BatchService, params: Params) -> Params:
    """DescribeJobSubmitInfo."""
    job = find_job(batch, params["JobId"])
    return {
        "JobId": job.job_id,
        "JobName": job.name,
        "JobDescription": job.spec.get("JobDescription", ""),
        "Priority": job.spec.get("Priority", 0),
        "Tasks": job.spec["Tasks"],
        "Dependences": job.spec.get("Dependences", []),
        "Tags": job.spec.get("Tags", []),
    }


def describe_job_monitor_data(batch: BatchService, params: Params) -> Params:
    """DescribeJobMonitorData."""
    return monitor_actions.describe_job_monitor_data(batch.host, find_job(batch, params["JobId"]), params)


def _check_no_env(host: Host, job: Job) -> None:
    """In 2018 instances of an environment could not be terminated."""
    if host.settings.terminate_with_env_id == "refuse" and any("EnvId" in task.spec for task in job.tasks.values()):
        raise ApiError(
            "UnsupportedOperation.TerminateOperationWithEnvId",
            f"The job {job.job_id} has tasks of a compute environment and cannot be terminated.",
        )


def terminate_job(batch: BatchService, params: Params) -> Params:
    """TerminateJob: refused while SUBMITTED, without effect on a finished job, else asynchronous."""
    job = find_job(batch, params["JobId"])
    _check_no_env(batch.host, job)
    if job.state == SUBMITTED:
        raise ApiError(
            batch.host.settings.terminate_submitted_error,
            f"The job {job.job_id} is SUBMITTED and cannot be terminated yet, try again shortly.",
        )
    scheduler.terminate_job(batch, job)
    return {}


def terminate_task_instance(batch: BatchService, params: Params) -> Params:
    """TerminateTaskInstance. Whatever does not exist is ResourceNotFound.TaskInstance, as documented."""
    check_job_id(params["JobId"])
    job = batch.jobs.get(params["JobId"])
    task = job.tasks.get(params["TaskName"]) if job else None
    index = params["TaskInstanceIndex"]
    if task is None or not 0 <= index < len(task.instances):
        raise ApiError("ResourceNotFound.TaskInstance", "The task instance does not exist.")
    _check_no_env(batch.host, task.job)
    scheduler.terminate_instance(batch, task.instances[index], "TerminateTaskInstance: terminated by the user")
    return {}


def retry_jobs(batch: BatchService, params: Params) -> Params:
    """RetryJobs: all of the jobs or, when one is not FAILED, none unless ``retry_jobs_atomic`` says otherwise."""
    ids = list(dict.fromkeys(params["JobIds"]))
    if not 1 <= len(ids) <= 100:
        raise ApiError("InvalidParameterValue", "`JobIds` has 1 to 100 entries.")
    jobs: list[Job] = []
    refusal: ApiError | None = None
    for job_id in ids:
        try:
            jobs.append(_find_failed_job(batch, job_id))
        except ApiError as error:
            if batch.host.settings.retry_jobs_atomic:
                raise
            refusal = refusal or error
    for job in jobs:
        scheduler.accept_retry(batch, job)
    if refusal is not None:
        raise refusal
    return {}


def _find_failed_job(batch: BatchService, job_id: str) -> Job:
    job = find_job(batch, job_id)
    if job.state != FAILED:
        raise ApiError("UnsupportedOperation", f"The job {job.job_id} is {job.state}, only FAILED jobs are retried.")
    if job.retrying or any(not task.over and not task.stranded for task in job.tasks.values()):
        raise ApiError("UnsupportedOperation", f"Instances of the job {job.job_id} are still running.")
    return job


def delete_job(batch: BatchService, params: Params) -> Params:
    """DeleteJob: the job and all its instances must be finished."""
    job = find_job(batch, params["JobId"])
    if not job.finished:
        raise ApiError(
            "ResourceInUse.Job", f"The job {job.job_id} or a part of it has not ended; terminate it before deleting it."
        )
    scheduler.forget_job(batch, job)
    return {}


HANDLERS: dict[str, Handler] = {
    "SubmitJob": submit_job,
    "DescribeJob": describe_job,
    "DescribeJobs": describe_jobs,
    "DescribeTask": describe_task,
    "DescribeTaskLogs": describe_task_logs,
    "DescribeJobSubmitInfo": describe_job_submit_info,
    "TerminateJob": terminate_job,
    "TerminateTaskInstance": terminate_task_instance,
    "RetryJobs": retry_jobs,
    "DeleteJob": delete_job,
    "DescribeJobMonitorData": describe_job_monitor_data,
}
