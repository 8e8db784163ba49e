"""Every one of the 30 Batch actions through the official typed SDK, synchronous and asynchronous, unchanged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tencentcloud.batch.v20170312 import batch_client, batch_client_async
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.schema import Schema, schema
from tests.conformance.conftest import Call, credential, profile, request_of, submission, task
from tests.support.in_process import STRICT
from tests.support.sdk_warnings import warnings_are_errors

PACE = Settings(
    submitted_seconds=0.02,
    starting_seconds=0.02,
    terminate_seconds=0.02,
    node_submitted_seconds=0.01,
    node_pending_seconds=0.01,
    node_creating_seconds=0.02,
    node_created_seconds=0.02,
    node_deleting_seconds=0.02,
    env_deleting_seconds=0.02,
    monitor_period_seconds=0.1,
)
ENV: dict[str, Any] = {
    "EnvName": "conformance",
    "EnvDescription": "of the tests",
    "EnvType": "MANAGED",
    "EnvData": {"InstanceType": "S5.MEDIUM4", "ImageId": "img-bd78fy2t"},
    "DesiredComputeNodeCount": 1,
    "Tags": [{"Key": "team", "Value": "a"}],
}
PLACEMENT = {"Zone": "ap-guangzhou-3"}

AsyncCall = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def _own() -> Iterator[Emulator]:
    with Emulator(PACE) as emulator:
        yield emulator


@pytest.fixture
def emulator(_own: Emulator) -> Iterator[Emulator]:
    """This module's own emulator with its settings put back afterwards."""
    yield _own
    _own.configure(**PACE.model_dump())


async def until(call: AsyncCall, condition: Callable[[Any], bool], action: str, **params: Any) -> Any:
    deadline = time.monotonic() + 60
    while not condition(answer := await call(action, **params)):
        assert time.monotonic() < deadline, answer.to_json_string()
    return answer


