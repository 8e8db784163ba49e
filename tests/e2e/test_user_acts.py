"""Whatever the user does, clearing, marking, killing: one generation of a task has one job.

Real scheduler, workers, triggerer; the emulator's own books say which jobs there were and what became of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.books import Books, finish, stored, task_process, waiting
from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = pytest.mark.timeout(400)


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


@pytest.mark.parametrize("dag_id", ["sync", "deferred"])
def test_a_clear_while_it_waits(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path, dag_id: str
) -> None:
    books = Books(emulator, dag_id)
    run = trigger(dag_id, gate=str(tmp_path / "gate"))
    waiting(run, books)
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
    stored(run)
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
    waiting(run, books)
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
    waiting(run, books)
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
