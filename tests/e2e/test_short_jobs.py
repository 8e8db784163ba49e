"""Jobs that end before the worker that has deferred their task has wound up.

Airflow up to 3.3.2 fails a task that is resumed as early as that (apache/airflow#72716), although its job succeeded.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_for

pytestmark = pytest.mark.timeout(900)

#: As in the DAG.
JOBS = 4

DAG = "short_jobs"

#: What a task's log says when its job has ended long before its worker.
HELD = "the worker that deferred this task has not ended yet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where workers and tests tell each other how far they are, see the plugin."""
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[AirflowStack]:
    """An Airflow with the plugin, and with Airflow's own interval of heartbeats."""
    here = Path(__file__).parent
    with (
        EmulatorProcess(
            tmp_path_factory.mktemp("emulator"), settings={"mode": "simulate", "simulated_seconds": "1"}
        ) as emulator,
        PostgresServer(tmp_path_factory.mktemp("postgres")) as database,
        AirflowStack(
            tmp_path_factory.mktemp("stack"),
            dags=here / "short_dags",
            connections={"tencentcloud_default": json.loads(emulator.connection)},
            config={
                # Room for the tasks that are resumed, beside the workers that have not ended.
                "core": {"plugins_folder": str(here / "plugins"), "parallelism": str(2 * JOBS)},
                "workers": {"min_heartbeat_interval": "5"},
            },
            variables={"SLOW_WORKER_FOLDER": str(folder)},
            database=database.url,
        ) as stack,
    ):
        yield stack


@pytest.fixture
def gate(folder: Path) -> Iterator[Path]:
    """Lets workers end that have deferred their task; none is made before the test does it."""
    gate = folder / "gate"
    yield gate
    gate.touch()


def instances(airflow: AirflowStack, run_id: str) -> list[dict[str, Any]]:
    return airflow.api.task_instances(DAG, run_id)


def logs(airflow: AirflowStack, run_id: str) -> list[str]:
    return [airflow.api.log(DAG, run_id, "job", map_index=index) for index in range(JOBS)]


def workers(airflow: AirflowStack) -> str:
    """What workers log that is not part of a task's log: they are the scheduler's."""
    return (airflow.logs / "scheduler.log").read_text(errors="replace")


def all_green(airflow: AirflowStack, run_id: str, timeout: float) -> None:
    state = airflow.api.wait_for_run(DAG, run_id, timeout=timeout)
    assert state == "success", airflow.api.describe_run(DAG, run_id)
    assert [instance["state"] for instance in instances(airflow, run_id)] == ["success"] * JOBS


def test_no_task_is_resumed_before_its_worker_has_ended(airflow: AirflowStack, folder: Path, gate: Path) -> None:
    def held() -> bool:
        states = [instance["state"] for instance in instances(airflow, run_id)]
        assert not {"success", "failed"} & {*states}, airflow.api.describe_run(DAG, run_id)
        assert not list(folder.glob("resumed_*")), "its worker has not ended"
        return states == ["deferred"] * JOBS and all(HELD in log for log in logs(airflow, run_id))

    run_id = airflow.api.trigger(DAG)
    wait_for("the jobs have ended, the workers have not", held, timeout=300, check=airflow.check)
    assert len(list(folder.glob("winding_up_*"))) == JOBS
    gate.touch()
    all_green(airflow, run_id, 300)
    assert not any("error" in log.lower() for log in logs(airflow, run_id))
    assert "XCom not found" not in workers(airflow)


def test_links_that_have_nothing_are_not_there(airflow: AirflowStack, gate: Path) -> None:
    gate.touch()
    run_id = airflow.api.trigger(DAG)
    all_green(airflow, run_id, 300)
    for index in range(JOBS):
        links = airflow.api.get(f"dags/{DAG}/dagRuns/{run_id}/taskInstances/job/links", map_index=index)["extra_links"]
        assert "/console/jobs/job-" in links.pop("Batch job"), "the emulator's page"
        assert links == {"Compute environment": None, "Task template": None, "Logs in COS": None}
        path = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/job/xcomEntries"
        keys = {entry["key"] for entry in airflow.api.get(path, map_index=index)["xcom_entries"]}
        assert "tcbatch_job_url" in keys
        assert not {"tcbatch_env_url", "tcbatch_template_url", "tcbatch_logs_url"} & keys


@contextlib.contextmanager
def starved(airflow: AirflowStack, part: str, awake: float, asleep: float) -> Iterator[None]:
    """A part of Airflow that gets little of the CPU: it is stopped most of the time."""
    process, over = airflow.parts[part], threading.Event()

    def alternate() -> None:
        while not over.is_set():
            process.send_all(signal.SIGSTOP)
            over.wait(asleep)
            process.send_all(signal.SIGCONT)
            over.wait(awake)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_all_are_green_where_the_api_server_is_slow(airflow: AirflowStack, gate: Path) -> None:
    gate.touch()
    runs = [airflow.api.trigger(DAG) for _ in range(3)]
    with starved(airflow, "api-server", awake=0.3, asleep=0.7):
        # Its state is read from the database.
        for run_id in runs:
            assert airflow.api.wait_for_run(DAG, run_id, timeout=600) == "success"
    for run_id in runs:
        all_green(airflow, run_id, 60)
    assert "XCom not found" not in workers(airflow)