async def every_action(call: AsyncCall) -> None:
    """A life with all actions in it."""
    zone_filter = [{"Name": "zone", "Values": ["ap-guangzhou-3"]}]
    categories = (await call("DescribeInstanceCategories")).InstanceCategorySet
    families = {name for item in categories for name in item.InstanceFamilySet}
    types = (await call("DescribeAvailableCvmInstanceTypes", Filters=zone_filter)).InstanceTypeConfigSet
    assert "S5.MEDIUM4" in {item.InstanceType for item in types}
    assert {item.InstanceFamily for item in types} >= families
    infos = await call(
        "DescribeCvmZoneInstanceConfigInfos",
        Filters=[*zone_filter, {"Name": "instance-type", "Values": ["S5.MEDIUM4", "GN10X.2XLARGE40"]}],
    )
    assert {item.Status for item in infos.InstanceTypeQuotaSet} == {"SELL", "SOLD_OUT"}

    env_id = (await call("CreateComputeEnv", ComputeEnv=ENV, Placement=PLACEMENT)).EnvId
    running: Callable[[Any], bool] = lambda env: env.ComputeNodeMetrics.RunningCount == 1  # noqa: E731
    env = await until(call, running, "DescribeComputeEnv", EnvId=env_id)
    node = env.ComputeNodeSet[0]
    assert (env.EnvName, env.EnvType, env.ResourceType, env.NextAction) == ("conformance", "MANAGED", "CVM", "")
    assert (node.ComputeNodeState, node.Cpu, node.Mem, node.TaskInstanceNumAvailable) == ("RUNNING", 2, 4, 1)
    row = (await call("DescribeComputeEnvs", EnvIds=[env_id])).ComputeEnvSet[0]
    assert (row.DesiredComputeNodeCount, row.Tags[0].Value) == (1, "a")
    info = await call("DescribeComputeEnvCreateInfo", EnvId=env_id)
    assert (info.EnvDescription, info.EnvData.InstanceType) == ("of the tests", "S5.MEDIUM4")
    listed = await call("DescribeComputeEnvCreateInfos", Filters=[{"Name": "env-id", "Values": [env_id]}])
    assert listed.ComputeEnvCreateInfoSet[0].EnvName == "conformance"

    elastic = (await call("SubmitJob", **submission(task("echo elastic")))).JobId
    bound = {**task("sleep 600", "bound"), "EnvId": env_id}
    del bound["ComputeEnv"]
    on_env = (await call("SubmitJob", **submission(bound))).JobId
    await until(call, lambda job: job.JobState == "RUNNING", "DescribeJob", JobId=on_env)
    await until(call, lambda job: job.JobState == "SUCCEED", "DescribeJob", JobId=elastic)
    shown = (await call("DescribeComputeEnv", EnvId=env_id)).ComputeNodeSet[0]
    assert shown.TaskInstanceNumAvailable == 0
    assert (await call("DescribeTask", JobId=on_env, TaskName="bound")).TaskInstanceSet[0].ComputeNodeInstanceId == (
        shown.ComputeNodeInstanceId
    )
    assert len((await call("DescribeJobs", JobIds=[elastic, on_env])).JobSet) == 2
    assert (await call("DescribeTaskLogs", JobId=elastic, TaskName="main")).TaskInstanceLogSet[0].StdoutLog
    assert (await call("DescribeJobSubmitInfo", JobId=on_env)).Tasks[0].EnvId == env_id
    data = await call(
        "DescribeJobMonitorData", JobId=elastic, TaskName="main", TaskInstanceIndex=0, MetricName="CpuUsage"
    )
    assert data.Period >= 1
    assert len(data.DataPoints.Timestamps) == len(data.DataPoints.Values)
    await call("TerminateTaskInstance", JobId=on_env, TaskName="bound", TaskInstanceIndex=0)
    await until(call, lambda job: job.JobState == "FAILED", "DescribeJob", JobId=on_env)
    await call("RetryJobs", JobIds=[on_env])
    await until(call, lambda job: job.JobState == "RUNNING", "DescribeJob", JobId=on_env)
    await call("TerminateJob", JobId=on_env)
    await until(call, lambda job: job.JobState == "FAILED", "DescribeJob", JobId=on_env)
    await call("DeleteJob", JobId=on_env)

    template = await call("CreateTaskTemplate", TaskTemplateName="t", TaskTemplateInfo=task("true"))
    template_id = template.TaskTemplateId
    await call("ModifyTaskTemplate", TaskTemplateId=template_id, TaskTemplateDescription="d")
    view = (await call("DescribeTaskTemplates", TaskTemplateIds=[template_id])).TaskTemplateSet[0]
    assert (view.TaskTemplateName, view.TaskTemplateDescription) == ("t", "d")
    assert view.TaskTemplateInfo.Application.Command == "true"
    await call("DeleteTaskTemplates", TaskTemplateIds=[template_id])

    await call("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=2)
    instance_id = f"ins-{template_id[-8:]}"
    await call("AttachInstances", EnvId=env_id, Instances=[{"InstanceId": instance_id}])
    env = await until(call, lambda env: env.ComputeNodeMetrics.RunningCount == 3, "DescribeComputeEnv", EnvId=env_id)
    assert env.AttachedComputeNodeCount == 1
    await call("DetachInstances", EnvId=env_id, InstanceIds=[instance_id])
    first, second = (await call("DescribeComputeEnv", EnvId=env_id)).ComputeNodeSet
    await call("TerminateComputeNode", EnvId=env_id, ComputeNodeId=first.ComputeNodeId)
    await call("TerminateComputeNodes", EnvId=env_id, ComputeNodeIds=[second.ComputeNodeId])
    await until(call, lambda env: not env.ComputeNodeSet, "DescribeComputeEnv", EnvId=env_id)
    activities = await call("DescribeComputeEnvActivities", EnvId=env_id)
    assert activities.TotalCount == 4
    assert activities.ActivitySet[-1].Cause == "CreateComputeEnv: the capacity is 1"
    assert {item.ActivityState for item in activities.ActivitySet} == {"SUCCEED"}
    await call("DeleteComputeEnv", EnvId=env_id)
    await until(call, lambda envs: envs.TotalCount == 0, "DescribeComputeEnvs", EnvIds=[env_id])


async def test_all_actions_asynchronous(emulator: Emulator) -> None:
    called: set[str] = set()
    async with batch_client_async.BatchClient(credential(emulator), emulator.info.region, profile(emulator)) as client:

        async def call(action: str, **params: Any) -> Any:
            called.add(action)
            request = request_of(batch_models, action, params)
            with warnings_are_errors():
                return await getattr(client, action)(request)

        await every_action(call)
    assert called == set(schema("batch").actions())


async def test_all_actions_synchronous(emulator: Emulator) -> None:
    called: set[str] = set()
    client = batch_client.BatchClient(credential(emulator), emulator.info.region, profile(emulator))

    async def call(action: str, **params: Any) -> Any:
        called.add(action)
        request = request_of(batch_models, action, params)
        with warnings_are_errors():
            answer = await asyncio.to_thread(getattr(client, action), request)
        raw = json.loads(await asyncio.to_thread(client.call, action, params)) if action.startswith("Describe") else {}
        if raw:
            complete(schema("batch"), f"{action}Response", raw["Response"])
        return answer

    await every_action(call)
    assert called == set(schema("batch").actions())


def complete(known: Schema, model: str, value: dict[str, Any]) -> None:
    """Every member that the SDK knows is in the answer, on every level."""
    fields = known.fields(model)
    assert value.keys() == fields.keys(), model
    for name, field in fields.items():
        if field.is_object and value[name] is not None:
            for item in value[name] if field.is_list else [value[name]]:
                complete(known, field.kind, item)


def test_prices_and_stock(batch: Call, emulator: Emulator) -> None:
    def infos(**filters: str) -> list[Any]:
        wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        found: list[Any] = batch("DescribeCvmZoneInstanceConfigInfos", Filters=wanted).InstanceTypeQuotaSet
        return found

    (spot,) = infos(zone="ap-guangzhou-3", instance_type="S5.2XLARGE32", instance_charge_type="SPOTPAID")
    (hourly,) = infos(zone="ap-guangzhou-3", instance_type="S5.2XLARGE32", instance_charge_type="POSTPAID_BY_HOUR")
    assert (hourly.Cpu, hourly.Memory, hourly.StatusCategory) == (8, 32, "EnoughStock")
    assert 0 < spot.Price.UnitPriceDiscount < hourly.Price.UnitPriceDiscount == hourly.Price.UnitPrice
    assert {item.Zone for item in infos(instance_type="S5.2XLARGE32")} >= {"ap-guangzhou-3", "ap-guangzhou-6"}
    (sold_out, _) = infos(zone="ap-guangzhou-3", instance_family="GN10X")
    assert (sold_out.Status, sold_out.StatusCategory, sold_out.Gpu) == ("SOLD_OUT", "WithoutStock", 1)
    available = batch("DescribeAvailableCvmInstanceTypes").InstanceTypeConfigSet
    assert "GN10X.2XLARGE40" not in {item.InstanceType for item in available}


def test_monitor_data_of_a_busy_process(batch: Call, emulator: Emulator) -> None:
    def data(job_id: str, metric: str = "CpuUsage", **params: Any) -> Any:
        return batch(
            "DescribeJobMonitorData", JobId=job_id, TaskName="main", TaskInstanceIndex=0, MetricName=metric, **params
        )

    busy = task("while :; do :; done")
    job_id = batch("SubmitJob", **submission({**busy, "ComputeEnv": {"EnvData": {"InstanceType": "S5.SMALL1"}}})).JobId
    while not any(value and value > 5 for value in data(job_id).DataPoints.Values):
        assert batch("DescribeJob", JobId=job_id).JobState != "FAILED"
    for metric in ("MemUsage", "MaxDiskUsage"):
        assert max(data(job_id, metric).DataPoints.Values) > 0
    disk = data(job_id, "TargetDiskUsage", Dimensions=[{"Name": "diskname", "Value": "vdb"}])
    assert disk.DataPoints.Values == data(job_id, "MaxDiskUsage").DataPoints.Values[: len(disk.DataPoints.Values)]
    assert data(job_id, "LanIntraffic").DataPoints.Values
    late = data(job_id, StartTime="2001-01-01T00:00:00Z", EndTime="2001-01-01T01:00:00Z")
    assert late.DataPoints.Timestamps == []
    for bad in ({"metric": "Cpu"}, {"StartTime": "yesterday"}, {"Dimensions": [{"Name": "diskname", "Value": "vdb"}]}):
        with pytest.raises(TencentCloudSDKException) as caught:
            data(job_id, **bad)
        assert caught.value.get_code() == "InvalidParameterValue"
    batch("TerminateJob", JobId=job_id)
    emulator.wait_job(job_id)
    stopped = len(data(job_id).DataPoints.Values)
    assert stopped == len(data(job_id).DataPoints.Values)


DATA = {"InstanceType": "S5.MEDIUM4"}
NOTIFY = {"EventName": "COMPUTE_ENV_CREATED", "EventVars": []}


def env(**members: Any) -> dict[str, Any]:
    return {"ComputeEnv": {**ENV, **members}, "Placement": PLACEMENT}


def data(**members: Any) -> dict[str, Any]:
    return env(EnvData=members)


def notified(topic: str, *events: dict[str, Any]) -> dict[str, Any]:
    return env(Notifications=[{"TopicName": topic, "EventConfigs": list(events)}])


def elastic(**members: Any) -> dict[str, Any]:
    return {"TaskTemplateName": "t", "TaskTemplateInfo": task("true", **members)}


COS = "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com"
UNKNOWN_ENV = "env-00000000"


@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("CreateComputeEnv", env(EnvName="x" * 61), "InvalidParameter.EnvNameTooLong"),
        ("CreateComputeEnv", env(EnvDescription="x" * 201), "InvalidParameter.EnvDescriptionTooLong"),
        ("CreateComputeEnv", env(DesiredComputeNodeCount=-1), "InvalidParameterValue.Negative"),
        ("CreateComputeEnv", env(DesiredComputeNodeCount=2001), "InvalidParameterValue.ComputeEnv"),
        ("CreateComputeEnv", env(EnvType="OTHER"), "InvalidParameterValue.ComputeEnv"),
        ("CreateComputeEnv", env(ResourceMaxRetryCount=101), "InvalidParameterValue.ComputeEnv"),
        ("CreateComputeEnv", data(InstanceType="NOPE.SMALL1"), "InvalidParameterValue.InstanceType"),
        ("CreateComputeEnv", data(InstanceTypeOptions={"CPU": 7, "Memory": 1}), "InvalidParameterValue.InstanceType"),
        ("CreateComputeEnv", data(**DATA, ImageId="image"), "InvalidParameter.ImageIdMalformed"),
        (
            "CreateComputeEnv",
            data(InstanceType="S5.SMALL1", InstanceTypes=["S5.SMALL1"]),
            "InvalidParameter.InvalidParameterCombination",
        ),
        ("CreateComputeEnv", data(**DATA, DataDisks=[{"DiskSize": 7}]), "InvalidParameter.CvmParameters"),
        (
            "CreateComputeEnv",
            data(**DATA, LoginSettings={"Password": "p", "KeyIds": ["k"]}),
            "InvalidParameter.CvmParameters",
        ),
        ("CreateComputeEnv", data(**DATA, Zones=["ap-beijing-1"]), "InvalidParameterValue.InvalidZoneMismatchRegion"),
        ("CreateComputeEnv", env(MountDataDisks=[{"LocalPath": "data"}]), "InvalidParameterValue.LocalPath"),
        (
            "CreateComputeEnv",
            env(InputMappings=[{"SourcePath": f"{COS}/in", "DestinationPath": "in"}]),
            "InvalidParameterValue.RemoteStoragePath",
        ),
        (
            "CreateComputeEnv",
            env(InputMappings=[{"SourcePath": "cfs://10.0.0.1/", "DestinationPath": "in"}]),
            "InvalidParameterValue.RemoteStorageSchemeType",
        ),
        ("CreateComputeEnv", notified("nowhere", NOTIFY), "InvalidParameter.NotificationTopicName"),
        ("CreateComputeEnv", notified("x" * 65, NOTIFY), "InvalidParameter.NotificationTopicNameTooLong"),
        (
            "CreateComputeEnv",
            notified("airflow-batch", NOTIFY, NOTIFY),
            "InvalidParameter.NotificationEventNameDuplicate",
        ),
        (
            "CreateComputeEnv",
            notified("airflow-batch", {"EventName": "JOB_FAILED", "EventVars": []}),
            "InvalidParameterValue",
        ),
        ("CreateComputeEnv", {**env(), "Placement": {"Zone": "nowhere"}}, "InvalidZone.MismatchRegion"),
        ("CreateComputeEnv", {**env(), "ClientToken": "x" * 65}, "InvalidParameterValue"),
        ("DescribeComputeEnv", {"EnvId": "env"}, "InvalidParameter.EnvIdMalformed"),
        ("DescribeComputeEnv", {"EnvId": "env-1\n"}, "InvalidParameter.EnvIdMalformed"),
        ("DescribeComputeEnv", {"EnvId": UNKNOWN_ENV}, "ResourceNotFound.ComputeEnv"),
        ("DescribeComputeEnvCreateInfo", {"EnvId": UNKNOWN_ENV}, "ResourceNotFound.ComputeEnv"),
        ("DescribeComputeEnvActivities", {"EnvId": UNKNOWN_ENV}, "ResourceNotFound.ComputeEnv"),
        ("ModifyComputeEnv", {"EnvId": UNKNOWN_ENV}, "ResourceNotFound.ComputeEnv"),
        ("DeleteComputeEnv", {"EnvId": UNKNOWN_ENV}, "ResourceNotFound.ComputeEnv"),
        ("TerminateComputeNode", {"EnvId": UNKNOWN_ENV, "ComputeNodeId": "node-0"}, "ResourceNotFound.ComputeEnv"),
        ("AttachInstances", {"EnvId": UNKNOWN_ENV, "Instances": []}, "ResourceNotFound.ComputeEnv"),
        ("DetachInstances", {"EnvId": UNKNOWN_ENV, "InstanceIds": []}, "ResourceNotFound.ComputeEnv"),
        (
            "DescribeComputeEnvs",
            {"EnvIds": [UNKNOWN_ENV], "Filters": [{"Name": "zone", "Values": ["ap-guangzhou-3"]}]},
            "InvalidParameter.InvalidParameterCombination",
        ),
        ("DescribeComputeEnvs", {"EnvIds": ["x"]}, "InvalidParameter.EnvIdMalformed"),
        ("DescribeComputeEnvs", {"EnvIds": [UNKNOWN_ENV] * 101}, "InvalidParameterValue"),
        ("DescribeComputeEnvs", {"Limit": 101}, "InvalidParameterValue"),
        ("DescribeComputeEnvs", {"Filters": [{"Name": "x", "Values": []}]}, "InvalidFilter"),
        (
            "DescribeComputeEnvs",
            {"Filters": [{"Name": "resource-type", "Values": ["GPU"]}]},
            "InvalidParameterValue.ResourceType",
        ),
        ("DescribeComputeEnvs", {"Filters": [{"Name": "zone", "Values": ["x"]}]}, "InvalidZone.MismatchRegion"),
        ("DescribeComputeEnvCreateInfos", {"Filters": [{"Name": "x", "Values": []}]}, "InvalidParameterValue"),
        ("DescribeJobs", {"Filters": [{"Name": "zone", "Values": ["x"]}]}, "InvalidZone.MismatchRegion"),
        ("DescribeAvailableCvmInstanceTypes", {"Filters": [{"Name": "x", "Values": []}]}, "InvalidFilter"),
        (
            "DescribeAvailableCvmInstanceTypes",
            {"Filters": [{"Name": "zone", "Values": ["ap-beijing-1"]}]},
            "InvalidParameterValue.InvalidZoneMismatchRegion",
        ),
        (
            "DescribeAvailableCvmInstanceTypes",
            {"Filters": [{"Name": "instance-family", "Values": ["S5"] * 101}]},
            "InvalidParameterValue.LimitExceeded",
        ),
        (
            "DescribeCvmZoneInstanceConfigInfos",
            {"Filters": [{"Name": "zone", "Values": ["nowhere"]}]},
            "InvalidZone.MismatchRegion",
        ),
        (
            "DescribeCvmZoneInstanceConfigInfos",
            {"Filters": [{"Name": "instance-charge-type", "Values": ["PREPAID"]}]},
            "InvalidParameterValue.UnsupportedBatchInstanceChargeType",
        ),
        ("CreateTaskTemplate", {**elastic(), "TaskTemplateName": "x" * 61}, "InvalidParameter.TaskTemplateNameTooLong"),
        ("CreateTaskTemplate", {**elastic(), "TaskTemplateName": " "}, "InvalidParameter.TaskTemplateName"),
        ("CreateTaskTemplate", elastic(TaskName="a b"), "InvalidParameter.TaskName"),
        ("CreateTaskTemplate", elastic(TaskName="a\n"), "InvalidParameter.TaskName"),
        ("CreateTaskTemplate", elastic(EnvId=UNKNOWN_ENV), "AllowedOneAttributeInEnvIdAndComputeEnv"),
        ("CreateTaskTemplate", elastic(MaxRetryCount=101), "InvalidParameterValue.MaxRetryCount"),
        ("CreateTaskTemplate", elastic(Timeout=-1), "InvalidParameterValue.Negative"),
        ("CreateTaskTemplate", elastic(ComputeEnv={"EnvType": "X"}), "InvalidParameterValue.ComputeEnv"),
        ("DescribeTaskTemplates", {"TaskTemplateIds": ["t"]}, "InvalidParameter.TaskTemplateIdMalformed"),
        ("DescribeTaskTemplates", {"Limit": 0}, "InvalidParameterValue"),
        ("DescribeTaskTemplates", {"Filters": [{"Name": "x", "Values": []}]}, "InvalidParameterValue"),
        ("DeleteTaskTemplates", {"TaskTemplateIds": ["task-tmpl-00000000"]}, "ResourceNotFound.TaskTemplate"),
        ("ModifyTaskTemplate", {"TaskTemplateId": "task-tmpl-00000000"}, "ResourceNotFound.TaskTemplate"),
        (
            "SubmitJob",
            submission(task("true", ComputeEnv={"EnvData": {"InstanceTypes": ["S5.SMALL1", "S5.SMALL1"]}})),
            "InvalidParameterValue.InstanceTypeDuplicate",
        ),
        (
            "SubmitJob",
            submission(
                task(
                    "true",
                    ComputeEnv={"EnvData": {**DATA, "InstanceMarketOptions": {"SpotOptions": {"MaxPrice": "cheap"}}}},
                )
            ),
            "InvalidParameterValue.NotFloat",
        ),
        (
            "DescribeJobMonitorData",
            {"JobId": "job-00000000", "TaskName": "t", "TaskInstanceIndex": 0, "MetricName": "CpuUsage"},
            "ResourceNotFound.Job",
        ),
        (
            "DescribeJobMonitorData",
            {"JobId": "x", "TaskName": "t", "TaskInstanceIndex": 0, "MetricName": "CpuUsage"},
            "InvalidParameter.JobIdMalformed",
        ),
    ],
)
def test_error_codes(batch: Call, emulator: Emulator, action: str, params: dict[str, Any], code: str) -> None:
    emulator.configure(**STRICT)
    with pytest.raises(TencentCloudSDKException) as caught:
        batch(action, **params)
    assert caught.value.get_code() == code


