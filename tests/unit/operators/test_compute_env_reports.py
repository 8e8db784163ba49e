"""Whatever is waited for: an environment that does not come to it says which node failed, why, and what to change."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.compute_env_actions import (
    TCBatchAttachInstancesOperator,
    TCBatchDeleteComputeEnvOperator,
    TCBatchDetachInstancesOperator,
    TCBatchModifyComputeEnvOperator,
    TCBatchTerminateComputeNodesOperator,
)
from airflow_provider_tcbatch.operators.compute_env_ensure import TCBatchEnsureComputeEnvOperator
from tests.unit.operators.test_compute_env import Ran, both, now, quick, wait_for, wish

__all__ = ["quick"]

REASONS = [
    ("no_stock", "ResourcesSoldOut.SpecifiedInstanceType", "What to do: no stock: name other types"),
    ("quota", "LimitExceeded.InstanceQuota", "What to do: the account's quota for CVM instances"),
    ("image", "InvalidImageId.NotFound", "What to do: the image can't be used"),
]


def half_failed(emulator: Emulator, reason: str) -> tuple[str, str, str]:
    """An environment of which one node runs and the other could not be made; its id and theirs."""
    emulator.on_loop(lambda services: services.batch.failures_used.clear())  # another test may have used it up
    emulator.configure(cvm_failures={"*": f"{reason}*1"})
    env_id = TCBatchHook().create_compute_env(wish(2, ResourceMaxRetryCount=0))
    wait_for(lambda: {node.compute_node_state for node in nodes(env_id)} == {"RUNNING", "CREATION_FAILED"})
    by_state = {str(node.compute_node_state): node.compute_node_id for node in nodes(env_id)}
    return env_id, by_state["RUNNING"], by_state["CREATION_FAILED"]


def nodes(env_id: str) -> list[Any]:
    return now(env_id).compute_node_set or []


def options(env_id: str, deferrable: bool, **more: Any) -> dict[str, Any]:
    return {"task_id": "task", "env_id": env_id, "deferrable": deferrable, "poll_interval": 0.2, **more}


def told(error: e.ComputeEnvError, env_id: str, node_id: str, code: str, advice: str) -> None:
    message = str(error)
    assert error.env_id == env_id
    assert re.search(rf"- node {node_id} is CREATION_FAILED: InternalError.CallCvm:{re.escape(code)}", message), message
    assert advice in message, message
    assert "Console: " in message, message


@both
@pytest.mark.parametrize(("reason", "code", "advice"), REASONS)
def test_scaling(emulator: Emulator, deferrable: bool, reason: str, code: str, advice: str) -> None:
    env_id, _, failed = half_failed(emulator, reason)
    with pytest.raises(e.ComputeEnvFailed, match="The wanted number of nodes") as raised:
        Ran(TCBatchModifyComputeEnvOperator(desired_compute_node_count=2, **options(env_id, deferrable)))
    told(raised.value, env_id, failed, code, advice)


@pytest.mark.parametrize(("reason", "code", "advice"), REASONS)
def test_ensuring(emulator: Emulator, reason: str, code: str, advice: str) -> None:
    env_id, _, failed = half_failed(emulator, reason)
    operator = TCBatchEnsureComputeEnvOperator(
        task_id="ensure", compute_env=wish(2), deferrable=False, poll_interval=0.2
    )
    with pytest.raises(e.ComputeEnvFailed, match=r"2 running nodes .* nodes failed; it is left as it is") as raised:
        Ran(operator)
    told(raised.value, env_id, failed, code, advice)


@both
def test_destroying_nodes_takes_too_long(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_deleting_seconds=30)
    env_id, running, failed = half_failed(emulator, "image")
    operator = TCBatchTerminateComputeNodesOperator(compute_node_ids=running, **options(env_id, deferrable, timeout=1))
    with pytest.raises(e.ComputeEnvTimeout, match=rf"The end of nodes {running} .* timeout \(1 s\)") as raised:
        Ran(operator)
    told(raised.value, env_id, failed, *REASONS[2][1:])


@both
def test_an_instance_of_ones_own_does_not_come_up(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_created_seconds=30)
    env_id = TCBatchHook().create_compute_env(wish(0))
    TCBatchHook().attach_instances(env_id, [{"InstanceId": "ins-12345678"}])
    [node] = nodes(env_id)
    emulator.faults.add("lose_machine", target=node.compute_node_id)
    wait_for(lambda: nodes(env_id)[0].compute_node_state == "ABNORMAL")
    emulator.faults.clear()
    operator = TCBatchAttachInstancesOperator(instances="ins-12345678", **options(env_id, deferrable))
    with pytest.raises(e.ComputeEnvFailed, match="Nodes of the instances ins-12345678: nodes failed") as raised:
        Ran(operator)
    line = f"- node {node.compute_node_id} (CVM instance ins-12345678) is ABNORMAL (it was lost after it had run)"
    assert line in str(raised.value)
    assert raised.value.env_id == env_id


def test_a_limit_names_what_failed_whatever_was_waited_for(emulator: Emulator) -> None:
    """Attaching and detaching wait for certain instances, deleting for all nodes: others may have failed before."""
    emulator.configure(node_created_seconds=0.05)
    env_id, _, failed = half_failed(emulator, "quota")
    emulator.configure(node_created_seconds=30, node_deleting_seconds=30)
    attach = TCBatchAttachInstancesOperator(instances="ins-12345678", **options(env_id, False, timeout=0.5))
    delete = TCBatchDeleteComputeEnvOperator(**options(env_id, False, timeout=0.5))
    for operator in (attach, delete):
        with pytest.raises(e.ComputeEnvTimeout) as raised:
            Ran(operator)
        if operator is attach:
            told(raised.value, env_id, failed, *REASONS[1][1:])
    assert "0 of 0 nodes run" in str(raised.value)


def test_what_is_not_there_is_said(emulator: Emulator) -> None:
    with pytest.raises(e.NotFound, match="env-00000000"):
        Ran(TCBatchTerminateComputeNodesOperator(compute_node_ids="node-1", **options("env-00000000", False)))
    assert Ran(TCBatchDetachInstancesOperator(instance_ids="ins-1", **options("env-00000000", False))).result is None
