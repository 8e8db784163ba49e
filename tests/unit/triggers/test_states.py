from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers.states import (
    TCBatchJobStatesTrigger,
    TCBatchQuorumTrigger,
    TCBatchTaskStateTrigger,
)
from tests.unit.conftest import job

pytestmark = pytest.mark.oldest

NOWHERE = {"tencentcloud_conn_id": "no_such_connection"}


async def only_event(trigger: Any) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


@pytest.mark.parametrize(
    "trigger",
    [
        TCBatchJobStatesTrigger(job_ids=["job-1"], target_states=["RUNNING"], failure_states=[], carried={"errors": 1}),
        TCBatchJobStatesTrigger(job_name="nightly", region="ap-beijing", poll_interval=5, deadlines={"timeout": 12.5}),
        TCBatchTaskStateTrigger(job_id="job-1", task_name="main", failure_states=["FAILED"]),
        TCBatchQuorumTrigger(job_id="job-1", task_name="main", indexes=[1, 2], states=["RUNNING"], quorum=0.95),
    ],
)
def test_it_survives_the_way_to_another_process(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    assert path == f"airflow_provider_tcbatch.triggers.states.{type(trigger).__name__}"
    assert type(trigger)(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize(
    "trigger",
    [
        TCBatchJobStatesTrigger(job_ids=["job-1"], **NOWHERE),
        TCBatchJobStatesTrigger(job_name="nightly", **NOWHERE),
        TCBatchTaskStateTrigger(job_id="job-1", task_name="main", **NOWHERE),
        TCBatchQuorumTrigger(job_id="job-1", task_name="main", **NOWHERE),
    ],
)
async def test_errors_arrive_as_events(trigger: Any) -> None:
    event = await only_event(trigger)
    assert event["status"] == "error"
    assert "no_such_connection" in event["message"]


@pytest.mark.parametrize("kind", [TCBatchTaskStateTrigger, TCBatchQuorumTrigger])
async def test_a_task_that_is_not_there_is_an_error(connection: str, emulator: Emulator, kind: Any) -> None:
    job_id = TCBatchHook(connection).submit_job(job("true"))
    event = await only_event(kind(job_id=job_id, task_name="other", poll_interval=0.2))
    assert event["status"] == "error"
    assert "other" in event["message"] or "ResourceNotFound" in event["message"]


async def test_a_task_is_read_only_when_the_watcher_sees_a_change(connection: str, emulator: Emulator) -> None:
    hook = TCBatchHook(connection)
    job_id = hook.submit_job(job("sleep 600"))
    await only_event(TCBatchJobStatesTrigger(job_ids=[job_id], target_states=["RUNNING"], poll_interval=0.1))
    before = reads(emulator, job_id)
    deadlines = {"timeout": time.time() + 6}
    trigger = TCBatchTaskStateTrigger(job_id=job_id, task_name="main", poll_interval=0.1, deadlines=deadlines)
    assert (await only_event(trigger))["status"] == "timeout"
    assert reads(emulator, job_id) == before + 1
    hook.end_job(job_id)


async def test_one_failed_job_ends_the_wait_for_all(connection: str, emulator: Emulator) -> None:
    hook = TCBatchHook(connection)
    slow, bad = hook.submit_job(job("sleep 600")), hook.submit_job(job("exit 1"))
    deadlines = {"timeout": time.time() + 60}
    event = await only_event(TCBatchJobStatesTrigger(job_ids=[slow, bad], poll_interval=0.2, deadlines=deadlines))
    assert (event["status"], event["states"][bad]) == ("failed", "FAILED")
    hook.end_job(slow)


@pytest.mark.parametrize("unmet_tasks", ["stay", "fail"])
@pytest.mark.parametrize("kind", [TCBatchTaskStateTrigger, TCBatchQuorumTrigger])
async def test_a_task_whose_turn_never_comes(connection: str, emulator: Emulator, kind: Any, unmet_tasks: str) -> None:
    """Whether such a task becomes FAILED itself is not documented."""
    emulator.configure(unmet_tasks=unmet_tasks)
    tasks = [{**job(command)["Tasks"][0], "TaskName": name} for name, command in (("a", "exit 1"), ("b", "true"))]
    depends = [{"StartTask": "a", "EndTask": "b"}]
    job_id = TCBatchHook(connection).submit_job({"JobName": "two", "Tasks": tasks, "Dependences": depends})
    deadlines = {"timeout": time.time() + 60}
    event = await only_event(kind(job_id=job_id, task_name="b", poll_interval=0.2, deadlines=deadlines))
    assert event["status"] == "failed"


def reads(emulator: Emulator, job_id: str) -> int:
    """How often DescribeJob was called for a job so far."""
    calls = emulator.on_loop(lambda services: services.host.calls.as_json()["calls"])
    return sum(call["action"] == "DescribeJob" and job_id in call["job_ids"] for call in calls)
