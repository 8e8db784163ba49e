"""DAGs that are started by events of jobs that others submit, on real Airflow processes and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.job import Job
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import wait_for

pytestmark = pytest.mark.timeout(400)

TOPIC, QUEUE = "jobs", "assets"

#: The events of a run that an asset has started, in the order of their storing.
EVENTS = """
SELECT event.extra FROM asset_event AS event
JOIN dagrun_asset_event AS link ON link.event_id = event.id
JOIN dag_run AS run ON run.id = link.dag_run_id WHERE run.dag_id = %s ORDER BY event.id
"""

CONFIG = {
    "tcbatch": {"deployment_id": "assets"},
    # Both watchers are there before the first message is read. What has not been stored comes again soon.
    "triggerer": {"shared_stream_cohort_grace_period": "3", "shared_stream_ack_timeout": "5"},
}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The metadata database."""
    with PostgresServer(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """An emulator in which jobs only take time."""
    with EmulatorProcess(tmp_path_factory.mktemp("emulator")) as process:
        process.control("settings", method="PATCH", body={"mode": "simulate", "simulated_seconds": 2, "capacity": 1000})
        yield process


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, emulator: EmulatorProcess, postgres: PostgresServer
) -> Iterator[AirflowStack]:
    """Airflow on PostgreSQL, with DAGs that wait for events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.connection)
        hook = CmqHook()
        hook.ensure_topic(TOPIC)
        hook.ensure_queue(QUEUE, visibility_timeout=10)
        hook.ensure_subscription(TOPIC, QUEUE)
        with AirflowStack(
            tmp_path_factory.mktemp("stack"),
            dags=Path(__file__).parent / "asset_dags",
            connections={"tencentcloud_default": json.loads(emulator.connection)},
            config=CONFIG,
            database=postgres.url,
        ) as stack:
            for dag_id in ("on_success", "on_failure"):
                stack.api.wait_for_dag(dag_id)
            yield stack


def submit(name: str, *, exit_code: int = 0, seconds: float = 2, side: str = "left") -> str:
    """Submit a job as somebody does who knows nothing of Airflow."""
    variables = {"EMULATOR_EXIT_CODE": str(exit_code), "EMULATOR_SECONDS": str(seconds)}
    event_vars = [{"Name": "side", "Value": side}]
    configs = [{"EventName": event, "EventVars": event_vars} for event in ("JOB_RUNNING", "JOB_SUCCEED", "JOB_FAILED")]
    return TCBatchHook().submit_job(
        Job.parse(
            {
                "JobName": name,
                "Tasks": [
                    {
                        "TaskName": "only",
                        "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
                        "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
                        "EnvVars": [{"Name": name, "Value": value} for name, value in variables.items()],
                    }
                ],
                "Notifications": [{"TopicName": TOPIC, "EventConfigs": configs}],
                "NotificationTarget": "TDMQ_CMQ",
            }
        )
    )


def payloads(postgres: PostgresServer, dag_id: str) -> list[dict[str, Any]]:
    """What the events said that have started the runs of a DAG so far."""
    with contextlib.closing(postgres.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(EVENTS, (dag_id,))
        return [event for (extra,) in cursor.fetchall() for event in extra["payload"]["events"]]


def told(airflow: AirflowStack, dag_id: str) -> list[str]:
    """What the tasks of all runs of a DAG read, once they have ended."""
    texts: list[str] = []
    for run in airflow.api.get(f"dags/{dag_id}/dagRuns")["dag_runs"]:
        assert airflow.api.wait_for_run(dag_id, run["dag_run_id"]) == "success"
        texts += airflow.api.xcom(dag_id, run["dag_run_id"], "tell")
    return texts


def test_each_end_of_a_job_starts_a_run_exactly_once(airflow: AirflowStack, postgres: PostgresServer) -> None:
    good = [submit("works", seconds=1 + number % 7) for number in range(20)]
    bad = [submit("breaks", exit_code=1) for _ in range(2)]
    submit("breaks", exit_code=1, side="right")
    submit("else", exit_code=1)

    def all_told() -> bool:
        return len(payloads(postgres, "on_success")) >= len(good) and len(payloads(postgres, "on_failure")) >= len(bad)

    wait_for("all events told", all_told, timeout=120, check=airflow.check)
    hook = CmqHook()
    wait_for("the queue empty", lambda: hook.describe_queue(QUEUE).active_msg_num == 0, timeout=30)
    wait_for("all messages deleted", lambda: hook.describe_queue(QUEUE).inactive_msg_num == 0, timeout=30)
    assert Counter(told(airflow, "on_success")) == Counter(f"JOB_SUCCEED {job_id} works True" for job_id in good)
    assert Counter(told(airflow, "on_failure")) == Counter(f"JOB_FAILED {job_id} breaks True" for job_id in bad)
    seen = payloads(postgres, "on_success")
    assert len({payload["event_id"] for payload in seen}) == len(seen) == len(good)


def test_no_event_is_lost_while_the_database_is_away(airflow: AirflowStack, postgres: PostgresServer) -> None:
    before = len(payloads(postgres, "on_success"))
    ids = {submit("outlives", seconds=seconds) for seconds in (1, 2, 3, 4, 5, 6, 7, 8)}
    wait_for("the first one told", lambda: len(payloads(postgres, "on_success")) > before, timeout=60)
    with postgres.stopped():
        time.sleep(3.0)  # for as long as the outage lasts

    def found() -> set[str]:
        _supervise(airflow)
        with contextlib.suppress(psycopg2.OperationalError):
            return {payload["job_id"] for payload in payloads(postgres, "on_success")}
        return set()

    wait_for("all events told", lambda: ids <= found(), timeout=150)


def _supervise(airflow: AirflowStack) -> None:
    """Start again what did not survive, as an init system or Kubernetes would."""
    for part, process in airflow.parts.items():
        if process.returncode() is not None:
            airflow.stop_part(part)
            airflow.start_part(part)
