"""``python -m benchmarks``: measure, print the tables, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.bare_loop import BareLoop
from benchmarks.figures import as_json, show
from benchmarks.sizes import FULL, QUICK
from benchmarks.storm import SubmitStorm
from benchmarks.triggerer.loud import LoudNeighbours
from benchmarks.triggerer.table import UnderTriggerer
from benchmarks.worker import Worker

_PACKAGES = ("apache-airflow", "apache-airflow-providers-amazon", "aiobotocore", "httpx", "pydantic")


def machine() -> dict[str, Any]:
    """What it was measured on, and with what."""
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory) / 1024 / 1024, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "packages": found,
    }


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers: shows that it works, measures nothing")
    only = ("bare-loop", "triggerer", "loud", "worker", "submit-storm")
    parser.add_argument("--only", choices=only, help="one of the tables")
    parser.add_argument(
        "--beside", type=Path, metavar="PATH", help="another checkout, whose build is measured beside this one's"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often all sides are measured (3; 2 to 4 triggerers; 11 workers)"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the chart into this PNG file")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    if arguments.rounds is not None:
        sizes = replace(
            sizes,
            rounds=arguments.rounds,
            worker_rounds=arguments.rounds,
            triggerer_rounds=dict.fromkeys(sizes.triggerer_rounds, arguments.rounds),
            stored_rounds=dict.fromkeys(sizes.stored_rounds, arguments.rounds),
            loud_rounds=arguments.rounds,
            storm_rounds=arguments.rounds,
        )
    # The last line of stdout is the JSON; what is going on is told elsewhere.
    told = Console(stderr=True, highlight=False)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    begun = time.monotonic()

    def say(line: str) -> None:
        told.print(f"[dim]{time.monotonic() - begun:6.0f} s[/dim]  {line}")

    rounds = {
        "bare_loop": sizes.rounds,
        "imports_and_dag_files": sizes.short_rounds,
        "worker": sizes.worker_rounds,
        "triggerer": sizes.triggerer_rounds,
        "triggerer_stored": sizes.stored_rounds,
        "loud": sizes.loud_rounds,
        "submit_storm": sizes.storm_rounds,
    }
    result: dict[str, Any] = {"machine": machine(), "quick": arguments.quick, "rounds": rounds}
    with_peer = importlib.util.find_spec("airflow.providers.amazon") is not None
    if arguments.only in (None, "bare-loop") and not (with_peer or arguments.quick):
        raise SystemExit("The peer is missing: make bench installs it, or pip install '.[bench]'")
    bare = BareLoop(sizes, say, peer=with_peer)
    under = UnderTriggerer(sizes, say)
    loud = LoudNeighbours(sizes, say)
    worker = Worker(sizes, say, peer=with_peer, beside=arguments.beside)
    storm = SubmitStorm(sizes, say, arguments.beside)
    failed = False
    for name, title, peer, table in (
        ("bare_loop", "Table 1. A bare event loop", "amazon", bare),
        ("triggerer", "Table 2. A real triggerer", "idle trigger", under),
        ("loud", "Loud jobs in a real triggerer", "one line each", loud),
        ("worker", "Table 3. A worker's process", "other", worker),
        ("submit_storm", "A submit storm", "beside", storm),
    ):
        if arguments.only not in (None, name.replace("_", "-")):
            continue
        complete = True
        try:
            table.measure()
        except Exception:
            # The last line still holds what was measured, which may be an hour's.
            told.print_exception()
            complete = False
        failed |= not complete
        show(console, title if complete else f"{title} (incomplete)", peer, table.figures)
        result |= {name: as_json(table.figures), f"{name}_raw": table.raw}
    if bare.scaling:
        result["scaling"] = bare.scaling
    if arguments.chart is not None and "scaling" in result:
        from benchmarks.chart import draw

        draw(result["scaling"], arguments.chart)
    print(json.dumps(result | {"failed": failed}))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
