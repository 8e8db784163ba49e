"""Compute environments and machines: how they come, fail, serve and go."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.batch.envs import nodes
from airflow_provider_tcbatch.emulator.batch.envs.actions import find_node
from airflow_provider_tcbatch.emulator.services import Services
from tests.conformance.conftest import Call, states, submission, task

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
    resource_retry_scale=0.0001,
    kill_grace_seconds=0.5,
    cmq_name_block_seconds=0,
    compute_env_quota=1000,
)
SOLD_OUT = "InternalError.CallCvm:ResourcesSoldOut.SpecifiedInstanceType"


@pytest.fixture(scope="module")
def _own() -> Iterator[Emulator]:
    with Emulator(PACE) as emulator:
        yield emulator


@pytest.fixture
def emulator(_own: Emulator) -> Iterator[Emulator]:
    """This module's own emulator with its settings put back afterwards."""
    yield _own
    _own.configure(**PACE.model_dump())


class Envs:
    """The environments of a test."""

    def __init__(self, batch: Call) -> None:
        self._batch = batch

    def create(self, count: int = 1, token: str | None = None, **members: Any) -> str:
        env = {
            "EnvName": "e",
            "EnvData": {"InstanceType": "S5.MEDIUM4"},
            "DesiredComputeNodeCount": count,
            **members,
        }
        extra = {"ClientToken": token} if token else {}
        answer = self._batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}, **extra)
        return str(answer.EnvId)

    def show(self, env_id: str) -> Any:
        return self._batch("DescribeComputeEnv", EnvId=env_id)

    def until(self, env_id: str, condition: Callable[[Any], bool]) -> Any:
        deadline = time.monotonic() + 60
        while not condition(env := self.show(env_id)):
            assert time.monotonic() < deadline, env.to_json_string()
        return env

    def ready(self, count: int = 1, **members: Any) -> str:
        env_id = self.create(count, **members)
        self.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == count)
        return env_id

    def activities(self, env_id: str) -> list[Any]:
        found: list[Any] = self._batch("DescribeComputeEnvActivities", EnvId=env_id).ActivitySet
        return found


@pytest.fixture
def envs(batch: Call) -> Envs:
    return Envs(batch)


def bound(command: str, env_id: str, name: str = "main", **members: Any) -> dict[str, Any]:
    result = {**task(command, name, **members), "EnvId": env_id}
    del result["ComputeEnv"]
    return result


def submit(batch: Call, *tasks: dict[str, Any], **job: Any) -> str:
    return str(batch("SubmitJob", **submission(*tasks, **job)).JobId)


def in_state(batch: Call, job_id: str, state: str) -> Any:
    deadline = time.monotonic() + 60
    while (job := batch("DescribeJob", JobId=job_id)).JobState != state:
        assert time.monotonic() < deadline, job.to_json_string()
    return job


def instance_of(batch: Call, job_id: str, index: int = 0) -> Any:
    return batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[index]


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call()
    return str(caught.value.get_code())


def lose(emulator: Emulator, node_id: str, *why: str) -> bool:
    """A node loses its machine; whether it had one."""

    def now(services: Services) -> bool:
        node = find_node(services.batch, node_id)
        assert node is not None
        return nodes.lose(services.batch, node, *why)

    return bool(on_loop(emulator, now))


def on_loop(emulator: Emulator, action: Callable[[Any], Any]) -> Any:
    """Do something inside the emulator that no client can."""

    async def run() -> Any:
        assert emulator._service is not None
        return action(emulator._service.services)

    return emulator._on_loop(run())


@pytest.fixture
def topic(tdmq: Call) -> str:
    name = f"envs-{uuid.uuid4().hex[:8]}"
    tdmq("CreateCmqTopic", TopicName=name)
    tdmq("CreateCmqQueue", QueueName=name)
    tdmq(
        "CreateCmqSubscribe",
        TopicName=name,
        SubscriptionName=name,
        Protocol="queue",
        Endpoint=name,
        NotifyContentFormat="SIMPLIFIED",
    )
    return name


