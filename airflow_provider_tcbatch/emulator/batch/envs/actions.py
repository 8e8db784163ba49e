"""The compute environment actions of the Batch API."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.envs import events, nodes, views
from airflow_provider_tcbatch.emulator.batch.envs.entities import (
    BATCH_CREATED,
    DELETING,
    REMOVABLE,
    USER_ATTACHED,
    ComputeEnv,
    Node,
)
from airflow_provider_tcbatch.emulator.batch.envs.rules import (
    check_creation,
    check_env_id,
    check_known_types,
    check_names,
    check_types,
)
from airflow_provider_tcbatch.emulator.batch.filters import Filters, in_order, page
from airflow_provider_tcbatch.emulator.batch.machine import cvm
from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
from airflow_provider_tcbatch.emulator.batch.publication import publish, subscribers
from airflow_provider_tcbatch.emulator.batch.rules import (
    check_not_both,
    check_not_negative,
    check_zone_filter,
    digest_of,
    known_by_token,
)
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.ids import new_id
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

Params = dict[str, Any]

_NODE_ID = re.compile(r"node-[0-9a-z]+")
_INSTANCE_ID = re.compile(r"ins-[0-9a-z]+")
_BUSY = "UnsupportedOperation.ComputeEnvAcceptOtherRequest"


def create_compute_env(batch: BatchService, params: Params) -> Params:
    """CreateComputeEnv."""
    host = batch.host
    token = params.get("ClientToken")
    digest = digest_of(params) if token else ""
    if token:
        known = known_by_token(host, batch.env_tokens, token, digest)
        if known is not None:
            return {"EnvId": known}
    check_creation(batch, params)
    envs, spec = batch.envs, params["ComputeEnv"]
    if len(envs) >= host.settings.compute_env_quota:
        raise ApiError("LimitExceeded.ComputeEnvQuota", f"There are {len(envs)} compute environments already.")
    env = ComputeEnv(
        new_id("env", envs),
        params,
        host.now(),
        spec["EnvName"],
        spec.get("EnvDescription", ""),
        spec["DesiredComputeNodeCount"],
        copy.deepcopy(spec.get("EnvData", {})),
        notifications=subscribers(host, spec),
    )
    _check_cpus(batch, env, env.desired)
    env.changed_at = host.now()
    envs[env.env_id] = env
    host.ledger.touch(env)
    if token:
        batch.env_tokens[token] = (env.env_id, digest, host.now())
        host.ledger.note("env_token", json.dumps(token), batch.env_tokens[token])
    _tell(batch, env, "COMPUTE_ENV_CREATED")
    nodes.create(batch, env, env.desired, f"CreateComputeEnv: the capacity is {env.desired}")
    return {"EnvId": env.env_id}


def modify_compute_env(batch: BatchService, params: Params) -> Params:
    """ModifyComputeEnv."""
    host = batch.host
    env = find_env(batch, params["EnvId"])
    check_names(host, params, "")
    check_not_negative(params, "DesiredComputeNodeCount", "DesiredComputeNodeCount")
    desired = params.get("DesiredComputeNodeCount", env.desired)
    if desired > host.settings.max_nodes:
        raise ApiError(
            "InvalidParameterValue.LimitExceeded",
            f"The parameter `DesiredComputeNodeCount` must be at most {host.settings.max_nodes}.",
        )
    types = params.get("EnvData", {}).get("InstanceTypes")
    if types is not None:
        if not types:
            raise ApiError("InvalidParameterValue.InstanceTypesEmpty", "`EnvData.InstanceTypes` is empty.")
        check_types(host, types, "EnvData.InstanceTypes")
        check_known_types(host, types, "EnvData.InstanceTypes")
    _check_open(host, env, _BUSY)
    if types is not None:
        for name in ("InstanceType", "InstanceTypeOptions"):
            env.data.pop(name, None)
        env.data["InstanceTypes"] = list(types)
    if desired > env.desired:
        _check_cpus(batch, env, desired)
        cause = f"ModifyComputeEnv: increase the capacity from {env.desired} to {desired}"
        nodes.create(batch, env, desired - env.desired, cause)
    elif desired < env.desired:
        _shrink(batch, env, desired)
    env.desired = desired
    env.name = params.get("EnvName", env.name)
    env.description = params.get("EnvDescription", env.description)
    _changed(host, env)
    return {}


def _shrink(batch: BatchService, env: ComputeEnv, desired: int) -> None:
    # Nodes that go already count no more; some may have gone without the number being lowered.
    present = [node for node in env.nodes.values() if node.origin == BATCH_CREATED and node.state != DELETING]
    surplus = len(present) - desired
    found = nodes.removable(batch.host, env)
    if surplus > len(found):
        raise ApiError(
            "UnsupportedOperation.NotEnoughComputeNodesToTerminate",
            f"{surplus} compute nodes would have to go, and {len(found)} can be destroyed now.",
        )
    for node in found[: max(0, surplus)]:
        nodes.destroy(batch, node, f"ModifyComputeEnv: decrease the capacity from {env.desired} to {desired}")


def delete_compute_env(batch: BatchService, params: Params) -> Params:
    """DeleteComputeEnv: without nodes only, unless the settings say otherwise."""
    host = batch.host
    env = find_env(batch, params["EnvId"])
    _check_open(host, env, "UnsupportedOperation.ComputeEnvOperation")
    if env.nodes:
        if host.settings.delete_env_with_nodes == "refuse":
            raise ApiError(
                "UnsupportedOperation.ComputeEnvOperation",
                f"The compute environment {env.env_id} has {len(env.nodes)} nodes; destroy them first.",
            )
        if any(node.state not in REMOVABLE and node.state != DELETING for node in env.nodes.values()):
            raise ApiError("UnsupportedOperation.ComputeNodeForbidTerminate", "Compute nodes are being created.")
    env.next_action = "DELETING"
    host.ledger.touch(env)
    resume_deletion(batch, env)
    return {}


def resume_deletion(batch: BatchService, env: ComputeEnv) -> None:
    """Delete an environment whose deletion was accepted."""
    batch.host.spawn(_delete(batch, env), f"deletion of {env.env_id}")


async def _delete(batch: BatchService, env: ComputeEnv) -> None:
    host = batch.host
    for node in list(env.nodes.values()):
        if node.origin == USER_ATTACHED:
            nodes.detach(host, node)
        elif node.state != DELETING:
            nodes.destroy(batch, node, "DeleteComputeEnv")
    await host.sleep(max(host.settings.env_deleting_seconds, host.settings.node_deleting_seconds if env.nodes else 0))
    batch.envs.pop(env.env_id, None)
    host.ledger.touch(env)
    env.dismiss()
    _tell(batch, env, "COMPUTE_ENV_DELETED")


def describe_compute_env(batch: BatchService, params: Params) -> Params:
    """DescribeComputeEnv."""
    return views.env_detail(find_env(batch, params["EnvId"]))


def describe_compute_envs(batch: BatchService, params: Params) -> Params:
    """DescribeComputeEnvs: newest first; unknown ids are left out."""
    for item in params.get("Filters", ()):
        if item["Name"] == "resource-type" and not set(item["Values"]) <= {"CVM", "CPM"}:
            raise ApiError("InvalidParameterValue.ResourceType", "The filter resource-type takes CVM and CPM.")
    found = _select(batch, params, {"resource-type": lambda env: "CVM"}, batch.host.settings.unknown_filter_error)
    shown = page(found, params, default=20, largest=100)
    return {"TotalCount": len(found), "ComputeEnvSet": [views.env_row(env) for env in shown]}


def describe_compute_env_create_info(batch: BatchService, params: Params) -> Params:
    """DescribeComputeEnvCreateInfo."""
    return views.create_info(find_env(batch, params["EnvId"]))


def describe_compute_env_create_infos(batch: BatchService, params: Params) -> Params:
    """DescribeComputeEnvCreateInfos: newest first; unknown ids are left out."""
    found = _select(batch, params, {}, "InvalidParameterValue")
    shown = page(found, params, default=20, largest=100)
    return {"TotalCount": len(found), "ComputeEnvCreateInfoSet": [views.create_info(env) for env in shown]}


def _select(batch: BatchService, params: Params, more: dict[str, Any], unknown: str) -> Sequence[ComputeEnv]:
    host = batch.host
    check_not_both(params, "EnvIds")
    ids = params.get("EnvIds")
    for env_id in ids or ():
        check_env_id(env_id, "EnvIds")
    envs = in_order(host.settings, batch.envs.values())
    if ids:
        return [env for env in envs if env.env_id in ids]
    check_zone_filter(host, params.get("Filters", ()))
    known: dict[str, Any] = {
        "zone": lambda env: env.zone,
        "env-id": lambda env: env.env_id,
        "env-name": lambda env: env.name,
        **more,
    }
    filters: Filters[ComputeEnv] = Filters(
        params.get("Filters", ()),
        known,
        tags=lambda env: env.spec.get("Tags", ()),
        unknown=unknown,
        parts_of_names=host.settings.name_filter == "contains",
    )
    return filters.select(envs)


def describe_compute_env_activities(batch: BatchService, params: Params) -> Params:
    """DescribeComputeEnvActivities: newest first."""
    env = find_env(batch, params["EnvId"])
    found = in_order(batch.host.settings, env.activities.values())
    wanted = params.get("Filters")
    if wanted is not None:
        if wanted["Name"] != "compute-node-id":
            # The only one of this action's documented codes that fits.
            raise ApiError("UnknownParameter", f"The filter {printable(wanted['Name'], 60)!r} is not supported.")
        for node_id in wanted["Values"]:
            _check_node_id(node_id)
        found = [activity for activity in found if activity.node_id in wanted["Values"]]
    shown = page(found, params, default=20, largest=100)
    return {"TotalCount": len(found), "ActivitySet": [views.activity_row(env, activity) for activity in shown]}


def terminate_compute_node(batch: BatchService, params: Params) -> Params:
    """TerminateComputeNode."""
    _terminate_nodes(
        batch,
        params["EnvId"],
        [params["ComputeNodeId"]],
        "TerminateComputeNode",
        "UnsupportedOperation.ComputeEnvOperation",
    )
    return {}


def terminate_compute_nodes(batch: BatchService, params: Params) -> Params:
    """TerminateComputeNodes: all of them or, when one cannot be destroyed, none."""
    ids = params["ComputeNodeIds"]
    if not 1 <= len(ids) <= 100 or len(set(ids)) != len(ids):
        raise ApiError("InvalidParameterValue", "`ComputeNodeIds` has 1 to 100 entries, each once.")
    _terminate_nodes(batch, params["EnvId"], ids, "TerminateComputeNodes", "UnsupportedOperation")
    return {}


def _terminate_nodes(batch: BatchService, env_id: str, ids: Sequence[str], action: str, deleting: str) -> None:
    host = batch.host
    env = find_env(batch, env_id)
    for node_id in ids:
        _check_node_id(node_id)
    _check_open(host, env, deleting)
    found = []
    for node_id in ids:
        node = env.nodes.get(node_id)
        if node is None:
            raise ApiError("ResourceNotFound.ComputeNode", f"The compute node {node_id} does not exist.")
        if node.state == DELETING:
            raise ApiError("UnsupportedOperation.ComputeNodeIsTerminating", f"The compute node {node_id} goes already.")
        if node.state not in REMOVABLE or node.origin == USER_ATTACHED:
            raise ApiError(
                "UnsupportedOperation.ComputeNodeForbidTerminate",
                f"The compute node {node_id} is {node.state} and {node.origin}; it cannot be destroyed now.",
            )
        found.append(node)
    for node in found:
        nodes.destroy(batch, node, f"{action} {node.node_id}")
    if host.settings.terminate_node == "shrink":
        env.desired = max(0, env.desired - len(found))
    else:
        nodes.create(batch, env, len(found), f"{action}: keep the capacity of {env.desired}")
    _changed(host, env)


def attach_instances(batch: BatchService, params: Params) -> Params:
    """AttachInstances. The account's other machines are not played: every id is one that runs, unless settings say."""
    host = batch.host
    env = find_env(batch, params["EnvId"])
    ids = [item["InstanceId"] for item in params["Instances"]]
    _check_instances(host, env, ids, "Instances")
    taken = {node.instance_id for other in batch.envs.values() for node in other.nodes.values()}
    for instance_id in ids:
        if (
            not _INSTANCE_ID.fullmatch(instance_id)
            or instance_id in taken
            or instance_id in host.settings.unattachable_instances
        ):
            raise ApiError(
                "UnsupportedOperation.InstancesNotAllowToAttach",
                f"The instance {printable(instance_id, 60)} is not a running instance outside of Batch.",
            )
    for instance_id in ids:
        nodes.attach(batch, env, instance_id)
    _changed(host, env)
    return {}


