from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger
from tests.unit.conftest import job


async def only_event(trigger: TCBatchJobTrigger) -> dict[str, Any]:
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return events[0]


def test_it_survives_the_way_to_another_process() -> None:
    trigger = TCBatchJobTrigger(job_id="job-1", region="ap-beijing", poll_interval=5, deadlines={"timeout": 12.5})
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_tcbatch.triggers.job.TCBatchJobTrigger"
    assert TCBatchJobTrigger(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize(("command", "state"), [("sleep 2", "SUCCEED"), ("sleep 2; exit 1", "FAILED")])
async def test_it_says_how_a_job_ended(connection: str, command: str, state: str) -> None:
    job_id = TCBatchHook(connection).submit_job(job(command))
    event = await only_event(TCBatchJobTrigger(job_id=job_id, poll_interval=60))
    assert (event["status"], event["job_id"], event["state"]) == ("ended", job_id, state)
    assert abs(event["observed_at"] - time.time()) < 5


async def test_it_gives_up_at_its_deadline(connection: str) -> None:
    job_id = TCBatchHook(connection).submit_job(job("sleep 30"))
    limits = {"timeout": time.time() + 2.5}
    event = await only_event(TCBatchJobTrigger(job_id=job_id, poll_interval=0.1, deadlines=limits))
    assert (event["status"], event["limit"]) == ("timeout", "timeout")
    assert event["state"] in ("SUBMITTED", "RUNNABLE", "STARTING", "RUNNING")
    TCBatchHook(connection).terminate_job(job_id)


async def test_errors_arrive_as_events(emulator: Emulator, connection: str) -> None:
    malformed = await only_event(TCBatchJobTrigger(job_id="nonsense", poll_interval=0.1))
    assert malformed["status"] == "error"
    assert "JobIdMalformed" in malformed["message"]
    missing = await only_event(TCBatchJobTrigger(job_id="job-1", tencentcloud_conn_id="no_such_connection"))
    assert missing["status"] == "error"
    assert "no_such_connection" in missing["message"]
