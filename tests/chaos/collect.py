"""Collecting the facts: from Airflow's database, from the service's books, from what instances have written down."""

from __future__ import annotations

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch import exceptions
from tests.chaos.facts import TASK_ENDED, Done, Facts, Job, Key, Line, Said, Task, Try
from tests.chaos.plan import Plan
from tests.chaos.stack import Storm

#: The tasks of each DAG and what must become of them.
ASKED: dict[str, dict[str, str]] = {
    **{
        dag_id: {"job": "success"}
        for dag_id in ("deferred", "blocking", "single", "deferred_role", "blocking_role", "flaky", "repaired", "loud")
    },
    "doomed": {"job": "failed"},
    "sensed": {"submit": "success", "no_worker": "success", "poked": "success"},
    "machines": {"machines": "success", "job": "success", "machines_teardown": "success"},
}

_TI_ID = re.compile(r"ti_id=([0-9a-f-]{36})")

#: Names of the provider's own errors.
_OWN = frozenset(name for name, value in vars(exceptions).items() if isinstance(value, type))

#: How often the job of a task fails by its own doing.
FAILS_ITSELF = {"flaky": 1, "repaired": 1}

_STATES = "SELECT dag_id, run_id, task_id, map_index, state FROM task_instance"
_TRIES = "SELECT dag_id, run_id, task_id, map_index, state, try_number, start_date, end_date, %s FROM %s"
_SAID = (
    "SELECT dag_id, run_id, task_id, coalesce(map_index, -1), dttm, event, extra FROM log "
    "WHERE task_id IS NOT NULL AND run_id IS NOT NULL"
)
_JOBS = "SELECT dag_id, run_id, task_id, map_index, value FROM xcom WHERE key = 'job_id'"


def asked_of(plan: Plan) -> dict[Key, str]:
    """The task instances there must be, and what must become of them."""
    return {
        Key(work.dag_id, work.run_id, task_id): wanted
        for work in plan.work
        for task_id, wanted in ASKED[work.dag_id].items()
    }


def fails_itself_of(plan: Plan) -> dict[Key, int]:
    """How often their jobs fail."""
    found = {Key(work.dag_id, work.run_id, "job"): FAILS_ITSELF.get(work.dag_id, 0) for work in plan.work}
    # A cleared task does its work anew; what fails once has failed by then, or does now.
    return {key: number for key, number in found.items() if number}


def going_on(storm: Storm, plan: Plan) -> set[Key]:
    """Task instances that have not ended."""
    states = {Key(*key): state for *key, state in _ask(storm, _STATES)}
    return {key for key in asked_of(plan) if states.get(key) not in TASK_ENDED}


def collect(storm: Storm, plan: Plan, done: Iterable[Done]) -> Facts:
    """Everything that is known."""
    books = storm.sts("books")
    leftovers = [f"environment {env['env_id']} ({env['name']}) is left" for env in books["envs"]]
    return Facts(
        asked=asked_of(plan),
        tasks=_tasks(storm),
        jobs=tuple(_job(entry) for entry in books["jobs"]),
        lines=tuple(_lines(storm.ledger)),
        done=tuple(sorted(done, key=lambda act: act.began)),
        said=tuple(
            Said(at.timestamp(), Key(*words), event, str(extra or ""))
            for *words, at, event, extra in _ask(storm, _SAID)
        ),
        resets=_resets(storm),
        fails_itself=fails_itself_of(plan),
        leftovers=tuple(leftovers),
    )


def _ask(storm: Storm, select: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(storm.database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(select)
        return list(cursor.fetchall())


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _tasks(storm: Storm) -> dict[Key, Task]:
    tries: dict[Key, dict[int, Try]] = defaultdict(dict)
    states: dict[Key, str | None] = {}
    logs = storm.airflow.home / "logs"
    for table in (("task_instance_id", "task_instance_history"), ("id", "task_instance")):
        for *words, state, number, began, ended, ti_id in _ask(storm, _TRIES % table):
            key = Key(*words)
            error = _own_error(logs, key, number) if state in ("failed", "up_for_retry") else ""
            tries[key][number] = Try(number, state, _seconds(began), _seconds(ended), str(ti_id), error)
            states[key] = state
    job_ids = {Key(*words): _text(value) for *words, value in _ask(storm, _JOBS)}
    return {
        key: Task(key, state, tuple(one for _, one in sorted(tries[key].items())), job_ids.get(key))
        for key, state in states.items()
    }


def _own_error(logs: Path, key: Key, number: int) -> str:
    """The error of the provider's own that ended a try, empty if none did."""
    folder = logs / f"dag_id={key.dag_id}" / f"run_id={key.run_id}" / f"task_id={key.task_id}"
    path = folder / f"attempt={number}.log"
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, AttributeError):
            for error in (json.loads(line).get("error_detail") or [])[:1]:
                if error["exc_type"].removeprefix("Permanent") in _OWN:
                    return " ".join(f"{error['exc_type']}: {error['exc_value']}".split())[:200]
    return ""


def _resets(storm: Storm) -> frozenset[str]:
    """Ids of the tries that schedulers have taken from each other, from their logs."""
    found: set[str] = set()
    for path in storm.airflow.logs.glob("scheduler*.log"):
        listed = False
        for line in path.read_text(errors="replace").splitlines():
            listed = "Reset the following" in line or (listed and line.startswith("\t"))
            found.update(_TI_ID.findall(line) if listed else ())
    return frozenset(found)


def _text(value: Any) -> str:
    """An XCom's value: JSON, or JSON inside JSON if a triggerer wrote it."""
    with contextlib.suppress(ValueError, TypeError):
        value = json.loads(value)
    return str(value)


def _job(entry: dict[str, Any]) -> Job:
    owner = entry["owner"]
    return Job(
        job_id=entry["job_id"],
        owner=Key(owner["dag_id"], owner["run_id"], owner["task_id"], int(owner["map_index"] or -1)),
        generation=owner["generation"],
        state=entry["state"],
        created_at=entry["created_at"],
        ended_at=entry["ended_at"],
        terminated=entry["terminated"],
        history=tuple((one["time"], _what(one), one["state"]) for one in entry["history"]),
    )


def _what(entry: dict[str, Any]) -> str:
    return entry["entity"] if entry["index"] is None else f"{entry['entity']} {entry['index']}"


def _lines(ledger: Path) -> Iterable[Line]:
    for text in ledger.read_text().splitlines() if ledger.exists() else ():
        what, at, job_id, index, code = text.split()
        yield Line(float(at), job_id, int(index), int(code) if what == "end" else None)
