"""``make demo``: one Batch job from a DAG, end to end, on this machine.

Starts the emulator and a real Airflow in a folder of its own, runs the example DAG, says what happened when, and
stops everything again. The exit status is 0 only if the run and its result are right.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.support.airflow_api import AirflowApi
from tests.support.airflow_stack import USERNAME, AirflowStack
from tests.support.emulator import EmulatorProcess
from tests.support.processes import exit_on_signals

ROOT = Path(__file__).parents[2]
DAG_ID = "flights_by_carrier"
TASK_ID = "aggregate"
FLIGHTS = 336_776

#: How long a machine takes to start, in seconds; on the real service a minute or two.
MACHINE_START = 4.0

#: A worker takes a moment to wind up its process after it has handed the task over; these seconds, or on a slow
#: machine half of the wait, are granted to it.
HAND_OVER = 5.0

RUN_TIMEOUT = 300.0

console = Console(highlight=False)


class DemoFailed(Exception):
    """The demo ran, but not as it should have."""


@dataclass
class Waiting:
    """What was seen of Airflow's workers while the task was deferred.

    One look counts only if the task was deferred before and after it.
    """

    since: float | None = None
    until: float = 0.0
    looks: int = 0
    #: Seconds after ``since`` at which a worker process was last seen with a task.
    busy_until: float = 0.0
    #: Slots of the pool that were taken by running tasks, at each look.
    slots: list[int] = field(default_factory=list)

    def look(self, stack: AirflowStack, run_id: str) -> None:
        """Take one look."""
        if not _is_deferred(stack.api, run_id):
            return
        now = time.time()
        busy = stack.busy_workers()
        slots = stack.api.pool()["running_slots"]
        if not _is_deferred(stack.api, run_id):
            return
        if self.since is None:
            self.since = now
        self.until = now
        self.looks += 1
        self.slots.append(slots)
        if busy:
            self.busy_until = now - self.since

    @property
    def seconds(self) -> float:
        """How long the task was seen deferred."""
        return 0.0 if self.since is None else self.until - self.since

    @property
    def pool_slots(self) -> int:
        """Most slots that were taken while the task was deferred.

        The first look and the last one do not count. They may lie within the moment in which the task changes its
        state: the API server's next answer may then be older than its last one.
        """
        return max(self.slots[1:-1], default=0)

    def check(self) -> None:
        """Raise unless it shows that waiting held no worker."""
        if self.seconds <= HAND_OVER:
            raise DemoFailed(f"the task was deferred for {self.seconds:.1f} s only, too short to show anything")
        if self.busy_until > max(HAND_OVER, self.seconds / 2) or self.pool_slots:
            raise DemoFailed(f"a worker was held while waiting: {self}")


def _is_deferred(api: AirflowApi, run_id: str) -> bool:
    return bool(api.task_instance(DAG_ID, run_id, TASK_ID)["state"] == "deferred")


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """A fresh folder below ``.demo``; it stays behind, and is named, if something fails."""
    (ROOT / ".demo").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=ROOT / ".demo"))
    try:
        yield folder
    except Exception:
        console.print(f"The logs are in [bold]{folder.relative_to(ROOT)}[/]")
        raise
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


class Steps:
    """Prints what is being done, with the seconds since the beginning."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - self._start:6.1f} s[/]  {text}", soft_wrap=True)


def run_dag(stack: AirflowStack, emulator: EmulatorProcess, step: Steps) -> tuple[str, Waiting]:
    """Run the example DAG and return its run id and what was seen while it waited."""
    api = stack.api
    conf = {"bucket": emulator.info["bucket"], "region": emulator.info["region"]}
    run_id = api.trigger(DAG_ID, conf)
    step(f"DAG [bold]{DAG_ID}[/] triggered: {run_id}")
    waiting = Waiting()
    states: dict[str, str | None] = {}

    def look() -> None:
        for instance in api.task_instances(DAG_ID, run_id):
            state = instance["state"]
            if states.get(instance["task_id"]) != state and state in ("running", "deferred", "success", "failed"):
                step(f"  task {instance['task_id']}: {state}")
            states[instance["task_id"]] = state
        if states.get(TASK_ID) == "deferred":
            waiting.look(stack, run_id)

    if api.wait_for_run(DAG_ID, run_id, timeout=RUN_TIMEOUT, look=look) != "success":
        raise DemoFailed(api.describe_run(DAG_ID, run_id))
    result = api.xcom(DAG_ID, run_id, "check") or {}
    if result.get("flights") != FLIGHTS:
        raise DemoFailed(f"the last task checked {result}, not {FLIGHTS} flights")
    step(f"The merged result in COS is right: {FLIGHTS:,} flights in {result['groups']} groups")
    return run_id, waiting


PUBLISHED = "JOB_SUCCEED published"
EVENT = "Event received"
EVENT_KEY = "event_received_at"
Station = tuple[str, str, float | None]