def events_until(cmq: Call, queue: str, last: str) -> list[dict[str, Any]]:
    """All events of a queue up to one of a name."""
    found: list[dict[str, Any]] = []
    while not any(event["EventName"] == last for event in found):
        answer = cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16, pollingWaitSeconds=10)
        assert answer["code"] == 0, [event["EventName"] for event in found]
        for message in answer["msgInfoList"]:
            found.extend(json.loads(message["msgBody"])["Events"])
            cmq("DeleteMessage", queueName=queue, receiptHandle=message["receiptHandle"])
    return found


def notifications(topic: str, *names: str) -> dict[str, Any]:
    configs = [{"EventName": name, "EventVars": [{"Name": "n", "Value": "v"}]} for name in names]
    return {
        "NotificationTarget": "TDMQ_CMQ",
        "Notifications": [{"TopicName": topic, "EventConfigs": configs}],
    }


NODE_EVENTS = ("CREATED", "CREATION_FAILED", "RUNNING", "ABNORMAL", "DELETING")
ALL_EVENTS = ("COMPUTE_ENV_CREATED", "COMPUTE_ENV_DELETED", *(f"COMPUTE_NODE_{name}" for name in NODE_EVENTS))


def test_a_life_with_events_and_activities(batch: Call, emulator: Emulator, envs: Envs, cmq: Call, topic: str) -> None:
    env_id = envs.ready(1, EnvName="life", **notifications(topic, *ALL_EVENTS))
    node = envs.show(env_id).ComputeNodeSet[0]
    assert node.ResourceCreatedTime.endswith("Z")
    assert node.PrivateIpAddresses[0].startswith("10.")
    assert (node.ResourceOrigin, node.AgentVersion, node.PublicIpAddresses) == ("BATCH_CREATED", "1.1.9", [])
    batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=2, EnvName="bigger", EnvDescription="d")
    env = envs.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == 2)
    assert (env.EnvName, env.DesiredComputeNodeCount) == ("bigger", 2)
    assert batch("DescribeComputeEnvCreateInfo", EnvId=env_id).EnvDescription == "d"
    batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=0)
    envs.until(env_id, lambda env: not env.ComputeNodeSet)
    activities = envs.activities(env_id)
    assert [(item.ComputeNodeActivityType, item.Cause) for item in reversed(activities)] == [
        ("CREATE_COMPUTE_NODE", "CreateComputeEnv: the capacity is 1"),
        ("CREATE_COMPUTE_NODE", "ModifyComputeEnv: increase the capacity from 1 to 2"),
        ("TERMINATE_COMPUTE_NODE", "ModifyComputeEnv: decrease the capacity from 2 to 0"),
        ("TERMINATE_COMPUTE_NODE", "ModifyComputeEnv: decrease the capacity from 2 to 0"),
    ]
    assert all(item.ActivityState == "SUCCEED" and item.EndTime and item.InstanceId for item in activities)
    one = {"Name": "compute-node-id", "Values": [node.ComputeNodeId]}
    assert batch("DescribeComputeEnvActivities", EnvId=env_id, Filters=one, Limit=1).TotalCount == 2
    batch("DeleteComputeEnv", EnvId=env_id)
    found = events_until(cmq, topic, "COMPUTE_ENV_DELETED")
    assert [event["EventName"] for event in found if "ENV" in event["EventName"]] == [
        "COMPUTE_ENV_CREATED",
        "COMPUTE_ENV_DELETED",
    ]
    assert [event["EventName"].rpartition("_")[2] for event in found if "NODE" in event["EventName"]] == [
        *("CREATED", "RUNNING") * 2,
        *("DELETING",) * 2,
    ]
    created = next(event for event in found if event["EventName"] == "COMPUTE_NODE_CREATED")
    assert created["EventVars"] == [{"Name": "n", "Value": "v"}]
    assert created["Batch"] == {
        "ComputeNodeId": node.ComputeNodeId,
        "EnvId": env_id,
        "ComputeNodeState": "CREATED",
        "Mem": 4,
        "ResourceCreatedTime": node.ResourceCreatedTime,
        "EnvName": "life",
        "ComputeNodeInstanceId": node.ComputeNodeInstanceId,
        "Cpu": 2,
    }


