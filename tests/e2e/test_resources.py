"""No compute environment stays behind, and none is taken away from under those who use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = pytest.mark.timeout(400)


class Envs:
    """The environments of one DAG, as the service knows them."""

    def __init__(self, dag_id: str) -> None:
        self._dag_id = dag_id
        self._hook = TCBatchHook()

    @property
    def ids(self) -> list[str]:
        """Those that there are."""
        views = self._hook.describe_compute_envs()
        return [view.env_id for view in views if str(view.env_name).startswith(f"{self._dag_id}-")]


@pytest.fixture
def envs(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Envs]:
    """The environments of a DAG: ``envs("broken")``."""
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.connection)
    return Envs


def task_process(airflow: AirflowStack, run: Run, task_id: str) -> psutil.Process:
    """The process that executes a task of a run."""
    process = airflow.task_process(airflow.api.task_instance(run.dag_id, run.run_id, task_id)["id"])
    assert process is not None
    return process


def states(run: Run) -> dict[str, str]:
    """The states of the tasks."""
    return {ti["task_id"]: ti["state"] for ti in run.stack.api.task_instances(run.dag_id, run.run_id)}


def test_a_task_in_the_middle_fails(trigger: Trigger, envs: Callable[[str], Envs]) -> None:
    present = envs("broken")
    run = trigger("broken")
    assert run.wait() == "failed"
    env_id = run.xcom("machines")
    assert states(run) == {
        "machines": "success",
        "breaks": "failed",
        "last": "upstream_failed",
        "machines_teardown": "success",
    }
    assert run.xcom("machines_teardown") == [env_id]
    assert present.ids == []
    # Who clears a task gets the machines that it needs, and they are taken away again.
    run.stack.api.clear(run.dag_id, run.run_id, "breaks", downstream=True)
    wait_for("another environment", lambda: run.xcom("machines") not in (None, env_id), timeout=60)
    assert run.wait() == "failed"
    assert states(run)["machines_teardown"] == "success"
    assert present.ids == []


def test_the_set_up_is_killed_before_it_knows_what_it_made(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, envs: Callable[[str], Envs]
) -> None:
    slow = {"kind": "slow_answer", "action": "CreateComputeEnv", "seconds": 60, "count": 1}
    emulator.control("faults", method="POST", body=slow)
    present = envs("broken")
    run = trigger("broken")
    wait_for("the environment is there", lambda: len(present.ids) == 1, timeout=90)
    [env_id] = present.ids
    assert run.xcom("machines", "env_id") is None
    task_process(airflow, run, "machines").kill()
    assert run.wait() == "failed"
    assert states(run) == {
        "machines": "failed",
        **dict.fromkeys(("breaks", "last"), "upstream_failed"),
        "machines_teardown": "success",
    }
    assert run.xcom("machines_teardown") == [env_id]
    assert present.ids == []


def test_mapped_tasks_keep_their_machines_until_they_end(
    trigger: Trigger, envs: Callable[[str], Envs], tmp_path: Path
) -> None:
    present = envs("only_mapped")
    run = trigger("only_mapped", gate=str(tmp_path / "gate"))

    def waiting() -> list[str]:
        instances = run.stack.api.task_instances(run.dag_id, run.run_id)
        return [ti["state"] for ti in instances if ti["task_id"] == "job" and ti["map_index"] >= 0]

    wait_for("both wait", lambda: waiting() == ["deferred"] * 2, timeout=90)
    wait_for("both are watched", lambda: all("starting" in run_log(run, index) for index in (0, 1)), timeout=60)
    assert present.ids == [run.xcom("machines")]
    assert states(run)["machines_teardown"] is None
    (tmp_path / "gate").touch()
    run.succeed()
    assert states(run)["machines_teardown"] == "success"
    assert present.ids == []


def run_log(run: Run, map_index: int) -> str:
    """The log of an instance of the mapped task."""
    return run.stack.api.log(run.dag_id, run.run_id, "job", 1, map_index)


def test_two_runs_at_a_time_share_one(
    trigger: Trigger, airflow: AirflowStack, envs: Callable[[str], Envs], tmp_path: Path
) -> None:
    present = envs("shared")
    gates = [tmp_path / "first", tmp_path / "second"]
    first = trigger("shared", gate=str(gates[0]))
    first.wait_for_task("job", "deferred")
    second = trigger("shared", gate=str(gates[1]))
    second.wait_for_task("job", "deferred")
    env_id = first.xcom("machines")
    assert second.xcom("machines") == env_id
    assert present.ids == [env_id]
    wait_for("both jobs are watched", lambda: all("starting" in run.log("job") for run in (first, second)), timeout=60)
    gates[0].touch()
    first.succeed()
    assert first.xcom("machines_teardown") == []
    assert present.ids == [env_id], "the second run still uses it"
    # Who puts an end to a run does not put an end to its tear-down.
    airflow.api.set_run_state(second.dag_id, second.run_id, "failed")
    wait_for("the last user's tear-down", lambda: second.xcom("machines_teardown") == [env_id], timeout=90)
    assert second.wait() == "failed"
    assert present.ids == []
