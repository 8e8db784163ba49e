"""What Tencent's documentation does not say: each reading of it can be had."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, states, submission, task
from tests.conformance.test_wire import send


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
