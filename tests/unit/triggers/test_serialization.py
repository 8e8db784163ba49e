from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.serialization.decoders import smart_decode_trigger_kwargs

from airflow_provider_tcbatch.triggers._base.serialization import SignatureMixin
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger
from airflow_provider_tcbatch.triggers.states import TCBatchJobStatesTrigger

#: One value for each argument that is not the default.
OTHERS: dict[str, Any] = {
    "tencentcloud_conn_id": "other",
    "region": "ap-beijing",
    "poll_interval": 5.0,
    "deadlines": {"timeout": 12.5},
    "submitted_at": 1.5,
    "errors": 2,
    "min_success": 0,
    "fail_fast": True,
    "progress": True,
    "stream": 3,
    "cancel_on_kill": True,
}

WORKER = {"deferral": "1.50 2.0 3 here.1.2"}
#: What triggers of several jobs once stored, whether or not it was the default.
PLAIN: dict[str, Any] = {
    "tencentcloud_conn_id": "tencentcloud_default",
    "region": None,
    "poll_interval": 30.0,
    "deadlines": {},
}
#: And those of sensors.
SENSOR = {**PLAIN, "margin": None, "ending": None, "carried": {}}

#: Rows as triggers wrote them while each had a way of its own, and what of them is stored today.
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "job.TCBatchJobTrigger",
        {"job_id": "job-1", "deadlines": {"timeout": 12.5}, "submitted_at": 1.5, "cancel_on_kill": True, **WORKER},
        {"job_id": "job-1", "deadlines": {"timeout": 12.5}, "submitted_at": 1.5, "cancel_on_kill": True, **WORKER},
    ),
    (
        "job.TCBatchQuotaTrigger",
        {"until": 9.5, "waiting_since": 1.5, "attempts": 2, **WORKER},
        {"until": 9.5, "waiting_since": 1.5, "attempts": 2, **WORKER},
    ),
    (
        "job.TCBatchQuotaTrigger",
        {"until": 9.5, "waiting_since": 1.5, "attempts": 2, "record": {"job_id": "job-1"}},
        {"until": 9.5, "waiting_since": 1.5, "attempts": 2, "record": {"job_id": "job-1"}},
    ),
    (
        "api.TCBatchApiTrigger",
        {"event": {"status": "again"}, "since": 1.5, "until": 9.5, "job_ids": ["job-1"], "asked": "DescribeJob"},
        {"event": {"status": "again"}, "since": 1.5, "until": 9.5, "job_ids": ["job-1"], "asked": "DescribeJob"},
    ),
    (
        "jobs.TCBatchJobsTrigger",
        {
            "job_ids": ["job-1", "job-2"],
            **PLAIN,
            "interrupted": True,
            "cancel_on_kill": False,
            "carried": {"since": 1.5},
            **WORKER,
        },
        {"job_ids": ["job-1", "job-2"], "carried": {"since": 1.5}, **WORKER},
    ),
    (
        "jobs.TCBatchTaskInstancesTrigger",
        {"job_id": "job-1", "task_name": "main", "indexes": [1, 2], **PLAIN, "carried": {}, **WORKER},
        {"job_id": "job-1", "task_name": "main", "indexes": [1, 2], **WORKER},
    ),
    (
        "compute_env.TCBatchComputeEnvTrigger",
        {
            "env_id": "env-1",
            "env_name": None,
            "until": "nodes_gone",
            "nodes": 0,
            "ids": ["n1", "n2"],
            "fail_fast": True,
            "look_at": 5.5,
            "cancel_on_kill": True,
            **SENSOR,
            "carried": {"carried": {"errors": 0}},
            **WORKER,
        },
        {
            "env_id": "env-1",
            "until": "nodes_gone",
            "ids": ["n1", "n2"],
            "fail_fast": True,
            "look_at": 5.5,
            "cancel_on_kill": True,
            "carried": {"carried": {"errors": 0}},
            **WORKER,
        },
    ),
    (
        "compute_env.TCBatchComputeEnvTrigger",
        {
            "env_id": None,
            "env_name": "pool",
            "until": "empty",
            "nodes": 0,
            "ids": [],
            "fail_fast": False,
            "look_at": None,
            "cancel_on_kill": False,
            **SENSOR,
        },
        {"env_name": "pool", "until": "empty"},
    ),
    (
        "event_wait.TCBatchEventWaitTrigger",
        {
            "event_names": ["JOB_FAILED"],
            "job_id": "job-1",
            "job_name": None,
            "task_name": None,
            "task_instance_index": None,
            "env_id": None,
            "env_name": None,
            "variables": None,
            **SENSOR,
            "margin": 120.0,
            "ending": {"push": True, "skip": None},
            "carried": {"errors": 0},
        },
        {
            "event_names": ["JOB_FAILED"],
            "job_id": "job-1",
            "margin": 120.0,
            "ending": {"push": True, "skip": None},
            "carried": {"errors": 0},
        },
    ),
    (
        "states.TCBatchJobStatesTrigger",
        {"job_ids": ["job-1"], "job_name": None, "target_states": ("SUCCEED",), "failure_states": [], **SENSOR},
        {"job_ids": ["job-1"], "failure_states": []},
    ),
    (
        "states.TCBatchTaskStateTrigger",
        {
            "job_id": "job-1",
            "task_name": "main",
            "target_states": ["RUNNING"],
            "failure_states": None,
            **SENSOR,
            "deadlines": {"timeout": 12.5},
        },
        {"job_id": "job-1", "task_name": "main", "target_states": ["RUNNING"], "deadlines": {"timeout": 12.5}},
    ),
    (
        "states.TCBatchQuorumTrigger",
        {"job_id": "job-1", "task_name": "main", "indexes": [1, 2], "states": ("SUCCEED",), "quorum": 0.95, **SENSOR},
        {"job_id": "job-1", "task_name": "main", "indexes": [1, 2], "quorum": 0.95},
    ),
    (
        "event.TCBatchEventTrigger",
        {
            "queue_name": "q",
            "tencentcloud_conn_id": "tencentcloud_default",
            "region": None,
            "job_names": ["nightly"],
            "variables": {"a": "1", "b": "2"},
            "event_names": ["JOB_FAILED", "JOB_SUCCEED"],
            "confirm": True,
        },
        {
            "queue_name": "q",
            "event_names": ["JOB_FAILED", "JOB_SUCCEED"],
            "job_names": ["nightly"],
            "variables": {"a": "1", "b": "2"},
        },
    ),
    (
        "message.CmqMessageTrigger",
        {"queue_name": "q", "tencentcloud_conn_id": "tencentcloud_default", "region": "ap-beijing"},
        {"queue_name": "q", "region": "ap-beijing"},
    ),
]


