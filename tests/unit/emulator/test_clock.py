from __future__ import annotations

import asyncio
import time

import pytest

from airflow_provider_tcbatch.emulator.clock import Clock
from airflow_provider_tcbatch.emulator.latch import Latch


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def test_runs_at_its_speed_and_never_jumps(wall: list[float]) -> None:
    clock = Clock(speed=10)
    wall[0] += 1
    assert clock.now() == 1_000_010
    clock.speed = 100
    assert clock.now() == 1_000_010
    wall[0] += 1
    assert clock.now() == 1_000_110
    assert clock.wall(50) == 0.5
    clock.skew = -10
    assert clock.now() == 1_000_100
    clock.speed = 1
    assert (clock.now(), clock.speed) == (1_000_100, 1)


async def test_sleep_is_shorter_on_a_fast_clock() -> None:
    start = time.monotonic()
    await Clock(speed=100_000).sleep(1000)
    assert time.monotonic() - start < 100


async def test_latch() -> None:
    latch = Latch()
    waiting = [asyncio.create_task(latch.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not latch.is_set()
    latch.set()
    await asyncio.wait_for(asyncio.gather(*waiting), 60)
    await latch.wait()
    latch.clear()
    late = asyncio.create_task(latch.wait())
    await asyncio.sleep(0)
    assert not late.done()
    latch.set()
    await asyncio.wait_for(late, 60)
