"""The API is away for more than a minute while tasks wait: real scheduler, workers and triggerer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Run
from tests.support.emulator import EmulatorProcess
from tests.support.processes import wait_for

pytestmark = pytest.mark.timeout(600)

#: Tasks that hold no worker while they wait.
DEFERRED = ("deferred", "limited", "several", "job_sensor")
#: Those that wait on one.
BLOCKING = ("blocking", "task_sensor")

#: Requests that fail: some twenty looks of the triggerer and as many of the workers, within more than a minute. (Five
#: looks in a row were the end of a wait before, and five requests the end of a worker's own look.)
FAILURES = 60


class Outage:
    """Batch answers 503.

    :param emulator: the emulator.
    """

    def __init__(self, emulator: EmulatorProcess) -> None:
        self._emulator = emulator
        self._fault_id: str | None = None

    def begin(self) -> None:
        fault = {"kind": "http_error", "service": "batch", "status": 503}
        self._fault_id = self._emulator.control("faults", method="POST", body=fault)["id"]

    def end(self) -> None:
        if self._fault_id is not None:
            self._emulator.control(f"faults/{self._fault_id}", method="DELETE")
        self._fault_id = None

    @property
    def failures(self) -> int:
        """How many requests have failed so far."""
        faults = self._emulator.control("faults")["faults"]
        return int(sum(fault["hits"] for fault in faults if fault["id"] == self._fault_id))


@pytest.fixture
def outage(emulator: EmulatorProcess) -> Iterator[Outage]:
    outage = Outage(emulator)
    yield outage
    outage.end()


def test_nothing_is_failed_or_ended(
    trigger: Callable[..., Run], emulator: EmulatorProcess, outage: Outage, tmp_path: Path
) -> None:
    before = emulator.counts()
    gate = tmp_path / "gate"
    run = trigger("through_an_outage", gate=str(gate))
    for task_id in DEFERRED:
        run.wait_for_task(task_id, "deferred")
    for task_id in BLOCKING:
        run.wait_for_task(task_id, "running")
    job_ids = {task_id: run.xcom(task_id, "job_id") for task_id in ("deferred", "limited", "blocking", "watched")}

    def all_run() -> bool:
        states = {job["job_id"]: job["state"] for job in emulator.control("jobs")["jobs"]}
        return {states[job_id] for job_id in job_ids.values()} == {"RUNNING"}

    wait_for("the jobs run", all_run, timeout=60)
    outage.begin()
    wait_for("the outage lasts", lambda: outage.failures >= FAILURES, timeout=240)
    gate.touch()  # they end while nobody can ask
    outage.end()
    run.succeed(timeout=240)

    after = emulator.counts()
    assert after.get("batch.TerminateJob", 0) == before.get("batch.TerminateJob", 0)
    assert after["batch.SubmitJob"] - before.get("batch.SubmitJob", 0) == 4
    for task_id in (*DEFERRED, *BLOCKING):
        assert run.try_number(task_id) == 1
        log = run.log(task_id)
        told = (log.count("The API of Batch can't be asked since"), log.count("The API of Batch can be asked again"))
        assert told == (1, 1), f"{task_id}: {log}"
