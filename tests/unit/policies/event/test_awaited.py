"""What a wait for events waits for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.models.notification import EventName
from airflow_provider_tcbatch.models.states import ComputeNodeState, State
from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow
from airflow_provider_tcbatch.policies.event.awaited import FAMILIES, AwaitedEvents
from airflow_provider_tcbatch.policies.job.targets import TargetVerdict

NAMES = [name.value for name in EventName]


def awaited(event_names: Any, **chosen: Any) -> AwaitedEvents:
    return AwaitedEvents.parse(event_names=event_names, **chosen)


@pytest.mark.parametrize("name", NAMES)
def test_every_event_announces_a_state_of_something(name: str) -> None:
    wait = awaited(name)
    [family] = wait.families
    [state] = wait.states(family)
    assert f"{family}_{state}" == name
    assert wait.implied(family, state) == name
    assert state in {*State, *ComputeNodeState, "CREATED", "DELETED"}
    assert BatchEvent(name).family == family
    assert BatchEvent(name).state == state


@pytest.mark.parametrize(
    ("names", "chosen", "heard", "looked_at"),
    [
        ("JOB_FAILED", {}, ["JOB_FAILED"], []),
        ("JOB_FAILED", {"job_id": "job-1"}, [], ["JOB"]),
        ("JOB_FAILED", {"job_name": "a"}, [], ["JOB"]),
        ("JOB_FAILED", {"job_id": "job-1", "variables": {"a": "b"}}, ["JOB_FAILED"], ["JOB"]),
        ("TASK_FAILED", {"job_id": "job-1"}, ["TASK_FAILED"], []),
        ("TASK_FAILED", {"task_name": "main"}, ["TASK_FAILED"], []),
        ("TASK_FAILED", {"job_id": "job-1", "task_name": "main"}, [], ["TASK"]),
        ("TASK_INSTANCE_FAILED", {"job_name": "a", "task_name": "main"}, [], ["TASK_INSTANCE"]),
        (["JOB_FAILED", "TASK_FAILED"], {"job_id": "job-1"}, ["TASK_FAILED"], ["JOB"]),
        ("COMPUTE_ENV_DELETED", {"env_id": "env-1"}, [], ["COMPUTE_ENV"]),
        ("COMPUTE_NODE_RUNNING", {"env_name": "a"}, [], ["COMPUTE_NODE"]),
        ("COMPUTE_NODE_ABNORMAL", {"env_id": "env-1"}, ["COMPUTE_NODE_ABNORMAL"], ["COMPUTE_NODE"]),
        ("COMPUTE_NODE_CREATED", {}, ["COMPUTE_NODE_CREATED"], []),
    ],
)
def test_what_must_be_heard(names: Any, chosen: dict[str, Any], heard: list[str], looked_at: list[str]) -> None:
    wait = awaited(names, **chosen)
    assert list(wait.heard_only) == heard
    assert list(wait.looked_at) == looked_at


@pytest.mark.parametrize(
    ("names", "state", "verdict", "implied"),
    [
        ("JOB_RUNNING", "RUNNABLE", "waiting", None),
        ("JOB_RUNNING", "SUCCEED", "reached", "JOB_RUNNING"),
        ("JOB_RUNNING", "FAILED", "failed", None),
        (["JOB_RUNNING", "JOB_SUCCEED"], "SUCCEED", "reached", "JOB_SUCCEED"),
        ("JOB_SUCCEED", "FAILED_INTERRUPTED", "failed", None),
        ("JOB_FAILED", "FAILED_INTERRUPTED", "waiting", None),
        ("JOB_FAILED", "SUCCEED", "failed", None),
        ("JOB_FAILED_INTERRUPTED", "FAILED", "failed", None),
    ],
)
def test_what_a_state_tells(names: Any, state: str, verdict: str, implied: str | None) -> None:
    wait = awaited(names, job_id="job-1")
    assert wait.targets("JOB").judge(state) is TargetVerdict(verdict)
    assert wait.implied("JOB", state) == implied


def test_a_node_that_runs_was_created() -> None:
    assert awaited("COMPUTE_NODE_CREATED").implied("COMPUTE_NODE", "RUNNING") == "COMPUTE_NODE_CREATED"
    assert awaited("COMPUTE_NODE_CREATED").implied("COMPUTE_NODE", "CREATING") is None
    assert awaited("COMPUTE_NODE_CREATED").implied("COMPUTE_NODE", "CREATION_FAILED") is None


INSTANCE = BatchEvent("TASK_INSTANCE_FAILED", job_id="job-1", task_name="main", instance_index=2)


@pytest.mark.parametrize(
    ("chosen", "event", "expected"),
    [
        ({}, INSTANCE, True),
        ({"task_name": "main", "task_instance_index": [1, 2]}, INSTANCE, True),
        ({"task_name": "main", "task_instance_index": 1}, INSTANCE, False),
        ({"task_name": "other"}, INSTANCE, False),
        ({"job_id": "job-2"}, INSTANCE, False),
        ({"job_name": "a"}, INSTANCE, None),
        # It does not say which: the service is asked about the one that is wanted.
        ({"task_name": "main", "task_instance_index": 1}, BatchEvent(INSTANCE.name, job_id="job-1"), True),
        ({"task_name": "main", "task_instance_index": [1, 2]}, BatchEvent(INSTANCE.name, job_id="job-1"), False),
        ({"task_name": "main"}, BatchEvent(INSTANCE.name), False),
    ],
)
def test_what_matches(chosen: dict[str, Any], event: BatchEvent, expected: bool | None) -> None:
    wait = awaited("TASK_INSTANCE_FAILED", **chosen)
    assert wait.matches(wait.complete(event)) is expected


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            "job_id": st.just("job-1"),
            "task_name": st.just("main"),
            "task_instance_index": st.lists(st.integers(0, 9), min_size=1, max_size=3),
            "env_name": st.just("farm"),
            "variables": st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2),
        },
    ),
)
def test_what_is_accepted_can_come_and_survives_json(names: list[str], chosen: dict[str, Any]) -> None:
    try:
        wait = awaited(names, **chosen)
    except ValueError:
        return
    assert AwaitedEvents.parse(**json.loads(json.dumps(wait.to_json()))) == wait
    for name in wait.names:
        assert chosen.keys() - {"variables"} <= set(FAMILIES[BatchEvent(name).family])
        event = BatchEvent(
            name,
            job_id="job-1",
            task_name=wait.task_name,
            instance_index=wait.indexes[0] if wait.indexes else None,
            env_name=wait.env_name,
            variables=dict(wait.variables),
        )
        assert wait.matches(wait.complete(event)) is True


def test_in_words() -> None:
    wait = awaited(
        "TASK_INSTANCE_FAILED", job_name="a", task_name="b", task_instance_index=[0, 2], variables={"x": "y"}
    )
    assert str(wait) == "TASK_INSTANCE_FAILED of job 'a', task 'b', instance 0, 2 with x=y"
    assert str(awaited(["JOB_FAILED", "JOB_SUCCEED"])) == "JOB_FAILED or JOB_SUCCEED"


@pytest.mark.parametrize(
    ("names", "now", "worth"),
    [
        ("COMPUTE_NODE_RUNNING", EnvNow(states=frozenset({"CREATING", "CREATED"})), False),
        ("COMPUTE_NODE_RUNNING", EnvNow(states=frozenset({"CREATING", "RUNNING"})), True),
        ("COMPUTE_NODE_CREATED", EnvNow(states=frozenset({"RUNNING"})), True),
        ("COMPUTE_NODE_CREATED", EnvNow(states=frozenset({"ABNORMAL"})), False),
        ("COMPUTE_NODE_ABNORMAL", EnvNow(states=frozenset({"ABNORMAL"})), True),
        ("COMPUTE_NODE_ABNORMAL", EnvNow(deleting=True), True),
        ("COMPUTE_NODE_ABNORMAL", None, True),
        ("COMPUTE_ENV_DELETED", EnvNow(deleting=True, states=frozenset({"RUNNING"})), False),
        ("COMPUTE_ENV_DELETED", None, True),
        ("COMPUTE_ENV_CREATED", EnvNow(), True),
    ],
)
def test_when_an_environment_is_worth_a_look(names: str, now: EnvNow | None, worth: bool) -> None:
    awaited = AwaitedEvents.parse(event_names=names, env_id="env-1")
    assert awaited.worth_a_look(awaited.families[0], now) is worth