def test_a_node_that_cannot_be_made_is_tried_again(batch: Call, emulator: Emulator, envs: Envs) -> None:
    emulator.configure(cvm_failures={"S5.LARGE8": "no_stock*2"})
    env_id = envs.ready(1, EnvData={"InstanceType": "S5.LARGE8"})
    last, *failed = envs.activities(env_id)
    assert (last.ActivityState, last.StateReason) == ("SUCCEED", "")
    assert [(item.ActivityState, item.StateReason) for item in failed] == [("FAILED", SOLD_OUT)] * 2
    node = envs.show(env_id).ComputeNodeSet[0]
    assert [item.Cause for item in (last, *failed)] == [
        f"CreateComputeNode {node.ComputeNodeId}",
        f"CreateComputeNode {node.ComputeNodeId}",
        "CreateComputeEnv: the capacity is 1",
    ]


@pytest.mark.parametrize(
    ("failures", "data", "reason"),
    [
        ({}, {"InstanceType": "GN10X.2XLARGE40"}, "ResourcesSoldOut.SpecifiedInstanceType"),
        ({"*": "quota"}, {"InstanceType": "S5.SMALL1"}, "LimitExceeded.InstanceQuota"),
        ({"img-bd78fy2t": "image"}, {"ImageId": "img-bd78fy2t"}, "InvalidImageId.NotFound"),
        ({"ap-guangzhou-3": "ResourcesSoldOut.AvailableZone"}, {}, "ResourcesSoldOut.AvailableZone"),
        (
            {},
            {
                "InstanceType": "S5.2XLARGE32",
                "InstanceChargeType": "SPOTPAID",
                "InstanceMarketOptions": {"SpotOptions": {"MaxPrice": "0.01"}},
            },
            "InvalidParameterValue.InsufficientPrice",
        ),
    ],
)
def test_reasons_of_failed_nodes(
    batch: Call, emulator: Emulator, envs: Envs, failures: dict[str, str], data: dict[str, Any], reason: str
) -> None:
    emulator.configure(cvm_failures=failures)
    env_id = envs.create(1, EnvData=data, ResourceMaxRetryCount=1)
    while len(activities := envs.activities(env_id)) < 2 or activities[0].ActivityState != "FAILED":
        pass
    assert {item.StateReason for item in activities} == {f"InternalError.CallCvm:{reason}"}
    env = envs.show(env_id)
    assert env.ComputeNodeMetrics.CreationFailedCount == 1
    # No more retries: the node stays so until somebody takes it away.
    batch("TerminateComputeNode", EnvId=env_id, ComputeNodeId=env.ComputeNodeSet[0].ComputeNodeId)
    envs.until(env_id, lambda env: not env.ComputeNodeSet and env.DesiredComputeNodeCount == 0)


def test_instance_types_are_tried_in_order(batch: Call, emulator: Emulator, envs: Envs) -> None:
    emulator.configure(cvm_failures={"S5.SMALL2": "no_stock"})
    env_id = envs.ready(1, EnvData={"InstanceTypes": ["GN10X.2XLARGE40", "S5.SMALL2", "S5.LARGE16"]})
    node = envs.show(env_id).ComputeNodeSet[0]
    assert (node.Cpu, node.Mem) == (4, 16)
    env_id = envs.ready(
        1, EnvData={"InstanceTypeOptions": {"CPU": 8, "Memory": 32, "InstanceCategories": ["GENERAL_2"]}}
    )
    node = envs.show(env_id).ComputeNodeSet[0]
    assert (node.Cpu, node.Mem) == (8, 32)


