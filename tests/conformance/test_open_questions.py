"""What Tencent's documentation does not say: each reading of it can be had."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from qcloud_cos import CosS3Client
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, states, submission, task
from tests.conformance.test_wire import send


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call()
    return str(caught.value.get_code())


def ended(emulator: Emulator, batch: Call, command: str, **job: Any) -> str:
    job_id: str = batch("SubmitJob", **submission(task(command), **job)).JobId
    emulator.wait_job(job_id)
    return job_id


@pytest.mark.parametrize("atomic", [True, False])
@pytest.mark.parametrize("code", ["UnsupportedOperation", "ResourceNotFound.Job"])
def test_retry_of_several_jobs(emulator: Emulator, batch: Call, atomic: bool, code: str) -> None:
    emulator.configure(retry_jobs_atomic=atomic)
    failed = [ended(emulator, batch, "false") for _ in range(2)]
    other = ended(emulator, batch, "true") if code == "UnsupportedOperation" else "job-00000000"
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("RetryJobs", JobIds=[failed[0], other, failed[1]])
    assert caught.value.get_code() == code
    attempts = 1 if atomic else 2
    for job_id in failed:
        emulator.wait_job(job_id)
        assert states(emulator, job_id, "instance").count("RUNNING") == attempts


@pytest.mark.parametrize(("setting", "found"), [("exact", False), ("contains", True)])
def test_filters_by_name(emulator: Emulator, batch: Call, setting: str, found: bool) -> None:
    emulator.configure(name_filter=setting)
    name = f"name{time.time_ns()}"
    env = {"EnvName": f"my-{name}-1", "DesiredComputeNodeCount": 0, "EnvData": {"InstanceTypes": ["S5.MEDIUM4"]}}
    batch("SubmitJob", **submission(task("true"), JobName=f"my-{name}-1"))
    env_id = batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}).EnvId
    template_id = batch(
        "CreateTaskTemplate", TaskTemplateName=f"my-{name}-1", TaskTemplateInfo=task("true")
    ).TaskTemplateId
    for action, filter_name in (
        ("DescribeJobs", "job-name"),
        ("DescribeComputeEnvs", "env-name"),
        ("DescribeTaskTemplates", "task-template-name"),
    ):
        for value, matches in ((f"my-{name}-1", True), (name, found), (name.upper(), False)):
            answer = batch(action, Filters=[{"Name": filter_name, "Values": [value]}])
            assert answer.TotalCount == int(matches), (action, value)
    batch("DeleteComputeEnv", EnvId=env_id)
    batch("DeleteTaskTemplates", TaskTemplateIds=[template_id])


@pytest.mark.parametrize(
    ("setting", "time_value", "reason", "tags"),
    [("mixed", None, "", []), ("null", None, None, None), ("empty", "", "", []), ("absent", ..., ..., ...)],
)
def test_empty_values(emulator: Emulator, batch: Call, setting: str, time_value: Any, reason: Any, tags: Any) -> None:
    def api(action: str, **params: Any) -> Any:
        """The answer as it was sent; the SDK makes no difference between null and absent."""
        return send(emulator, action, json.dumps(params).encode()).json()["Response"]

    emulator.configure(empty_values=setting, submitted_seconds=3)
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    job = api("DescribeJob", JobId=job_id)
    assert [job.get(name, ...) for name in ("EndTime", "StateReason", "Tags")] == [time_value, reason, tags]
    assert job["TaskSet"][0].get("EndTime", ...) == time_value
    (row,) = api("DescribeJobs", JobIds=[job_id])["JobSet"]
    assert [row.get(name, ...) for name in ("EndTime", "Tags")] == [time_value, tags]
    (instance,) = api("DescribeTask", JobId=job_id, TaskName="main")["TaskInstanceSet"]
    times = [instance.get(name, ...) for name in ("LaunchTime", "RunningTime", "EndTime")]
    assert times == [time_value] * 3
    # What has content is there in any case.
    assert job["CreateTime"]
    assert instance["TaskInstanceIndex"] == 0


@pytest.mark.parametrize("counts", [True, False])
def test_ended_jobs_and_the_quota(emulator: Emulator, batch: Call, counts: bool) -> None:
    ended(emulator, batch, "true")
    held = batch("DescribeJobs").TotalCount
    emulator.configure(job_quota=held, job_quota_counts_ended=counts)
    if counts:
        with pytest.raises(TencentCloudSDKException) as caught:
            batch("SubmitJob", **submission(task("true")))
        assert caught.value.get_code() == "LimitExceeded.JobQuota"
    else:
        assert batch("SubmitJob", **submission(task("true"))).JobId


def test_lengths_of_names(emulator: Emulator, batch: Call) -> None:
    env = {"EnvName": "e" * 12, "DesiredComputeNodeCount": 0, "EnvData": {"InstanceTypes": ["S5.MEDIUM4"]}}
    emulator.configure(task_name_length=10, env_name_length=11)
    for action, params, code in (
        ("SubmitJob", submission({**task("true"), "TaskName": "t" * 11}), "InvalidParameter.TaskNameTooLong"),
        (
            "CreateComputeEnv",
            {"ComputeEnv": env, "Placement": {"Zone": "ap-guangzhou-3"}},
            "InvalidParameter.EnvNameTooLong",
        ),
    ):
        with pytest.raises(TencentCloudSDKException) as caught:
            batch(action, **params)
        assert caught.value.get_code() == code
    emulator.configure(task_name_length=11)
    assert batch("SubmitJob", **submission({**task("true"), "TaskName": "t" * 11})).JobId


@pytest.mark.parametrize(
    ("skipped", "instance_states", "job_states"),
    [
        (
            [],
            ["PENDING", "RUNNABLE", "STARTING", "RUNNING"],
            ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING"],
        ),
        (["PENDING"], ["RUNNABLE", "STARTING", "RUNNING"], ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING"]),
        (["STARTING", "RUNNABLE"], ["PENDING", "RUNNING"], ["SUBMITTED", "PENDING", "RUNNING"]),
        (["PENDING", "RUNNABLE", "STARTING"], ["RUNNING"], ["SUBMITTED", "RUNNING"]),
    ],
)
def test_states_that_are_not_shown(
    emulator: Emulator, batch: Call, skipped: list[str], instance_states: list[str], job_states: list[str]
) -> None:
    emulator.configure(skipped_states=skipped)
    job_id = ended(emulator, batch, "false")
    assert states(emulator, job_id, "instance") == [*instance_states, "FAILED"]
    assert states(emulator, job_id, "job") == [*job_states, "FAILED"]
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert instance.LaunchTime
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"
    again = instance_states if "PENDING" not in skipped else ["SUBMITTED", *instance_states]
    assert states(emulator, job_id, "instance") == [*instance_states, "FAILED", *again, "FAILED"]


def test_a_job_that_seems_submitted_until_it_runs(emulator: Emulator, batch: Call) -> None:
    emulator.configure(skipped_states=["PENDING", "RUNNABLE", "STARTING"], starting_seconds=600)
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    while not emulator.on_loop(lambda services: services.batch.jobs[job_id].tasks["main"].instances[0].placed):
        pass
    assert code(lambda: batch("TerminateJob", JobId=job_id)) == "UnsupportedOperation"
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=0)
    assert emulator.wait_job(job_id) == "FAILED"
    while emulator.on_loop(lambda services: services.batch.capacity.used):
        pass


@pytest.mark.parametrize("setting", ["words", "none"])
def test_reasons(emulator: Emulator, batch: Call, tdmq: Call, cmq: Call, setting: str) -> None:
    emulator.configure(state_reasons=setting)
    topic = subscribed(tdmq)
    job_id = ended(emulator, batch, "exit 3", **told(topic, "JOB_FAILED", "TASK_FAILED", "TASK_INSTANCE_FAILED"))
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    shown = [batch("DescribeJob", JobId=job_id).StateReason, instance.StateReason, instance.StateDetailedReason]
    members = [event["Batch"] for event in events_of(cmq, topic)]
    shown += [item["StateReason"] for item in members if "StateReason" in item]
    assert len(shown) == 5
    assert [bool(text) for text in shown] == [setting == "words"] * 5


@pytest.mark.parametrize("setting", [True, False])
def test_events_of_what_was_terminated(emulator: Emulator, batch: Call, tdmq: Call, cmq: Call, setting: bool) -> None:
    emulator.configure(terminate_events=setting)
    topic = subscribed(tdmq)
    names = ("JOB_FAILED", "TASK_FAILED", "TASK_INSTANCE_FAILED")
    job_id = batch("SubmitJob", **submission(task("sleep 600"), **told(topic, *names, "JOB_RUNNING"))).JobId
    while batch("DescribeJob", JobId=job_id).JobState != "RUNNING":
        pass
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) == "FAILED"
    expected = {"JOB_RUNNING", *(names if setting else ())}
    assert {event["EventName"] for event in events_of(cmq, topic)} == expected
    # What a retry brings is told again.
    batch("RetryJobs", JobIds=[job_id])
    while batch("DescribeJob", JobId=job_id).JobState != "RUNNING":
        pass
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=0)
    assert emulator.wait_job(job_id) == "FAILED"
    assert {event["EventName"] for event in events_of(cmq, topic)} == {"JOB_RUNNING", *names}


def test_records_of_ended_jobs(emulator: Emulator, batch: Call) -> None:
    job_id = ended(emulator, batch, "true")
    kept = batch("SubmitJob", **submission(task("sleep 600"))).JobId
    emulator.configure(job_retention_seconds=3600)
    assert batch("DescribeJob", JobId=job_id).JobState == "SUCCEED"
    emulator.configure(job_retention_seconds=0.001)
    assert code(lambda: batch("DescribeJob", JobId=job_id)) == "ResourceNotFound.Job"
    assert [job.JobId for job in batch("DescribeJobs", JobIds=[job_id, kept]).JobSet] == [kept]
    emulator.configure(job_retention_seconds=0)
    while batch("DescribeJob", JobId=kept).JobState == "SUBMITTED":
        pass
    batch("TerminateJob", JobId=kept)
    assert emulator.wait_job(kept) == "FAILED"


def test_a_client_token_that_comes_again(emulator: Emulator, batch: Call) -> None:
    request = submission(task("true"), token=uuid.uuid4().hex)
    job_id = batch("SubmitJob", **request).JobId
    assert batch("SubmitJob", **request).JobId == job_id
    emulator.configure(client_token_repeat="error")
    assert code(lambda: batch("SubmitJob", **request)) == "InvalidParameterValue"


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_order_of_listings(emulator: Emulator, batch: Call, order: str) -> None:
    emulator.configure(listing_order=order)
    name = f"order{time.time_ns()}"
    env = {"EnvName": name, "DesiredComputeNodeCount": 0, "EnvData": {"InstanceTypes": ["S5.MEDIUM4"]}}
    jobs = [batch("SubmitJob", **submission(task("true"), JobName=name)).JobId for _ in range(3)]
    envs = [batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}).EnvId for _ in range(3)]
    templates = [
        batch("CreateTaskTemplate", TaskTemplateName=name, TaskTemplateInfo=task("true")).TaskTemplateId
        for _ in range(3)
    ]
    listings = [
        (jobs, batch("DescribeJobs", JobIds=jobs).JobSet, "JobId"),
        (jobs, batch("DescribeJobs", Filters=[{"Name": "job-name", "Values": [name]}]).JobSet, "JobId"),
        (envs, batch("DescribeComputeEnvs", EnvIds=envs).ComputeEnvSet, "EnvId"),
        (templates, batch("DescribeTaskTemplates", TaskTemplateIds=templates).TaskTemplateSet, "TaskTemplateId"),
    ]
    for made, shown, member in listings:
        assert [getattr(item, member) for item in shown] == (made[::-1] if order == "newest" else made)
    for env_id in envs:
        batch("DeleteComputeEnv", EnvId=env_id)
    batch("DeleteTaskTemplates", TaskTemplateIds=templates)


def test_numbers_that_are_not_documented(emulator: Emulator, batch: Call, tdmq: Call) -> None:
    emulator.configure(max_job_ids=2, max_notifications=1, max_event_vars=1)
    assert batch("DescribeJobs", JobIds=["job-00000000"] * 2).TotalCount == 0
    assert code(lambda: batch("DescribeJobs", JobIds=["job-00000000"] * 3)) == "InvalidParameterValue"
    topic = subscribed(tdmq)
    (notification,) = told(topic, "JOB_FAILED")["Notifications"]
    variable = {"Name": "n", "Value": "v"}
    for notifications, variables, accepted in ((1, 1, True), (2, 1, False), (1, 2, False)):
        notification["EventConfigs"][0]["EventVars"] = [variable] * variables
        request = submission(task("true"), Notifications=[notification] * notifications)
        if accepted:
            assert emulator.wait_job(batch("SubmitJob", **request).JobId) == "SUCCEED"
        else:
            assert code(lambda request=request: batch("SubmitJob", **request)) == (  # type: ignore[misc]
                "InvalidParameterValue.LimitExceeded"
            )


def test_padding_of_logs(emulator: Emulator, batch: Call) -> None:
    job_id = ended(emulator, batch, "printf ab")
    for padding, text in ((True, "YWI="), (False, "YWI")):
        emulator.configure(log_base64_padding=padding)
        assert batch("DescribeTaskLogs", JobId=job_id, TaskName="main").TaskInstanceLogSet[0].StdoutLog == text


@pytest.mark.parametrize(
    ("after_end", "missing", "count"),
    [(True, "omit", 1), (False, "empty", 1), (False, "omit", 0), (False, "error", -1)],
)
def test_logs_of_what_has_ended(emulator: Emulator, batch: Call, after_end: bool, missing: str, count: int) -> None:
    emulator.configure(logs_after_end=after_end, missing_logs=missing)
    job_id = ended(emulator, batch, "echo hello")

    def logs() -> Any:
        return batch("DescribeTaskLogs", JobId=job_id, TaskName="main").TaskInstanceLogSet

    if count < 0:
        assert code(logs) == "ResourceNotFound.TaskInstance"
    else:
        expected = base64.b64encode(b"hello\n").decode() if after_end else ""
        assert [item.StdoutLog for item in logs()] == [expected] * count
    # An interrupted instance keeps its machine, and a job that has just been submitted has none yet.
    job_id = kept_machine(emulator, batch)
    assert len(logs()) == 1
    emulator.configure(submitted_seconds=600)
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    if missing == "error":
        assert code(logs) == "ResourceNotFound.TaskInstance"
    else:
        assert len(logs()) == (1 if missing == "empty" else 0)


def kept_machine(emulator: Emulator, batch: Call) -> str:
    job_id: str = batch("SubmitJob", **submission(task("echo hello; false", FailedAction="INTERRUPT"))).JobId
    assert emulator.wait_job(job_id) == "FAILED_INTERRUPTED"
    return job_id


@pytest.mark.parametrize("setting", ["same", "per_attempt"])
def test_names_of_a_retrys_logs(emulator: Emulator, batch: Call, cos: CosS3Client, setting: str) -> None:
    emulator.configure(log_names=setting)
    folder = f"logs/{uuid.uuid4().hex}/"
    info = emulator.info
    path = f"cos://{info.bucket}.cos.{info.region}.myqcloud.com/{folder}"
    redirect = {"StdoutRedirectPath": path, "StdoutRedirectFileName": "out-${BATCH_TASK_INSTANCE_INDEX}"}
    job_id = batch("SubmitJob", **submission(task("exit 1", MaxRetryCount=2, RedirectInfo=redirect))).JobId
    assert emulator.wait_job(job_id) == "FAILED"
    names = [item["Key"][len(folder) :] for item in cos.list_objects(Bucket=info.bucket, Prefix=folder)["Contents"]]
    assert names == (["out-0"] if setting == "same" else ["out-0", "out-0.2", "out-0.3"])
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert instance.RedirectInfo.StdoutRedirectFileName == names[-1]
    assert not instance.RedirectInfo.StderrRedirectFileName


def test_timestamps_of_message_requests(emulator: Emulator, batch: Call, tdmq: Call, cmq: Call) -> None:
    queue = subscribed(tdmq)
    late = str(int(time.time()) - 500)
    assert cmq("ReceiveMessage", queueName=queue, Timestamp=late)["code"] == 4100
    emulator.configure(timestamp_window_seconds=1000)
    assert cmq("ReceiveMessage", queueName=queue, Timestamp=late)["code"] == 4100
    emulator.configure(cmq_timestamp_window_seconds=1000)
    assert cmq("ReceiveMessage", queueName=queue, Timestamp=late)["code"] == 7000


@pytest.mark.parametrize(("setting", "result"), [("either", 0), ("signed", 0), ("left_out", 4100)])
def test_signatures_of_values_that_begin_with_at(
    emulator: Emulator, tdmq: Call, cmq: Call, setting: str, result: int
) -> None:
    queue = subscribed(tdmq)
    emulator.configure(cmq_sign_at_values=setting)
    assert cmq("SendMessage", queueName=queue, msgBody="@all")["code"] == result
    assert cmq("SendMessage", queueName=queue, msgBody="all")["code"] == 0


def test_rates_that_only_one_table_has(emulator: Emulator, batch: Call) -> None:
    emulator.configure(rate_limits="intl", rate_limit_unlisted=1)
    batch("DescribeInstanceCategories")
    assert code(lambda: batch("DescribeInstanceCategories")) == "RequestLimitExceeded"
    emulator.configure(rate_limit_unlisted=0)
    assert batch("DescribeInstanceCategories").RequestId


def subscribed(tdmq: Call) -> str:
    """A new topic and a queue of the same name that hears it."""
    name = f"open-{uuid.uuid4().hex[:8]}"
    tdmq("CreateCmqQueue", QueueName=name)
    tdmq("CreateCmqTopic", TopicName=name)
    tdmq("CreateCmqSubscribe", TopicName=name, SubscriptionName=name, Protocol="queue", Endpoint=name)
    return name


def told(topic: str, *names: str) -> dict[str, Any]:
    configs = [{"EventName": name, "EventVars": []} for name in names]
    return {"NotificationTarget": "TDMQ_CMQ", "Notifications": [{"TopicName": topic, "EventConfigs": configs}]}


def events_of(cmq: Call, queue: str) -> list[dict[str, Any]]:
    """What has come to a queue."""
    found = cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16)["msgInfoList"]
    return [event for message in found for event in json.loads(message["msgBody"])["Events"]]
