from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers.jobs import TCBatchJobsTrigger, TCBatchTaskInstancesTrigger
from tests.unit.conftest import job


async def only_event(trigger: Any) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


@pytest.mark.parametrize(
    "trigger",
    [
        TCBatchJobsTrigger(
            job_ids=["job-1", "job-2"],
            region="ap-beijing",
            poll_interval=5,
            deadlines={"timeout": 12.5},
            interrupted=False,
            cancel_on_kill=True,
            carried={"since": 1.5},
        ),
        TCBatchTaskInstancesTrigger(job_id="job-1", task_name="main", indexes=[1, 2], carried={"since": 1.5}),
    ],
)
def test_it_survives_the_way_to_another_process(trigger: Any) -> None:
    path, arguments = trigger.serialize()
    assert path == f"airflow_provider_tcbatch.triggers.jobs.{type(trigger).__name__}"
    assert type(trigger)(**arguments).serialize() == (path, arguments)


async def test_it_waits_for_all_jobs(connection: str, emulator: Emulator) -> None:
    hook = TCBatchHook(connection)
    quick, slow = hook.submit_job(job("true")), hook.submit_job(job("sleep 2; exit 1"))
    event = await only_event(TCBatchJobsTrigger(job_ids=[quick, slow], poll_interval=60, carried={"job_ids": ["x"]}))
    assert event.pop("observed_at") == pytest.approx(time.time(), abs=30)
    assert (event.pop("source") == "event") is (event.pop("event_received_at") is not None)
    assert event == {
        "status": "ended",
        "states": {quick: "SUCCEED", slow: "FAILED"},
        "limit": None,
        "message": None,
        "job_ids": ["x"],
    }


@pytest.mark.parametrize("interrupted", [True, False])
async def test_whether_an_interrupted_job_has_ended(connection: str, emulator: Emulator, interrupted: bool) -> None:
    job_id = TCBatchHook(connection).submit_job(job("exit 1", FailedAction="INTERRUPT"))
    assert emulator.wait_job(job_id) == "FAILED_INTERRUPTED"
    deadlines = {"timeout": time.time() + 3}
    event = await only_event(
        TCBatchJobsTrigger(job_ids=[job_id], poll_interval=0.2, interrupted=interrupted, deadlines=deadlines)
    )
    assert event["status"] == ("ended" if interrupted else "timeout")
    assert event["states"] == {job_id: "FAILED_INTERRUPTED"}
    TCBatchHook(connection).terminate_job(job_id)


async def test_it_gives_up_at_its_deadline(connection: str) -> None:
    job_id = TCBatchHook(connection).submit_job(job("sleep 600"))
    deadlines = {"timeout": time.time() + 60, "execution_timeout": time.time() + 2}
    event = await only_event(TCBatchJobsTrigger(job_ids=[job_id], poll_interval=0.2, deadlines=deadlines))
    assert (event["status"], event["limit"]) == ("timeout", "execution_timeout")
    TCBatchHook(connection).terminate_job(job_id)


async def test_one_job_that_can_not_be_watched_ends_the_wait(connection: str) -> None:
    job_id = TCBatchHook(connection).submit_job(job("sleep 600"))
    event = await only_event(TCBatchJobsTrigger(job_ids=[job_id, "nonsense"], poll_interval=0.1))
    assert event["status"] == "error"
    assert "JobIdMalformed" in event["message"]
    TCBatchHook(connection).terminate_job(job_id)


@pytest.mark.parametrize(
    "trigger",
    [
        TCBatchJobsTrigger(job_ids=["job-1"], tencentcloud_conn_id="no_such_connection"),
        TCBatchTaskInstancesTrigger(
            job_id="job-1", task_name="main", indexes=[0], tencentcloud_conn_id="no_such_connection"
        ),
    ],
)
async def test_errors_arrive_as_events(trigger: Any) -> None:
    event = await only_event(trigger)
    assert event["status"] == "error"
    assert "no_such_connection" in event["message"]


async def test_instances_are_waited_for_whatever_the_others_do(connection: str, emulator: Emulator) -> None:
    hook = TCBatchHook(connection)
    job_id = hook.submit_job(job("[ $BATCH_TASK_INSTANCE_INDEX = 1 ] || sleep 600", instances=3))
    trigger = TCBatchTaskInstancesTrigger(job_id=job_id, task_name="main", indexes=[1], poll_interval=0.2)
    assert (await only_event(trigger))["status"] == "ended"
    trigger = TCBatchTaskInstancesTrigger(
        job_id=job_id, task_name="main", indexes=[1, 2], poll_interval=0.2, deadlines={"timeout": time.time() + 1}
    )
    event = await only_event(trigger)
    assert (event["status"], list(event["states"])) == ("timeout", ["2"])
    hook.terminate_job(job_id)


async def test_instances_of_nothing_are_an_error(connection: str) -> None:
    event = await only_event(TCBatchTaskInstancesTrigger(job_id="job-00000000", task_name="main", indexes=[0]))
    assert event["status"] == "error"
    assert "ResourceNotFound" in event["message"]
