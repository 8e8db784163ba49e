from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv, DescribeComputeEnvs
from airflow_provider_tcbatch.policies.compute_env.nodes import (
    Condition,
    EnvNow,
    Node,
    Until,
    Verdict,
    env_now,
    judge_env,
    removable,
)

W, R, F, G = Verdict.WAITING, Verdict.REACHED, Verdict.FAILING, Verdict.GONE


def node(number: int, state: str = "RUNNING", **more: Any) -> Node:
    return Node(f"node-{number}", state, f"ins-{number}", **more)


def running(count: int) -> Condition:
    return Condition(Until.NODES_RUNNING, count)


@pytest.mark.parametrize(
    ("now", "condition", "verdict"),
    [
        (EnvNow(3, running=1, present=3), running(2), W),
        (EnvNow(3, running=2, present=3), running(2), R),
        (EnvNow(3, running=3, present=3), running(2), R),
        (EnvNow(0), running(0), R),
        (EnvNow(3, running=1, present=3, deleting=True), running(2), G),
        (None, running(1), G),
        (EnvNow(2, running=2, present=2), Condition(Until.DESIRED), R),
        (EnvNow(2, running=2, present=3), Condition(Until.DESIRED), W),
        (EnvNow(2, running=1, present=2), Condition(Until.DESIRED), W),
        (EnvNow(2, running=2, present=3, attached=1), Condition(Until.DESIRED), W),
        (EnvNow(2, running=3, present=3, attached=1), Condition(Until.DESIRED), R),
        (EnvNow(1, running=2, present=2), Condition(Until.DESIRED), W),
        (None, Condition(Until.DESIRED), G),
        (EnvNow(2, running=2, present=2), Condition(Until.NODE_FAILED), W),
        (EnvNow(2, running=1, failed=1, present=2), Condition(Until.NODE_FAILED), R),
        (EnvNow(0, deleting=True), Condition(Until.NODE_FAILED), W),
        (None, Condition(Until.NODE_FAILED), G),
        (EnvNow(0, nodes=()), Condition(Until.EMPTY), R),
        (EnvNow(0), Condition(Until.EMPTY), W),
        (EnvNow(0, nodes=(node(1, "DELETING"),)), Condition(Until.EMPTY), W),
        (EnvNow(0, nodes=(node(1, attached=True),)), Condition(Until.EMPTY), R),
        (None, Condition(Until.EMPTY), R),
        (EnvNow(0, deleting=True), Condition(Until.DELETED), W),
        (None, Condition(Until.DELETED), R),
        (EnvNow(nodes=(node(1),)), Condition(Until.NODES_GONE, ids=frozenset({"node-2"})), R),
        (EnvNow(nodes=(node(1),)), Condition(Until.NODES_GONE, ids=frozenset({"node-1", "node-2"})), W),
        (EnvNow(), Condition(Until.NODES_GONE, ids=frozenset({"node-2"})), W),
        (None, Condition(Until.NODES_GONE, ids=frozenset({"node-2"})), R),
        (EnvNow(nodes=(node(1),)), Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-1"})), R),
        (EnvNow(nodes=(node(1, "CREATED"),)), Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-1"})), W),
        (EnvNow(nodes=()), Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-1"})), W),
        (None, Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-1"})), G),
        (EnvNow(nodes=(node(1),)), Condition(Until.INSTANCES_GONE, ids=frozenset({"ins-1"})), W),
        (EnvNow(nodes=()), Condition(Until.INSTANCES_GONE, ids=frozenset({"ins-1"})), R),
    ],
)
def test_what_has_come_true(now: EnvNow | None, condition: Condition, verdict: Verdict) -> None:
    assert judge_env(now, condition) is verdict


@pytest.mark.parametrize(
    ("now", "condition", "fails"),
    [
        (EnvNow(3, running=0, failed=1, present=3), running(2), False),
        (EnvNow(3, running=0, failed=2, present=3), running(2), True),
        (EnvNow(2, running=0, present=0), running(3), False),
        (EnvNow(2, running=1, failed=1, present=2), Condition(Until.DESIRED), True),
        (EnvNow(2, running=1, present=2), Condition(Until.DESIRED), False),
        (
            EnvNow(nodes=(node(1, "ABNORMAL"), node(2))),
            Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-1", "ins-2"})),
            True,
        ),
        (
            EnvNow(nodes=(node(1, "ABNORMAL"), node(2, "CREATED"))),
            Condition(Until.INSTANCES_RUNNING, ids=frozenset({"ins-2"})),
            False,
        ),
        (EnvNow(0, failed=1, nodes=(node(1, "ABNORMAL"),)), Condition(Until.EMPTY), False),
    ],
)
def test_what_can_not_come_true_by_itself(now: EnvNow, condition: Condition, fails: bool) -> None:
    patient = Condition(condition.until, condition.nodes, condition.ids)
    hasty = Condition(condition.until, condition.nodes, condition.ids, fail_fast=True)
    assert judge_env(now, hasty) is (F if fails else W)
    assert judge_env(now, patient) is W


def test_what_is_running_counts_although_others_failed() -> None:
    now = EnvNow(3, running=2, failed=1, present=3)
    assert judge_env(now, Condition(Until.NODES_RUNNING, 2, fail_fast=True)) is R


@pytest.mark.parametrize("until", list(Until))
def test_a_condition_survives_json(until: Until) -> None:
    condition = Condition(until, 3, frozenset({"a", "b"}), fail_fast=True)
    assert Condition.from_json(condition.to_json()) == condition


def test_an_unknown_condition_is_an_error() -> None:
    with pytest.raises(ValueError, match="sunshine"):
        Condition.from_json({"until": "sunshine"})


NODES = [
    {"ComputeNodeId": "node-1", "ComputeNodeState": "RUNNING", "TaskInstanceNumAvailable": 1},
    {"ComputeNodeId": "node-2", "ComputeNodeState": "RUNNING", "TaskInstanceNumAvailable": 0},
    {"ComputeNodeId": "node-3", "ComputeNodeState": "PENDING", "TaskInstanceNumAvailable": 0},
    {"ComputeNodeId": "node-4", "ComputeNodeState": "RUNNING", "ResourceOrigin": "USER_ATTACHED"},
    {"ComputeNodeId": "node-5", "ComputeNodeState": "CREATION_FAILED"},
]
VIEW = {
    "EnvId": "env-1",
    "DesiredComputeNodeCount": 4,
    "AttachedComputeNodeCount": 1,
    "ComputeNodeMetrics": {"RunningCount": 3, "CreationFailedCount": 1, "AbnormalCount": 0},
    "NextAction": "",
}


def test_it_is_read_from_answers() -> None:
    detail = DescribeComputeEnv.result_type().parse_response({**VIEW, "ComputeNodeSet": NODES})
    now = env_now(detail)
    assert (now.desired, now.running, now.failed, now.attached, now.deleting) == (4, 3, 1, 1, False)
    assert now.present == 5, "the counts leave out what is PENDING"
    assert str(now) == "3 of 4 nodes run, 1 attached, 1 failed"
    assert removable(now) == ["node-1", "node-5"]
    assert removable(now, busy=True) == ["node-1", "node-2", "node-5"]
    [row] = DescribeComputeEnvs.result_type().parse_response({"ComputeEnvSet": [VIEW]}).compute_env_set
    assert (env_now(row).nodes, env_now(row).present) == (None, 4)


def test_little_is_needed_of_an_answer() -> None:
    now = env_now(DescribeComputeEnv.result_type().parse_response({"EnvId": "env-1", "NextAction": "DELETING"}))
    assert now == EnvNow(deleting=True, nodes=())
