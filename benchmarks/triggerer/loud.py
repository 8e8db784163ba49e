"""Loud jobs beside a quiet one: how long their output keeps a triggerer, and the quiet one's wait."""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from benchmarks.batch_client import job, submit_many
from benchmarks.child import ROOT
from benchmarks.figures import Figure
from benchmarks.meters import own_memory
from benchmarks.servers import Emulator, emulator
from benchmarks.sizes import Sizes
from tests.support.airflow_stack import AirflowStack
from tests.support.processes import wait_for

__all__ = ["LoudNeighbours"]

Result = dict[str, Any]

_TRIGGERS = "benchmarks.triggerer.triggers"
_CONNECTION = "tencentcloud_default"

#: Seconds from the loud jobs' end to the quiet one's: by then all that they printed is being read.
_LATER = 3.0

#: Seconds after the quiet one's end in which memory and stalls are looked at, too.
_AFTER = 20.0


class LoudNeighbours:
    """Measures and keeps what it measured.

    The floor is as many waits that show what their jobs print, which is one line each. Beside it stand waits that show
    nothing: what the output of jobs costs in all, Tencent's COS SDK with it, which the first line loads (7 MB).

    :param sizes: how much.
    :param say: takes a line about what is being done.
    """

    def __init__(self, sizes: Sizes, say: Callable[[str], None]) -> None:
        self._sizes = sizes
        self._say = say
        #: Figures of the table.
        self.figures: list[Figure] = []
        #: What each run measured, by kind.
        self.raw: dict[str, list[Result]] = {"floor": [], "ours": [], "silent": []}

    def measure(self) -> None:
        """Measure everything."""
        waits, size = self._sizes.loud_waits, self._sizes.loud_bytes
        for number in range(self._sizes.loud_rounds):
            for kind in sorted(self.raw, reverse=number % 2 == 1):  # neither side is always the first
                self._say(f"round {number + 1}: {waits} waits for jobs that print {size:,} bytes each, {kind}")
                self.raw[kind].append(self._run(kind))
        floor, ours, silent = (
            {name: _median(self.raw[kind], name) for name in _MEMBERS} for kind in ("floor", "ours", "silent")
        )
        what = f"{waits} waits with stream_logs, {size / 1e6:g} MB each"
        self.figures += [
            Figure("loud_stall_ms", f"{what}: loop stall, max", "ms", ours["stall_ms"], floor["stall_ms"], 100),
            Figure(
                "loud_memory_mb",
                f"{what}: memory, both processes, at most, over the floor",
                "MB",
                round(ours["memory_mb"] - floor["memory_mb"], 1),
                None,
                10,
            ),
            Figure(
                "loud_memory_in_all_mb",
                f"{what}: the same, over waits that show nothing",
                "MB",
                round(ours["memory_mb"] - silent["memory_mb"], 1),
                None,
                None,
            ),
            Figure(
                "loud_late_s",
                f"{what}: a quiet neighbour's end → its task is scheduled again",
                "s",
                ours["late_s"],
                floor["late_s"],
                round(floor["late_s"] + 0.5, 2),
            ),
        ]

    def _run(self, kind: str) -> Result:
        sizes = self._sizes
        margin = sizes.margin + sizes.loud_waits / 10
        while True:
            with tempfile.TemporaryDirectory(prefix="tcbatch-bench-") as folder, emulator() as service:
                run = _Run(Path(folder), service, margin)
                size = sizes.loud_bytes if kind == "ours" else 0
                result = run.measure(
                    partial(self._jobs, service, size), sizes.loud_waits, 0 if kind == "silent" else sizes.loud_waits
                )
            if result is not None:
                return result
            margin *= 2
            self._say(f"once more, with {margin:g} s for the start")

    def _jobs(self, service: Emulator, size: int, end_at: float) -> list[str]:
        """Ids of the loud jobs, and of the quiet one at the end. All write one object, of one line or of this size."""
        info = service.info
        keys = StaticKeys(info["secret_id"], info["secret_key"])
        cos = CosClient(keys, CosSettings(info["region"], endpoint=info["cos_endpoint"]))
        line = b"a short line...\n"
        cos.put(info["bucket"], "loud/output", line * max(1, size // len(line)))
        path = f"cos://{info['bucket']}.cos.{info['region']}.myqcloud.com/loud/"

        def loud() -> dict[str, Any]:
            wanted = job(end_at - time.time())
            redirect = {"StdoutRedirectPath": path, "StdoutRedirectFileName": "output"}
            wanted["Tasks"][0]["RedirectInfo"] = redirect
            return wanted

        quiet = [lambda: job(end_at + _LATER - time.time(), info["topic"])]
        return submit_many(info, [loud] * self._sizes.loud_waits + quiet)


class _Run:
    """One triggerer.

    :param folder: takes all its files.
    :param service: what it asks.
    :param margin: seconds that the start of its waits may take.
    """

    def __init__(self, folder: Path, service: Emulator, margin: float) -> None:
        self._service = service
        self._probe = folder / "probe.jsonl"
        self._margin = margin
        self._stack = AirflowStack(
            folder / "stack",
            dags=folder / "dags",
            variables={f"AIRFLOW_CONN_{_CONNECTION.upper()}": service.connection(events=True, api_share=1)},
            config={"triggerer": {"job_heartbeat_sec": "5"}, "core": {"executor": "LocalExecutor"}},
            parts=("triggerer",),
        )

    def measure(self, submit: Callable[[float], list[str]], waits: int, streaming: int) -> Result | None:
        """Start the triggerer with a probe, add the waits, and look at it until some time after the quiet one's end.

        :param submit: submits the loud jobs, which end at a moment (unix seconds), and the quiet one; returns ids.
        :param waits: how many loud jobs that are.
        :param streaming: of how many of them the output is shown.
        :returns: ``None`` if there was not enough time until the end.
        """
        from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger

        with self._stack as stack:
            probe = {"path": str(self._probe), "connection": None, "settle_at": waits + 1}
            self._insert("probe", [[f"{_TRIGGERS}.ProbeTrigger", probe]])
            wait_for("the probe", lambda: bool(self._lines()), timeout=120, check=stack.check)
            end_at = time.time() + self._margin
            ids = submit(end_at)
            triggers = []
            for number, job_id in enumerate(ids):
                stream = 10 if number < streaming else 0
                made = TCBatchJobTrigger(job_id=job_id, submitted_at=time.time(), poll_interval=30, stream=stream)
                triggers.append([f"{_TRIGGERS}.CountedJobTrigger", made.serialize()[1]])
            self._insert("loud", triggers[:-1])
            self._insert("quiet", triggers[-1:])
            wait_for("all triggers", lambda: self._started() >= len(ids), timeout=300, check=stack.check)
            if time.time() > end_at - 2.0:
                return None
            peak = _Peak(stack.parts["triggerer"].members)
            quiet_at = end_at + _LATER
            time.sleep(max(0.0, quiet_at - time.time()))
            wait_for("the quiet task", lambda: not self._deferred("quiet"), timeout=600, check=stack.check)
            late = time.time() - quiet_at
            time.sleep(max(0.0, quiet_at + _AFTER - time.time()))
            wait_for("the loud tasks", lambda: not self._deferred("loud"), timeout=900, check=stack.check)
            time.sleep(1.0)
            lags = [lag for line in self._lines() if line["at"] >= end_at for lag in line["lags"]]
            return {
                "stall_ms": max(lags, default=0.0),
                "memory_mb": round(peak.stop() / 1e6, 1),
                "late_s": round(late, 2),
                "loud_seconds": round(time.time() - end_at - 1.0, 1),
            }

    def _insert(self, name: str, triggers: list[list[Any]]) -> None:
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

    def _lines(self) -> list[dict[str, Any]]:
        if not self._probe.exists():
            return []
        return [json.loads(line) for line in self._probe.read_text().split("\n")[:-1]]

    def _started(self) -> int:
        lines = self._lines()
        return int(lines[-1]["started"]) if lines else 0

    def _deferred(self, dag_id: str) -> int:
        query = "SELECT count(*) FROM task_instance WHERE state = 'deferred' AND dag_id = ?"
        with sqlite3.connect(self._stack.home / "airflow.db", timeout=30) as database:
            return int(database.execute(query, (dag_id,)).fetchone()[0])


class _Peak:
    """The most memory that some processes have had together."""

    def __init__(self, members: Callable[[], list[psutil.Process]]) -> None:
        self._members = members
        self._most = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.25):
            try:
                self._most = max(self._most, sum(own_memory(process.pid) for process in self._members()))
            except (OSError, psutil.Error):
                return

    def stop(self) -> int:
        """End watching, and return the most bytes."""
        self._stopped.set()
        self._thread.join()
        return self._most


_MEMBERS = ("stall_ms", "memory_mb", "late_s", "loud_seconds")


def _median(results: list[Result], member: str) -> float:
    return round(statistics.median(float(result[member]) for result in results), 2)
