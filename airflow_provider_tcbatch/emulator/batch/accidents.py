"""Faults that meet machines: they stop answering, are reclaimed, or cannot be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch.emulator.batch import nodes
from airflow_provider_tcbatch.emulator.batch.entities import Instance
from airflow_provider_tcbatch.emulator.faults import Fault

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.core import Core

# What Tencent says of a reclaimed machine is not published.
_REASONS = {"lose_machine": nodes.HEARTBEAT_TIMEOUT, "reclaim_machine": "the spot instance was reclaimed"}


def may_happen(core: Core, instance: Instance) -> None:
    """To be called when an instance begins to run: a fault may take its machine after a while."""
    node = instance.compute_node
    job = instance.task.job
    names = {job.job_id, job.name, instance.task.name, str(instance.node)}
    if node is not None:
        names |= {node.node_id, node.env.env_id}
    fault = core.faults.machine("lose_machine", names)
    if fault is None and _is_spot(instance):
        fault = core.faults.machine("reclaim_machine", names)
    if fault is not None:
        core.spawn(_strike(core, instance, instance.attempts, fault), f"{fault.kind} of {job.job_id}")


def _is_spot(instance: Instance) -> bool:
    if instance.compute_node is not None:
        data = instance.compute_node.env.data
    else:
        data = instance.task.spec.get("ComputeEnv", {}).get("EnvData", {})
    return bool(data.get("InstanceChargeType") == "SPOTPAID")


async def _strike(core: Core, instance: Instance, attempt: int, fault: Fault) -> None:
    await core.sleep(fault.seconds)
    if instance.attempts != attempt or instance.final:
        return
    reason = fault.code or _REASONS[fault.kind]
    if instance.compute_node is not None:
        nodes.lose(core, instance.compute_node, reason)
    else:
        instance.lose_machine(reason)


def hit_node(core: Core, fault: Fault) -> None:
    """Let a new fault that names a compute node meet it at once, whether anything runs on it or not."""
    if fault.kind not in _REASONS or fault.target == "*":
        return
    for env in core.batch.envs.values():
        for node in list(env.nodes.values()):
            spot = env.data.get("InstanceChargeType") == "SPOTPAID"
            if fault.target in (node.node_id, node.instance_id) and (spot or fault.kind == "lose_machine"):
                fault.hits += int(nodes.lose(core, node, fault.code or _REASONS[fault.kind]))
