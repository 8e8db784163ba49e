"""Machines that come, work and go, on real Airflow processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.e2e.conftest import Run
from tests.support.emulator import EmulatorProcess

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def slow_machines(emulator: EmulatorProcess) -> Iterator[None]:
    """No wait is over before the worker that deferred it has wound up."""
    names = ("node_creating_seconds", "node_deleting_seconds")
    now = emulator.control("settings")
    emulator.control("settings", method="PATCH", body=dict.fromkeys(names, 4))
    yield
    emulator.control("settings", method="PATCH", body={name: now[name] for name in names})


@pytest.mark.usefixtures("slow_machines")
def test_scaled_up_for_a_job_and_to_zero_after_it(
    trigger: Callable[..., Run], emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trigger("environment")
    for task_id in ("up", "work", "zero"):
        run.wait_for_task(task_id, "deferred")
    run.succeed()
    env_id = run.xcom("empty")
    ends = {"desired": 2, "running": 2, "failed": 0, "present": 2, "attached": 0}
    assert run.xcom("up", "tcbatch_env") == ends
    assert run.xcom("work", "tcbatch_summary")["instances"] == {"SUCCEED": 2}
    assert run.xcom("zero", "tcbatch_env") == dict.fromkeys(ends, 0)
    # The job ran on its nodes, which the environment remembers and has no more.
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.connection)
    hook = TCBatchHook()
    assert hook.describe_compute_env(env_id).compute_node_set == []
    made = {activity.instance_id for activity in hook.describe_compute_env_activities(env_id)}
    instances = hook.describe_task(run.xcom("work"), "only").task_instance_set or []
    assert {instance.compute_node_instance_id for instance in instances} <= made
    hook.delete_compute_env(env_id)
