"""The emulator in the tests' own process, one for all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_tcbatch.emulator import Emulator, Settings

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
    """The session's emulator with its settings put back afterwards."""
    yield running_emulator
    running_emulator.configure(**QUICK.model_dump())
