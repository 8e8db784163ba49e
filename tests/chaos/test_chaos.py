"""Storms over real processes: whatever the weather does, nothing is lost, doubled, orphaned, wrongly ended or stuck.

One short storm by default. ``CHAOS_SEEDS=20 CHAOS_FIRST=1`` plays the whole storms of the seeds 1 to 20 instead, each
with processes of its own; that is what ``make chaos SEEDS=20`` does. ``docs/reliability.md`` tells what is done and
what is promised.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from tests.chaos.auditor import Finding, audit, counts
from tests.chaos.collect import EXPECTED, collect, going_on
from tests.chaos.conftest import Verdict
from tests.chaos.facts import JOB_ENDED, Facts, Key
from tests.chaos.plan import Plan, brief, whole
from tests.chaos.stack import ChaosStack
from tests.chaos.timeline import merged
from tests.chaos.weather import Users, Weather
from tests.support.processes import wait_for

#: The storm of every day.
DAILY = 17

#: Seconds that the service has for what was asked of it last, after all tasks have ended.
LAST = 20.0

#: How much of a report is printed: the plan, and the stories of so many tasks less one.
STORIES = 4

#: The DAG that lets Airflow build what it builds with the first task, and how long that may take on a busy machine.
WARM_UP, PATIENCE = "warm_up", 300.0

#: States of a job that has not begun to run.
NOT_BEGUN = frozenset({"SUBMITTED", "PENDING", "RUNNABLE", "STARTING"})

SEEDS = int(os.environ.get("CHAOS_SEEDS", "0"))
FIRST = int(os.environ.get("CHAOS_FIRST", "1"))

#: Seconds that a storm may take with everything before and after it.
WHOLE, BRIEF = 1500, 600

PLANS = [pytest.param(whole(seed), marks=pytest.mark.timeout(WHOLE)) for seed in range(FIRST, FIRST + SEEDS)] or [
    pytest.param(brief(DAILY), marks=pytest.mark.timeout(BRIEF))
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"seed-{plan.seed}")
def test_nothing_healthy_is_failed_ended_or_lost(plan: Plan, tmp_path: Path, verdicts: list[Verdict]) -> None:
    print(plan)
    with ChaosStack(tmp_path, workers_die=plan.fatal) as stack:
        api = stack.airflow.api
        api.wait_for_dag(WARM_UP, timeout=PATIENCE)
        api.wait_for_run(WARM_UP, api.trigger(WARM_UP), timeout=PATIENCE)
        facts, seconds = weather(stack, plan)
        findings = audit(facts)
        logs = stack.airflow.home / "logs"
        verdict = {"seed": plan.seed, **counts(findings)}
        verdicts.append(
            {
                **verdict,
                "tasks": len(facts.expected),
                "jobs": len(facts.jobs),
                "acts": len(facts.acts),
                "seconds": seconds,
            }
        )
        if findings:
            stories = report(plan, facts, findings, logs)
            (tmp_path / "report").write_text("\n".join(stories))
            again = f"make chaos SEEDS=1 FIRST={plan.seed}" if SEEDS else "make chaos-brief"
            heading = f"{verdict}; again: {again}; the whole report: {tmp_path / 'report'}"
            pytest.fail("\n".join([heading, *map(str, findings), *stories[:STORIES]]), pytrace=False)


def weather(stack: ChaosStack, plan: Plan) -> tuple[Facts, float]:
    """Play a storm and wait until everything has come to its end, or should have; the facts, and how long it took."""
    acts, users = Weather(stack, plan), Users(stack, plan)
    users.before()
    wait_for("the first jobs run", lambda: under_way(stack, plan), timeout=PATIENCE, check=stack.airflow.check)
    began = time.monotonic()
    users.go_on(began)
    try:
        acts.blow(began)
        calm = time.monotonic()

        def ended() -> bool:
            acts.keep_up()
            return not users.is_alive() and not going_on(stack, plan)

        def quiet() -> bool:
            books = stack.sts("books")
            return not books["envs"] and all(job["state"] in JOB_ENDED for job in books["jobs"])

        # What is missing when the time is up, the auditor says.
        with contextlib.suppress(TimeoutError):
            wait_for("all tasks ended", ended, timeout=plan.settle)
        with contextlib.suppress(TimeoutError):
            wait_for("the service is quiet", quiet, timeout=LAST)
        print(f"settled {time.monotonic() - calm:.0f} s after the storm")
    finally:
        users.stop()
    return collect(stack, plan, [*acts.records, *users.records]), round(time.monotonic() - began, 1)


def under_way(stack: ChaosStack, plan: Plan) -> bool:
    """Whether the jobs of the early work have begun to run; but where machines are made first."""
    begun = {job["owner"]["run_id"] for job in stack.sts("books")["jobs"] if job["state"] not in NOT_BEGUN}
    return begun >= {work.run_id for work in plan.early if work.dag_id != "machines"}


def report(plan: Plan, facts: Facts, findings: list[Finding], logs: Path) -> list[str]:
    """All that is needed to understand the findings: the plan, and the story of each task that has some."""
    by_task: dict[Key | None, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_task[finding.key].append(finding)
    stories = [[*(f"--- {one}" for one in found), merged(facts, found[0], logs)] for found in by_task.values()]
    return [str(plan), *("\n".join(story) for story in stories)]


def test_the_tasks_of_all_dags_are_known() -> None:
    """What the auditor is asked to look for is what the DAGs have."""
    bag = DagBag(str(Path(__file__).parent / "dags"))
    assert bag.import_errors == {}
    assert {dag_id: set(dag.task_ids) for dag_id, dag in bag.dags.items()} == {
        WARM_UP: {"works"},
        **{dag_id: set(tasks) for dag_id, tasks in EXPECTED.items()},
    }
