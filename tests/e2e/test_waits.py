"""A Batch job from a DAG: real scheduler, triggerer, DAG processor and API server, the emulator as a process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.conftest import Run
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.event_first import end_by_event_elsewhere
from tests.support.processes import wait_for

Trigger = Callable[..., Run]

#: Seconds for one test, the start of emulator and Airflow included. A free machine needs a third of it.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def no_events(emulator: EmulatorProcess) -> Iterator[None]:
    """The service publishes no events, although the connection names a topic."""
    emulator.control("settings", method="PATCH", body={"events": "off"})
    yield
    emulator.control("settings", method="PATCH", body={"events": "on"})


@pytest.mark.usefixtures("no_events")
def test_polling_ends_the_wait_where_no_event_comes(trigger: Trigger, emulator: EmulatorProcess) -> None:
    run = trigger("by_polling")
    run.succeed()
    timeline = run.xcom("job", "tcbatch_timeline")
    assert emulator.timeline(run.xcom("job", "job_id"))["events"] == []
    assert timeline["event_received_at"] is None
    assert timeline["submitted_at"] < timeline["confirmed_at"] < timeline["resumed_at"]


def test_an_event_ends_the_wait(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = trigger("by_event", gate=str(gate))
    run.wait_for_task("job", "deferred")
    wait_for("the worker is free", lambda: not airflow.busy_workers(), timeout=20)
    assert airflow.api.pool()["running_slots"] == 0
    job_id = run.xcom("job", "job_id")
    end_by_event_elsewhere(emulator, job_id, gate.touch)
    run.succeed()

    (event,) = emulator.timeline(job_id)["events"]
    timeline = run.xcom("job", "tcbatch_timeline")
    assert event["event_name"] == "JOB_SUCCEED"
    assert event["time"] <= timeline["event_received_at"] <= timeline["confirmed_at"] <= timeline["resumed_at"]
    assert run.xcom("job") == job_id


@pytest.mark.middle
def test_a_failing_command_is_explained(trigger: Trigger, emulator: EmulatorProcess) -> None:
    run = trigger("failing")
    assert run.wait() == "failed"
    log = run.log("job")
    message = log[log.index("JobFailed") :]
    job_id = run.xcom("job", "job_id")
    # The instance, its exit code and the end of its stderr are in the error itself …
    for part in (job_id, "only", "exit code 3", "part 7: no such object"):
        assert part in message
    # … and both of its outputs in the log before.
    assert "stdout] reading part 7" in log
    assert "stderr] part 7: no such object" in log
    assert run.xcom("job") is None


def job_state(emulator: EmulatorProcess, job_id: str) -> str:
    states = {job["job_id"]: job["state"] for job in emulator.control("jobs")["jobs"]}
    return str(states[job_id])


@pytest.mark.parametrize(("dag_id", "map_index"), [("by_event", -1), ("mapped", 1)])
def test_marking_a_deferred_task_as_failed_ends_its_job(
    trigger: Trigger, airflow: AirflowStack, emulator: EmulatorProcess, dag_id: str, map_index: int
) -> None:
    run = trigger(dag_id)
    api = airflow.api
    api.wait_for_task(run.dag_id, run.run_id, "job", {"deferred"}, timeout=100, map_index=map_index)
    job_id = api.xcom(run.dag_id, run.run_id, "job", "job_id", map_index=map_index)
    wait_for("the job runs", lambda: job_state(emulator, job_id) == "RUNNING", timeout=60)
    wait_for(
        "the trigger runs", lambda: "starting" in api.log(dag_id, run.run_id, "job", map_index=map_index), timeout=60
    )
    api.set_task_state(run.dag_id, run.run_id, "job", "failed", map_index=map_index)
    wait_for("the job has ended", lambda: job_state(emulator, job_id) == "FAILED", timeout=60)
    if map_index >= 0:
        other = api.xcom(run.dag_id, run.run_id, "job", "job_id", map_index=1 - map_index)
        assert job_state(emulator, other) == "RUNNING", "the task beside it is left alone"
        api.set_task_state(run.dag_id, run.run_id, "job", "failed", map_index=1 - map_index)
        wait_for("the other job has ended", lambda: job_state(emulator, other) == "FAILED", timeout=60)


def test_a_job_from_a_template_file(trigger: Trigger, emulator: EmulatorProcess) -> None:
    run = trigger("templated", greeting="good day")
    run.succeed()
    log = run.log("greeter")
    for line in ("ada 0 of 1", "grace 0 of 2", "grace 1 of 2"):
        assert f"greeter says good day, {line}" in log
    jobs = {job["job_id"]: job for job in emulator.control("jobs")["jobs"]}
    assert jobs[run.xcom("greeter")]["name"] == f"greetings-{len(run.run_id)}"


def test_everything_listens_on_loopback_only(airflow: AirflowStack, emulator: EmulatorProcess) -> None:
    services = [*airflow.parts.values(), emulator.process]
    found = []
    for service in services:
        for process in service.members():
            with contextlib.suppress(psutil.NoSuchProcess):  # Airflow's processes come and go
                open_ones = process.net_connections()
                found += [(service.name, one.laddr.ip) for one in open_ones if one.status == psutil.CONN_LISTEN]
    assert {address for _, address in found} == {"127.0.0.1"}
    assert {"api-server", "emulator"} == {name for name, _ in found}