def test_modify(batch: Call, emulator: Emulator, envs: Envs) -> None:
    env_id = envs.ready(1)

    def modify(**params: Any) -> Any:
        return batch("ModifyComputeEnv", EnvId=env_id, **params)

    assert code(lambda: modify(DesiredComputeNodeCount=-1)) == "InvalidParameterValue.Negative"
    assert code(lambda: modify(DesiredComputeNodeCount=2001)) == "InvalidParameterValue.LimitExceeded"
    emulator.configure(env_name_length=60, env_description_length=200)
    assert code(lambda: modify(EnvName="x" * 61)) == "InvalidParameter.EnvNameTooLong"
    assert code(lambda: modify(EnvDescription="x" * 201)) == "InvalidParameter.EnvDescriptionTooLong"
    empty: list[str] = []
    twice, unknown = ["S5.SMALL1"] * 2, ["S5.NOTHING"]
    assert code(lambda: modify(EnvData={"InstanceTypes": empty})) == "InvalidParameterValue.InstanceTypesEmpty"
    assert code(lambda: modify(EnvData={"InstanceTypes": twice})) == "InvalidParameterValue.InstanceTypeDuplicate"
    assert code(lambda: modify(EnvData={"InstanceTypes": unknown})) == "InvalidParameterValue.InstanceType"
    emulator.configure(cpu_quota=1)
    assert code(lambda: modify(DesiredComputeNodeCount=2)) == "LimitExceeded.CpuQuota"
    emulator.configure(cpu_quota=100_000, env_busy_seconds=600)
    for name in ("ComputeEnvAcceptOtherRequest", "AcceptOtherRequest"):
        emulator.configure(env_busy_error=f"UnsupportedOperation.{name}")
        assert code(lambda: modify(DesiredComputeNodeCount=2)) == f"UnsupportedOperation.{name}"
    emulator.configure(env_busy_seconds=0)
    modify(DesiredComputeNodeCount=2, EnvData={"InstanceTypes": ["S5.LARGE16"]})
    env = envs.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == 2)
    assert [node.Cpu for node in env.ComputeNodeSet] == [2, 4]
    # The first node is busy, so only one of two can go.
    job_id = submit(batch, bound("sleep 60", env_id))
    in_state(batch, job_id, "RUNNING")
    less = "UnsupportedOperation.NotEnoughComputeNodesToTerminate"
    assert code(lambda: modify(DesiredComputeNodeCount=0)) == less
    assert envs.show(env_id).DesiredComputeNodeCount == 2
    modify(DesiredComputeNodeCount=1)
    envs.until(env_id, lambda env: len(env.ComputeNodeSet) == 1)
    assert batch("DescribeJob", JobId=job_id).JobState == "RUNNING"
    emulator.configure(shrink_busy_nodes=True)
    modify(DesiredComputeNodeCount=0)
    assert emulator.wait_job(job_id) == "FAILED"
    assert "was destroyed" in instance_of(batch, job_id).StateReason


def test_delete(batch: Call, emulator: Emulator, envs: Envs) -> None:
    def delete(env_id: str) -> Any:
        return batch("DeleteComputeEnv", EnvId=env_id)

    emulator.configure(env_deleting_seconds=60, node_creating_seconds=60)
    young = envs.create(1)
    assert code(lambda: delete(young)) == "UnsupportedOperation.ComputeEnvOperation"
    emulator.configure(delete_env_with_nodes="destroy")
    assert code(lambda: delete(young)) == "UnsupportedOperation.ComputeNodeForbidTerminate"
    emulator.configure(node_creating_seconds=0.02)
    env_id = envs.ready(1)
    node_id = envs.show(env_id).ComputeNodeSet[0].ComputeNodeId
    delete(env_id)
    assert envs.show(env_id).NextAction == "DELETING"
    assert code(lambda: delete(env_id)) == "UnsupportedOperation.ComputeEnvOperation"
    terminate = {"EnvId": env_id, "ComputeNodeId": node_id}
    assert code(lambda: batch("TerminateComputeNode", **terminate)) == "UnsupportedOperation.ComputeEnvOperation"
    for action, params, expected in (
        ("ModifyComputeEnv", {"DesiredComputeNodeCount": 3}, "UnsupportedOperation.ComputeEnvAcceptOtherRequest"),
        ("TerminateComputeNodes", {"ComputeNodeIds": [node_id]}, "UnsupportedOperation"),
        ("AttachInstances", {"Instances": [{"InstanceId": "ins-00000000"}]}, "UnsupportedOperation"),
        ("DetachInstances", {"InstanceIds": ["ins-00000000"]}, "UnsupportedOperation"),
    ):
        assert code(partial(batch, action, EnvId=env_id, **params)) == expected
    assert code(lambda: submit(batch, bound("true", env_id))) == "ResourceNotFound.ComputeEnv"
    emulator.configure(env_deleting_seconds=0.02)
    quick = envs.ready(2)
    delete(quick)
    while batch("DescribeComputeEnvs", EnvIds=[quick]).TotalCount:
        pass
    assert code(lambda: envs.show(quick)) == "ResourceNotFound.ComputeEnv"


