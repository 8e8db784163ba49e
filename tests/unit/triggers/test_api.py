from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from tests.support.outages import Outage

pytestmark = pytest.mark.usefixtures("quick_pauses")


def waiting(until: float = 3600, **arguments: Any) -> TCBatchApiTrigger:
    event = {"status": "timeout", "limit": "timeout", "job_id": "job-1"}
    return TCBatchApiTrigger(event=event, since=time.time() - 5, until=time.time() + until, **arguments)


async def only_event(trigger: TCBatchApiTrigger) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


def test_it_survives_the_way_to_another_process() -> None:
    trigger = waiting(region="ap-beijing", job_ids=["job-1"], env_id="env-1", rounds=3, asked="DescribeJob")
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_tcbatch.triggers.api.TCBatchApiTrigger"
    assert TCBatchApiTrigger(**arguments).serialize() == (path, arguments)


async def test_many_wait_for_the_end_of_an_outage_with_few_questions(
    connection: str, api_outage: Outage, own_emulator: Emulator
) -> None:
    api_outage.begin()
    triggers = [waiting() for _ in range(50)]
    waits = asyncio.gather(*map(only_event, triggers))
    await api_outage.until(3)
    assert not waits.done()
    api_outage.end()
    asked = time.time()
    events = await waits
    assert own_emulator.services.host.calls.as_json()["counts"]["batch.DescribeJobs"] <= 10
    for trigger, event in zip(triggers, events, strict=True):
        outage = event.pop("outage")
        assert outage == {"since": trigger.since, "until": pytest.approx(asked, abs=30), "rounds": 1, "asked": None}
        assert event == trigger.event


async def test_an_answer_that_refuses_is_an_answer(connection: str, api_outage: Outage) -> None:
    api_outage.begin(kind="error", code="UnauthorizedOperation")
    event = await only_event(waiting())
    assert event["outage"]["until"] is not None


async def test_it_gives_up_in_time(connection: str, api_outage: Outage) -> None:
    api_outage.begin()
    event = await only_event(waiting(until=0.5))
    assert event["outage"]["until"] is None
    assert event["status"] == "timeout"


async def test_a_worker_tries_where_the_connection_can_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_tcbatch.triggers.api._BLIND_SECONDS", 0.01)
    event = await only_event(waiting(tencentcloud_conn_id="there_is_none"))
    assert event["outage"]["until"] is None
