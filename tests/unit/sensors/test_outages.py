"""The API is away while sensors wait: they go on, whatever they wait for and however. Against the emulator."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.compute_env import TCBatchComputeEnvSensor
from airflow_provider_tcbatch.sensors.event import TCBatchEventSensor
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor
from airflow_provider_tcbatch.sensors.task_instance import TCBatchTaskInstanceSensor
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from airflow_provider_tcbatch.triggers.states import TCBatchJobStatesTrigger
from tests.support.outages import Outage
from tests.support.task_context import Task, TaskDeferred
from tests.unit.conftest import job
from tests.unit.sensors.sensing import MODES, event_of, run

pytestmark = pytest.mark.usefixtures("quick_pauses")

#: Sensors by what they wait for, made from the ids of a job, which is called ``held``, and of an environment.
KINDS: dict[str, Callable[..., Any]] = {
    "job": lambda job_id, env_id, **more: TCBatchJobSensor(job_ids=job_id, **more),
    "named job": lambda job_id, env_id, **more: TCBatchJobSensor(job_name="held", **more),
    "task": lambda job_id, env_id, **more: TCBatchTaskSensor(job_id=job_id, task_name="main", **more),
    "instances": lambda job_id, env_id, **more: TCBatchTaskInstanceSensor(job_id=job_id, task_name="main", **more),
    "environment": lambda job_id, env_id, **more: TCBatchComputeEnvSensor(env_id=env_id, until="empty", **more),
    "event of a job": lambda job_id, env_id, **more: TCBatchEventSensor(
        job_id=job_id, event_names="JOB_SUCCEED", **more
    ),
    "event of a task": lambda job_id, env_id, **more: TCBatchEventSensor(
        job_id=job_id, task_name="main", event_names="TASK_SUCCEED", **more
    ),
    "event of instances": lambda job_id, env_id, **more: TCBatchEventSensor(
        job_id=job_id, task_name="main", event_names="TASK_INSTANCE_SUCCEED", **more
    ),
    "event of a named job": lambda job_id, env_id, **more: TCBatchEventSensor(
        job_name="held", event_names="JOB_SUCCEED", **more
    ),
}


class World:
    """A job and an environment whose ends a test brings about."""

    def __init__(self, hook: TCBatchHook, gate: Path) -> None:
        self.hook = hook
        self._gate = gate
        wire = job(f"until [ -e {gate} ]; do sleep 0.02; done")
        self.job_id = hook.submit_job({**wire, "JobName": "held"})
        env = {"EnvName": "held", "DesiredComputeNodeCount": 1, "EnvType": "MANAGED"}
        self.env_id = hook.create_compute_env({**env, "EnvData": {"InstanceTypes": ["S1.SMALL1"]}})

    def end(self) -> None:
        """What is waited for comes true."""
        self._gate.touch()


@pytest.fixture
def world(connection: str, own_emulator: Emulator, tmp_path: Path) -> Iterator[World]:
    own_emulator.configure(
        node_submitted_seconds=0.02, node_pending_seconds=0.02, node_creating_seconds=0.05, node_deleting_seconds=0.05
    )
    world = World(TCBatchHook(connection), tmp_path / "gate")
    yield world
    world.end()


def sensor(kind: str, mode: str, world: World, **options: Any) -> Any:
    options = {"task_id": "sense", "poke_interval": 0.2, "timeout": 60, **MODES[mode], **options}
    return KINDS[kind](world.job_id, world.env_id, **options)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on(world: World, own_emulator: Emulator, api_outage: Outage, kind: str, mode: str) -> None:
    ends: list[Any] = []

    def sense() -> None:
        try:
            ends.append(run(sensor(kind, mode, world)))
        except BaseException as error:
            ends.append(error)

    if kind == "environment":

        def running() -> int:
            metrics = world.hook.describe_compute_env(world.env_id).compute_node_metrics
            return metrics.running_count or 0 if metrics is not None else 0

        until(running)
    sensing = threading.Thread(target=sense)
    before = looks(own_emulator)
    sensing.start()
    until(lambda: looks(own_emulator) > before + 2)
    api_outage.begin()
    api_outage.wait(25)
    assert not ends, ends
    world.end()
    own_emulator.wait_job(world.job_id)
    api_outage.end()
    if kind == "environment":
        world.hook.modify_compute_env(world.env_id, desired_compute_node_count=0)
    sensing.join(60)
    [end] = ends
    assert isinstance(end, tuple), end


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_only_its_own_timeout_ends_it(
    world: World, api_outage: Outage, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    api_outage.begin()
    with pytest.raises(AirflowSensorTimeout):
        run(sensor("job", mode, world, timeout=8))
    assert api_outage.failures >= 3


@pytest.mark.parametrize("mode", ["poke", "deferred"])
def test_its_log_says_so_once(world: World, api_outage: Outage, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    waiting = sensor("task", mode, world)

    def write(form: str, *arguments: object) -> None:
        lines.append(form % arguments if arguments else form)

    for name in ("info", "warning"):
        monkeypatch.setattr(type(waiting.log), name, lambda self, *words, **_: write(*words), raising=False)
    saying = "airflow_provider_tcbatch.triggers._base.log_writer.LogWriterMixin.log_line"
    monkeypatch.setattr(saying, lambda self, *words: write(*words))
    sensing = threading.Thread(target=lambda: run(waiting))
    api_outage.begin()
    sensing.start()
    api_outage.wait(30)
    api_outage.end()
    world.end()
    sensing.join(60)
    told = [sum(words in line for line in lines) for words in ("can't be asked since", "can be asked again")]
    assert told == [1, 1], lines


async def test_a_trigger_without_a_limit_has_patience(
    world: World, api_outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "1")
    api_outage.begin()
    event = await event_of(TCBatchJobStatesTrigger(job_ids=[world.job_id], poll_interval=0.2))
    assert event["status"] == "away"
    assert event["outage"]["until"] is None
    assert event["outage"]["since"] == pytest.approx(time.time(), abs=30)


def test_a_worker_that_can_not_look_defers_again(world: World, api_outage: Outage) -> None:
    """The wait has gone wrong for some reason, and now the API is away: that is not counted against it."""
    api_outage.begin()
    waiting = sensor("job", "deferred", world)
    event = {"status": "error", "message": "x", "errors": 3, "give_up_at": time.time() + 60}
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute_complete(Task().next_try(), event)
    assert deferred.value.trigger.event["errors"] == 3


class Rounds:
    """A task sensor whose trigger has ended at once, while what its worker asks for can't be had: what follows.

    :param seconds: until its ``timeout`` is over.
    """

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
        self.lines: list[str] = []
        self.sensor = sensor("task", "deferred", world)
        for name in ("info", "warning"):
            monkeypatch.setattr(
                type(self.sensor.log),
                name,
                lambda _, form, *words, **__: self.lines.append(form % words if words else form),
                raising=False,
            )
        self.give_up_at = time.time() + seconds
        self.event: Any = {"status": "error", "message": "x", "errors": 0, "give_up_at": self.give_up_at}

    def next(self) -> Any:
        """The trigger that the worker defers to."""
        with pytest.raises(TaskDeferred) as deferred:
            self.sensor.execute_complete(Task().next_try(), self.event)
        return deferred.value.trigger

    def told(self) -> list[int]:
        """How often the log says that the API is away, and that it is back."""
        words = ("can't be asked since", "can be asked again")
        return [sum(part in line for line in self.lines) for part in words]


def test_a_look_that_can_not_be_had_is_put_off(
    world: World, api_outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that ends at once would be no pause."""
    rounds = Rounds(world, monkeypatch, 60)
    api_outage.begin(action="DescribeJob")
    for number in (1, 2, 3, 4):
        trigger = rounds.next()
        assert isinstance(trigger, TCBatchApiTrigger)
        assert (trigger.rounds, trigger.until) == (number, rounds.give_up_at), "the pauses grow with their number"
        rounds.event = asyncio.run(event_of(trigger))
    api_outage.end()
    assert rounds.next().carried["errors"] == 1, "only what it said is counted"
    assert rounds.told() == [1, 1], rounds.lines


def test_a_look_that_can_not_be_had_ends_with_the_timeout(
    world: World, api_outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    rounds = Rounds(world, monkeypatch, 2)
    api_outage.begin(action="DescribeJob")

    def to_the_end() -> None:
        while True:
            rounds.event = asyncio.run(event_of(rounds.next()))

    with pytest.raises(AirflowSensorTimeout, match="can't be asked at the moment"):
        to_the_end()


def looks(emulator: Emulator) -> int:
    """How often anything was looked at."""
    counts: dict[str, int] = emulator.on_loop(lambda services: services.host.calls.as_json()["counts"])
    return sum(number for name, number in counts.items() if name.startswith("batch.Describe"))


def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