def test_terminate_nodes(batch: Call, emulator: Emulator, envs: Envs) -> None:
    emulator.configure(node_creating_seconds=30, node_deleting_seconds=30)
    env_id = envs.create(1)
    fresh = envs.show(env_id).ComputeNodeSet[0].ComputeNodeId

    def terminate(*ids: str) -> Any:
        return batch("TerminateComputeNodes", EnvId=env_id, ComputeNodeIds=list(ids))

    assert code(lambda: terminate(fresh)) == "UnsupportedOperation.ComputeNodeForbidTerminate"
    assert code(lambda: terminate("node-00000000")) == "ResourceNotFound.ComputeNode"
    assert code(lambda: terminate("node")) == "InvalidParameter.ComputeNodeIdMalformed"
    assert code(lambda: terminate(fresh, fresh)) == "InvalidParameterValue"
    emulator.configure(node_creating_seconds=0.02)
    env_id = envs.ready(2)
    first, second = (node.ComputeNodeId for node in envs.show(env_id).ComputeNodeSet)
    # All or none.
    assert code(lambda: terminate(first, "node-00000000")) == "ResourceNotFound.ComputeNode"
    assert envs.show(env_id).ComputeNodeMetrics.RunningCount == 2
    batch("TerminateComputeNode", EnvId=env_id, ComputeNodeId=first)
    env = envs.show(env_id)
    assert (env.ComputeNodeMetrics.DeletingCount, env.DesiredComputeNodeCount) == (1, 1)
    assert code(lambda: terminate(first)) == "UnsupportedOperation.ComputeNodeIsTerminating"
    emulator.configure(terminate_node="replace", destroy_activity_type="DESTROY")
    terminate(second)
    env = envs.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == 1)
    assert env.DesiredComputeNodeCount == 1
    assert "DESTROY" in {item.ComputeNodeActivityType for item in envs.activities(env_id)}


def test_attach_and_detach(batch: Call, emulator: Emulator, envs: Envs) -> None:
    env_id = envs.ready(1)
    own = envs.show(env_id).ComputeNodeSet[0]
    emulator.configure(unattachable_instances=["ins-stopped0"])
    mine = f"ins-{uuid.uuid4().hex[:8]}"

    def attach(*ids: str) -> Any:
        return batch("AttachInstances", EnvId=env_id, Instances=[{"InstanceId": one} for one in ids])

    def detach(*ids: str) -> Any:
        return batch("DetachInstances", EnvId=env_id, InstanceIds=list(ids))

    refused = "UnsupportedOperation.InstancesNotAllowToAttach"
    assert code(lambda: attach(own.ComputeNodeInstanceId)) == refused
    assert code(lambda: attach("ins-stopped0")) == refused
    assert code(lambda: attach("../ins")) == refused
    assert code(lambda: attach(mine, mine)) == "InvalidParameterValue.InstanceIdDuplicated"
    assert code(lambda: detach(mine, mine)) == "InvalidParameterValue.InstanceIdDuplicated"
    assert code(attach) == "InvalidParameterValue"
    attach(mine)
    assert code(lambda: attach(mine)) == refused
    env = envs.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == 2)
    assert (env.AttachedComputeNodeCount, env.DesiredComputeNodeCount) == (1, 1)
    attached = next(node for node in env.ComputeNodeSet if node.ResourceOrigin == "USER_ATTACHED")
    assert attached.ComputeNodeInstanceId == mine
    terminate = {"EnvId": env_id, "ComputeNodeId": attached.ComputeNodeId}
    assert code(lambda: batch("TerminateComputeNode", **terminate)) == (
        "UnsupportedOperation.ComputeNodeForbidTerminate"
    )
    assert code(lambda: detach(own.ComputeNodeInstanceId)) == "UnsupportedOperation"
    detach(mine)
    assert envs.show(env_id).AttachedComputeNodeCount == 0


