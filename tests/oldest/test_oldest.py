"""What works, and what is lost, where Airflow has no task state store and does not tell triggers of a kill.

``make oldest`` runs this in a virtual environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.retry_policies import infrastructure_only
from tests.e2e.books import Books, task_process
from tests.e2e.conftest import Run
from tests.e2e.test_waits import (  # noqa: F401 - they run here, too
    test_a_failing_command_is_explained,
    test_a_job_from_a_template_file,
    test_an_event_ends_the_wait,
)
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

pytestmark = [pytest.mark.timeout(400), pytest.mark.oldest]

WARNING = "Nothing is kept about this task's job between tries (the task state store needs Airflow 3.3)"


@pytest.mark.middle
def test_the_log_says_what_is_lost(trigger: Trigger, emulator: EmulatorProcess, tmp_path: Path) -> None:
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    run.wait_for_task("job", "deferred")
    assert WARNING in run.log("job")
    (tmp_path / "gate").touch()
    run.succeed()
    assert books.states == ["SUCCEED"]


def test_a_killed_worker_takes_its_job_along(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "sync")
    run = trigger("sync", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    airflow.api.set_task_state(run.dag_id, run.run_id, "job", "failed")
    books.wait_for("FAILED")


def test_a_crash_leaves_its_job_and_the_retry_submits_another(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "sync")
    run = trigger("sync", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    wait_for("the id is stored", lambda: run.xcom("job", "job_id"), timeout=60)
    task_process(airflow, run).kill()
    first, second = books.wait_for("RUNNING", "RUNNING")
    (tmp_path / "gate").touch()
    run.succeed()
    assert run.xcom("job", "job_id") == second != first


def test_a_clear_of_a_deferred_task_leaves_its_job(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    books = Books(emulator, "deferred")
    run = trigger("deferred", gate=str(tmp_path / "gate"))
    books.wait_for("RUNNING")
    run.wait_for_task("job", "deferred")
    airflow.api.clear(run.dag_id, run.run_id, "job")
    books.wait_for("RUNNING", "RUNNING")
    (tmp_path / "gate").touch()
    run.succeed()


@pytest.mark.middle
def test_retry_policies_say_which_airflow_has_them() -> None:
    with pytest.raises(ConfigurationError, match=r"needs Airflow 3\.3 or later, this is 3\."):
        infrastructure_only()
