from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers._base import ending
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger
from tests.unit.conftest import job

pytestmark = [pytest.mark.oldest, pytest.mark.middle]


async def only_event(trigger: TCBatchJobTrigger) -> dict[str, Any]:
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return dict(events[0])


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
    assert abs(event["observed_at"] - time.time()) < 60


async def test_it_gives_up_at_its_deadline(connection: str) -> None:
    job_id = TCBatchHook(connection).submit_job(job("sleep 600"))
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


def killed(monkeypatch: pytest.MonkeyPatch, job_id: str, state: str | None = "failed") -> TCBatchJobTrigger:
    """The trigger of a mapped task with this state."""
    trigger = TCBatchJobTrigger(job_id=job_id, cancel_on_kill=True)
    trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=2)  # type: ignore[assignment]
    answers = {"r": {"t_2": state, "t": "failed", "t_1": "failed"}}
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: answers))
    return trigger


@pytest.mark.parametrize(("state", "ends"), [("failed", True), ("success", True), ("deferred", False), (None, False)])
async def test_a_killed_wait_ends_a_job_even_while_it_is_submitted(
    connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, state: str | None, ends: bool
) -> None:
    """Airflow also calls this for a trigger that merely moves to another triggerer: the task's state decides."""
    emulator.configure(submitted_seconds=1.5)
    job_id = TCBatchHook(connection).submit_job(job("sleep 60"))
    await killed(monkeypatch, job_id, state).on_kill()
    if ends:
        assert await asyncio.to_thread(emulator.wait_job, job_id) == "FAILED"
    else:
        view = await asyncio.to_thread(TCBatchHook(connection).describe_job, job_id)
        assert view.next_action in (None, "")
        assert str(view.job_state) != "FAILED"
        await asyncio.to_thread(TCBatchHook(connection).terminate_job, job_id, patience=60)


async def test_a_killed_wait_does_not_take_the_services_word_for_the_end(
    connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """TerminateJob only says that a job is going to end."""
    emulator.configure(terminate_seconds=1.0)
    job_id = TCBatchHook(connection).submit_job(job("sleep 60"))
    trigger = killed(monkeypatch, job_id)
    await trigger.on_kill()
    assert str((await asyncio.to_thread(TCBatchHook(connection).describe_job, job_id)).job_state) == "FAILED"
    assert f"Job {job_id} has ended" in capsys.readouterr().out


async def test_a_job_that_does_not_end_in_time_is_told_of(
    connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ending, "KILL_SECONDS", 1.0)
    emulator.configure(terminate_seconds=4.0)
    job_id = TCBatchHook(connection).submit_job(job("sleep 60"))
    await killed(monkeypatch, job_id).on_kill()
    assert f"Job {job_id} is still RUNNING" in capsys.readouterr().out
    assert await asyncio.to_thread(emulator.wait_job, job_id) == "FAILED"


@pytest.mark.parametrize("how", ["airflow fails", "airflow is silent", "batch refuses"])
async def test_a_job_that_may_run_on_is_told_of(
    connection: str,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    job_id = TCBatchHook(connection).submit_job(job("sleep 60"))
    trigger, release = killed(monkeypatch, job_id), threading.Event()

    def answer(**_: Any) -> Any:
        if how == "airflow fails":
            raise RuntimeError("503")
        release.wait(60)

    if how == "batch refuses":
        emulator.faults.add("error", action="TerminateJob", code="UnauthorizedOperation")
    else:
        monkeypatch.setattr(ending, "GUARD_SECONDS", 0.5)
        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(answer))
    try:
        await asyncio.wait_for(trigger.on_kill(), 60)
    finally:
        release.set()
        emulator.faults.clear()
    [line] = [line for line in capsys.readouterr().out.splitlines() if "orphans --end" in line]
    assert job_id in line
    assert "warning" in line
    await asyncio.to_thread(TCBatchHook(connection).terminate_job, job_id, patience=60)
