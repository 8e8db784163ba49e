"""Whatever dies: one generation of a task has one job.

Real scheduler, workers, triggerer; the emulator's own books say which jobs there were and what became of them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.books import Books, finish, goes_on, task_process, waiting
from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = pytest.mark.timeout(400)


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
    waiting(run, books)
    task_process(airflow, run).kill()
    goes_on(run)
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED"]


def test_the_triggerer_is_killed(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    waiting(run, books)
    airflow.kill_part("triggerer")
    airflow.start_part("triggerer")
    finish(run, tmp_path / "gate")
    assert books.states == ["SUCCEED"]


def test_the_scheduler_is_killed_with_its_workers(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books, others = Books(emulator, "sync"), Books(emulator, "deferred")
    run, other = (trigger(dag_id, gate=str(tmp_path / "gate")) for dag_id in ("sync", "deferred"))
    waiting(run, books)
    waiting(other, others)
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
    waiting(run, books)
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
