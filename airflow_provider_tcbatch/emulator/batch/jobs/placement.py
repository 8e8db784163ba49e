"""Where an instance runs: a machine rented for it alone, or a free node of its task's compute environment."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.envs import nodes
from airflow_provider_tcbatch.emulator.batch.envs.entities import (
    ABNORMAL,
    CREATED,
    CREATION_FAILED,
    DELETING,
    RUNNING,
    ComputeEnv,
    EnvironmentGone,
)
from airflow_provider_tcbatch.emulator.batch.envs.nodes import HEARTBEAT_TIMEOUT
from airflow_provider_tcbatch.emulator.batch.jobs import events
from airflow_provider_tcbatch.emulator.batch.jobs.entities import (
    FAILED_INTERRUPTED,
    RUNNABLE,
    STARTING,
    Failure,
    Instance,
)
from airflow_provider_tcbatch.emulator.batch.jobs.states import set_instance, tell
from airflow_provider_tcbatch.emulator.batch.machine import cvm
from airflow_provider_tcbatch.emulator.batch.machine.capacity import waiting_reason
from airflow_provider_tcbatch.emulator.ids import new_id

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService

log = logging.getLogger("tcbatch_emulator.jobs")


async def take(batch: BatchService, instance: Instance) -> Failure | None:
    """Wait until the instance has a machine; it is STARTING then.

    :return: why it will have none.
    """
    env_id = instance.task.spec.get("EnvId")
    if env_id is None:
        return await _rent(batch, instance)
    env = batch.envs.get(env_id)
    if env is None:
        return Failure(f"The compute environment {env_id} was deleted", was_running=False, hopeless=True)
    return await _take_node(batch, instance, env)


async def _take_node(batch: BatchService, instance: Instance, env: ComputeEnv) -> Failure | None:
    while True:
        try:
            node = await env.take_node(instance, instance.task.job.spec.get("Priority", 0))
        except EnvironmentGone as error:
            return Failure(str(error), was_running=False, hopeless=True)
        if node.state == RUNNING:
            break
        # It was lost between being given and being taken.
        node.instance = None
    instance.compute_node = node
    instance.node, instance.machine = node.instance_id, node.machine
    instance.placed = True
    _start(batch, instance)
    return None


async def _rent(batch: BatchService, instance: Instance) -> Failure | None:
    host = batch.host
    job = instance.task.job
    data = instance.task.spec["ComputeEnv"].get("EnvData", {})
    allowed = instance.task.spec.get("ResourceMaxRetryCount", 0)
    failures = 0
    while True:
        if not instance.holds_slot:
            await _make_room(batch, instance)
        instance.node = instance.machine = None
        _start(batch, instance)
        try:
            machine = cvm.rent(batch, data, job.request["Placement"]["Zone"])
        except cvm.CreationFailed as error:
            # Who waits for a machine uses nothing of this one.
            release(batch, instance)
            _tell_machine(batch, instance, CREATION_FAILED)
            failures += 1
            if failures > allowed:
                if job.spec.get("StateIfCreateCvmFailed", "FAILED") == "FAILED":
                    return Failure(str(error), was_running=False)
                instance.state_reason = instance.detailed_reason = str(error)
                set_instance(batch, instance, RUNNABLE)
            await host.sleep(cvm.retry_wait(host, failures))
            continue
        # A retry gets another machine.
        instance.node, instance.machine = new_id("ins"), machine
        if job.notifications:
            instance.machine_id = new_id("node")
        instance.state_reason = instance.detailed_reason = ""
        instance.placed = True
        _tell_machine(batch, instance, CREATED)
        await host.sleep(host.settings.starting_seconds)
        _tell_machine(batch, instance, RUNNING)
        return None


async def _make_room(batch: BatchService, instance: Instance) -> None:
    job, capacity = instance.task.job, batch.capacity
    priority = job.spec.get("Priority", 0)
    if capacity.full:
        if not job.queued:
            log.info("%s: %s", job.job_id, waiting_reason(batch.host.settings.capacity))
        job.queued += 1
        instance.queued = True
    try:
        await capacity.acquire(priority)
    finally:
        if instance.queued:
            instance.queued = False
            job.queued -= 1
    instance.holds_slot = True


def _start(batch: BatchService, instance: Instance) -> None:
    instance.exit_code = instance.running_at = None
    set_instance(batch, instance, STARTING)


def release(batch: BatchService, instance: Instance, *, lost: bool = False) -> None:
    """Give an instance's machine back; without effect when it has none.

    :param lost: the machine is gone already.
    """
    if instance.holds_slot:
        instance.holds_slot = False
        batch.capacity.release()
    if instance.machine_id is not None:
        _tell_machine(batch, instance, ABNORMAL if lost else DELETING)
        instance.machine_id = None
    node = instance.compute_node
    if node is not None:
        instance.compute_node = None
        node.instance = None
        # What ended by force may have left anything behind.
        if instance.stop_reason is not None or instance.task.spec.get("RestartComputeNode"):
            nodes.reboot(batch, node)
        node.env.offer(node)


def release_at_end(batch: BatchService, instance: Instance) -> None:
    """Give an instance's machine back at its end, unless it is kept for whoever looks into the failure."""
    if instance.state == FAILED_INTERRUPTED:
        if instance.compute_node is not None and batch.host.settings.interrupted_holds_node:
            return
        if instance.compute_node is None and batch.host.settings.interrupted_holds_capacity:
            return
        if instance.compute_node is None:
            # The rented machine is kept; only this computer's capacity is given back.
            if instance.holds_slot:
                instance.holds_slot = False
                batch.capacity.release()
            return
    release(batch, instance)


def recover(instance: Instance, task: asyncio.Task[Any] | None) -> Failure:
    """Turn the cancellation that its ``lose_machine`` began into a failed attempt."""
    reason, instance.lost_reason = instance.lost_reason or "", None
    if task is not None and hasattr(task, "uncancel"):
        task.uncancel()
    # FailedAction cannot keep a machine that is gone.
    return Failure(reason, was_running=False)


def lost_with_the_emulator(batch: BatchService, instance: Instance) -> Failure:
    """What became of an attempt that an emulator before this one began: it ended with that one, and so its machine."""
    release(batch, instance, lost=True)
    if instance.stop_reason is not None:
        # It was being terminated, and is not begun again.
        return Failure(instance.stop_reason, was_running=False, hopeless=True)
    return Failure(HEARTBEAT_TIMEOUT, was_running=False)


def _tell_machine(batch: BatchService, instance: Instance, state: str) -> None:
    """The COMPUTE_NODE_ events of a machine that is rented for one instance."""
    job = instance.task.job
    name = f"COMPUTE_NODE_{state}"
    if name in job.notifications:
        tell(batch, job, name, lambda: events.machine_members(instance, state))
