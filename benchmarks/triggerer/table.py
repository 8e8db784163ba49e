"""Run a triggerer with many waits, and read off what they cost."""

from __future__ import annotations

import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.batch_client import job, submit_many
from benchmarks.child import ROOT
from benchmarks.figures import Figure
from benchmarks.meters import own_memory, percentile
from benchmarks.servers import Emulator, emulator
from benchmarks.sizes import Sizes
from tests.support.airflow_stack import AirflowStack
from tests.support.processes import wait_for

__all__ = ["UnderTriggerer"]

Result = dict[str, Any]

_TRIGGERS = "benchmarks.triggerer.triggers"

_CONNECTION = "tencentcloud_default"

#: Seconds that held waits are left alone before their memory is read.
_HOLD = 15.0


class UnderTriggerer:
    """Measures and keeps what it measured.

    :param sizes: how much.
    :param say: takes a line about what is being done.
    """

    def __init__(self, sizes: Sizes, say: Callable[[str], None]) -> None:
        self._sizes = sizes
        self._say = say
        #: Figures of the table.
        self.figures: list[Figure] = []
        #: What each run measured, by number of waits (``_stored``: connection in the database) and kind.
        self.raw: dict[str, dict[str, list[Result]]] = {}

    def measure(self) -> None:
        """Measure everything."""
        for stored, numbers in ((False, self._sizes.triggerer_rounds), (True, self._sizes.stored_rounds)):
            for waits, rounds in numbers.items():
                where = ", connection in the database" if stored else ""
                results: dict[str, list[Result]] = {"floor": [], "ours": []}
                for number in range(rounds):
                    for kind in sorted(results, reverse=number % 2 == 1):  # neither side is always the first
                        self._say(f"round {number + 1}: a triggerer with {waits:,} waits, {kind}{where}")
                        results[kind].append(self._run(kind, waits, stored))
                self.raw[f"{waits}{'_stored' if stored else ''}"] = results
                self._tell(waits, results, stored)

    def _tell(self, waits: int, results: dict[str, list[Result]], stored: bool) -> None:
        for member, what, unit in (
            ("memory_kb_per_wait", "memory per wait, runner and supervisor", "KB"),
            ("start_seconds", "rows in the database → all started", "s"),
            ("resumed_seconds", "jobs' end → all tasks scheduled again", "s"),
            ("start_p99_ms", "loop stall while they start, p99", "ms"),
            ("start_max_ms", "loop stall while they start, max", "ms"),
            ("end_p99_ms", "loop stall while they end, p99", "ms"),
            ("end_max_ms", "loop stall while they end, max", "ms"),
        ):
            floor, ours = (
                round(statistics.median(float(result[member]) for result in results[kind]), 2)
                for kind in ("floor", "ours")
            )
            key, text = f"{member}_{waits}", f"{waits:,} waits: {what}"
            if stored:  # for comparison only: the target is judged against a floor that has read nothing
                self.figures.append(Figure(f"{key}_stored", f"connection in the database, {text}", unit, ours, floor))
            else:
                self.figures.append(Figure(key, text, unit, ours, floor, 1.3, True))

    def _run(self, kind: str, waits: int, stored: bool) -> Result:
        _allow_files(waits + 1_000)
        margin = self._sizes.margin
        while True:
            with tempfile.TemporaryDirectory(prefix="tcbatch-bench-") as folder, emulator() as service:
                # The emulator plays on, at whatever pace it can. What it takes to end the jobs and to tell of it counts
                # as ours, and takes its part of the two cores.
                end_at = time.time() + 2.5 * margin + waits / 100
                ids = self._jobs(service, waits + 1, end_at) if kind == "ours" else [""] * (waits + 1)
                run = _Run(Path(folder), service, waits, end_at, stored)
                result = run.measure([_trigger(kind, job_id, end_at) for job_id in ids])
            if result is not None:
                return result
            margin *= 2
            self._say(f"once more, with {margin:g} s for the start")

    def _jobs(self, service: Emulator, count: int, end_at: float) -> list[str]:
        topic = service.info["topic"]
        return submit_many(service.info, [lambda: job(end_at - time.time(), topic)] * count)