def test_client_token_quota_and_listing(batch: Call, emulator: Emulator, envs: Envs) -> None:
    token, name = uuid.uuid4().hex, f"listed-{uuid.uuid4().hex[:6]}"
    first = envs.create(0, token, EnvName=name, Tags=[{"Key": "k", "Value": name}])
    assert envs.create(0, token, EnvName=name, Tags=[{"Key": "k", "Value": name}]) == first
    assert envs.create(0, token, EnvName="other") == first
    emulator.configure(client_token_mismatch="error")
    assert code(lambda: envs.create(0, token, EnvName="other")) == "InvalidParameterValue"
    second = envs.create(0, EnvName=name)

    def listed(**params: Any) -> list[str]:
        return [env.EnvId for env in batch("DescribeComputeEnvs", **params).ComputeEnvSet]

    by_name = {"Name": "env-name", "Values": [name]}
    assert listed(Filters=[by_name]) == [second, first]
    assert listed(Filters=[by_name], Offset=1, Limit=1) == [first]
    assert listed(Filters=[by_name, {"Name": "tag:k", "Values": [name]}]) == [first]
    assert listed(Filters=[{"Name": "resource-type", "Values": ["CPM"]}]) == []
    assert listed(EnvIds=[first, "env-00000000"]) == [first]
    infos = batch("DescribeComputeEnvCreateInfos", EnvIds=[first, second])
    assert [info.EnvId for info in infos.ComputeEnvCreateInfoSet] == [second, first]
    emulator.configure(compute_env_quota=1)
    assert code(lambda: envs.create(0)) == "LimitExceeded.ComputeEnvQuota"


# -- jobs on environments -------------------------------------------------------------------------------------


def test_one_instance_per_node_and_the_rest_waits(batch: Call, emulator: Emulator, envs: Envs) -> None:
    emulator.configure(capacity=1)
    env_id = envs.ready(2)
    job_id = submit(batch, bound("sleep 60", env_id, TaskInstanceNum=3))
    while (job := batch("DescribeJob", JobId=job_id)).TaskInstanceMetrics.RunningCount < 2:
        pass
    assert job.TaskInstanceMetrics.RunnableCount == 1
    env = envs.show(env_id)
    assert [node.TaskInstanceNumAvailable for node in env.ComputeNodeSet] == [0, 0]
    used = [instance_of(batch, job_id, index).ComputeNodeInstanceId for index in range(3)]
    assert sorted(filter(None, used)) == sorted(node.ComputeNodeInstanceId for node in env.ComputeNodeSet)
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=used.index(used[0]))
    while "RUNNING" not in states(emulator, job_id, "instance", used.index(None)):
        pass
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) == "FAILED"
    # A terminated instance's node is restarted and then free again.
    envs.until(env_id, lambda env: all(node.TaskInstanceNumAvailable for node in env.ComputeNodeSet))


def test_higher_priority_goes_first(batch: Call, emulator: Emulator, envs: Envs) -> None:
    env_id = envs.create(0)
    low, high = (submit(batch, bound("true", env_id), Priority=priority) for priority in (1, 9))
    for job_id in (low, high):
        in_state(batch, job_id, "RUNNABLE")
    batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=1)
    assert [emulator.wait_job(job_id) for job_id in (low, high)] == ["SUCCEED"] * 2
    ends = [batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0] for job_id in (high, low)]
    assert ends[0].ComputeNodeInstanceId == ends[1].ComputeNodeInstanceId
    started = on_loop(
        emulator,
        lambda services: [services.batch.jobs[job_id].tasks["main"].instances[0].running_at for job_id in (high, low)],
    )
    assert started == sorted(started)


