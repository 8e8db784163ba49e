"""Measuring the processes of running instances, for DescribeJobMonitorData."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
    from airflow_provider_tcbatch.emulator.host import Host

#: The metrics in the order in which a sample holds them.
METRICS = ("CpuUsage", "MemUsage", "LanOuttraffic", "LanIntraffic", "MaxDiskUsage", "TargetDiskUsage")
_KEPT = 20_000
_GIB = 1024**3


@dataclass(frozen=True)
class Sample:
    """One measurement. Processor and memory are parts of what the rented machine has, in percent."""

    time: float
    values: tuple[float, ...]


class Series:
    """The measurements of one attempt, newest last."""

    __slots__ = ("samples",)

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=_KEPT)


@dataclass(eq=False)
class _Watched:
    group: int
    cores: int
    memory: float
    folder: Path
    series: Series
    cpu_seconds: float = 0.0
    at: float = 0.0


class Monitor:
    """Measures all running instances together, as long as there are any.

    :param host: its clock and settings.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._watched: dict[int, _Watched] = {}
        self._loop: asyncio.Task[None] | None = None
        self._network: tuple[float, int, int] | None = None

    def begin(self, group: int, machine: MachineType | None, folder: Path) -> Series:
        """Measure a process group from now on.

        :param machine: what was rented for it.
        :return: what the measurements go to.
        """
        series = Series()
        cores, memory = (machine.cpu, machine.mem * _GIB) if machine is not None else (1, float(_GIB))
        self._watched[group] = _Watched(group, cores, memory, folder, series, at=self._host.now())
        if self._loop is None or self._loop.done():
            self._loop = self._host.spawn(self._run(), "monitor")
        return series

    def end(self, group: int) -> None:
        """The group has ended."""
        self._watched.pop(group, None)

    async def _run(self) -> None:
        while self._watched:
            watched = list(self._watched.values())
            now = self._host.now()
            measured = await asyncio.to_thread(self._measure, watched, now)
            for item, values in measured:
                item.series.samples.append(Sample(now, values))
            # By the wall's clock: processes do not run faster when the emulator's does.
            await asyncio.sleep(self._host.settings.monitor_period_seconds)

    def _measure(self, watched: list[_Watched], now: float) -> list[tuple[_Watched, tuple[float, ...]]]:
        members: dict[int, list[int]] = {item.group: [] for item in watched}
        for pid in psutil.pids():
            with contextlib.suppress(OSError):
                group = os.getpgid(pid)
                if group in members:
                    members[group].append(pid)
        sent, received = self._traffic(now)
        result: list[tuple[_Watched, tuple[float, ...]]] = []
        for item in watched:
            cpu_seconds, resident = 0.0, 0
            for pid in members[item.group]:
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(pid)
                    times = process.cpu_times()
                    # Children that ended are in their parent's account.
                    cpu_seconds += times.user + times.system + times.children_user + times.children_system
                    resident += process.memory_info().rss
            passed = now - item.at
            used = max(0.0, cpu_seconds - item.cpu_seconds)
            cpu = min(100.0, 100.0 * used / (passed * item.cores)) if passed > 0 else 0.0
            item.cpu_seconds, item.at = max(cpu_seconds, item.cpu_seconds), now
            disk = 0.0
            with contextlib.suppress(OSError):
                disk = float(psutil.disk_usage(str(item.folder)).percent)
            memory = min(100.0, 100.0 * resident / item.memory)
            result.append((item, (round(cpu, 2), round(memory, 2), sent, received, disk, disk)))
        return result

    def _traffic(self, now: float) -> tuple[float, float]:
        """Bytes per second that this machine sends and receives; no system counts them by process."""
        counters = psutil.net_io_counters()
        if counters is None:
            return 0.0, 0.0
        before, self._network = self._network, (now, counters.bytes_sent, counters.bytes_recv)
        if before is None or now <= before[0]:
            return 0.0, 0.0
        passed = now - before[0]
        sent, received = counters.bytes_sent - before[1], counters.bytes_recv - before[2]
        return round(max(0, sent) / passed, 1), round(max(0, received) / passed, 1)
