"""A request for each error code of environments, machine types and message queues that the emulator gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.documented_errors import DOCUMENTED
from tests.support.refused_requests import (
    MACHINES,
    MAPPINGS,
    NO_ENV,
    ZONE,
    Make,
    Params,
    Refused,
    World,
    after,
    as_is,
    creation,
    listing,
    of_env,
    rented,
    told,
)

NO_NODE = "node-00000000"
TWICE = [{"InstanceId": "ins-00000001"}, {"InstanceId": "ins-00000001"}]

ENVS: dict[str, Params] = {
    **MACHINES,
    **MAPPINGS,
    "InvalidParameter.EnvDescriptionTooLong": {"EnvDescription": "d" * 201},
    "InvalidParameter.EnvNameTooLong": {"EnvName": "n" * 61},
    "InvalidParameter.NotificationTopicName": told("nobody"),
    "InvalidParameter.NotificationTopicNameTooLong": told("t" * 65),
    "InvalidParameterValue.InstanceType": rented(InstanceType="nothing"),
    "InvalidParameterValue.Negative": {"DesiredComputeNodeCount": -1},
}


def _envs() -> Iterator[Refused]:
    create = "CreateComputeEnv"
    for code, members in ENVS.items():
        if code in DOCUMENTED[create]:
            yield Refused(create, code, creation(**members))
    yield Refused(
        create,
        "InvalidParameter.NotificationEventNameDuplicate",
        lambda world: creation(**told(world.emulator.info.topic, events=("COMPUTE_ENV_CREATED",) * 2)),
    )
    yield Refused(create, "InvalidParameterValue.UnavailableZone", creation(), {"unavailable_zones": [ZONE["Zone"]]})
    yield Refused(create, "LimitExceeded.ComputeEnvQuota", after(World.env, creation()), {"compute_env_quota": 1})
    yield Refused(create, "LimitExceeded.CpuQuota", creation(DesiredComputeNodeCount=9), {"cpu_quota": 1})
    yield Refused(create, "UnauthorizedOperation.UserNotAllowedToUseBatch", creation(), {"batch_activated": False})
    modify = "ModifyComputeEnv"
    for code, members, settings in (
        ("InvalidParameter.EnvDescriptionTooLong", ENVS["InvalidParameter.EnvDescriptionTooLong"], {}),
        ("InvalidParameter.EnvNameTooLong", ENVS["InvalidParameter.EnvNameTooLong"], {}),
        ("InvalidParameterValue.InstanceType", rented(InstanceTypes=["nothing"]), {}),
        ("InvalidParameterValue.InstanceTypeDuplicate", rented(InstanceTypes=["a", "a"]), {}),
        ("InvalidParameterValue.InstanceTypesEmpty", rented(InstanceTypes=[]), {}),
        ("InvalidParameterValue.LimitExceeded", {"DesiredComputeNodeCount": 2001}, {}),
        ("InvalidParameterValue.Negative", {"DesiredComputeNodeCount": -1}, {}),
        ("LimitExceeded.CpuQuota", {"DesiredComputeNodeCount": 9}, {"cpu_quota": 1}),
    ):
        yield Refused(modify, code, of_env(**members), settings)
    yield Refused(
        modify,
        "UnsupportedOperation.NotEnoughComputeNodesToTerminate",
        lambda world: {"EnvId": world.unfinished_node()["EnvId"], "DesiredComputeNodeCount": 0},
    )
    node = {"ComputeNodeId": NO_NODE}
    nodes = {"ComputeNodeIds": [NO_NODE]}
    machines = {"Instances": TWICE[:1]}
    attached = {"InstanceIds": ["ins-00000001"]}
    one_env: tuple[tuple[str, Params], ...] = (
        ("AttachInstances", machines),
        ("DetachInstances", attached),
        ("DeleteComputeEnv", {}),
        ("DescribeComputeEnv", {}),
        ("DescribeComputeEnvActivities", {}),
        ("DescribeComputeEnvCreateInfo", {}),
        (modify, {}),
        ("TerminateComputeNode", node),
        ("TerminateComputeNodes", nodes),
    )
    for action, rest in one_env:
        yield Refused(action, "InvalidParameter.EnvIdMalformed", {"EnvId": "pool", **rest})
        yield Refused(action, "ResourceNotFound.ComputeEnv", {"EnvId": NO_ENV, **rest})
        for busy in ("UnsupportedOperation.AcceptOtherRequest", "UnsupportedOperation.ComputeEnvAcceptOtherRequest"):
            if busy in DOCUMENTED[action]:
                yield Refused(
                    action,
                    busy,
                    of_env(**rest),
                    {"env_busy_seconds": 600, "env_busy_error": busy},
                )
    yield from listing("DescribeComputeEnvs", "EnvIds", NO_ENV, "env-name", "InvalidParameter.EnvIdMalformed")
    yield Refused(
        "DescribeComputeEnvs",
        "InvalidParameterValue.ResourceType",
        {"Filters": [{"Name": "resource-type", "Values": ["x"]}]},
    )
    yield from listing("DescribeComputeEnvCreateInfos", "EnvIds", NO_ENV, "env-name", "InvalidParameter.EnvIdMalformed")
    activities = "DescribeComputeEnvActivities"
    for code, name in (("InvalidParameter.ComputeNodeIdMalformed", "compute-node-id"), ("UnknownParameter", "colour")):
        yield Refused(
            activities,
            code,
            of_env(Filters={"Name": name, "Values": ["x"]}),
        )
    yield from _machines_of_envs()


def several(make: Make) -> Make:
    """A request about one node as one about several."""

    def made(world: World) -> Params:
        one = make(world)
        return {"EnvId": one["EnvId"], "ComputeNodeIds": [one["ComputeNodeId"]]}

    return made


def _machines_of_envs() -> Iterator[Refused]:
    yield Refused(
        "DeleteComputeEnv",
        "UnsupportedOperation.ComputeEnvOperation",
        lambda world: {"EnvId": world.unfinished_node()["EnvId"]},
    )
    yield Refused(
        "DeleteComputeEnv",
        "UnsupportedOperation.ComputeNodeForbidTerminate",
        lambda world: {"EnvId": world.unfinished_node()["EnvId"]},
        {"delete_env_with_nodes": "destroy"},
    )
    for action, deleting in (
        ("TerminateComputeNode", "UnsupportedOperation.ComputeEnvOperation"),
        ("TerminateComputeNodes", "UnsupportedOperation"),
    ):
        for code, make in (
            (deleting, lambda world: {"EnvId": world.deleted_env(), "ComputeNodeId": NO_NODE}),
            ("InvalidParameter.ComputeNodeIdMalformed", of_env(ComputeNodeId="x")),
            ("ResourceNotFound.ComputeNode", of_env(ComputeNodeId=NO_NODE)),
            ("UnsupportedOperation.ComputeNodeForbidTerminate", World.unfinished_node),
            ("UnsupportedOperation.ComputeNodeIsTerminating", World.dying_node),
        ):
            yield Refused(action, code, make if action == "TerminateComputeNode" else several(make))
    ids = {"InstanceIds": [item["InstanceId"] for item in TWICE]}
    one = {"InstanceIds": ids["InstanceIds"][:1]}
    for action, code, rest in (
        ("AttachInstances", "InvalidParameterValue.InstanceIdDuplicated", {"Instances": TWICE}),
        ("AttachInstances", "UnsupportedOperation.InstancesNotAllowToAttach", {"Instances": [{"InstanceId": "x"}]}),
        ("DetachInstances", "InvalidParameterValue.InstanceIdDuplicated", ids),
        ("DetachInstances", "UnsupportedOperation", one),
        ("DetachInstances", "UnknownParameter", {**one, "Force": True}),
    ):
        yield Refused(action, code, of_env(**rest))
    yield Refused(
        "AttachInstances", "UnsupportedOperation", lambda world: {"EnvId": world.deleted_env(), "Instances": TWICE[:1]}
    )


def _catalogue() -> Iterator[Refused]:
    for action in ("DescribeAvailableCvmInstanceTypes", "DescribeCvmZoneInstanceConfigInfos"):
        beijing = {"Filters": [{"Name": "zone", "Values": ["ap-beijing-1"]}]}
        yield Refused(action, "InvalidParameterValue.InvalidZoneMismatchRegion", beijing)
        yield from (
            row for row in listing(action, "Ids", "x", "instance-family", "-") if row.code != "InvalidParameterValue"
        )
    yield Refused(
        "DescribeCvmZoneInstanceConfigInfos",
        "InvalidParameterValue.UnsupportedBatchInstanceChargeType",
        {"Filters": [{"Name": "instance-charge-type", "Values": ["PREPAID"]}]},
    )


def _tdmq() -> Iterator[Refused]:
    def row(action: str, code: str, params: Params | Make) -> Refused:
        return Refused(action, code, params, service="tdmq")

    def subscription(world: World, **members: Any) -> Params:
        return {"TopicName": world.topic(), "SubscriptionName": "s", "Protocol": "queue", **members}

    def subscribed(world: World) -> Params:
        request = subscription(world, Endpoint=world.queue())
        world.api.call(as_is("CreateCmqSubscribe", request, "tdmq"))
        return request

    def dead(world: World) -> str:
        queue = world.queue()
        world.emulator.faults.add("dead_queue", target=queue)
        return queue

    large = {"MaxMsgSize": 1024}
    text = {"MsgContent": "x" * 1025}
    yield row("CreateCmqQueue", "ResourceInUse.Queue", lambda world: {"QueueName": world.queue()})
    yield row("CreateCmqTopic", "ResourceInUse.Topic", lambda world: {"TopicName": world.topic()})
    yield row("CreateCmqSubscribe", "ResourceInUse.Subscription", subscribed)
    yield row(
        "CreateCmqSubscribe", "UnsupportedOperation", lambda w: {**subscription(w), "Protocol": "http", "Endpoint": "x"}
    )
    yield row("CreateCmqSubscribe", "FailedOperation.CreateSubscription", lambda w: subscription(w, Endpoint="nobody"))
    yield row("DescribeCmqQueueDetail", "ResourceNotFound", {"QueueName": "nobody"})
    yield row("DescribeCmqTopicDetail", "ResourceNotFound.Topic", {"TopicName": "nobody"})
    yield row(
        "DeleteCmqSubscribe",
        "ResourceNotFound.Subscription",
        lambda world: {"TopicName": world.topic(), "SubscriptionName": "nobody"},
    )
    yield row(
        "SendCmqMsg",
        "FailedOperation.MaxMessageSizeError",
        lambda world: {"QueueName": world.queue(**large), "DelaySeconds": 0, **text},
    )
    yield row("PublishCmqMsg", "FailedOperation.MaxMessageSizeError", lambda w: {"TopicName": w.topic(**large), **text})
    yield row(
        "SendCmqMsg",
        "FailedOperation.CmqBackendError",
        lambda world: {"QueueName": dead(world), "DelaySeconds": 0, "MsgContent": "x"},
    )


REFUSED = [*_envs(), *_catalogue(), *_tdmq()]
