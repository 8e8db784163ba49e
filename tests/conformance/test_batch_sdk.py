"""The job actions through the official typed SDK, synchronous and asynchronous."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
import uuid
from typing import Any

import pytest
import requests
from qcloud_cos import CosS3Client
from tencentcloud.batch.v20170312 import batch_client, batch_client_async
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, alive, credential, profile, request_of, states, submission, task
from tests.support.in_process import STRICT


def code_of(error: pytest.ExceptionInfo[TencentCloudSDKException]) -> str:
    return str(error.value.get_code())


def run(batch: Call, emulator: Emulator, *tasks: dict[str, Any], **job: Any) -> tuple[str, str]:
    job_id = batch("SubmitJob", **submission(*tasks, **job)).JobId
    return job_id, emulator.wait_job(job_id)


def log_of(batch: Call, job_id: str, stream: str = "Stdout", name: str = "main", index: int = 0) -> str:
    answer = batch("DescribeTaskLogs", JobId=job_id, TaskName=name, TaskInstanceIndexes=[index])
    return base64.b64decode(getattr(answer.TaskInstanceLogSet[0], f"{stream}Log")).decode()


def test_job_with_two_dependent_tasks(batch: Call, emulator: Emulator, cos: CosS3Client) -> None:
    info = emulator.info
    logs = f"cos://{info.bucket}.cos.{info.region}.myqcloud.com/logs/two/"
    redirect = {"StdoutRedirectPath": logs, "StderrRedirectPath": logs}
    job_id, state = run(
        batch,
        emulator,
        task(
            "echo part $BATCH_TASK_INSTANCE_INDEX/$BATCH_TASK_INSTANCE_NUM; echo err >&2",
            "map",
            TaskInstanceNum=3,
            RedirectInfo=redirect,
        ),
        task(
            "echo $BATCH_TASK_NAME $BATCH_JOB_ID $GREETING",
            "reduce",
            RedirectInfo={**redirect, "StdoutRedirectFileName": "r-${BATCH_TASK_INSTANCE_INDEX}.txt"},
            EnvVars=[{"Name": "GREETING", "Value": "hello"}],
        ),
        Dependences=[{"StartTask": "map", "EndTask": "reduce"}],
        Tags=[{"Key": "team", "Value": "a"}],
        Priority=7,
    )
    assert state == "SUCCEED"

    job = batch("DescribeJob", JobId=job_id)
    assert (job.JobState, job.Priority, job.Zone, job.NextAction, job.StateReason) == (
        "SUCCEED",
        7,
        info.zone,
        "",
        "",
    )
    assert job.EndTime.endswith("Z")
    assert job.TaskMetrics.SucceedCount == 2
    assert job.TaskInstanceMetrics.SucceedCount == 4
    assert [(item.TaskName, item.TaskState) for item in job.TaskSet] == [("map", "SUCCEED"), ("reduce", "SUCCEED")]

    detail = batch("DescribeTask", JobId=job_id, TaskName="map")
    assert detail.TaskInstanceTotalCount == 3
    last = detail.TaskInstanceSet[2]
    assert last.TaskInstanceIndex == 2
    assert last.ExitCode == 0
    assert last.ComputeNodeInstanceId.startswith("ins-")
    assert last.RedirectInfo.StdoutRedirectFileName == f"stdout.{job_id}.map.2.log"

    names = [item["Key"] for item in cos.list_objects(Bucket=info.bucket, Prefix="logs/two/")["Contents"]]
    assert sorted(names) == sorted(
        [f"logs/two/{stream}.{job_id}.map.{index}.log" for stream in ("stdout", "stderr") for index in range(3)]
        + ["logs/two/r-0.txt", f"logs/two/stderr.{job_id}.reduce.0.log"]
    )
    body = cos.get_object(Bucket=info.bucket, Key=f"logs/two/stdout.{job_id}.map.2.log")["Body"]
    assert body.get_raw_stream().read() == b"part 2/3\n"
    assert log_of(batch, job_id, name="reduce") == f"reduce {job_id} hello\n"
    assert log_of(batch, job_id, "Stderr", "map", 1) == "err\n"

    entries = states(emulator, job_id, "instance", 0, "reduce")
    assert entries == ["PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEED"]
    assert states(emulator, job_id, "job")[0] == "SUBMITTED"


async def test_six_actions_through_the_async_client(emulator: Emulator) -> None:
    async with batch_client_async.BatchClient(credential(emulator), emulator.info.region, profile(emulator)) as client:

        async def call(action: str, **params: Any) -> Any:
            return await getattr(client, action)(request_of(batch_models, action, params))

        job_id = (await call("SubmitJob", **submission(task("echo started; sleep 60")))).JobId
        while (state := (await call("DescribeJob", JobId=job_id)).JobState) != "RUNNING":
            assert state in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")
        listed = await call("DescribeJobs", JobIds=[job_id])
        assert [(job.JobId, job.JobState) for job in listed.JobSet] == [(job_id, "RUNNING")]
        assert (await call("DescribeTask", JobId=job_id, TaskName="main")).TaskState == "RUNNING"
        await call("DescribeTaskLogs", JobId=job_id, TaskName="main")
        await call("TerminateJob", JobId=job_id)
        assert await asyncio.to_thread(emulator.wait_job, job_id) == "FAILED"
        with pytest.raises(TencentCloudSDKException, match="does not exist") as caught:
            await call("DescribeJob", JobId="job-00000000")
        assert code_of(caught) == "ResourceNotFound.Job"


@pytest.mark.parametrize(
    ("secret_id", "secret_key", "code"),
    [
        (None, "wrong", "AuthFailure.SignatureFailure"),
        ("AKIDunknown0000000000", None, "AuthFailure.SecretIdNotFound"),
    ],
)
async def test_wrong_credentials_are_refused(
    emulator: Emulator, secret_id: str | None, secret_key: str | None, code: str
) -> None:
    wrong = Credential(secret_id or emulator.info.secret_id, secret_key or emulator.info.secret_key)
    request = request_of(batch_models, "DescribeJob", {"JobId": "job-00000000"})
    with pytest.raises(TencentCloudSDKException) as caught:
        batch_client.BatchClient(wrong, emulator.info.region, profile(emulator)).DescribeJob(request)
    assert code_of(caught) == code
    async with batch_client_async.BatchClient(wrong, emulator.info.region, profile(emulator)) as client:
        with pytest.raises(TencentCloudSDKException) as caught:
            await client.DescribeJob(request)
    assert code_of(caught) == code


def test_old_timestamp_is_refused(batch: Call, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from tencentcloud.common import abstract_client

    class Late:
        time = staticmethod(lambda: time.time() - 301)

    monkeypatch.setattr(abstract_client, "time", Late)
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("DescribeJobs")
    assert code_of(caught) == "AuthFailure.SignatureExpire"
    emulator.configure(timestamp_window_seconds=400)
    assert batch("DescribeJobs").RequestId


def test_client_token_makes_one_job(batch: Call, emulator: Emulator) -> None:
    token = uuid.uuid4().hex
    first = batch("SubmitJob", **submission(task("true"), token=token)).JobId
    again = batch("SubmitJob", **submission(task("true"), token=token)).JobId
    other_body = batch("SubmitJob", **submission(task("false"), token=token)).JobId
    assert first == again == other_body
    emulator.configure(client_token_mismatch="error")
    with pytest.raises(TencentCloudSDKException, match="ClientToken"):
        batch("SubmitJob", **submission(task("false"), token=token))
    emulator.configure(client_token_mismatch="same_job", client_token_window_seconds=0)
    assert batch("SubmitJob", **submission(task("true"), token=token)).JobId != first


def test_retry_until_success(batch: Call, emulator: Emulator, cos: CosS3Client) -> None:
    # Fails until two earlier attempts have left their marks next to this attempt's folder.
    command = 'test $(ls "$HOME/../.." | wc -l) -ge 3 || { echo no >&2; exit 9; }'
    job_id, state = run(batch, emulator, task(command, MaxRetryCount=3))
    assert state == "SUCCEED"
    assert states(emulator, job_id, "instance").count("RUNNING") == 3
    assert states(emulator, job_id, "job").count("RUNNING") == 1

    job_id, state = run(batch, emulator, task("exit 9", MaxRetryCount=1))
    assert state == "FAILED"
    view = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0]
    assert (view.TaskInstanceState, view.ExitCode) == ("FAILED", 9)
    assert "exit code 9" in view.StateReason
    assert states(emulator, job_id, "instance").count("RUNNING") == 2


def test_timeout_kills_the_whole_group(batch: Call, emulator: Emulator) -> None:
    emulator.configure(kill_grace_seconds=0.2)
    job_id, state = run(batch, emulator, task("trap '' TERM; sleep 600 & echo $!; wait; sleep 600", Timeout=1))
    assert state == "FAILED"
    view = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0]
    assert view.ExitCode == 137
    assert view.StateReason.startswith("Timeout")
    assert not alive(int(log_of(batch, job_id)))


def test_failed_action_keeps_the_instance_until_terminated(batch: Call, emulator: Emulator) -> None:
    job_id, state = run(batch, emulator, task("exit 1", FailedAction="INTERRUPT"))
    assert state == "FAILED_INTERRUPTED"
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("DeleteJob", JobId=job_id)
    assert code_of(caught) == "ResourceInUse.Job"
    batch("TerminateJob", JobId=job_id)
    while batch("DescribeJob", JobId=job_id).NextAction == "TERMINATING":
        pass
    assert batch("DescribeJob", JobId=job_id).JobState == "FAILED"
    batch("DeleteJob", JobId=job_id)
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("DescribeJob", JobId=job_id)
    assert code_of(caught) == "ResourceNotFound.Job"


@pytest.mark.parametrize("code", ["UnsupportedOperation", "ResourceInUse.Job"])
def test_terminate(batch: Call, emulator: Emulator, code: str) -> None:
    emulator.configure(terminate_submitted_error=code, submitted_seconds=0.3, terminate_seconds=0.3)
    job_id = batch(
        "SubmitJob",
        **submission(
            task("sleep 60", "first"),
            task("true", "second"),
            Dependences=[{"StartTask": "first", "EndTask": "second"}],
            TaskExecutionDependOn="PRE_TASK_FINISHED",
        ),
    ).JobId
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("TerminateJob", JobId=job_id)
    assert code_of(caught) == code
    while batch("DescribeJob", JobId=job_id).JobState != "RUNNING":
        pass
    batch("TerminateJob", JobId=job_id)
    assert batch("DescribeJob", JobId=job_id).NextAction == "TERMINATING"
    assert emulator.wait_job(job_id) == "FAILED"
    job = batch("DescribeJob", JobId=job_id)
    assert job.NextAction == ""
    assert job.TaskInstanceMetrics.FailedCount == 2
    assert "RUNNING" not in states(emulator, job_id, "instance", 0, "second")
    batch("TerminateJob", JobId=job_id)
    assert batch("DescribeJob", JobId=job_id).NextAction == ""


def test_terminate_without_effect_on_success(batch: Call, emulator: Emulator) -> None:
    job_id, state = run(batch, emulator, task("true"))
    batch("TerminateJob", JobId=job_id)
    job = batch("DescribeJob", JobId=job_id)
    assert (state, job.JobState, job.NextAction) == ("SUCCEED", "SUCCEED", "")


def test_terminate_one_instance(batch: Call, emulator: Emulator) -> None:
    command = "[ $BATCH_TASK_INSTANCE_INDEX = 0 ] && exec sleep 60; true"
    job_id = batch("SubmitJob", **submission(task(command, TaskInstanceNum=2))).JobId
    while batch("DescribeJob", JobId=job_id).TaskInstanceMetrics.RunningCount == 0:
        pass
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=0)
    assert emulator.wait_job(job_id) == "FAILED"
    views = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert [view.TaskInstanceState for view in views] == ["FAILED", "SUCCEED"]
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=2)
    assert code_of(caught) == "ResourceNotFound.TaskInstance"


def test_retry_jobs_runs_only_what_failed(batch: Call, emulator: Emulator) -> None:
    job_id, state = run(
        batch,
        emulator,
        task("true", "good"),
        # The second run of the task finds what the first one left.
        task('[ -e "$HOME/../../flag" ] || { touch "$HOME/../../flag"; exit 1; }', "bad"),
        task("true", "after"),
        Dependences=[{"StartTask": "good", "EndTask": "bad"}, {"StartTask": "bad", "EndTask": "after"}],
    )
    assert state == "FAILED"
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("RetryJobs", JobIds=[job_id, "job-00000000"])
    assert code_of(caught) == "ResourceNotFound.Job"
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert states(emulator, job_id, "instance", task="good").count("RUNNING") == 1
    assert states(emulator, job_id, "instance", task="after")[-1] == "SUCCEED"
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("RetryJobs", JobIds=[job_id])
    assert code_of(caught) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("rule", "second"),
    [
        ("PRE_TASK_SUCCEED", "FAILED"),
        ("PRE_TASK_AT_LEAST_PARTLY_SUCCEED", "SUCCEED"),
        ("PRE_TASK_FINISHED", "SUCCEED"),
    ],
)
def test_dependency_rules(batch: Call, emulator: Emulator, rule: str, second: str) -> None:
    job_id, state = run(
        batch,
        emulator,
        task("exit $BATCH_TASK_INSTANCE_INDEX", "first", TaskInstanceNum=2),
        task("true", "second"),
        Dependences=[{"StartTask": "first", "EndTask": "second"}],
        TaskExecutionDependOn=rule,
    )
    job = batch("DescribeJob", JobId=job_id)
    assert [item.TaskState for item in job.TaskSet] == ["FAILED", second]
    assert state == "FAILED"
    assert "first" in job.StateReason


def test_max_concurrent_num(batch: Call, emulator: Emulator) -> None:
    job_id, _ = run(batch, emulator, task("true", TaskInstanceNum=4, MaxConcurrentNum=1))
    url = f"{emulator.info.endpoint}/_emulator/jobs/{job_id}/timeline"
    active = largest = 0
    for entry in requests.get(url, timeout=5).json()["entries"]:
        if entry["entity"] == "instance":
            active += {"STARTING": 1, "SUCCEED": -1}.get(entry["state"], 0)
            largest = max(largest, active)
    assert largest == 1


def test_package(batch: Call, emulator: Emulator, cos: CosS3Client) -> None:
    info = emulator.info
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        content = b"echo from the package\n"
        member = tarfile.TarInfo("bin/hello.sh")
        member.size, member.mode = len(content), 0o755
        archive.addfile(member, io.BytesIO(content))
    cos.put_object(Bucket=info.bucket, Key="pkg/app.tgz", Body=data.getvalue())
    path = f"cos://{info.bucket}.cos.{info.region}.myqcloud.com/pkg/app.tgz"
    application = {"DeliveryForm": "PACKAGE", "PackagePath": path, "Command": "sh bin/hello.sh"}
    job_id, state = run(batch, emulator, task("", Application=application))
    assert state == "SUCCEED"
    assert log_of(batch, job_id) == "from the package\n"

    missing = {**application, "PackagePath": path.replace("app", "none")}
    job_id, state = run(batch, emulator, task("", Application=missing))
    assert state == "FAILED"
    assert "NoSuchKey" in batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0].StateReason


def test_log_excerpt(batch: Call, emulator: Emulator) -> None:
    job_id, _ = run(batch, emulator, task("seq -w 1 1000"))
    tail = log_of(batch, job_id)
    assert len(tail) == 2048
    assert tail.endswith("0999\n1000\n")
    emulator.configure(log_excerpt="head", log_data_uri_prefix=True)
    answer = batch("DescribeTaskLogs", JobId=job_id, TaskName="main")
    value = answer.TaskInstanceLogSet[0].StdoutLog
    prefix, _, text = value.partition("base64,")
    assert prefix == "data:text/plain;charset=utf-8;"
    assert base64.b64decode(text).decode().startswith("0001\n0002\n")


def test_describe_jobs(batch: Call, emulator: Emulator) -> None:
    name = "listing-" + uuid.uuid4().hex[:8]
    ids = [
        batch("SubmitJob", **submission(task("true"), JobName=name, Tags=[{"Key": "n", "Value": str(number)}])).JobId
        for number in range(3)
    ]
    by_name = batch("DescribeJobs", Filters=[{"Name": "job-name", "Values": [name]}], Limit=2)
    assert by_name.TotalCount == 3
    assert [job.JobId for job in by_name.JobSet] == ids[:0:-1]
    by_tag = batch("DescribeJobs", Filters=[{"Name": "tag:n", "Values": ["1"]}, {"Name": "job-name", "Values": [name]}])
    assert [job.JobId for job in by_tag.JobSet] == [ids[1]]
    assert by_tag.JobSet[0].Placement.Zone == emulator.info.zone
    some = batch("DescribeJobs", JobIds=[ids[0], "job-00000000"])
    assert [job.JobId for job in some.JobSet] == [ids[0]]
    emulator.configure(describe_jobs_unknown="error")
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("DescribeJobs", JobIds=[ids[0], "job-00000000"])
    assert code_of(caught) == "ResourceNotFound.Job"
    for job_id in ids:
        emulator.wait_job(job_id)


def test_submit_info_and_instance_filter(batch: Call, emulator: Emulator) -> None:
    job_id, _ = run(batch, emulator, task("exit $BATCH_TASK_INSTANCE_INDEX", TaskInstanceNum=3), JobDescription="d")
    info = batch("DescribeJobSubmitInfo", JobId=job_id)
    assert (info.JobName, info.JobDescription) == ("conformance", "d")
    assert info.Tasks[0].Application.Command == "exit $BATCH_TASK_INSTANCE_INDEX"
    failed = batch(
        "DescribeTask",
        JobId=job_id,
        TaskName="main",
        Filters=[{"Name": "task-instance-state", "Values": ["FAILED"]}],
        Limit=1,
    )
    assert failed.TaskInstanceTotalCount == 2
    assert [view.TaskInstanceIndex for view in failed.TaskInstanceSet] == [1]


def one(**members: Any) -> dict[str, Any]:
    return {"Tasks": [task("true", **members)]}


def notified(topic: str, *events: dict[str, Any]) -> dict[str, Any]:
    return {"Notifications": [{"TopicName": topic, "EventConfigs": list(events)}]}


COS = "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com"
BARE = {"TaskName": "a", "Application": {"DeliveryForm": "LOCAL", "Command": "true"}}
JOB_FAILED = {"EventName": "JOB_FAILED", "EventVars": []}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"JobName": "x" * 61}, "InvalidParameter.JobNameTooLong"),
        ({"JobDescription": "x" * 201}, "InvalidParameter.JobDescriptionTooLong"),
        ({"Priority": -1}, "InvalidParameterValue.Negative"),
        ({"Tasks": []}, "MissingParameter"),
        ({"Tasks": [task("true"), task("true")]}, "InvalidParameter.TaskName"),
        ({"Tasks": [task("true", "../up")]}, "InvalidParameter.TaskName"),
        ({"Tasks": [task("true", "x" * 61)]}, "InvalidParameter.TaskNameTooLong"),
        (one(EnvId="env-00000000"), "AllowedOneAttributeInEnvIdAndComputeEnv"),
        ({"Tasks": [BARE]}, "AllowedOneAttributeInEnvIdAndComputeEnv"),
        (one(MaxRetryCount=101), "InvalidParameterValue.MaxRetryCount"),
        (one(TaskInstanceNum=0), "InvalidParameterValue.TaskInstanceNum"),
        (one(RedirectInfo={"StdoutRedirectPath": f"{COS}/x"}), "InvalidParameterValue.RemoteStoragePath"),
        (one(RedirectInfo={"StdoutRedirectPath": "s3://b/x/"}), "InvalidParameterValue.RemoteStorageSchemeType"),
        (one(RedirectLocalInfo={"StdoutLocalPath": "/a/../../b"}), "InvalidParameterValue.LocalPath"),
        (
            {"Dependences": [{"StartTask": "main", "EndTask": "other"}]},
            "InvalidParameterValue.DependenceNotFoundTaskName",
        ),
        ({"Dependences": [{"StartTask": "main", "EndTask": "main"}]}, "InvalidParameterValue.DependenceUnfeasible"),
        (notified("nowhere", JOB_FAILED), "InvalidParameter.NotificationTopicName"),
        (notified("airflow-batch", {"EventName": "JOB_FAILED"}), "MissingParameter"),
        (notified("airflow-batch", JOB_FAILED, JOB_FAILED), "InvalidParameter.NotificationEventNameDuplicate"),
    ],
)
def test_bad_jobs_are_refused(batch: Call, emulator: Emulator, change: dict[str, Any], code: str) -> None:
    emulator.configure(**STRICT)
    request = submission(task("true"))
    request["Job"].update(change)
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("SubmitJob", **request)
    assert code_of(caught) == code


@pytest.mark.parametrize(
    ("zone", "code"),
    [
        ("ap-shanghai-2", "InvalidParameterValue.InvalidZoneMismatchRegion"),
        ("ap-guangzhou-99", "InvalidZone.MismatchRegion"),
        ("nonsense", "InvalidZone.MismatchRegion"),
    ],
)
def test_wrong_zone(batch: Call, zone: str, code: str) -> None:
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("SubmitJob", **submission(task("true"), zone=zone))
    assert code_of(caught) == code


def test_vendor_sample_jobs_are_accepted(batch: Call, emulator: Emulator) -> None:
    # The members of the two SubmitJob samples of Tencent's documentation, with the older COS host names.
    old_path = "cos://batch-demo-1251783334.cosgz.myqcloud.com/logs/"
    redirect = {"StdoutRedirectPath": old_path, "StderrRedirectPath": old_path}
    env = {"EnvType": "MANAGED", "EnvData": {"InstanceType": "SA5.MEDIUM4", "ImageId": "img-bd78fy2t"}}
    one = task("sleep 0.1", "hello2", TaskInstanceNum=1, ComputeEnv=env, RedirectInfo=redirect)
    assert run(batch, emulator, one, Priority=1, JobDescription="normal_job")[1] == "SUCCEED"
    pair = [task(f"echo {name}", name, TaskInstanceNum=1, RedirectInfo=redirect) for name in ("pre_task", "post_task")]
    edges = [{"StartTask": "pre_task", "EndTask": "post_task"}]
    assert run(batch, emulator, *pair, Dependences=edges)[1] == "SUCCEED"
