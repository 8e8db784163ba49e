"""The emulator in the tests' own process, one for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.services import Services
from tests.support.processes import wait_for

#: Nothing takes longer than it must.
QUICK = Settings(submitted_seconds=0.05, starting_seconds=0.02, terminate_seconds=0.02, cmq_name_block_seconds=0)

#: What the documentation leaves open is refused as strictly as it may be.
STRICT = {
    "task_name_pattern": "[A-Za-z0-9][A-Za-z0-9_-]*",
    "task_name_length": 60,
    "max_retry_count": 100,
    "undocumented_values": "refuse",
    "env_name_length": 60,
    "env_description_length": 200,
    "lenient_types": False,
}


@pytest.fixture(scope="session")
def running_emulator() -> Iterator[Emulator]:
    """The emulator that all tests of a session share."""
    with Emulator(QUICK) as running:
        yield running


@pytest.fixture
def empty_emulator(emulator: Emulator) -> Emulator:
    """The session's emulator without what other tests left, and with the time of day: theirs may have run faster."""
    emulator.reset()
    return emulator


@pytest.fixture
def own_emulator(empty_emulator: Emulator) -> Iterator[Emulator]:
    """The same, for a test that leaves queues or faults which others would stumble over."""
    yield empty_emulator
    empty_emulator.faults.clear()
    empty_emulator.reset()


@pytest.fixture
def emulator(running_emulator: Emulator) -> Iterator[Emulator]:
    """The session's emulator. Afterwards its settings are put back, and no fault and no job is left that goes on."""
    earlier = running_emulator.on_loop(lambda services: set(services.batch.jobs))
    yield running_emulator
    running_emulator.faults.clear()
    running_emulator.configure(**QUICK.model_dump())
    _end_jobs(running_emulator, earlier)


def _end_jobs(emulator: Emulator, earlier: set[str]) -> None:
    """Have all jobs but these forgotten that are not over, without a word to anybody.

    Otherwise they keep the few places that there are from the next tests, and publish events in the middle of them.
    """

    def end(services: Services) -> set[asyncio.Task[None]]:
        jobs = [job for job_id, job in services.batch.jobs.items() if job_id not in earlier]
        instances = {job: [one for task in job.tasks.values() for one in task.instances] for job in jobs}
        left = [job for job in jobs if not job.finished or job.retrying or any(one.runner for one in instances[job])]
        names = [f" {job.job_id}" for job in left]
        steps = {work for work in services.host._background if any(name in work.get_name() for name in names)}
        # What is being stopped is left to come to its end: a second cancellation would let its processes live.
        stopping = {one.runner for job in left for one in instances[job] if one.stop_reason or one.lost_reason}
        for work in steps - stopping:
            work.cancel()
        for job in left:
            del services.batch.jobs[job.job_id]
            for one in instances[job]:
                if one.holds_slot and one.runner is None:
                    one.holds_slot = False
                    services.batch.capacity.release()
        return steps

    steps = emulator.on_loop(end)
    if steps:
        wait_for("all jobs are over", lambda: all(step.done() for step in steps), timeout=60)
