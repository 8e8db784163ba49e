"""Whatever dies, and whatever the user does: one generation of a task has one job.

Real scheduler, workers, triggerer; the emulator's own books say which jobs there were and what became of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = pytest.mark.timeout(400)


class Books:
    """The jobs of one DAG since the test began, as the emulator knows them."""

    def __init__(self, emulator: EmulatorProcess, dag_id: str) -> None:
        self._emulator = emulator
        self._prefix = f"{dag_id}-job-"
        self._before = {job["job_id"] for job in self._all()}

    def _all(self) -> list[dict[str, Any]]:
        jobs: list[dict[str, Any]] = self._emulator.control("jobs")["jobs"]
        return [job for job in jobs if job["name"].startswith(self._prefix)]

    @property
    def jobs(self) -> dict[str, str]:
        """State by id, oldest first."""
        return {job["job_id"]: job["state"] for job in self._all() if job["job_id"] not in self._before}

    @property
    def states(self) -> list[str]:
        """The states of all jobs, oldest first."""
        return list(self.jobs.values())

    def wait_for(self, *states: str) -> list[str]:
        """Wait until the jobs are in these states, oldest first; their ids."""
        wait_for(f"jobs in {states}, are {self.states}", lambda: self.states == list(states), timeout=90)
        return list(self.jobs)


@pytest.fixture
def settings(emulator: EmulatorProcess) -> Iterator[Callable[..., None]]:
    """Change settings of the emulator for one test."""
    before: dict[str, Any] = {}

    def change(**changes: Any) -> None:
        now = emulator.control("settings")
        before.update({name: now[name] for name in changes if name not in before})
        emulator.control("settings", method="PATCH", body=changes)

    yield change
    emulator.control("settings", method="PATCH", body=before)


def task_process(airflow: AirflowStack, run: Run) -> psutil.Process:
    """The process that executes the task of a run."""
    found: list[psutil.Process] = []

    def look() -> bool:
        ti_id = airflow.api.task_instance(run.dag_id, run.run_id, "job")["id"]
        found[:] = [process for process in [airflow.task_process(ti_id)] if process is not None]
        return bool(found)

    wait_for(f"a process executes {run.dag_id}", look, timeout=60)
    return found[0]


def goes_on(run: Run) -> None:
    """Wait until a second try has found the job of the first one."""
    wait_for("a second try", lambda: run.try_number("job") == 2, timeout=120)
    wait_for("it goes on with the job", lambda: "which an earlier try submitted" in run.log("job", 2), timeout=60)


def finish(run: Run, gate: Path) -> None:
    """Let the job, and so the run, come to its end."""
    gate.touch()
    run.succeed()


# -- something dies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dag_id", ["sync", "deferred"])
def test_a_worker_killed_before_it_could_store_the_answer(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, dag_id: str
) -> None:
    """The service has the job, the worker is waiting for the answer: it dies, and another one takes over."""
    slow = {"kind": "slow_answer", "action": "SubmitJob", "seconds": 60, "count": 1}
    emulator.control("faults", method="POST", body=slow)
    books = Books(emulator, dag_id)
    run = trigger(dag_id, gate=str(tmp_path / "gate"))
    wait_for("the job is there", lambda: len(books.jobs) == 1, timeout=90)
    assert run.xcom("job", "job_id") is None
    task_process(airflow, run).kill()
    goes_on(run)
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED"]


def test_a_worker_killed_while_it_waits(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "sync")
    run = trigger("sync", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    task_process(airflow, run).kill()
    goes_on(run)
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED"]


def test_the_triggerer_is_killed(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    run.wait_for_task("job", "deferred")
    airflow.kill_part("triggerer")
    airflow.start_part("triggerer")
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED"]


def test_the_scheduler_is_killed_with_its_workers(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books, others = Books(emulator, "sync"), Books(emulator, "deferred")
    run, other = (trigger(dag_id, gate=str(tmp_path / "gate")) for dag_id in ("sync", "deferred"))
    books.wait_for("RUNNING")
    other.wait_for_task("job", "deferred")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    airflow.kill_part("scheduler")
    airflow.start_part("scheduler")
    goes_on(run)
    finish(run, tmp_path / "gate")
    other.succeed()
    assert (books.states, others.states) == (["SUCCEED"], ["SUCCEED"])


def test_a_frozen_triggerer_comes_back(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    """Its triggers have been given to another one meanwhile; Airflow then calls on_kill, which must spare the job."""
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    run.wait_for_task("job", "deferred")
    first = airflow.parts["triggerer"]
    wait_for("the trigger runs", lambda: "starting" in run.log("job"), timeout=60)
    owner = run.stack.api.triggerer_of(run.dag_id, run.run_id, "job")
    first.send_all(signal.SIGSTOP)
    try:
        with airflow.second_triggerer():
            wait_for(
                "the other triggerer has taken over",
                lambda: run.stack.api.triggerer_of(run.dag_id, run.run_id, "job") not in (None, owner),
                timeout=90,
            )
            first.send_all(signal.SIGCONT)
            wait_for(
                "the first one notices that its trigger is gone",
                lambda: "is left alone" in run.log("job"),
                timeout=60,
            )
            assert books.states == ["RUNNING"]
            finish(run, tmp_path / "gate")
    finally:
        first.send_all(signal.SIGCONT)
    assert books.states == ["SUCCEED"]


# -- the user acts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dag_id", ["sync", "deferred"])
def test_a_clear_while_it_waits(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, dag_id: str
) -> None:
    books = Books(emulator, dag_id)
    run = trigger(dag_id, gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    if dag_id == "deferred":
        run.wait_for_task("job", "deferred")
    else:
        wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    airflow.api.clear(run.dag_id, run.run_id, "job")
    books.wait_for("FAILED", "RUNNING")
    finish(run, tmp_path / "gate")
    assert books.states == ["FAILED", "SUCCEED"]


def test_a_clear_while_the_job_can_not_be_ended_yet(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, settings: Callable[..., None]
) -> None:
    """A SUBMITTED job can't be terminated, and a killed worker has five seconds: the next try ends it."""
    settings(submitted_seconds=10)
    books = Books(emulator, "sync")
    run = trigger("sync", gate=str(tmp_path / "gate"))
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    assert books.states == ["SUBMITTED"]
    airflow.api.clear(run.dag_id, run.run_id, "job")
    settings(submitted_seconds=0.1)
    books.wait_for("FAILED", "RUNNING")
    finish(run, tmp_path / "gate")
    assert books.states == ["FAILED", "SUCCEED"]


