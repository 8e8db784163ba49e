"""Compute environments as the API shows them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs.entities import (
    ABNORMAL,
    CREATED,
    CREATING,
    CREATION_FAILED,
    DELETING,
    PENDING,
    RUNNING,
    SUBMITTED,
    Activity,
    ComputeEnv,
    Node,
)
from airflow_provider_tcbatch.emulator.ids import iso

AGENT_VERSION = "1.1.9"

#: The metrics have no counter for PENDING, which is described as being created.
_COUNTERS = {
    "SubmittedCount": (SUBMITTED,),
    "CreatingCount": (PENDING, CREATING),
    "CreationFailedCount": (CREATION_FAILED,),
    "CreatedCount": (CREATED,),
    "RunningCount": (RUNNING,),
    "DeletingCount": (DELETING,),
    "AbnormalCount": (ABNORMAL,),
}


def env_row(env: ComputeEnv) -> dict[str, Any]:
    """One ComputeEnvView of DescribeComputeEnvs."""
    counts = Counter(node.state for node in env.nodes.values())
    return {
        "EnvId": env.env_id,
        "EnvName": env.name,
        "Placement": {"ProjectId": 0, **env.request["Placement"]},
        "CreateTime": iso(env.created_at),
        "ComputeNodeMetrics": {name: sum(counts[state] for state in states) for name, states in _COUNTERS.items()},
        "EnvType": env.spec.get("EnvType", "MANAGED"),
        "DesiredComputeNodeCount": env.desired,
        "ResourceType": "CVM",
        "NextAction": env.next_action,
        "AttachedComputeNodeCount": env.attached,
        "Tags": env.spec.get("Tags", []),
    }


def env_detail(env: ComputeEnv) -> dict[str, Any]:
    """DescribeComputeEnv."""
    return {**env_row(env), "ComputeNodeSet": [node_row(node) for node in env.nodes.values()]}


def node_row(node: Node) -> dict[str, Any]:
    """One ComputeNode."""
    public = node.env.data.get("InternetAccessible", {}).get("InternetMaxBandwidthOut", 0) > 0
    return {
        "ComputeNodeId": node.node_id,
        "ComputeNodeInstanceId": node.instance_id,
        "ComputeNodeState": node.state,
        "Cpu": node.machine.cpu if node.machine else 0,
        "Mem": node.machine.mem if node.machine else 0,
        "ResourceCreatedTime": iso(node.created_at),
        "TaskInstanceNumAvailable": int(node.free),
        "AgentVersion": AGENT_VERSION if node.state in (RUNNING, ABNORMAL) else "",
        "PrivateIpAddresses": [node.address] if node.address else [],
        # Of the block that is set aside for documentation.
        "PublicIpAddresses": [f"203.0.113.{int(node.address.rsplit('.', 1)[1])}"] if public and node.address else [],
        "ResourceType": "CVM",
        "ResourceOrigin": node.origin,
    }


def create_info(env: ComputeEnv) -> dict[str, Any]:
    """DescribeComputeEnvCreateInfo: what it was made with, as later changed by ModifyComputeEnv."""
    spec = env.spec
    return {
        "EnvId": env.env_id,
        "EnvName": env.name,
        "EnvDescription": env.description,
        "EnvType": spec.get("EnvType", "MANAGED"),
        "EnvData": env.data,
        "MountDataDisks": spec.get("MountDataDisks", []),
        "InputMappings": spec.get("InputMappings", []),
        "Authentications": spec.get("Authentications", []),
        "Notifications": spec.get("Notifications", []),
        "DesiredComputeNodeCount": env.desired,
        "Tags": spec.get("Tags", []),
    }


def activity_row(env: ComputeEnv, activity: Activity) -> dict[str, Any]:
    """One Activity."""
    return {
        "ActivityId": activity.activity_id,
        "ComputeNodeId": activity.node_id,
        "ComputeNodeActivityType": activity.kind,
        "EnvId": env.env_id,
        "Cause": activity.cause,
        "ActivityState": activity.state,
        "StateReason": activity.state_reason,
        "StartTime": iso(activity.started_at),
        "EndTime": iso(activity.ended_at),
        "InstanceId": activity.instance_id,
    }