def test_a_lost_node_fails_or_retries_its_instance(
    batch: Call, emulator: Emulator, envs: Envs, cmq: Call, topic: str
) -> None:
    env_id = envs.ready(1, **notifications(topic, "COMPUTE_NODE_ABNORMAL"))
    before = envs.show(env_id).ComputeNodeSet[0]
    once = submit(batch, bound("sleep 60", env_id))
    in_state(batch, once, "RUNNING")
    assert lose(emulator, before.ComputeNodeId)
    assert emulator.wait_job(once) == "FAILED"
    assert instance_of(batch, once).StateReason == "first heartbeat timeout"
    assert events_until(cmq, topic, "COMPUTE_NODE_ABNORMAL")
    # The same node, with another machine.
    env = envs.until(env_id, lambda env: env.ComputeNodeMetrics.RunningCount == 1)
    node = env.ComputeNodeSet[0]
    assert node.ComputeNodeId == before.ComputeNodeId
    assert node.ComputeNodeInstanceId != before.ComputeNodeInstanceId
    assert envs.activities(env_id)[0].Cause == f"CreateComputeNode {node.ComputeNodeId}"

    marker = '[ -e "$HOME/../../2" ] || exec sleep 60'
    again = submit(batch, bound(marker, env_id, MaxRetryCount=1, FailedAction="INTERRUPT"))
    in_state(batch, again, "RUNNING")
    lose(emulator, node.ComputeNodeId, "gone")
    assert emulator.wait_job(again) == "SUCCEED"
    assert states(emulator, again, "instance").count("RUNNING") == 2


def test_deleting_an_environment_fails_who_waits_for_it(batch: Call, emulator: Emulator, envs: Envs) -> None:
    env_id = envs.create(0)
    job_id = submit(batch, bound("true", env_id, MaxRetryCount=5))
    in_state(batch, job_id, "RUNNABLE")
    batch("DeleteComputeEnv", EnvId=env_id)
    assert emulator.wait_job(job_id) == "FAILED"
    assert instance_of(batch, job_id).StateReason == f"The compute environment {env_id} was deleted"
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"


def test_interrupted_instance_keeps_its_node(batch: Call, emulator: Emulator, envs: Envs) -> None:
    env_id = envs.ready(1)
    job_id = submit(batch, bound("exit 1", env_id, FailedAction="INTERRUPT"))
    assert emulator.wait_job(job_id) == "FAILED_INTERRUPTED"
    assert envs.show(env_id).ComputeNodeSet[0].TaskInstanceNumAvailable == 0
    batch("TerminateJob", JobId=job_id)
    envs.until(env_id, lambda env: env.ComputeNodeSet[0].TaskInstanceNumAvailable == 1)
    emulator.configure(interrupted_holds_node=False)
    job_id = submit(batch, bound("exit 1", env_id, FailedAction="INTERRUPT", RestartComputeNode=True))
    assert emulator.wait_job(job_id) == "FAILED_INTERRUPTED"
    envs.until(env_id, lambda env: env.ComputeNodeSet[0].TaskInstanceNumAvailable == 1)


def test_environment_of_a_job_must_exist(batch: Call, emulator: Emulator, envs: Envs) -> None:
    assert code(lambda: submit(batch, bound("true", "env-00000000"))) == "ResourceNotFound.ComputeEnv"
    assert code(lambda: submit(batch, bound("true", "../env"))) == "InvalidParameter.EnvIdMalformed"
    env_id = envs.create(0)
    job_id = submit(batch, bound("true", env_id))
    in_state(batch, job_id, "RUNNABLE")
    emulator.configure(terminate_with_env_id="refuse")
    refused = "UnsupportedOperation.TerminateOperationWithEnvId"
    assert code(lambda: batch("TerminateJob", JobId=job_id)) == refused
    instance = {"JobId": job_id, "TaskName": "main", "TaskInstanceIndex": 0}
    assert code(lambda: batch("TerminateTaskInstance", **instance)) == refused
    monitor = {**instance, "MetricName": "CpuUsage"}
    assert code(lambda: batch("DescribeJobMonitorData", **monitor)) == "UnsupportedOperation"
    emulator.configure(terminate_with_env_id="allow")
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) == "FAILED"


# -- machines of jobs -----------------------------------------------------------------------------------------


def rented(command: str, data: dict[str, Any], **members: Any) -> dict[str, Any]:
    return task(command, **{"ComputeEnv": {"EnvData": data}, **members})


