from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ResourceBusy
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger
from airflow_provider_tcbatch.waits.sessions import scale_to_zero
from airflow_provider_tcbatch.watching import poller
from airflow_provider_tcbatch.watching.subscription import WatcherTimings
from tests.unit.conftest import job

ENV = {"EnvName": "pool", "EnvData": {"InstanceType": "S5.MEDIUM4"}, "ResourceMaxRetryCount": 0}


@pytest.fixture(autouse=True)
def alone(emulator: Emulator, connection: str) -> Iterator[None]:
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    yield
    emulator.on_loop(lambda services: services.batch.envs.clear())


def made(nodes: int) -> str:
    return TCBatchHook().create_compute_env({**ENV, "DesiredComputeNodeCount": nodes})


async def only_event(env_id: str, until: str, **options: Any) -> dict[str, Any]:
    trigger = TCBatchComputeEnvTrigger(env_id=env_id, until=until, poll_interval=0.2, **options)
    [event] = [event.payload async for event in trigger.run()]
    return dict(event)


def test_it_survives_the_way_to_another_process() -> None:
    trigger = TCBatchComputeEnvTrigger(
        env_id="env-1",
        until="nodes_gone",
        ids=["node-2", "node-1"],
        fail_fast=True,
        region="ap-beijing",
        poll_interval=5,
        deadlines={"timeout": 12.5},
        look_at=3.5,
        cancel_on_kill=True,
        carried={"since": 1.5},
    )
    path, arguments = trigger.serialize()
    assert path == "airflow_provider_tcbatch.triggers.compute_env.TCBatchComputeEnvTrigger"
    assert TCBatchComputeEnvTrigger(**arguments).serialize() == (path, arguments)


async def test_nodes_that_run() -> None:
    env_id = made(2)
    event = await only_event(env_id, "nodes_running", nodes=2, carried={"since": 1})
    assert event.pop("observed_at") == pytest.approx(time.time(), abs=30)
    assert event == {
        "status": "reached",
        "env_id": env_id,
        "counts": {"desired": 2, "running": 2, "failed": 0, "present": 2, "attached": 0},
        "limit": None,
        "message": None,
        "source": "poll",
        "event_received_at": None,
        "since": 1,
    }
    assert (await only_event(env_id, "desired"))["status"] == "reached"


async def test_a_node_that_fails(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    env_id = made(1)
    assert (await only_event(env_id, "node_failed"))["counts"]["failed"] == 1
    assert (await only_event(env_id, "nodes_running", nodes=1, fail_fast=True))["status"] == "failing"
    deadlines = {"timeout": time.time() + 1}
    event = await only_event(env_id, "nodes_running", nodes=1, deadlines=deadlines)
    assert (event["status"], event["limit"]) == ("timeout", "timeout")


async def test_an_environment_that_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    # How long one may be unknown to the service that has just been made.
    monkeypatch.setattr(poller, "WatcherTimings", partial(WatcherTimings, missing=1.0))
    env_id = made(0)
    deleted = asyncio.ensure_future(only_event(env_id, "deleted"))
    nodes = asyncio.ensure_future(only_event(env_id, "nodes_running", nodes=1))
    await asyncio.sleep(0.5)
    assert not deleted.done()
    await asyncio.to_thread(TCBatchHook().delete_compute_env, env_id)
    assert (await deleted)["status"] == "reached"
    assert (await deleted)["counts"] is None
    assert (await nodes)["status"] == "gone"


async def test_it_wakes_whoever_has_something_to_do() -> None:
    event = await only_event(made(0), "nodes_running", nodes=1, look_at=time.time() + 0.5)
    assert event["status"] == "look"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"tencentcloud_conn_id": "no_such_connection"}, "no_such_connection"), ({"env_id": "nonsense"}, "Malformed")],
)
async def test_errors_arrive_as_events(options: dict[str, Any], message: str) -> None:
    event = await only_event(**{"env_id": "env-00000000", "until": "deleted", **options})
    assert event["status"] == "error"
    assert message in event["message"]
    assert event["env_id"] == options.get("env_id", "env-00000000")


@pytest.mark.parametrize(
    ("state", "cancels", "left"),
    [("failed", True, 0), ("skipped", True, 0), ("success", True, 1), ("deferred", True, 1), ("failed", False, 1)],
)
async def test_a_task_that_is_put_to_an_end_keeps_no_nodes(
    monkeypatch: pytest.MonkeyPatch, state: str, cancels: bool, left: int
) -> None:
    env_id = made(1)
    assert (await only_event(env_id, "desired"))["status"] == "reached"
    trigger = TCBatchComputeEnvTrigger(env_id=env_id, until="deleted", cancel_on_kill=cancels)
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, id=uuid.uuid4())
    trigger.task_instance = ti  # type: ignore[assignment]
    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", lambda **_: {"r": {"t": state}})
    await trigger.on_kill()
    view = await asyncio.to_thread(TCBatchHook().describe_compute_env, env_id)
    assert view.desired_compute_node_count == left


@pytest.mark.parametrize("takes_busy", [False, True], ids=["refuses busy", "takes busy"])
async def test_what_runs_on_the_nodes_outlives_a_task_that_is_put_to_an_end(
    emulator: Emulator, takes_busy: bool
) -> None:
    emulator.configure(shrink_busy_nodes=takes_busy)
    env_id = made(2)
    assert (await only_event(env_id, "desired"))["status"] == "reached"
    hook, body = TCBatchHook(), job("sleep 60")
    del body["Tasks"][0]["ComputeEnv"]
    body["Tasks"][0]["EnvId"] = env_id
    job_id = await asyncio.to_thread(hook.submit_job, body)
    while (state := str((await asyncio.to_thread(hook.describe_job, job_id)).job_state)) != "RUNNING":
        assert state != "FAILED"
        await asyncio.sleep(0.05)
    with pytest.raises(ResourceBusy, match="something runs"):
        await scale_to_zero(hook.settings, env_id, patience=0.5)
    nodes = asyncio.ensure_future(only_event(env_id, "desired"))
    assert (await nodes)["counts"]["running"] == 1, "the idle one went"
    assert str((await asyncio.to_thread(hook.describe_job, job_id)).job_state) == "RUNNING"
    await asyncio.to_thread(hook.terminate_job, job_id, patience=60.0)
    await scale_to_zero(hook.settings, env_id, patience=60)
    view = await asyncio.to_thread(hook.describe_compute_env, env_id)
    assert view.desired_compute_node_count == 0
