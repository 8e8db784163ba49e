from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.compute_env import TCBatchComputeEnvSensor
from tests.support.task_context import Task, TaskDeferred, instance_in

ENV = {"EnvName": "pool", "EnvData": {"InstanceType": "S5.MEDIUM4"}, "ResourceMaxRetryCount": 0}

both = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


@pytest.fixture(autouse=True)
def alone(emulator: Emulator, connection: str) -> Iterator[None]:
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    yield
    emulator.on_loop(lambda services: services.batch.envs.clear())


def made(nodes: int) -> str:
    return TCBatchHook().create_compute_env({**ENV, "DesiredComputeNodeCount": nodes})


def sense(env_id: str | None, until: str, **options: Any) -> Any:
    """What a sensor returns at its end, deferrals included."""
    options = {"poke_interval": 0.2, "timeout": 120, **options}
    given = {"env_id": env_id} if env_id is not None else {}
    sensor = TCBatchComputeEnvSensor(task_id="sense", until=until, **given, **options)
    context = Task().next_try()
    try:
        result = sensor.execute(context)
    except TaskDeferred as deferred:
        trigger = deferred.trigger
        while True:
            again = type(trigger)(**json.loads(json.dumps(trigger.serialize()[1])))
            try:
                result = sensor.resume_execution("execute_complete", {"event": asyncio.run(event_of(again))}, context)
                break
            except TaskDeferred as more:
                trigger = more.trigger
    assert instance_in(context).xcoms.keys() <= {"tcbatch_env_url", "tcbatch_wait"}
    sent = {name for name in sensor.hook.api.sent if not name.startswith("Describe")}
    assert not sent, "a sensor only observes"
    return result


async def event_of(trigger: Any) -> Any:
    [event] = [event.payload async for event in trigger.run()]
    return json.loads(json.dumps(event))


@both
def test_nodes_that_run(deferrable: bool) -> None:
    env_id = made(2)
    counts = {"desired": 2, "running": 2, "failed": 0, "present": 2, "attached": 0}
    assert sense(env_id, "nodes_running", nodes="2", deferrable=deferrable) == counts
    assert sense(None, "desired", env_name="pool", deferrable=deferrable) == counts


@both
def test_a_node_that_fails(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    assert sense(made(1), "node_failed", deferrable=deferrable)["failed"] == 1


@both
def test_what_is_deleted_already(deferrable: bool) -> None:
    assert sense("env-00000000", "deleted", deferrable=deferrable) is None
    assert sense(None, "deleted", env_name="nobody", deferrable=deferrable) is None


def test_what_is_being_deleted(emulator: Emulator) -> None:
    emulator.configure(env_deleting_seconds=1.0)
    env_id = made(0)
    TCBatchHook().delete_compute_env(env_id)
    with pytest.raises(e.ComputeEnvError, match="is being deleted"):
        sense(env_id, "nodes_running", deferrable=False)
    assert sense(env_id, "deleted", deferrable=True) is None


@both
def test_what_does_not_exist_has_no_nodes(deferrable: bool) -> None:
    with pytest.raises(e.NotFound, match="no compute environment"):
        sense("env-00000000", "nodes_running", deferrable=deferrable)


@both
def test_it_gives_up(deferrable: bool) -> None:
    with pytest.raises(AirflowSensorTimeout):
        sense(made(0), "nodes_running", deferrable=deferrable, timeout=1)


def test_reschedule_frees_the_worker() -> None:
    sensor = TCBatchComputeEnvSensor(task_id="sense", env_id=made(0), mode="reschedule", deferrable=False)
    assert sensor.reschedule
    assert sensor.poke(Task().next_try()) is False


def test_waiting_that_fails_again_and_again_ends() -> None:
    env_id = made(0)
    sensor = TCBatchComputeEnvSensor(task_id="sense", env_id=env_id, deferrable=True)
    event = {"status": "error", "message": "no network", "env_id": env_id, "errors": 3, "give_up_at": 0}
    with pytest.raises(e.ComputeEnvError, match="failed 4 times, the last time with: no network"):
        sensor.execute_complete(Task().next_try(), event)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute_complete(Task().next_try(), {**event, "errors": 2})
    assert deferred.value.trigger.carried["errors"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_id": "env-1", "until": "sunshine"}, "nodes_running"),
        ({"env_id": "env-1", "env_name": "pool"}, "not both"),
        ({}, "env_id or env_name"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        TCBatchComputeEnvSensor(task_id="sense", **options)
