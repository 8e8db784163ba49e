"""What is read off a process: memory, processor time, how long its event loop could not turn."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

__all__ = ["LoopLag", "own_memory", "percentile", "settle", "statistics_of"]

#: A loop that can turn is asked to, this often (seconds).
_BEAT = 0.005


def own_memory(pid: int | str = "self") -> int:
    """Bytes that a process alone uses: what would be free without it.

    Memory that it shares with others (libraries, what a fork left untouched) is not counted.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def settle() -> None:
    """Collect what is garbage, and exempt what is left from all later collections.

    A pass over the hundred thousands of objects that Airflow itself consists of takes about 100 ms; it would be
    counted as ours whenever it happens to fall into a measurement. While stalls are measured the collector is off;
    what its pass over the waits takes is told for itself.
    """
    gc.collect()
    gc.freeze()


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share (0 to 1) of all values lies; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def statistics_of(values: Iterable[float], unit: str, scale: float = 1.0) -> dict[str, float]:
    """Median, 99th percentile and maximum.

    :param unit: added to the names: ``p50_ms``.
    :param scale: what the values are multiplied with.
    """
    known = [value * scale for value in values]
    return {
        f"p50_{unit}": round(percentile(known, 0.5), 3),
        f"p99_{unit}": round(percentile(known, 0.99), 3),
        f"max_{unit}": round(max(known, default=0.0), 3),
    }


class LoopLag:
    """How late the running event loop is, by a task that wants to run every few milliseconds.

    Its beats lie on a fixed grid. A loop that stands still for a second misses 200 of them: each counts, with the
    time by which it is late. Otherwise one long stall would be one late beat among thousands of punctual ones.

    A loop is late also where the machine had something else to do. What its own thread computed between two beats tells
    one from the other.
    """

    def __init__(self, beat: float = _BEAT) -> None:
        self.lags: list[float] = []
        self.computed: list[float] = []
        self._beat = beat
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="loop-lag")
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        # One more beat, so that a stall which lasts until now is seen.
        await asyncio.sleep(2 * self._beat)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def take(self) -> dict[str, float]:
        """How late the beats since the last call were, and the most that its thread computed between two, in ms."""
        lags, self.lags = self.lags, []
        computed, self.computed = self.computed, []
        return {**statistics_of(lags, "ms", 1000), "most_computed_ms": round(1000 * max(computed, default=0.0), 3)}

    async def _run(self) -> None:
        due, used = time.perf_counter(), time.thread_time()
        while True:
            due += self._beat
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            now, before, used = time.perf_counter(), used, time.thread_time()
            self.computed.append(used - before)
            while due < now - self._beat:
                self.lags.append(now - due)
                due += self._beat
            self.lags.append(max(0.0, now - due))