def test_a_machine_that_cannot_be_rented_is_a_failed_attempt(batch: Call, emulator: Emulator) -> None:
    job_id = submit(batch, rented("true", {"InstanceType": "GN10X.2XLARGE40"}, MaxRetryCount=1))
    assert emulator.wait_job(job_id) == "FAILED"
    view = instance_of(batch, job_id)
    assert (view.StateReason, view.ExitCode, view.ComputeNodeInstanceId) == (SOLD_OUT, None, None)
    assert states(emulator, job_id, "instance").count("STARTING") == 2
    assert "RUNNING" not in states(emulator, job_id, "instance")
    job_id = submit(batch, rented("true", {"InstanceType": "no such type"}))
    assert emulator.wait_job(job_id) == "FAILED"
    assert instance_of(batch, job_id).StateReason == "InternalError.CallCvm:InvalidInstanceType.Malformed"
    emulator.configure(unknown_instance_types="accept")
    job_id = submit(batch, rented("true", {"InstanceType": "no such type"}))
    assert emulator.wait_job(job_id) == "SUCCEED"


def test_retries_of_the_machine_are_no_attempts(batch: Call, emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"S5.SMALL2": "quota*3"})
    data = {"InstanceType": "S5.SMALL2"}
    job_id = submit(batch, rented("true", data, ResourceMaxRetryCount=2))
    assert emulator.wait_job(job_id) == "FAILED"
    emulator.configure(cvm_failures={"S5.SMALL2": "no_stock*3"})
    job_id = submit(batch, rented("true", data, ResourceMaxRetryCount=3))
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert states(emulator, job_id, "instance")[-3:] == ["STARTING", "RUNNING", "SUCCEED"]


def test_waiting_for_a_machine_instead_of_failing(batch: Call, emulator: Emulator, cmq: Call, topic: str) -> None:
    emulator.configure(cvm_failures={"S5.SMALL4": "no_stock"}, capacity=1)
    told = notifications(topic, *ALL_EVENTS[2:])
    job_id = submit(batch, rented("true", {"InstanceType": "S5.SMALL4"}), StateIfCreateCvmFailed="RUNNABLE", **told)
    while states(emulator, job_id, "instance").count("RUNNABLE") < 3:
        pass
    # Who waits for a machine does not keep others from theirs.
    assert emulator.wait_job(submit(batch, task("true"))) == "SUCCEED"
    emulator.configure(cvm_failures={})
    assert emulator.wait_job(job_id) == "SUCCEED"
    names = [event["EventName"] for event in events_until(cmq, topic, "COMPUTE_NODE_DELETING")]
    assert names.count("COMPUTE_NODE_CREATION_FAILED") >= 2
    assert names[-3:] == ["COMPUTE_NODE_CREATED", "COMPUTE_NODE_RUNNING", "COMPUTE_NODE_DELETING"]


def test_a_lost_machine_of_a_job(batch: Call, emulator: Emulator) -> None:
    job_id = submit(batch, task("sleep 60", MaxRetryCount=1))
    for _ in range(2):
        in_state(batch, job_id, "RUNNING")
        while not on_loop(
            emulator,
            lambda services: (
                (one := services.batch.jobs[job_id].tasks["main"].instances[0]).state == "RUNNING"
                and one.lose_machine("spot machine reclaimed")
            ),
        ):
            pass
    assert emulator.wait_job(job_id) == "FAILED"
    assert instance_of(batch, job_id).StateReason == "spot machine reclaimed"
    assert states(emulator, job_id, "instance").count("RUNNING") == 2
    # Nothing is left to lose.
    assert not on_loop(
        emulator, lambda services: services.batch.jobs[job_id].tasks["main"].instances[0].lose_machine("x")
    )
    assert on_loop(emulator, lambda services: services.batch.capacity.used) == 0


async def test_many_environments_at_once(emulator: Emulator, batch: Call, envs: Envs) -> None:
    ids = await asyncio.gather(*(asyncio.to_thread(envs.ready, 3) for _ in range(4)))
    jobs = [submit(batch, bound("true", env_id, TaskInstanceNum=6)) for env_id in ids]
    assert {emulator.wait_job(job_id) for job_id in jobs} == {"SUCCEED"}
    for env_id in ids:
        assert envs.show(env_id).ComputeNodeMetrics.RunningCount == 3
