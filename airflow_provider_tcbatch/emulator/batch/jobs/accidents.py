"""Faults that meet machines: they stop answering, are reclaimed, or cannot be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch.emulator.batch.envs import nodes
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Instance
from airflow_provider_tcbatch.emulator.faults import Fault

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService

# What Tencent says of a reclaimed machine is not published.
_REASONS = {"lose_machine": nodes.HEARTBEAT_TIMEOUT, "reclaim_machine": "the spot instance was reclaimed"}


def may_happen(batch: BatchService, instance: Instance) -> None:
    """To be called when an instance begins to run: a fault may take its machine after a while."""
    host = batch.host
    node = instance.compute_node
    job = instance.task.job
    names = {job.job_id, job.name, instance.task.name, str(instance.node)}
    if node is not None:
        names |= {node.node_id, node.env.env_id}
    fault = host.faults.machine("lose_machine", names)
    if fault is None and _is_spot(instance):
        fault = host.faults.machine("reclaim_machine", names)
    if fault is not None:
        host.spawn(_strike(batch, instance, instance.attempts, fault), f"{fault.kind} of {job.job_id}")


def _is_spot(instance: Instance) -> bool:
    if instance.compute_node is not None:
        data = instance.compute_node.env.data
    else:
        data = instance.task.spec.get("ComputeEnv", {}).get("EnvData", {})
    return bool(data.get("InstanceChargeType") == "SPOTPAID")


async def _strike(batch: BatchService, instance: Instance, attempt: int, fault: Fault) -> None:
    await batch.host.sleep(fault.seconds)
    if instance.attempts != attempt or instance.final:
        return
    reason = fault.code or _REASONS[fault.kind]
    if instance.compute_node is not None:
        nodes.lose(batch, instance.compute_node, reason)
    else:
        instance.lose_machine(reason)


def hit_node(batch: BatchService, fault: Fault) -> None:
    """Let a new fault that names a compute node meet it at once, whether anything runs on it or not."""
    if fault.kind not in _REASONS or fault.target == "*":
        return
    for env in batch.envs.values():
        for node in list(env.nodes.values()):
            spot = env.data.get("InstanceChargeType") == "SPOTPAID"
            if fault.target in (node.node_id, node.instance_id) and (spot or fault.kind == "lose_machine"):
                fault.hits += int(nodes.lose(batch, node, fault.code or _REASONS[fault.kind]))