def test_a_clear_after_the_end_runs_the_work_again(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    run.wait_for_task("job", "deferred")
    finish(run, tmp_path / "gate")
    (tmp_path / "gate").unlink()
    airflow.api.clear(run.dag_id, run.run_id, "job")
    books.wait_for("SUCCEED", "RUNNING")
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED", "SUCCEED"]


def test_a_clear_after_a_failure_runs_the_work_again(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess
) -> None:
    books = Books(emulator, "doomed")
    run = trigger("doomed")
    assert run.wait() == "failed"
    first = run.xcom("job", "job_id")
    airflow.api.clear(run.dag_id, run.run_id, "job")
    wait_for("another job", lambda: len(books.jobs) == 2, timeout=60)
    assert run.wait() == "failed"
    assert books.states == ["FAILED", "FAILED"]
    assert run.xcom("job", "job_id") not in (None, first)


@pytest.mark.parametrize("how", ["mark", "term"])
def test_a_running_task_is_killed(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, how: str
) -> None:
    books = Books(emulator, "sync")
    run = trigger("sync", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    if how == "mark":
        airflow.api.set_task_state(run.dag_id, run.run_id, "job", "failed")
        books.wait_for("FAILED")
    else:
        # As when its machine is shut down: the job goes with it, and the retry has another.
        os.kill(task_process(airflow, run).pid, signal.SIGTERM)
        books.wait_for("FAILED", "RUNNING")
        finish(run, tmp_path / "gate")
        assert books.states == ["FAILED", "SUCCEED"]


@pytest.mark.parametrize("dag_id", ["sync", "deferred"])
def test_a_run_is_marked_as_failed(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, dag_id: str
) -> None:
    books = Books(emulator, dag_id)
    run = trigger(dag_id, gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    if dag_id == "deferred":
        run.wait_for_task("job", "deferred")
    # What a trigger begins with, or a worker.
    line = "starting" if dag_id == "deferred" else "is RUNNING"
    wait_for("it is watched", lambda: line in run.log("job"), timeout=60)
    airflow.api.set_run_state(run.dag_id, run.run_id, "failed")
    books.wait_for("FAILED")


def test_execution_timeout_ends_a_deferred_wait(trigger: Trigger, emulator: EmulatorProcess) -> None:
    books = Books(emulator, "timed")
    run = trigger("timed")
    assert run.wait() == "failed"
    assert books.states == ["FAILED"]
    message = run.log("job")
    assert "ExecutionTimeout" in message
    assert "Never ended: task 'only' instance 0 (RUNNING)" in message


def test_a_repair_runs_only_what_failed(trigger: Trigger, emulator: EmulatorProcess, tmp_path: Path) -> None:
    books = Books(emulator, "repaired")
    gate, runs = tmp_path / "gate", tmp_path / "runs"
    run = trigger("repaired", gate=str(gate), runs=str(runs))
    books.wait_for("FAILED")
    gate.touch()
    run.succeed()
    assert books.states == ["SUCCEED"], "the same job"
    ran = runs.read_text().split()
    assert (ran.count("0"), ran.count("2")) == (1, 1)
    assert ran.count("1") >= 2
