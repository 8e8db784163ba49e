"""The jobs of a DAG, as the emulator has them in its books, and what tests do to the task that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for


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


def task_process(airflow: AirflowStack, run: Run) -> psutil.Process:
    """The process that executes the task of a run."""
    found: list[psutil.Process] = []

    def look() -> bool:
        ti_id = airflow.api.task_instance(run.dag_id, run.run_id, "job")["id"]
        found[:] = [process for process in [airflow.task_process(ti_id)] if process is not None]
        return bool(found)

    wait_for(f"a process executes {run.dag_id}", look, timeout=60)
    return found[0]


def stored(run: Run) -> None:
    """Wait until the worker has stored the job's id."""
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)


def waiting(run: Run, books: Books) -> None:
    """Wait until the job runs, and its task, deferred or not, waits for it."""
    books.wait_for("RUNNING")
    if run.dag_id == "deferred":
        run.wait_for_task("job", "deferred")
    else:
        stored(run)


def goes_on(run: Run) -> None:
    """Wait until a second try has found the job of the first one."""
    wait_for("a second try", lambda: run.try_number("job") == 2, timeout=120)
    wait_for("it goes on with the job", lambda: "which an earlier try submitted" in run.log("job", 2), timeout=60)


def finish(run: Run, gate: Path) -> None:
    """Let the job, and so the run, come to its end."""
    gate.touch()
    run.succeed()
