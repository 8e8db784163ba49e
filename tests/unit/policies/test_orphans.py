from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED, name_for
from airflow_provider_tcbatch.policies.orphans import Fate, Finding, Kind, Run, Thing, instant_of, judge_things
from airflow_provider_tcbatch.policies.ownership.marks import Owner

NOW = 1_000_000.0
OWNER = Owner("prod", "etl", "manual__1", "work")
LIVE = ("running", "deferred", "queued", "scheduled", "up_for_retry", "up_for_reschedule", "restarting")
OVER = ("success", "failed", "skipped", "upstream_failed", "removed")


def a_job(**changes: Any) -> Thing:
    return replace(Thing(Kind.JOB, "job-1", "etl-work", "RUNNING", OWNER, "aaaaaaaa", NOW - 7200), **changes)


def an_env(**changes: Any) -> Thing:
    return a_job(kind=Kind.ENVIRONMENT, thing_id="env-1", name="pool", **changes)


def judged(thing: Thing, run: Run | None, *more: Thing, grace: float = 3600.0) -> Finding:
    runs = {} if run is None else {("etl", "manual__1"): run}
    found = judge_things([thing, *more], runs, deployment="prod", now=NOW, grace=grace)
    return next(finding for finding in found if finding.thing == thing)


def fate(thing: Thing, run: Run | None, *more: Thing) -> str:
    return judged(thing, run, *more).fate.value


OWNERS = st.builds(
    Owner,
    st.sampled_from(["prod", "staging"]),
    st.just("etl"),
    st.sampled_from(["manual__1", "manual__2", SHARED]),
    st.sampled_from(["work", "other"]),
    st.sampled_from([-1, 0, 1]),
)
THINGS = st.builds(
    Thing,
    st.sampled_from(list(Kind)),
    st.uuids().map(str),
    st.just("a name"),
    st.sampled_from(["SUBMITTED", "RUNNING", "FAILED_INTERRUPTED"]),
    st.none() | OWNERS,
    st.sampled_from(["aaaaaaaa", "bbbbbbbb"]),
    st.none() | st.floats(NOW - 10_000, NOW + 1000),
    st.booleans(),
)
KEYS = ("work", "work_0", "work_1", "work_teardown", "other", "other_0", "other_1")
RUNS = st.builds(
    Run,
    st.sampled_from([None, "queued", "running", "success", "failed"]),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from([None, *LIVE, *OVER])),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "no answer"]),
)


@given(st.lists(THINGS, max_size=8), st.dictionaries(st.sampled_from(["manual__1", "manual__2"]), RUNS))
def test_whatever_there_is_nothing_is_chosen_that_somebody_may_own(things: list[Thing], by_run: dict[str, Run]) -> None:
    runs = {("etl", run_id): run for run_id, run in by_run.items()}
    findings = judge_things(things, runs, deployment="prod", now=NOW, grace=3600.0)
    for finding in findings:
        thing, owner = finding.thing, finding.thing.owner
        assert finding.why
        if finding.fate is not Fate.ORPHAN:
            continue
        assert owner is not None
        assert owner.deployment == "prod"
        assert thing.created_at is not None
        assert thing.created_at <= NOW - 3600.0
        assert not thing.kept
        run = runs[("etl", owner.run_id)]
        assert not run.trouble
        key = owner.task_id if owner.map_index < 0 else f"{owner.task_id}_{owner.map_index}"
        later = [
            other
            for other in things
            if (other.kind, other.owner) == (Kind.JOB, owner)
            and other.generation != thing.generation
            and (other.created_at or 0) > thing.created_at
        ]
        superseded = thing.kind is Kind.JOB and bool(later)
        assert superseded or run.tasks.get(key) not in LIVE
        waits = {task for task, state in run.tasks.items() if state not in OVER} == {"work_teardown"}
        assert superseded or run.state not in ("queued", "running") or (waits and run.tasks.get(key) in OVER)


