from __future__ import annotations

import pytest

from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.policies.event.confirmation import EventFacts, completed, confirms, doubt, nameless

JOB, ENV = "job-1111", "env-1111"


@pytest.mark.parametrize(
    ("event", "state", "true"),
    [
        ("JOB_RUNNING", "RUNNING", True),
        ("JOB_RUNNING", "SUCCEED", True),
        ("JOB_RUNNING", "FAILED", True),
        ("JOB_RUNNING", "STARTING", False),
        ("JOB_SUCCEED", "SUCCEED", True),
        ("JOB_SUCCEED", "RUNNING", False),
        ("JOB_SUCCEED", "FAILED", False),
        ("JOB_FAILED", "FAILED", True),
        ("JOB_FAILED", "RUNNABLE", False),
        ("JOB_FAILED", "FAILED_INTERRUPTED", False),
        ("JOB_FAILED_INTERRUPTED", "FAILED_INTERRUPTED", True),
        ("JOB_FAILED_INTERRUPTED", "FAILED", True),
    ],
)
def test_a_job_must_have_come_to_the_state(event: str, state: str, true: bool) -> None:
    told, facts = BatchEvent(event, job_id=JOB), EventFacts(job_state=state)
    assert (doubt(told, facts) is None) is confirms(told, facts) is true


def test_a_job_that_is_not_there_bears_out_nothing() -> None:
    for name in ("JOB_SUCCEED", "TASK_FAILED", "TASK_INSTANCE_RUNNING", "COMPUTE_NODE_CREATED", ""):
        assert doubt(BatchEvent(name, job_id=JOB), EventFacts()) == f"there is no job {JOB}"


@pytest.mark.parametrize(
    ("event", "tasks", "why"),
    [
        ("TASK_SUCCEED", {"a": "SUCCEED"}, None),
        ("TASK_SUCCEED", {"a": "RUNNING"}, "task 'a' of job job-1111 is RUNNING"),
        ("TASK_SUCCEED", {"b": "SUCCEED"}, "job job-1111 has no task 'a'"),
        ("TASK_SUCCEED", None, None),
        ("TASK_INSTANCE_SUCCEED", {"a": "RUNNING"}, None),
        ("TASK_INSTANCE_SUCCEED", {"b": "RUNNING"}, "job job-1111 has no task 'a'"),
    ],
)
def test_a_task_must_be_one_of_the_jobs(event: str, tasks: dict[str, str] | None, why: str | None) -> None:
    told = BatchEvent(event, job_id=JOB, task_name="a")
    assert doubt(told, EventFacts(job_state="RUNNING", task_states=tasks)) == why


@pytest.mark.parametrize(
    ("event", "found", "borne_out", "confirmed"),
    [
        ("COMPUTE_ENV_CREATED", True, True, True),
        ("COMPUTE_ENV_CREATED", False, False, False),
        ("COMPUTE_ENV_DELETED", False, True, True),
        ("COMPUTE_ENV_DELETED", True, False, False),
        ("COMPUTE_NODE_RUNNING", True, True, True),
        ("COMPUTE_NODE_RUNNING", False, True, False),
    ],
)
def test_an_environment_must_be_there_or_gone(event: str, found: bool, borne_out: bool, confirmed: bool) -> None:
    told, facts = BatchEvent(event, env_id=ENV), EventFacts(env_found=found)
    assert (doubt(told, facts) is None) is borne_out
    assert confirms(told, facts) is confirmed


def test_what_names_nothing_is_neither_doubted_nor_confirmed() -> None:
    told = BatchEvent("JOB_SUCCEED")
    assert doubt(told, EventFacts()) is None
    assert not confirms(told, EventFacts())


def test_the_api_knows_names_better() -> None:
    told = BatchEvent("JOB_SUCCEED", job_id=JOB, job_name="forged", env_name="kept")
    found = completed(told, EventFacts(job_state="SUCCEED", job_name="real"))
    assert (found.job_name, found.env_name) == ("real", "kept")
    assert completed(told, None) is told


def test_a_name_may_be_missing_where_there_is_an_id() -> None:
    assert nameless(BatchEvent("JOB_SUCCEED", job_id=JOB))
    assert nameless(BatchEvent("COMPUTE_ENV_CREATED", env_id=ENV, job_name="another's"))
    assert not nameless(BatchEvent("JOB_SUCCEED", job_id=JOB, job_name="name"))
    assert not nameless(BatchEvent("JOB_SUCCEED"))