class _Run:
    """One triggerer.

    :param folder: takes all its files.
    :param service: what it asks.
    :param waits: how many are measured.
    :param end_at: when all end (unix seconds).
    :param stored: whether the connection is in Airflow's database, where both sides read it, and not in the
        environment. The first trigger that reads one from there makes the triggerer's other process load Airflow's API,
        for good; a floor that reads nothing would not have it.
    """

    def __init__(self, folder: Path, service: Emulator, waits: int, end_at: float, stored: bool) -> None:
        self._service = service
        self._probe = folder / "probe.jsonl"
        self._waits = waits
        self._end_at = end_at
        self._read = _CONNECTION if stored else None
        # The process has the account for itself.
        connection = service.connection(events=True, api_share=1)
        self._stack = AirflowStack(
            folder / "stack",
            dags=folder / "dags",
            connections={_CONNECTION: json.loads(connection)} if stored else None,
            variables=None if stored else {f"AIRFLOW_CONN_{_CONNECTION.upper()}": connection},
            config={
                "triggerer": {
                    "capacity": str(waits + 100),
                    "job_heartbeat_sec": "5",
                    # By default a triggerer takes 50 in a turn, and its turns come with the lines that others happen to
                    # write: one a second where nobody writes. (Airflow 3.1 knows no such limit.)
                    "max_trigger_to_select_per_loop": str(waits + 100),
                },
                "core": {"executor": "LocalExecutor"},
            },
            parts=("triggerer",),
        )

    def measure(self, triggers: Sequence[list[Any]]) -> Result | None:
        """Start the triggerer with a probe and the first trigger, add the others, and wait for their end.

        :returns: ``None`` if there was not enough time until the end.
        """
        with self._stack as stack:
            first, *others = triggers
            probe = {"path": str(self._probe), "connection": self._read}
            self._insert("warm_up", [[f"{_TRIGGERS}.ProbeTrigger", probe], first])
            wait_for("the first trigger", lambda: self._started() >= 1, timeout=120, check=stack.check)
            if "job_id" in first[1]:
                # Whatever it takes once: clients are imported, a queue is made.
                wait_for("the first look", self._has_looked, timeout=120, check=stack.check)
            time.sleep(5.0)
            before, cpu = self._memory(), self._cpu()
            committed = self._insert("many", others)
            wait_for("all triggers", lambda: self._started() > self._waits, timeout=600, check=stack.check)
            started = next(line["at"] for line in self._lines() if line["started"] > self._waits)
            time.sleep(_HOLD)
            if time.time() > self._end_at - 2.0:
                return None
            memory, held = self._memory() - before, self._cpu() - cpu
            time.sleep(max(0.0, self._end_at - time.time()))
            # One is left, the probe.
            wait_for("all tasks", lambda: self._deferred() <= 1, timeout=900, check=stack.check)
            resumed = time.time()
            time.sleep(1.0)
            starting, ending = self._lags(committed, started + 2.0), self._lags(self._end_at, resumed)
        return {
            "waits": self._waits,
            "memory_kb_per_wait": round(memory / 1024 / self._waits, 2),
            "cpu_seconds": round(held, 2),
            "start_seconds": round(started - committed, 2),
            "resumed_seconds": round(resumed - self._end_at, 2),
            "start_p99_ms": percentile(starting, 0.99),
            "start_max_ms": max(starting, default=0.0),
            "end_p99_ms": percentile(ending, 0.99),
            "end_max_ms": max(ending, default=0.0),
        }

    def _has_looked(self) -> bool:
        calls = self._service.calls()
        return calls.get("batch.DescribeJobs", 0) > 1 and calls.get("cmq.BatchReceiveMessage", 0) > 1

    def _insert(self, name: str, triggers: list[list[Any]]) -> float:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.triggerer.rows"],
            input=json.dumps({"name": name, "triggers": triggers}),
            env=self._stack.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"The rows could not be made\n{done.stderr[-4000:]}")
        return float(json.loads(done.stdout.splitlines()[-1])["committed_at"])

    def _lines(self) -> list[dict[str, Any]]:
        if not self._probe.exists():
            return []
        lines = self._probe.read_text().split("\n")[:-1]  # the last one may not be written to its end
        return [json.loads(line) for line in lines]

    def _started(self) -> int:
        lines = self._lines()
        return int(lines[-1]["started"]) if lines else 0

    def _lags(self, since: float, until: float) -> list[float]:
        return [lag for line in self._lines() if since <= line["at"] <= until + 0.5 for lag in line["lags"]]

    def _deferred(self) -> int:
        with sqlite3.connect(self._stack.home / "airflow.db", timeout=30) as database:
            return int(database.execute("SELECT count(*) FROM task_instance WHERE state = 'deferred'").fetchone()[0])

    def _members(self) -> list[psutil.Process]:
        return self._stack.parts["triggerer"].members()

    def _memory(self) -> int:
        return sum(own_memory(process.pid) for process in self._members())

    def _cpu(self) -> float:
        return float(sum(sum(process.cpu_times()[:2]) for process in self._members()))


def _trigger(kind: str, job_id: str, end_at: float) -> list[Any]:
    """Class path and arguments of a trigger."""
    if kind == "floor":
        return [f"{_TRIGGERS}.IdleTrigger", {"until": end_at}]
    from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

    arguments = TCBatchJobTrigger(job_id=job_id, submitted_at=time.time(), poll_interval=30).serialize()[1]
    return [f"{_TRIGGERS}.CountedJobTrigger", arguments]


def _allow_files(count: int) -> None:
    """A triggerer keeps a file open for each trigger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        if hard != resource.RLIM_INFINITY and hard < count:
            raise RuntimeError(f"{count} open files are needed, the limit is {hard}: raise it with ulimit -Hn")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