def detach_instances(batch: BatchService, params: Params) -> Params:
    """DetachInstances: those that were attached only."""
    host = batch.host
    env = find_env(batch, params["EnvId"])
    ids = params["InstanceIds"]
    _check_instances(host, env, ids, "InstanceIds")
    attached = {node.instance_id: node for node in env.nodes.values() if node.origin == USER_ATTACHED}
    for instance_id in ids:
        if instance_id not in attached:
            raise ApiError(
                "UnsupportedOperation", f"The instance {printable(instance_id, 60)} was not attached to {env.env_id}."
            )
    for instance_id in ids:
        nodes.detach(host, attached[instance_id])
    _changed(host, env)
    return {}


def _check_instances(host: Host, env: ComputeEnv, ids: Sequence[str], where: str) -> None:
    if not 1 <= len(ids) <= 100:
        raise ApiError("InvalidParameterValue", f"`{where}` has 1 to 100 entries.")
    if len(set(ids)) != len(ids):
        raise ApiError("InvalidParameterValue.InstanceIdDuplicated", f"`{where}` names an instance twice.")
    _check_open(host, env, "UnsupportedOperation")


def find_env(batch: BatchService, env_id: str) -> ComputeEnv:
    """The environment of an id.

    :raises ApiError: InvalidParameter.EnvIdMalformed or ResourceNotFound.ComputeEnv.
    """
    check_env_id(env_id, "EnvId")
    env = batch.envs.get(env_id)
    if env is None:
        raise ApiError("ResourceNotFound.ComputeEnv", f"The compute environment {env_id} does not exist.")
    return env