def test_error_codes_that_settings_choose(batch: Call, emulator: Emulator) -> None:
    def code(action: str, **params: Any) -> str:
        with pytest.raises(TencentCloudSDKException) as caught:
            batch(action, **params)
        return str(caught.value.get_code())

    emulator.configure(unavailable_zones=["ap-guangzhou-3"])
    assert code("CreateComputeEnv", **env()) == "InvalidParameterValue.UnavailableZone"
    assert code("SubmitJob", **submission(task("true"))) == "InvalidParameterValue.UnavailableZone"
    emulator.configure(unavailable_zones=[], batch_activated=False)
    assert code("CreateComputeEnv", **env()) == "UnauthorizedOperation.UserNotAllowedToUseBatch"
    assert code("SubmitJob", **submission(task("true"))) == "UnauthorizedOperation.UserNotAllowedToUseBatch"
    emulator.configure(batch_activated=True, unknown_filter_error="InvalidParameterValue.InvalidFilter")
    for action in ("DescribeComputeEnvs", "DescribeJobs", "DescribeAvailableCvmInstanceTypes"):
        assert code(action, Filters=[{"Name": "x", "Values": []}]) == "InvalidParameterValue.InvalidFilter"
    emulator.configure(cpu_quota=3)
    assert code("CreateComputeEnv", **env(DesiredComputeNodeCount=2)) == "LimitExceeded.CpuQuota"