def job_times(emulator: EmulatorProcess, job_id: str, heard: dict[str, float | None]) -> list[Station]:
    """``(what, who says so, unix seconds)`` for the stations of the job, in their order.

    :param heard: the XCom ``tcbatch_timeline`` of the task.
    :raises DemoFailed: if a station is missing or out of order. Only the event may be missing: where a look at the
        API happened to come before it, or this machine is so slow that nobody listened yet, the look ended the wait.
    """
    timeline = emulator.timeline(job_id)
    running = [e["time"] for e in timeline["entries"] if e["entity"] == "instance" and e["state"] == "RUNNING"]
    published = [e["time"] for e in timeline["events"] if e["event_name"] == "JOB_SUCCEED"]
    stations: list[Station] = [
        ("Job submitted", "operator", heard.get("submitted_at")),
        ("First instance running", "emulator", min(running, default=None)),
        (PUBLISHED, "emulator", min(published, default=None)),
        (EVENT, "triggerer", heard.get(EVENT_KEY)),
        ("State confirmed by the API", "triggerer", heard.get("confirmed_at")),
        ("Airflow task resumed", "worker", heard.get("resumed_at")),
    ]
    if missing := [what for what, _, when in stations if when is None and what != EVENT]:
        raise DemoFailed(f"no time is known for: {', '.join(missing)}")
    # Whether a look came before or after the event was published depends on which of them ended the wait.
    ordered = [when for what, _, when in stations if when is not None and (what != PUBLISHED or heard.get(EVENT_KEY))]
    if ordered != sorted(ordered):
        raise DemoFailed(f"the stations are out of order: {stations}")
    return stations


def report(stack: AirflowStack, emulator: EmulatorProcess, run_id: str, waiting: Waiting) -> None:
    """Print the summary.

    :raises DemoFailed: if it shows something that is not right.
    """
    job_id = stack.api.xcom(DAG_ID, run_id, TASK_ID, "job_id")
    times = job_times(emulator, job_id, stack.api.xcom(DAG_ID, run_id, TASK_ID, "tcbatch_timeline") or {})
    waiting.check()

    table = Table(title=f"Batch job {job_id}", title_justify="left")
    table.add_column("Station")
    table.add_column("seen by")
    table.add_column("time (UTC)")
    table.add_column("after submission", justify="right")
    submitted = times[0][2] or 0.0
    for what, who, when in times:
        if when is None:
            table.add_row(what, who, "-", "a look came first")
            continue
        clock = time.strftime("%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03d}"
        table.add_row(what, who, clock, f"{when - submitted:.3f} s")
    console.print()
    console.print(table)

    events: dict[str, int] = {}
    for event in emulator.timeline(job_id)["events"]:
        events[event["event_name"]] = events.get(event["event_name"], 0) + 1
    counts = emulator.counts()
    facts = Table.grid(padding=(0, 2))
    facts.add_row("API calls", ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
    received = sum(when is not None for what, _, when in times if what == EVENT)
    published = ", ".join(f"{name} {number}" for name, number in events.items())
    facts.add_row("Events", f"published: {published}; received for the waiting task: {received}")
    facts.add_row(
        "Worker slots",
        f"none held: deferred for {waiting.seconds:.1f} s, {waiting.looks} looks at the process table and the pool; "
        f"the last busy worker {waiting.busy_until:.1f} s after deferral (winding up), "
        f"{waiting.pool_slots} pool slots taken",
    )
    console.print(facts)
    console.print()


def stay(stack: AirflowStack, emulator: EmulatorProcess) -> None:
    """Leave everything running until Ctrl-C."""
    home = stack.home.relative_to(ROOT)
    lines = [
        f"Airflow's UI   [bold]{stack.url}[/]   user [bold]{USERNAME}[/]   password [bold]{stack.password}[/]",
        f"Its commands   AIRFLOW_HOME=$PWD/{home} .venv/bin/airflow ...",
        f"The emulator   {emulator.info['endpoint']}   COS {emulator.info['cos_endpoint']}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)
    console.print("[bold]Ctrl-C[/] stops everything.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            stack.check()
            emulator.process.check()
            time.sleep(1)


def demo(folder: Path, *, keep: bool) -> None:
    """Run the demo in ``folder``."""
    step = Steps()
    step("Starting the emulator of Tencent Batch, CMQ and COS")
    with EmulatorProcess(folder / "emulator") as emulator:
        emulator.control("settings", method="PATCH", body={"starting_seconds": MACHINE_START})
        step(f"Starting Airflow (API server, scheduler, DAG processor, triggerer) in {folder.relative_to(ROOT)}")
        connection = json.loads(emulator.connection)
        # The topic's durable queue: what is published before the triggerer listens waits there. A queue of the
        # triggerer's own, the default, would on a slow machine come too late for such a short job.
        connection["extra"]["event_queue"] = f"{emulator.info['topic']}-base"
        connections: dict[str, Any] = {"tencentcloud_default": connection}
        with AirflowStack(folder / "airflow", dags=ROOT / "example_dags", connections=connections) as stack:
            step(f"Airflow answers at {stack.url}")
            report(stack, emulator, *run_dag(stack, emulator, step))
            if keep:
                stay(stack, emulator)
            step("Stopping everything")
    step("[bold green]Done[/]")


def main() -> int:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running until Ctrl-C")
    arguments = parser.parse_args()
    exit_on_signals()
    try:
        with own_folder() as folder:
            demo(folder, keep=arguments.keep)
    except KeyboardInterrupt:
        console.print("Interrupted; everything is stopped.")
        return 130
    except Exception as error:
        console.print(f"[bold red]The demo failed:[/] {type(error).__name__}:", end=" ")
        console.print(str(error), markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
