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
from tests.chaos.facts import TASK_ENDED, ActRecord, AuditLogEntry, Facts, Job, Key, LedgerLine, Task, Try
from tests.chaos.plan import Plan
from tests.chaos.stack import ChaosStack

#: The tasks of each DAG and what must become of them.
EXPECTED: dict[str, dict[str, str]] = {
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
OWN_FAILURES = {"flaky": 1, "repaired": 1}

_STATES = "SELECT dag_id, run_id, task_id, map_index, state FROM task_instance"
_TRIES = "SELECT dag_id, run_id, task_id, map_index, state, try_number, start_date, end_date, %s FROM %s"
_LOG = (
    "SELECT dag_id, run_id, task_id, coalesce(map_index, -1), dttm, event, extra FROM log "
    "WHERE task_id IS NOT NULL AND run_id IS NOT NULL"
)
_JOBS = "SELECT dag_id, run_id, task_id, map_index, value FROM xcom WHERE key = 'job_id'"


def expected_of(plan: Plan) -> dict[Key, str]:
    """The task instances there must be, and what must become of them."""
    return {
        Key(work.dag_id, work.run_id, task_id): wanted
        for work in plan.work
        for task_id, wanted in EXPECTED[work.dag_id].items()
    }


def own_failures_of(plan: Plan) -> dict[Key, int]:
    """How often their jobs fail."""
    found = {Key(work.dag_id, work.run_id, "job"): OWN_FAILURES.get(work.dag_id, 0) for work in plan.work}
    # A cleared task does its work anew; what fails once has failed by then, or does now.
    return {key: number for key, number in found.items() if number}


def going_on(stack: ChaosStack, plan: Plan) -> set[Key]:
    """Task instances that have not ended."""
    states = {Key(*key): state for *key, state in _ask(stack, _STATES)}
    return {key for key in expected_of(plan) if states.get(key) not in TASK_ENDED}


def collect(stack: ChaosStack, plan: Plan, acts: Iterable[ActRecord]) -> Facts:
    """Everything that is known."""
    books = stack.sts("books")
    leftovers = [f"environment {env['env_id']} ({env['name']}) is left" for env in books["envs"]]
    return Facts(
        expected=expected_of(plan),
        tasks=_tasks(stack),
        jobs=tuple(_job(entry) for entry in books["jobs"]),
        ledger=tuple(_lines(stack.ledger)),
        acts=tuple(sorted(acts, key=lambda act: act.began)),
        log=tuple(
            AuditLogEntry(at.timestamp(), Key(*words), event, str(extra or ""))
            for *words, at, event, extra in _ask(stack, _LOG)
        ),
        resets=_resets(stack),
        own_failures=own_failures_of(plan),
        leftovers=tuple(leftovers),
    )


def _ask(stack: ChaosStack, select: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(stack.database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(select)
        return list(cursor.fetchall())


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _tasks(stack: ChaosStack) -> dict[Key, Task]:
    tries: dict[Key, dict[int, Try]] = defaultdict(dict)
    states: dict[Key, str | None] = {}
    logs = stack.airflow.home / "logs"
    for table in (("task_instance_id", "task_instance_history"), ("id", "task_instance")):
        for *words, state, number, began, ended, ti_id in _ask(stack, _TRIES % table):
            key = Key(*words)
            error = _own_error(logs, key, number) if state in ("failed", "up_for_retry") else ""
            tries[key][number] = Try(number, state, _seconds(began), _seconds(ended), str(ti_id), error)
            states[key] = state
    job_ids = {Key(*words): _text(value) for *words, value in _ask(stack, _JOBS)}
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
                # Killed by Airflow, the operator says so by an error: why it was killed is another matter.
                if error["exc_type"].removeprefix("Permanent") in _OWN and "was killed" not in error["exc_value"]:
                    return " ".join(f"{error['exc_type']}: {error['exc_value']}".split())[:200]
    return ""


def _resets(stack: ChaosStack) -> frozenset[str]:
    """Ids of the tries that schedulers have taken from each other, from their logs."""
    found: set[str] = set()
    for path in stack.airflow.logs.glob("scheduler*.log"):
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


def _lines(ledger: Path) -> Iterable[LedgerLine]:
    for text in ledger.read_text().splitlines() if ledger.exists() else ():
        what, at, job_id, index, code = text.split()
        yield LedgerLine(float(at), job_id, int(index), int(code) if what == "end" else None)
