"""A request to end becomes an orderly end of the session: no process of a storm stays."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import FrameType

import pytest


@pytest.fixture(scope="session", autouse=True)
def _end_in_good_order() -> Iterator[None]:
    def leave(number: int, frame: FrameType | None) -> None:
        pytest.exit(f"ended by signal {number}", returncode=128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
