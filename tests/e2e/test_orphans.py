"""What a run leaves behind that nobody could clean up after is found and ended; what somebody owns is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.e2e.books import Books, finish, task_process
from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = pytest.mark.timeout(400)


def command(airflow: AirflowStack, *words: str) -> dict[str, dict[str, Any]]:
    """``airflow tcbatch orphans``; what it lists, by id."""
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "tcbatch", "orphans", "--grace", "0", "--output", "json", *words],
        env=airflow.environment(),
        cwd=airflow.folder,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {row["id"]: row for row in json.loads(done.stdout)}


@pytest.fixture
def hook(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> TCBatchHook:
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.connection)
    return TCBatchHook()


def test_a_run_that_was_killed_for_good_is_cleaned_up_after(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, hook: TCBatchHook, tmp_path: Path
) -> None:
    books, others = Books(emulator, "left_behind"), Books(emulator, "sync")
    live = trigger("sync", gate=str(tmp_path / "gate"))
    run = trigger("left_behind", gate=str(tmp_path / "gate"))
    [job_id] = books.wait_for("RUNNING")
    [live_id] = others.wait_for("RUNNING")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    env_id = run.xcom("machines")

    # The worker is gone, and with it whoever could have ended the job; and nothing of the run is tried again.
    task = task_process(airflow, run)
    worker = task.parent()
    assert worker is not None
    for process in (worker, task):
        process.kill()
    airflow.api.set_run_state(run.dag_id, run.run_id, "failed")
    wait_for("its tasks are over", lambda: not going(run), timeout=60)
    assert (books.states, others.states) == (["RUNNING"], ["RUNNING"])

    # A maintenance DAG finds it …
    sweep = trigger("sweep")
    sweep.succeed()
    found = {row["id"]: (row["kind"], row["fate"]) for row in sweep.xcom("sweep")}
    assert found[job_id] == ("job", "orphan")
    assert found[env_id] == ("environment", "orphan")
    assert live_id not in found
    assert books.states == ["RUNNING"], "it was not told to end anything"

    # … and the command ends it.
    assert command(airflow, "--all")[live_id]["fate"] == "spared"
    ended = command(airflow, "--end", "--yes")
    assert (ended[job_id]["result"], ended[env_id]["result"]) == ("ended", "ended")
    assert books.states == ["FAILED"]
    assert env_id not in {view.env_id for view in hook.describe_compute_envs()}
    assert others.states == ["RUNNING"]
    finish(live, tmp_path / "gate")
    assert others.states == ["SUCCEED"]
    assert job_id not in command(airflow)


def going(run: Run) -> list[str]:
    """Tasks of a run that have not ended."""
    over = ("success", "failed", "skipped", "upstream_failed", "removed")
    tasks = run.stack.api.task_instances(run.dag_id, run.run_id)
    return [task["task_id"] for task in tasks if task["state"] not in over]
