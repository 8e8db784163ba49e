"""Every sensor for jobs, every state, every way to wait: the service is simulated, so that no program runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor
from airflow_provider_tcbatch.sensors.task_instance import TCBatchTaskInstanceSensor
from tests.support.task_context import AirflowSkipException, Task, TaskDeferred
from tests.unit.conftest import job
from tests.unit.sensors.sensing import MODES, run

#: How an instance goes on its way, by where that leads: seconds of running, exit code, options of its task.
WAYS: dict[str, tuple[float, int, dict[str, Any]]] = {
    "STARTING": (3600, 0, {}),
    "RUNNING": (3600, 0, {}),
    "SUCCEED": (0.3, 0, {}),
    "FAILED": (0.3, 3, {}),
    "FAILED_INTERRUPTED": (0.3, 3, {"FailedAction": "INTERRUPT"}),
}

#: What of a sensor is about states, and how a state is told in what it returns.
KINDS: dict[str, Callable[..., Any]] = {
    "job": lambda job_id, **more: TCBatchJobSensor(job_ids=job_id, **more),
    "task": lambda job_id, **more: TCBatchTaskSensor(job_id=job_id, task_name="main", **more),
    "instances": lambda job_id, target_states="SUCCEED", **more: TCBatchTaskInstanceSensor(
        job_id=job_id, task_name="main", states=target_states, **more
    ),
}

every_sensor = pytest.mark.parametrize("kind", KINDS)
every_mode = pytest.mark.parametrize("mode", MODES)


@pytest.fixture
def submit(connection: str, emulator: Emulator) -> Iterator[Callable[[str], str]]:
    """Submits a job that comes to a state; no sooner than a sensor has looked at it for the first time."""
    emulator.configure(mode="simulate")
    hook = TCBatchHook(connection)
    submitted: list[str] = []

    def submit(state: str) -> str:
        seconds, exit_code, options = WAYS[state]
        script = {"EMULATOR_SECONDS": str(seconds), "EMULATOR_EXIT_CODE": str(exit_code)}
        variables = [{"Name": name, "Value": value} for name, value in script.items()]
        submitted.append(hook.submit_job(job("true", instances=2, EnvVars=variables, **options)))
        return submitted[-1]

    yield submit
    for job_id in submitted:
        hook.end_job(job_id)


def sensor(kind: str, mode: str, job_id: str, **options: Any) -> Any:
    return KINDS[kind](job_id, **{"task_id": "sense", "poke_interval": 0.2, "timeout": 120, **MODES[mode], **options})


@every_mode
@every_sensor
@pytest.mark.parametrize("state", WAYS)
def test_it_comes_to_a_state(submit: Callable[[str], str], kind: str, mode: str, state: str) -> None:
    job_id = submit(state)
    result, xcoms = run(sensor(kind, mode, job_id, target_states=state))
    if kind == "instances":
        assert result == {"have": 2, "never": 0, "needed": 2, "total": 2}
    else:
        # What is short may be over when somebody looks: it has been there.
        told = result[job_id] if kind == "job" else result
        assert told == state or (state, told) == ("STARTING", "RUNNING")
    assert xcoms["tcbatch_job_url"] == TCBatchHook().settings.job_url(job_id)


@every_mode
@every_sensor
@pytest.mark.parametrize("state", ["FAILED", "FAILED_INTERRUPTED"])
@pytest.mark.parametrize("choice", ["", "soft_fail", "never_fail"])
def test_it_comes_to_another_state(submit: Callable[[str], str], kind: str, mode: str, state: str, choice: str) -> None:
    waiting = sensor(kind, mode, submit(state), **({choice: True} if choice else {}))
    with pytest.raises(AirflowSkipException if choice else e.JobFailed):
        run(waiting)


@every_mode
@every_sensor
def test_it_does_not_come_to_a_failure(submit: Callable[[str], str], kind: str, mode: str) -> None:
    with pytest.raises(e.JobError):
        run(sensor(kind, mode, submit("SUCCEED"), target_states="FAILED"))


@every_mode
@every_sensor
@pytest.mark.parametrize("choice", ["", "soft_fail", "never_fail"])
def test_it_gives_up(submit: Callable[[str], str], kind: str, mode: str, choice: str) -> None:
    job_id = submit("RUNNING")
    waiting = sensor(kind, mode, job_id, timeout=0.5, **({choice: True} if choice else {}))
    # Airflow heeds never_fail at a timeout only after a deferral.
    skips = choice == "soft_fail" or (choice == "never_fail" and mode == "deferred")
    with pytest.raises(AirflowSkipException if skips else AirflowSensorTimeout):
        run(waiting)
    assert TCBatchHook().describe_job(job_id).job_state == "RUNNING", "it only observes"


@every_mode
@pytest.mark.parametrize("kind", ["job", "task"])
def test_failures_that_are_none(submit: Callable[[str], str], kind: str, mode: str) -> None:
    """Somebody may let the job run again, or end it."""
    job_id = submit("FAILED_INTERRUPTED")
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(kind, mode, job_id, failure_states=[], timeout=1.5))
    with pytest.raises(e.JobFailed):
        run(sensor(kind, mode, job_id, failure_states=["FAILED_INTERRUPTED"]))
    TCBatchHook().end_job(job_id)
    result, _ = run(sensor(kind, mode, job_id, target_states="FAILED", failure_states=[]))
    assert result == ({job_id: "FAILED"} if kind == "job" else "FAILED")


@every_sensor
def test_a_killed_sensor_leaves_the_job_alone(submit: Callable[[str], str], kind: str) -> None:
    """Whether its worker is killed, or its trigger: when the task is cleared, or marked as failed."""
    job_id = submit("RUNNING")
    run(sensor(kind, "poke", job_id, target_states="RUNNING"))
    waiting = sensor(kind, "deferred", job_id)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute(Task().next_try())
    waiting.on_kill()

    async def killed(trigger: Any) -> None:
        events = trigger.run()
        wait = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.5)
        wait.cancel()
        await asyncio.wait([wait])
        await trigger.on_kill()
        await trigger.cleanup()

    asyncio.run(killed(deferred.value.trigger))
    assert TCBatchHook().describe_job(job_id).job_state == "RUNNING"