@pytest.mark.parametrize("state", LIVE)
def test_a_live_owner_keeps_it_whatever_its_run_is(state: str) -> None:
    for run in ("running", "failed", "success"):
        assert fate(a_job(), Run(run, {"work": state})) == "spared"
        assert fate(an_env(), Run(run, {"work": state})) == "spared"


@pytest.mark.parametrize("state", ["RUNNING", "FAILED_INTERRUPTED"])
def test_a_job_that_outlived_its_task_and_its_run_is_an_orphan(state: str) -> None:
    for task in OVER:
        assert fate(a_job(state=state), Run("success", {"work": task})) == "orphan"
    assert fate(a_job(state=state), Run("failed", {})) == "orphan", "its mapped instance is not there any more"
    assert fate(a_job(), Run("failed", {"work": None})) == "spared", "cleared"


def test_while_its_run_goes_on_another_task_may_see_to_it() -> None:
    assert fate(a_job(), Run("running", {"work": "failed", "repair": "running"})) == "spared"
    assert fate(a_job(), Run("failed", {"work": "failed", "repair": "deferred"})) == "spared"


@pytest.mark.parametrize("state", OVER)
def test_a_job_that_only_tear_downs_wait_for_is_an_orphan(state: str) -> None:
    """The tear-down waits for the node that the job keeps busy, and the run for the tear-down."""
    tasks = {"machines": "success", "work": state, "machines_teardown": "deferred"}
    assert fate(a_job(), Run("running", tasks)) == "orphan"
    assert fate(an_env(owner=replace(OWNER, task_id="machines")), Run("running", tasks)) == "spared"
    for task in (None, *LIVE):
        assert fate(a_job(), Run("running", {**tasks, "work": task})) == "spared"
        assert fate(a_job(), Run("running", {**tasks, "repair": task})) == "spared", "it may see to the job"
    assert fate(a_job(), Run("running", {**tasks, "machines_teardown": "success"})) == "spared", "nothing waits for it"
    alone = {"work": state, "machines_teardown": "deferred"}
    assert fate(a_job(), Run("running", alone)) == "spared", "only its name is that of a tear-down"
    assert fate(a_job(owner=replace(OWNER, task_id="gone")), Run("running", tasks)) == "spared"
    mapped = {"machines_3": "success", "work_3": state, "machines_teardown_3": "up_for_retry"}
    assert fate(a_job(owner=replace(OWNER, map_index=3)), Run("running", mapped)) == "orphan"
    assert fate(a_job(owner=replace(OWNER, map_index=3)), Run("running", {**mapped, "work_4": "running"})) == "spared"


def test_an_older_generation_is_an_orphan_although_its_task_lives() -> None:
    run = Run("running", {"work": "running"})
    old, new = a_job(), a_job(thing_id="job-2", generation="bbbbbbbb", created_at=NOW - 60)
    assert judged(old, run, new).why == "its task goes on with job-2, which was submitted later"
    assert fate(old, run, new) == "orphan"
    assert fate(new, run, old) == "spared"
    assert fate(old, run, replace(new, generation=old.generation)) == "spared", "the same generation"
    assert fate(old, run, replace(new, created_at=old.created_at)) == "spared", "which is older can't be told"
    other = replace(OWNER, map_index=1)
    assert fate(old, run, replace(new, owner=other)) == "spared", "another mapped instance"
    assert fate(replace(old, kept=True), run, new) == "spared"


def test_mapped_instances_have_states_of_their_own() -> None:
    run = Run("failed", {"work_0": "failed", "work_1": "running"})
    assert fate(a_job(owner=replace(OWNER, map_index=1)), run) == "spared"
    assert fate(a_job(owner=replace(OWNER, map_index=0)), replace(run, tasks={"work_0": "failed"})) == "orphan"


