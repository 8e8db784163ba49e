from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.models.env_views import Activity
from airflow_provider_tcbatch.policies.compute_env.failure_report import FailedNode, env_report, failed_nodes
from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow, Node
from airflow_provider_tcbatch.policies.failure_hints import advice, lacks_stock


def activity(node: str, state: str = "FAILED", reason: str = "", **more: Any) -> Activity:
    return Activity(compute_node_id=node, activity_state=state, state_reason=reason, **more)


def test_the_newest_failure_of_each_node_counts() -> None:
    now = EnvNow(
        nodes=(
            Node("node-1", "CREATION_FAILED"),
            Node("node-2", "RUNNING"),
            Node("node-3", "CREATING"),
            Node("n-4", ""),
        )
    )
    found = failed_nodes(
        now,
        [
            activity("node-1", reason="newest", cause="CreateComputeEnv"),
            activity("node-1", reason="older"),
            activity("node-2", reason="it runs now"),
            activity("node-3", "PROCESSING"),
            activity("node-3", reason="is made anew"),
            activity("node-9", reason="is gone"),
        ],
    )
    assert [(node.node_id, node.state, node.reason) for node in found] == [
        ("node-1", "CREATION_FAILED", "newest"),
        ("node-3", "CREATING", "is made anew"),
    ]
    assert found[0].cause == "CreateComputeEnv"


def test_a_lost_node_has_no_failed_activity() -> None:
    now = EnvNow(nodes=(Node("node-1", "ABNORMAL", "ins-1"),))
    [node] = failed_nodes(now, [activity("node-1", "SUCCEED")])
    assert node.headline() == "node node-1 (CVM instance ins-1) is ABNORMAL (it was lost after it had run)"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("InternalError.CallCvm:ResourcesSoldOut.SpecifiedInstanceType", "no stock"),
        ("InternalError.CallCvm:InvalidParameterValue.InsufficientOffering", "no stock"),
        ("InternalError.CallCvm:LimitExceeded.InstanceQuota", "quota"),
        ("InternalError.CallCvm:InvalidImageId.NotFound", "EnvData.ImageId"),
        ("InternalError.CallCvm:InvalidParameterValue.InsufficientPrice", "MaxPrice"),
        ("InternalError.CallCvm:InvalidInstanceType.Malformed", "not offered here"),
        ("InternalError.CallCvm:VpcIpIsUsed", "network"),
    ],
)
def test_what_to_change(reason: str, word: str) -> None:
    assert word in str(advice(reason))
    assert lacks_stock(reason) is (word == "no stock")


def test_what_is_not_known_is_only_shown() -> None:
    assert advice("Something.New") is None
    text = env_report("env-1", "pool", EnvNow(2, failed=1), [FailedNode("node-1", "ABNORMAL", reason="Something.New")])
    assert text == (
        "Compute environment env-1 (pool): 0 of 2 nodes run, 1 failed.\n- node node-1 is ABNORMAL: Something.New"
    )


def test_many_failures_of_one_kind_are_told_once() -> None:
    failed = [FailedNode(f"node-{number}", "CREATION_FAILED", reason="LimitExceeded.X") for number in range(8)]
    lines = env_report("env-1", None, EnvNow(8, failed=8), failed, hints=["Hint."], url="https://x").splitlines()
    assert lines[6] == "- and 3 more nodes"
    assert [line for line in lines if line.startswith("What to do")] == [lines[7]]
    assert lines[8:] == ["Hint.", "Console: https://x"]


def test_an_environment_that_is_gone() -> None:
    assert env_report("env-1", None, None, []) == "Compute environment env-1: it does not exist."
