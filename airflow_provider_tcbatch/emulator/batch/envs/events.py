"""What the events of compute environments and their nodes tell."""

from __future__ import annotations

from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs.entities import ComputeEnv, Node
from airflow_provider_tcbatch.emulator.ids import iso


def env_members(env: ComputeEnv) -> dict[str, Any]:
    """``Batch`` object of a COMPUTE_ENV_ event."""
    return {
        "EnvId": env.env_id,
        "EnvName": env.name,
        "CreateTime": iso(env.created_at),
        "DesiredComputeNodeCount": env.desired,
    }


def node_members(node: Node) -> dict[str, Any]:
    """``Batch`` object of a COMPUTE_NODE_ event, the one that Tencent shows."""
    return {
        "ComputeNodeId": node.node_id,
        "EnvId": node.env.env_id,
        "ComputeNodeState": node.state,
        "Mem": node.machine.mem if node.machine else 0,
        "ResourceCreatedTime": iso(node.created_at),
        "EnvName": node.env.name,
        "ComputeNodeInstanceId": node.instance_id,
        "Cpu": node.machine.cpu if node.machine else 0,
    }