def _changed(host: Host, env: ComputeEnv) -> None:
    env.changed_at = host.now()
    host.ledger.touch(env)


def find_node(batch: BatchService, node_id: str) -> Node | None:
    """A node of any environment."""
    return next((env.nodes[node_id] for env in batch.envs.values() if node_id in env.nodes), None)


def _check_node_id(node_id: str) -> None:
    if not _NODE_ID.fullmatch(node_id):
        raise ApiError(
            "InvalidParameter.ComputeNodeIdMalformed", f"The compute node id {printable(node_id, 60)!r} is malformed."
        )


def _check_open(host: Host, env: ComputeEnv, deleting: str) -> None:
    """An environment takes no changes while it is deleted, nor, if so set, just after another one.

    :param deleting: the code that the action has for the first case.
    """
    if env.next_action:
        raise ApiError(deleting, f"The compute environment {env.env_id} is being deleted.")
    if host.now() - env.changed_at < host.settings.env_busy_seconds:
        raise ApiError(
            host.settings.env_busy_error, f"The compute environment {env.env_id} is busy with another request."
        )


def _check_cpus(batch: BatchService, env: ComputeEnv, desired: int) -> None:
    """All environments together may have so many CPUs."""
    host = batch.host
    total = 0
    for other in {**batch.envs, env.env_id: env}.values():
        machines = [item for item in cvm.candidates(host, other.data) if isinstance(item, MachineType)]
        total += (desired if other is env else other.desired) * (machines[0].cpu if machines else 1)
    if total > host.settings.cpu_quota:
        raise ApiError("LimitExceeded.CpuQuota", f"That would be {total} CPUs; the quota is {host.settings.cpu_quota}.")


def _tell(batch: BatchService, env: ComputeEnv, name: str) -> None:
    for _ in publish(batch, env.notifications, name, env.env_id, lambda: events.env_members(env)):
        pass


HANDLERS = {
    "AttachInstances": attach_instances,
    "CreateComputeEnv": create_compute_env,
    "DeleteComputeEnv": delete_compute_env,
    "DescribeComputeEnv": describe_compute_env,
    "DescribeComputeEnvActivities": describe_compute_env_activities,
    "DescribeComputeEnvCreateInfo": describe_compute_env_create_info,
    "DescribeComputeEnvCreateInfos": describe_compute_env_create_infos,
    "DescribeComputeEnvs": describe_compute_envs,
    "DetachInstances": detach_instances,
    "ModifyComputeEnv": modify_compute_env,
    "TerminateComputeNode": terminate_compute_node,
    "TerminateComputeNodes": terminate_compute_nodes,
}
