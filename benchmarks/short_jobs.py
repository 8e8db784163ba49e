"""``python -m benchmarks.short_jobs``: short deferred jobs in a real Airflow whose API server gets little of the CPU.

A worker that defers a task takes a while to wind up. If the task is resumed meanwhile, Airflow up to 3.3.2 takes the
worker's end for that of the resumed task and fails it (apache/airflow#72716). Counted are the tasks that are not a
success although their jobs are, and measured is how long the provider held the ends of waits back for it.

Everything is real but the machines of the jobs: API server, scheduler with LocalExecutor, DAG processor, triggerer,
PostgreSQL, and the emulator, which only simulates that jobs run. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg2

from tests.support.airflow_stack import AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.postgres import PostgresServer
from tests.support.processes import exit_on_signals

#: Most instances of one mapped task: Airflow's limit is 1,024, and a list in the DAG is stored with it.
_MAPPED = 250

_DAG = """
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

JOB = {{
    "Tasks": [
        {{
            "TaskName": "only",
            "Application": {{"DeliveryForm": "LOCAL", "Command": "true"}},
            "ComputeEnv": {{"EnvData": {{"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}}}},
            "EnvVars": [{{"Name": "EMULATOR_SECONDS", "Value": "{seconds}"}}],
        }}
    ]
}}

with DAG("short_jobs", schedule=None, max_active_tasks={parallelism}):
    for number, count in enumerate({counts}):
        jobs = TCBatchSubmitJobOperator.partial(task_id=f"jobs_{{number}}", deferrable=True, retries=0)
        jobs.expand(job=[JOB] * count)
"""

_TASKS = "SELECT task_id, map_index, state FROM task_instance WHERE dag_id = 'short_jobs' AND run_id = %s"
_TIMELINES = """SELECT task_id, map_index, value ->> 'confirmed_at', value ->> 'resumed_at' FROM xcom
WHERE dag_id = 'short_jobs' AND run_id = %s AND key = 'tcbatch_timeline'"""
_EMPTY = "SELECT count(*) FROM xcom WHERE dag_id = 'short_jobs' AND run_id = %s AND value::text IN ('\"\"', 'null')"
_RACED = """SELECT count(*) FROM log
WHERE dag_id = 'short_jobs' AND event = 'state mismatch' AND extra LIKE '%finished with state success%'"""

#: A trigger in the name that its log calls it by: which task instance it waits for.
_TRIGGER = re.compile(r"short_jobs/[^/]+/(\w+)/(-?\d+)/")

#: A deferring worker in the scheduler's log: its task is deferred, it has ended, for the same task instance.
_DEFERS = re.compile(r"^(\S+ ?\S+) \[info .*Pausing task as DEFERRED.* ti_id=(\S+)", re.MULTILINE)
_ENDS = re.compile(r"^(\S+) \[info .*Workload finished.* final_state=deferred .*workload_id=(\S+)", re.MULTILINE)


@contextlib.contextmanager
def starved(stack: AirflowStack, part: str, awake: float, asleep: float) -> Iterator[None]:
    """Let a part of Airflow run for some seconds, then not, and so on: it gets that much less of the CPU.

    :param awake: seconds; all the time if ``asleep`` is 0.
    """
    process, over = stack.parts[part], threading.Event()

    def alternate() -> None:
        while not over.is_set():
            process.send_all(signal.SIGSTOP)
            over.wait(asleep)
            process.send_all(signal.SIGCONT)
            over.wait(awake)

    thread = threading.Thread(target=alternate, daemon=True)
    if asleep:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if asleep:
            thread.join()


def percentiles(values: list[float]) -> dict[str, float]:
    """What is told of some seconds."""
    if not values:
        return {}
    values = sorted(values)
    return {
        "median": round(statistics.median(values), 2),
        "p90": round(values[int(len(values) * 0.9)], 2),
        "most": round(values[-1], 2),
    }


def seconds(text: str) -> float:
    """A time of a log, in unix seconds."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def when_fired(logs: Path) -> dict[tuple[str, int], float]:
    """When each trigger ended, by task id and map index, in unix seconds."""
    fired = {}
    for path in logs.rglob("*.trigger.*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if "Trigger fired event" in line and (found := _TRIGGER.search(line)):
                fired[found[1], int(found[2])] = seconds(json.loads(line)["timestamp"])
    return fired


def wind_ups(log: str) -> list[float]:
    """Seconds from a deferral until its worker has ended, for each of them."""
    ended: dict[str, float] = {}
    for text, ti_id in _ENDS.findall(log):
        ended.setdefault(ti_id, seconds(text))
    return [ended[ti_id] - seconds(text) for text, ti_id in _DEFERS.findall(log) if ti_id in ended]


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run."""
    counts = [min(_MAPPED, arguments.jobs - first) for first in range(0, arguments.jobs, _MAPPED)]
    dags = folder / "dags"
    dags.mkdir()
    text = _DAG.format(seconds=arguments.seconds, parallelism=arguments.parallelism, counts=counts)
    (dags / "short_jobs.py").write_text(text)
    config = {
        "core": {"parallelism": str(arguments.parallelism), "max_active_tasks_per_dag": str(arguments.parallelism)},
        # The first is what users have; tests make it shorter. Without the second Airflow itself gives tasks up whose
        # workers wait too long for the API server.
        "workers": {"min_heartbeat_interval": "5", "execution_api_timeout": "300"},
        "scheduler": {"scheduler_idle_sleep_time": "1", "task_instance_heartbeat_timeout": "300"},
        "triggerer": {"triggerer_health_check_threshold": "30"},
        "api": {"log_fetch_timeout_sec": "5"},
    }
    for name in ("emulator", "postgres", "stack"):
        (folder / name).mkdir()
    with contextlib.ExitStack() as exits:
        emulator = exits.enter_context(EmulatorProcess(folder / "emulator", settings={"mode": "simulate"}))
        database = exits.enter_context(PostgresServer(folder / "postgres"))
        connection = json.loads(emulator.connection)
        stack = exits.enter_context(
            AirflowStack(
                folder / "stack",
                dags=dags,
                connections={"tencentcloud_default": connection},
                config=config,
                database=database.url,
            )
        )
        rows = exits.enter_context(
            contextlib.closing(psycopg2.connect(database.url.replace("postgresql+psycopg2:", "postgresql:")))
        )
        rows.autocommit = True

        def ask(select: str, *values: Any) -> list[Any]:
            with rows.cursor() as cursor:
                cursor.execute(select, values or None)
                return list(cursor.fetchall())

        run_id = stack.api.trigger("short_jobs")
        begun = time.monotonic()
        with starved(stack, "api-server", arguments.awake, arguments.asleep):
            while True:
                time.sleep(2)
                states = Counter(state for *_, state in ask(_TASKS, run_id))
                print(f"{time.monotonic() - begun:6.0f} s  {dict(states)}", file=sys.stderr, flush=True)
                ended = sum(states[state] for state in ("success", "failed", "upstream_failed", "skipped"))
                if ended >= arguments.jobs:
                    break
                if time.monotonic() - begun > arguments.timeout:
                    break
                stack.check()
        took = time.monotonic() - begun
        fired = when_fired(stack.home / "logs")
        ends = [(task, index, float(seen), float(resumed)) for task, index, seen, resumed in ask(_TIMELINES, run_id)]
        workers = (stack.logs / "scheduler.log").read_text(errors="replace")
        return {
            "jobs": arguments.jobs,
            "states": dict(states),
            "red": arguments.jobs - states["success"],
            "failed_by_the_race": ask(_RACED)[0][0],
            "seconds": round(took, 1),
            "held": percentiles([fired[task, index] - seen for task, index, seen, _ in ends if (task, index) in fired]),
            "seen_to_resumed": percentiles([resumed - seen for *_, seen, resumed in ends]),
            "wound_up_after": percentiles(wind_ups(workers)),
            "empty_xcoms": ask(_EMPTY, run_id)[0][0],
            "xcoms_not_found": workers.count("XCom not found"),
        }


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.short_jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000, help="how many")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each runs")
    parser.add_argument("--parallelism", type=int, default=32, help="Airflow's [core] parallelism")
    parser.add_argument("--awake", type=float, default=0.4, help="seconds that the API server runs at a time")
    parser.add_argument("--asleep", type=float, default=0.6, help="seconds that it is stopped in between; 0: never")
    parser.add_argument("--timeout", type=float, default=3 * 3600, help="seconds after which it is given up")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="an empty folder for all logs")
    arguments = parser.parse_args()
    exit_on_signals()
    load = os.getloadavg()[0]
    if arguments.keep is not None:
        result = measure(arguments, arguments.keep)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(arguments, Path(folder))
    print(json.dumps(result | {"asleep": arguments.asleep, "awake": arguments.awake, "load_before": round(load, 2)}))
    return int(result["red"] > 0)


if __name__ == "__main__":
    sys.exit(main())
