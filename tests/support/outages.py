"""An API that is away for as long as a test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator

__all__ = ["Outage", "api_outage", "quick_pauses"]

#: Seconds that a test waits for something that must come.
PATIENCE = 60.0


class Outage:
    """Batch answers 503 between :meth:`begin` and :meth:`end`.

    :param emulator: the emulator.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._ids: list[str] = []

    def begin(self, **members: Any) -> None:
        """From now on the API can't be asked.

        :param members: how it fails, if not for everything and with 503: see :class:`~.emulator.faults.Fault`.
        """
        fault = {"kind": "http_error", "service": "batch", "status": 503, **members}
        self._ids.append(self._emulator.faults.add(fault.pop("kind"), **fault).id)

    def end(self) -> None:
        """It can be asked again."""
        for fault_id in self._ids:
            self._emulator.faults.remove(fault_id)
        self._ids.clear()

    @property
    def failures(self) -> int:
        """How many requests have failed in it."""
        return sum(fault.hits for fault in self._emulator.faults.all() if fault.id in self._ids)

    async def until(self, failures: int) -> None:
        """Return when so many requests have failed."""
        await self.until_true(lambda: self.failures >= failures)

    @staticmethod
    async def until_true(holds: Callable[[], object]) -> None:
        """Return when something holds."""
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end, "it did not come"
            await asyncio.sleep(0.01)

    def wait(self, failures: int) -> None:
        """:meth:`until`, for a thread."""
        end = time.monotonic() + PATIENCE
        while self.failures < failures:
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.01)


@pytest.fixture
def api_outage(own_emulator: Emulator) -> Iterator[Outage]:
    """An outage, to be begun by the test."""
    outage = Outage(own_emulator)
    yield outage
    outage.end()


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for more than some hundredths of a second until the API is asked again, nor for a turn to speak."""
    import tenacity

    from airflow_provider_tcbatch.client import retry
    from airflow_provider_tcbatch.policies import outage
    from airflow_provider_tcbatch.waits import log_turns, patience
    from airflow_provider_tcbatch.watching import api_probe as probe
    from airflow_provider_tcbatch.watching import poller
    from airflow_provider_tcbatch.watching.subscription import WatcherTimings

    soon = WatcherTimings(first=0.05, coalesce=0.01, backoff=0.05)
    monkeypatch.setattr(poller, "WatcherTimings", lambda: soon)
    monkeypatch.setattr(log_turns, "turns", log_turns.LogTurns(lines=1000, together=0.05))
    monkeypatch.setattr(patience, "outage_pause", lambda failures, spread: 0.05)

    monkeypatch.setattr(outage, "outage_pause", lambda failures, spread: 0.05)
    monkeypatch.setattr(probe, "outage_pause", lambda failures, spread: 0.05)
    monkeypatch.setattr(retry, "_Wait", lambda **_: tenacity.wait_fixed(0.01))