@pytest.mark.parametrize(
    ("run", "job", "env"),
    [
        (None, "unsure", "unsure"),
        (Run(trouble="no answer"), "unsure", "unsure"),
        (Run(None), "orphan", "unsure"),
        (Run(None, siblings=False), "unsure", "unsure"),
    ],
)
def test_where_airflow_has_no_answer(run: Run | None, job: str, env: str) -> None:
    assert (fate(a_job(), run), fate(an_env(), run)) == (job, env)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (Run("failed", {"work": "success", "delete": "skipped"}), "orphan"),
        (Run("failed", {"work": "failed"}), "orphan"),
        (Run("success", {"work": "success", "delete": "failed"}), "orphan"),
        (Run("success", {"work": "success", "delete": "success"}), "unsure"),
        (Run("failed", {"work": "success", "work_teardown": "success"}), "unsure"),
        (Run("failed", {"work": "success", "work_teardown": "failed"}), "orphan"),
        (Run("failed", {"work": "success"}, others=True), "unsure"),
        (Run("running", {"work": "success"}), "spared"),
    ],
)
def test_an_environment_outlives_the_task_that_made_it(run: Run, expected: str) -> None:
    assert fate(an_env(), run) == expected


def test_an_environment_without_nodes_is_left_where_its_tear_down_left_it() -> None:
    run = Run("failed", {"work": "success", "work_teardown": "success"})
    assert fate(an_env(empty=True), run) == "spared"
    assert fate(an_env(empty=True), replace(run, tasks={"work": "success", "work_teardown": "failed"})) == "orphan"
    assert judged(an_env(), run).why.startswith("its tear-down succeeded, and it has nodes")


def test_an_environment_that_is_named_after_its_run_is_not_used_by_others() -> None:
    run = Run("failed", {"work": "failed"}, others=True)
    env = an_env()
    assert fate(replace(env, name=name_for("pool", OWNER)), run) == "orphan"
    assert fate(replace(env, name=name_for("pool", replace(OWNER, run_id="manual__2"))), run) == "unsure"


@pytest.mark.parametrize(
    ("run", "name", "expected"),
    [
        (Run(), "pool", "orphan"),
        (Run(others=True), "pool", "spared"),
        (Run(others=True), "pool-closed", "spared"),
        (Run(siblings=False), "pool", "unsure"),
        (Run(trouble="no answer"), "pool-closed", "unsure"),
        (None, "pool", "unsure"),
        # That a tear-down has succeeded may mean that it has kept it; but then it would not have closed it.
        (Run(tasks={"work_teardown": "success"}), "pool", "unsure"),
        (Run(tasks={"work_teardown": "success"}), "pool-closed", "orphan"),
        (Run(tasks={"other_teardown": "success"}), "pool", "orphan"),
    ],
)
def test_what_runs_share_is_an_orphan_when_none_of_them_goes_on(run: Run | None, name: str, expected: str) -> None:
    owner = replace(OWNER, dag_id="etl+report", run_id=SHARED)
    runs = {} if run is None else {("etl+report", SHARED): run}
    for env, fate in ((an_env(owner=owner), expected), (an_env(owner=owner, created_at=NOW - 60), "spared")):
        [found] = judge_things([replace(env, name=name)], runs, deployment="prod", now=NOW)
        assert found.fate.value == fate


def test_the_grace_period_and_what_has_no_age() -> None:
    run = Run("failed", {"work": "failed"})
    young = a_job(created_at=NOW - 60)
    assert fate(young, run) == "spared"
    assert judged(young, run, grace=60.0).fate is Fate.ORPHAN
    assert judged(young, run, grace=61.0).fate is Fate.SPARED
    assert fate(a_job(created_at=None), run) == "unsure"


def test_other_deployments_are_not_even_mentioned() -> None:
    foreign = a_job(owner=replace(OWNER, deployment="staging"))
    runs = {("etl", "manual__1"): Run("failed", {"work": "failed"})}
    assert judge_things([foreign], runs, deployment="prod", now=NOW) == []
    [finding] = judge_things([a_job(owner=None)], runs, deployment="prod", now=NOW)
    assert finding.fate is Fate.UNSURE


def test_times_are_read_in_both_forms() -> None:
    assert instant_of("2020-09-22T06:51:42Z") == instant_of("2020-09-22 06:51:42") == 1600757502
    assert instant_of("yesterday") is instant_of(None) is instant_of("") is None
