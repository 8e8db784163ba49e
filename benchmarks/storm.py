"""Many processes submit jobs at once, beside what the account's rate allows, and beside another checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.child import MARK, ROOT
from benchmarks.figures import Figure
from benchmarks.servers import emulator
from benchmarks.sizes import Sizes

__all__ = ["SubmitStorm"]

#: Jobs that an account may submit in a second (https://cloud.tencent.com/document/product/599/30660).
_RATE = 20

#: Targets: time as a multiple of the floor, and requests for one job.
_FLOORS, _REQUESTS = 1.2, 1.3


class SubmitStorm:
    """Processes that submit jobs at once, against the emulator with the account's limit.

    The floor is what the rate allows: jobs divided by 20 a second. All processes run on this machine. Then once more as
    if each had a machine of its own: they do not take turns, and learn only from what is refused.

    :param beside: another checkout of this project, measured in the same run.
    """

    def __init__(self, sizes: Sizes, say: Callable[[str], None], beside: Path | None = None) -> None:
        self._sizes = sizes
        self._say = say
        self._beside = beside
        self.figures: list[Figure] = []
        self.raw: dict[str, Any] = {}

    def measure(self) -> None:
        """Measure, and fill :attr:`figures`."""
        for processes in self._sizes.storm_processes:
            rounds: dict[str, list[dict[str, Any]]] = {}
            for _ in range(self._sizes.storm_rounds):
                for name, checkout, apart in self._sides():
                    result = self._run(checkout, processes, apart=apart)
                    rounds.setdefault(name, []).append(result)
                    self._say(f"submit storm, {processes} processes, {name}: {result}")
            self.raw[str(processes)] = rounds
            self._figures(processes, rounds)

    def _sides(self) -> list[tuple[str, Path, bool]]:
        sides = [("ours", ROOT, False), ("apart", ROOT, True)]
        if self._beside is not None:
            sides.insert(0, ("beside", self._beside.resolve(), False))
        return sides

    def _run(self, checkout: Path, processes: int, *, apart: bool) -> dict[str, Any]:
        parameters = {"processes": processes, "jobs": self._sizes.storm_jobs, "apart": apart}
        with emulator({"rate_limits": "cn"}) as server, tempfile.TemporaryDirectory(prefix="tcbatch-bench-") as home:
            kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR") if name in os.environ}
            ended = subprocess.run(
                [sys.executable, str(ROOT / "benchmarks" / "cases" / "storm.py")],
                input=json.dumps(parameters),
                env={
                    **kept,
                    "HOME": home,
                    "AIRFLOW_HOME": home,
                    "NO_PROXY": "*",
                    "PYTHONPATH": str(checkout),
                    "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                    "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT": server.connection(),
                },
                cwd=home,
                capture_output=True,
                text=True,
                timeout=900,
                check=False,
            )
            lines = [line for line in ended.stdout.splitlines() if line.startswith(MARK)]
            if not lines:
                raise RuntimeError(f"submit storm ended with status {ended.returncode}\n{ended.stderr[-4000:]}")
            requests = server.calls()["batch.SubmitJob"]
        result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
        jobs = processes * self._sizes.storm_jobs
        floor = jobs / _RATE
        return {**result, "floors": round(result["seconds"] / floor, 3), "requests": round(requests / jobs, 3)}

    def _figures(self, processes: int, rounds: dict[str, list[dict[str, Any]]]) -> None:
        jobs = processes * self._sizes.storm_jobs
        before = rounds.get("beside")

        def of(name: str, member: str) -> float:
            return float(median(result[member] for result in rounds[name]))

        for name, where in (("ours", "on one machine"), ("apart", "as if on machines of their own")):
            who = f"{processes} processes {where} submit {self._sizes.storm_jobs} jobs each"
            key = f"storm_{processes}_{name}"
            held = name == "ours"
            old = (lambda member: of("beside", member)) if before and held else (lambda member: None)
            self.figures += [
                Figure(f"{key}_failed", f"{who}: tasks that fail", "", of(name, "failed"), old("failed"), 0),
                Figure(
                    f"{key}_floors",
                    f"... time until the last is accepted; 1 is {jobs / _RATE:.3g} s",
                    "floors",
                    of(name, "floors"),
                    old("floors"),
                    _FLOORS if held else None,
                ),
                Figure(
                    f"{key}_requests",
                    "... requests for one job",
                    "",
                    of(name, "requests"),
                    old("requests"),
                    _REQUESTS if held else None,
                ),
            ]