def through_the_database(path: str, arguments: dict[str, Any]) -> Any:
    """A trigger as a triggerer makes it from its row."""
    row = Trigger(path, arguments)
    decode: Any = smart_decode_trigger_kwargs
    module, _, name = row.classpath.rpartition(".")
    return getattr(importlib.import_module(module), name)(**{name: decode(value) for name, value in row.kwargs.items()})


@pytest.mark.parametrize(("name", "row", "today"), ROWS)
def test_rows_of_before_are_read_and_what_is_stored_today_says_the_same(
    name: str, row: dict[str, Any], today: dict[str, Any]
) -> None:
    path = f"airflow_provider_tcbatch.triggers.{name}"
    trigger = through_the_database(path, row)
    assert trigger.serialize() == (path, today)
    again = through_the_database(path, today)
    assert again.serialize() == (path, today)
    assert vars(again).keys() == vars(trigger).keys()
    for name in row:
        assert getattr(again, name) == getattr(trigger, name)
        assert not row[name] or json.dumps(getattr(again, name)) == json.dumps(row[name])


def test_all_triggers_have_a_row_here() -> None:
    from airflow_provider_tcbatch.get_provider_info import get_provider_info

    modules = [module for entry in get_provider_info()["triggers"] for module in entry["python-modules"]]
    kinds = {
        f"{kind.__module__}.{kind.__name__}"
        for module in modules
        for kind in vars(importlib.import_module(module)).values()
        if isinstance(kind, type) and issubclass(kind, SignatureMixin) and kind.__module__ == module
    }
    assert kinds == {f"airflow_provider_tcbatch.triggers.{name}" for name, _, _ in ROWS}


def test_what_is_as_by_default_is_not_stored() -> None:
    assert TCBatchJobTrigger(job_id="job-1").serialize()[1] == {"job_id": "job-1"}
    assert TCBatchJobTrigger(job_id="job-1", deadlines={}, poll_interval=30).serialize()[1] == {"job_id": "job-1"}
    assert TCBatchComputeEnvTrigger(until="empty", ids=[], carried={}).serialize()[1] == {"until": "empty"}


def test_an_empty_list_that_says_something_is_stored() -> None:
    given: dict[str, Any] = {"job_ids": ["job-1"], "failure_states": []}
    assert TCBatchJobStatesTrigger(**given).serialize()[1] == given, "without it, all final states are failures"


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_is(name: str) -> None:
    given = {"job_id": "job-1", name: OTHERS[name]}
    assert TCBatchJobTrigger(**given).serialize()[1] == given


def test_no_argument_is_forgotten() -> None:
    given = {"job_id": "job-1", **OTHERS}
    assert TCBatchJobTrigger(**given).serialize()[1] == given
    assert vars(TCBatchJobTrigger(**given)).items() >= given.items()


def test_a_trigger_of_somebody_elses_that_is_built_on_one_keeps_what_it_adds() -> None:
    class Patient(TCBatchJobTrigger):
        def __init__(self, *, reason: str = "", **common: Any) -> None:
            super().__init__(**common)
            self.reason = reason

    assert Patient(job_id="job-1", reason="why", errors=1).serialize()[1] == {
        "job_id": "job-1",
        "reason": "why",
        "errors": 1,
    }
