from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow.triggers.base import TaskSkippedEvent

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers._base import sensor_trigger as observing
from airflow_provider_tcbatch.triggers.event_wait import TCBatchEventWaitTrigger
from tests.support.processes import wait_for
from tests.unit.conftest import job


async def only_event(trigger: Any) -> dict[str, Any]:
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


@pytest.mark.parametrize(
    "given",
    [
        {"event_names": ["JOB_FAILED"], "variables": {"team": "etl"}, "carried": {"errors": 1}},
        {"event_names": "TASK_INSTANCE_FAILED", "job_name": "a", "task_name": "b", "task_instance_index": [1, 2]},
        {
            "event_names": ["COMPUTE_NODE_RUNNING"],
            "env_id": "env-1",
            "poll_interval": 5,
            "deadlines": {"timeout": 12.5},
        },
    ],
)
def test_it_survives_the_way_to_another_process(given: dict[str, Any]) -> None:
    path, arguments = TCBatchEventWaitTrigger(**given).serialize()
    assert path == "airflow_provider_tcbatch.triggers.event_wait.TCBatchEventWaitTrigger"
    assert TCBatchEventWaitTrigger(**arguments).serialize() == (path, arguments)


async def test_errors_arrive_as_events() -> None:
    event = await only_event(TCBatchEventWaitTrigger(event_names="JOB_FAILED", tencentcloud_conn_id="no_such"))
    assert event["status"] == "error"
    assert "no_such" in event["message"]


async def test_who_is_skipped_is_told_why(connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def pushed(ti: Any, xcoms: Any, timeout_at: float | None) -> None:
        return None

    monkeypatch.setattr(observing, "push_xcoms", pushed)
    job_id = TCBatchHook(connection).submit_job(job("exit 1"))
    skips = {"push": True, "skip": "soft_fail"}
    trigger = TCBatchEventWaitTrigger(event_names="JOB_SUCCEED", job_id=job_id, poll_interval=0.2, ending=skips)
    said: list[str] = []
    monkeypatch.setattr(trigger.log, "warning", lambda form, *parts: said.append(form % parts))
    [event] = [event async for event in trigger.run()]
    assert isinstance(event, TaskSkippedEvent)
    assert said == [f"It can't come true any more: Job {job_id} is FAILED. soft_fail skips the task"]


async def test_what_it_tells(connection: str, emulator: Emulator) -> None:
    job_id = TCBatchHook(connection).submit_job(job("true"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    trigger = TCBatchEventWaitTrigger(
        event_names="JOB_SUCCEED", job_id=job_id, poll_interval=0.2, carried={"give_up_at": 7}
    )
    event = await only_event(trigger)
    assert event.pop("event")["job_id"] == job_id
    assert event.pop("observed_at") == pytest.approx(time.time(), abs=60)
    told = {"heard": False, "source": "poll", "event_received_at": None}
    assert event == {"status": "reached", "limit": None, "message": None, "give_up_at": 7, **told}


async def test_many_waits_for_environments_share_their_looks(connection: str, emulator: Emulator) -> None:
    """The service answers 2 requests a second about the nodes of environments."""

    def looks() -> tuple[int, int]:
        names = ("batch.DescribeComputeEnvs", "batch.DescribeComputeEnv")
        counted = emulator.on_loop(lambda services: [services.host.calls.counts[name] for name in names])
        return counted[0], counted[1]

    emulator.configure(node_submitted_seconds=0, node_pending_seconds=0, node_creating_seconds=0.1)
    emulator.on_loop(lambda services: services.batch.envs.clear())
    hook = TCBatchHook(connection)
    env: dict[str, Any] = {"EnvName": "many", "EnvData": {"InstanceType": "S5.MEDIUM4"}, "DesiredComputeNodeCount": 0}
    env_ids = [hook.create_compute_env(env) for _ in range(8)]
    before = looks()
    waits = [
        asyncio.create_task(only_event(TCBatchEventWaitTrigger(event_names=name, env_id=env_id, poll_interval=0.5)))
        for env_id in env_ids
        for name in ("COMPUTE_NODE_RUNNING", "COMPUTE_ENV_DELETED")
    ]
    try:
        again = before[0] + 3
        await asyncio.to_thread(wait_for, "they are looked at again", lambda: looks()[0] >= again, timeout=30)
        assert looks()[1] == before[1], "there is nothing to look at yet"
        await asyncio.to_thread(hook.modify_compute_env, env_ids[0], desired_compute_node_count=1)
        ran = await asyncio.wait_for(waits[0], 60)
        assert (ran["status"], ran["event"]["env_id"]) == ("reached", env_ids[0])
        assert looks()[1] <= before[1] + 2
        await asyncio.to_thread(hook.delete_compute_env, env_ids[1])
        ends = await asyncio.wait_for(asyncio.gather(waits[2], waits[3]), 60)
        assert ends[0]["status"] in ("failed", "error"), "no node can run any more"
        assert (ends[1]["status"], ends[1]["event"]["name"]) == ("reached", "COMPUTE_ENV_DELETED")
        assert not any(wait.done() for wait in waits[4:])
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        emulator.on_loop(lambda services: services.batch.envs.clear())


async def test_who_is_ended_leaves_the_job_alone(connection: str, emulator: Emulator) -> None:
    hook = TCBatchHook(connection)
    job_id = hook.submit_job(job("sleep 2"))
    waiting = asyncio.create_task(only_event(TCBatchEventWaitTrigger(event_names="JOB_SUCCEED", job_id=job_id)))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert await asyncio.to_thread(emulator.wait_job, job_id) == "SUCCEED"


async def test_a_task_that_is_not_there_is_an_error(connection: str, emulator: Emulator) -> None:
    job_id = TCBatchHook(connection).submit_job(job("true"))
    trigger = TCBatchEventWaitTrigger(event_names="TASK_FAILED", job_id=job_id, task_name="other", poll_interval=0.2)
    event = await only_event(trigger)
    assert event["status"] == "error"
    assert "no task 'other'" in event["message"]
