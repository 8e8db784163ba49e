"""Waits for jobs that somebody else submitted, which begin in the triggerer, and end there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.e2e.conftest import Run
from tests.e2e.dags.waits import job
from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.event_first import end_by_event_elsewhere
from tests.support.processes import wait_for

#: Seconds for one test, the start of emulator and Airflow included. A free machine needs a third of it.
pytestmark = pytest.mark.timeout(400)


def test_a_plain_wait_takes_no_worker(
    trigger: Callable[..., Run],
    airflow: AirflowStack,
    emulator: EmulatorProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.connection)
    hook = TCBatchHook()
    gate = tmp_path / "gate"
    failed = hook.submit_job({"JobName": "failed", **job("echo 'part 7: no such object' >&2; exit 3")})
    running = hook.submit_job({"JobName": "gated", **job(f"until [ -e {gate} ]; do sleep 0.1; done")})
    run = trigger("sensed", ids=[failed, running])

    def instance(task_id: str) -> dict[str, Any]:
        return airflow.api.task_instance(run.dag_id, run.run_id, task_id)

    for task_id in ("no_worker", "one_worker", "pulled"):
        run.wait_for_task(task_id, "deferred")
    run.wait_for_task("late", "failed")  # a worker looks once more when its time is over
    wait_for("nothing is left to do for workers", lambda: not airflow.busy_workers(), timeout=60)
    end_by_event_elsewhere(emulator, running, gate.touch)

    for task_id in ("no_worker", "one_worker", "pulled", "begun_by_worker"):
        run.wait_for_task(task_id, "success")
    run.wait_for_task("skipped", "skipped")
    run.wait_for_task("explained", "failed")

    # Neither the scheduler has queued it nor has a worker said where it runs …
    for task_id in ("no_worker", "pulled", "skipped"):
        found = instance(task_id)
        assert (found["hostname"], found["pid"], found["queued_when"]) == ("", None, None), task_id
    # … and the others have come to a worker once, to be ended.
    for task_id in ("one_worker", "begun_by_worker", "explained", "late"):
        assert instance(task_id)["hostname"], task_id

    assert run.xcom("no_worker") == {running: "SUCCEED"}
    assert run.xcom("one_worker") == "SUCCEED"
    assert run.xcom("pulled") == {failed: "FAILED", running: "SUCCEED"}
    (event,) = emulator.timeline(running)["events"]
    for task_id in ("no_worker", "one_worker", "pulled"):
        told = run.xcom(task_id, "tcbatch_wait")
        assert (told["status"], told["source"]) == ("reached", "event"), task_id
        assert event["time"] <= told["event_received_at"] <= told["observed_at"]
    assert run.xcom("no_worker", "tcbatch_job_url") == hook.settings.job_url(running)
    assert run.xcom("skipped", "tcbatch_wait")["status"] == "failed"
    assert "part 7: no such object" in run.log("explained")
    assert "did not come true within 1 s" in run.log("late")
