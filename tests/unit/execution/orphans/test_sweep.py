"""Marked jobs and environments on the emulator: found, judged by what Airflow says of their owners, ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.orphans import sweep as module
from airflow_provider_tcbatch.execution.orphans.sweep import OrphanSweep
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.views import TaskMetrics
from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED
from airflow_provider_tcbatch.policies.orphans import KEEP_TAG, KEEP_VARIABLE, Run, marks_of
from airflow_provider_tcbatch.policies.ownership.marks import Mark, Owner, marked, marked_env
from tests.unit.conftest import job

OWNER = Owner("prod", "etl", "manual__1", "work")
OVER = Run("failed", {"work": "failed"})
TOKEN = "aaaaaaaa" * 4


class Airflow:
    """What Airflow would answer."""

    def __init__(self, runs: dict[str, Run]) -> None:
        self.runs = runs
        self.known: list[Owner] = []
        self.sharing: dict[tuple[tuple[str, ...], tuple[str, ...]], Run] = {}

    def run(self, dag_id: str, run_id: str) -> Run:
        return self.runs.get(run_id, Run(trouble="not in this test"))

    def shared(self, dag_ids: Collection[str], teardowns: Collection[str]) -> Run:
        return self.sharing.get((tuple(dag_ids), tuple(teardowns)), Run(trouble="not in this test"))

    def owners(self, marks: Collection[str], deployment: str) -> Mapping[str, Owner]:
        return {mark: owner for owner in self.known for mark in marks_of(owner) if mark in marks}


@pytest.fixture
def hook(connection: str, empty_emulator: Emulator) -> Iterator[TCBatchHook]:
    emulator = empty_emulator
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    yield TCBatchHook(connection)
    emulator.on_loop(lambda services: services.batch.envs.clear())


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs that wait for it end when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def submit(hook: TCBatchHook, gate: Path) -> Callable[..., str]:
    def go(
        owner: Owner | None = OWNER,
        *,
        token: str = TOKEN,
        mark: Mark = Mark.TAG,
        command: str | None = None,
        name: str | None = None,
        variables: Mapping[str, str] | None = None,
        **members: Any,
    ) -> str:
        body = {**job(command or f"until [ -e {gate} ]; do sleep 0.05; done"), **members}
        if owner is None:
            return hook.submit_job(body)
        if name is None:
            body.pop("JobName")
        given = {
            "AIRFLOW_CTX_DAG_ID": owner.dag_id,
            "AIRFLOW_CTX_DAG_RUN_ID": owner.run_id,
            "AIRFLOW_CTX_TASK_ID": owner.task_id,
            "AIRFLOW_CTX_MAP_INDEX": str(owner.map_index),
            **(variables or {}),
        }
        return hook.submit_job(marked(body, owner, token, mark=mark, variables=given))

    return go


def make_env(hook: TCBatchHook, owner: Owner = OWNER, *, mark: Mark = Mark.TAG, **members: Any) -> str:
    env = {"EnvName": "pool", "DesiredComputeNodeCount": 1, "EnvData": {"InstanceType": "S5.MEDIUM4"}, **members}
    return hook.create_compute_env(marked_env(env, owner, "aaaaaaaa", mark=mark))


def sweep_of(hook: TCBatchHook, airflow: Airflow, deployment: str = "prod", **options: Any) -> OrphanSweep:
    return OrphanSweep(hook, airflow, deployment, **{"grace": 0.0, **options})


def fates(sweep: OrphanSweep) -> dict[str, str]:
    return {finding.thing.thing_id: finding.fate.value for finding in sweep.look()}


def state(hook: TCBatchHook, job_id: str) -> str:
    return str(hook.describe_job(job_id).job_state)


def wait_for_state(hook: TCBatchHook, job_id: str, wanted: str) -> None:
    while state(hook, job_id) != wanted:
        time.sleep(0.05)


def test_two_deployments_on_one_account(hook: TCBatchHook, submit: Callable[..., str]) -> None:
    """Only what this one has made is found, and only what nobody owns is ended."""
    staging = replace(OWNER, deployment="staging")
    live = replace(OWNER, run_id="manual__2")
    orphan, owned, foreign, nobodys = submit(), submit(live, token="b" * 32), submit(staging), submit(None)
    env, foreign_env = make_env(hook), make_env(hook, staging)
    unmarked = hook.create_compute_env({"EnvName": "own", "DesiredComputeNodeCount": 0, "EnvData": {}})
    airflow = Airflow({"manual__1": OVER, "manual__2": Run("running", {"work": "deferred"})})
    sweep = sweep_of(hook, airflow)
    assert fates(sweep) == {orphan: "orphan", owned: "spared", env: "orphan"}
    ended = sweep.end(sweep.look(), timeout=60)
    assert {result.finding.thing.thing_id: result.words for result in ended} == {
        orphan: "it has ended and is FAILED",
        env: "it is deleted",
    }
    assert all(result.done for result in ended)
    assert state(hook, orphan) == "FAILED", "terminated, and not deleted"
    assert {state(hook, each) for each in (owned, foreign, nobodys)} <= {"SUBMITTED", "RUNNABLE", "STARTING", "RUNNING"}
    assert {view.env_id for view in hook.describe_compute_envs()} == {foreign_env, unmarked}
    assert fates(sweep) == {owned: "spared"}
    assert fates(sweep_of(hook, airflow, "staging")) == {foreign: "orphan", foreign_env: "orphan"}


def test_the_grace_period(hook: TCBatchHook, submit: Callable[..., str]) -> None:
    job_id = submit()
    airflow = Airflow({"manual__1": OVER})
    assert fates(sweep_of(hook, airflow, grace=60.0)) == {job_id: "spared"}
    later = sweep_of(hook, airflow, grace=3600.0, clock=lambda: time.time() + 3700)
    assert fates(later) == {job_id: "orphan"}


def test_marks_in_names(hook: TCBatchHook, submit: Callable[..., str]) -> None:
    """Where tags may not be used: a name is only a digest, and the job's variables tell what it was made of."""
    mapped = replace(OWNER, map_index=3)
    plain, named = submit(mark=Mark.NAME), submit(mapped, mark=Mark.NAME, name="test")
    submit(replace(OWNER, deployment="staging"), mark=Mark.NAME)
    # Somebody else's variables, or none: it only looks like a mark.
    submit(mark=Mark.NAME, variables={"AIRFLOW_CTX_TASK_ID": "another"})
    submit(None, JobName=OWNER.prefix() + "x-aaaaaaaa")
    run = Run("failed", {"work": "failed", "work_3": "running"})
    sweep = sweep_of(hook, Airflow({"manual__1": run}))
    assert fates(sweep) == {plain: "spared", named: "spared"}, "an instance of its run is still running"
    run = Run("failed", {"work": "failed", "work_3": "failed"})
    found = sweep_of(hook, Airflow({"manual__1": run})).look()
    assert {(each.thing.thing_id, each.fate.value) for each in found} == {(plain, "orphan"), (named, "orphan")}
    assert {each.thing.owner for each in found} == {OWNER, mapped}


def test_marks_that_are_digests(hook: TCBatchHook, submit: Callable[..., str]) -> None:
    """A run id with characters that a tag may not hold: a job's variables tell it, of an environment only Airflow."""
    owner = replace(OWNER, deployment="prod/eu", run_id="manual~1")
    job_id, env_id = submit(owner), make_env(hook, owner)
    airflow = Airflow({"manual~1": OVER})
    found = sweep_of(hook, airflow, "prod/eu").look()
    assert {each.thing.thing_id: each.fate.value for each in found} == {job_id: "orphan", env_id: "unsure"}
    assert found[0].thing.owner == owner
    airflow.known = [replace(owner, run_id="manual~2"), owner]
    found = sweep_of(hook, airflow, "prod/eu").look()
    assert {each.thing.thing_id: each.fate.value for each in found} == {job_id: "orphan", env_id: "orphan"}
    assert found[1].thing.owner == owner


def test_marks_in_descriptions(hook: TCBatchHook) -> None:
    env_id = make_env(hook, mark=Mark.NAME, EnvDescription="for the night")
    airflow = Airflow({"manual__1": OVER})
    assert fates(sweep_of(hook, airflow)) == {env_id: "unsure"}, "a task on a worker can't know whose it is"
    airflow.known = [replace(OWNER, run_id="manual__2"), OWNER]
    assert fates(sweep_of(hook, airflow)) == {env_id: "orphan"}


def test_what_says_that_it_is_to_be_kept(hook: TCBatchHook, submit: Callable[..., str]) -> None:
    tags = [{"Key": KEEP_TAG, "Value": "for the audit"}]
    ids = {
        submit(variables={KEEP_VARIABLE: "1"}),
        submit(Tags=tags),
        make_env(hook, Tags=tags),
        make_env(hook, EnvDescription=f"shared by all ({KEEP_TAG})"),
    }
    sweep = sweep_of(hook, Airflow({"manual__1": OVER}))
    assert fates(sweep) == dict.fromkeys(ids, "spared")
    assert sweep.end(sweep.look(), timeout=10) == []


def test_what_has_ended_is_not_looked_at_but_interrupted_jobs_are(
    hook: TCBatchHook, submit: Callable[..., str], emulator: Emulator
) -> None:
    succeeded, failed = submit(command="true"), submit(command="exit 1")
    task = {**job("exit 1")["Tasks"][0], "FailedAction": "INTERRUPT"}
    interrupted = submit(Tasks=[task])
    for job_id, wanted in ((succeeded, "SUCCEED"), (failed, "FAILED"), (interrupted, "FAILED_INTERRUPTED")):
        wait_for_state(hook, job_id, wanted)
    sweep = sweep_of(hook, Airflow({"manual__1": Run("success", {"work": "success"})}))
    assert fates(sweep) == {interrupted: "orphan"}, "it keeps its machines"
    [result] = sweep.end(sweep.look(), timeout=30)
    assert result.done, result.words
    assert state(hook, interrupted) == "FAILED"


def test_a_failed_job_that_keeps_machines_is_an_orphan_unless_it_is_old(
    hook: TCBatchHook, submit: Callable[..., str], emulator: Emulator
) -> None:
    """Which state the service shows where some parts have failed and others keep their machines is not documented."""
    emulator.configure(failed_and_interrupted="FAILED")
    task = job("exit 1")["Tasks"][0]
    job_id = submit(Tasks=[task, {**task, "TaskName": "other", "FailedAction": "INTERRUPT"}])
    while (hook.describe_job(job_id).task_metrics or TaskMetrics()).failed < 2:
        time.sleep(0.05)
    assert state(hook, job_id) == "FAILED"
    airflow = Airflow({"manual__1": OVER})
    assert fates(sweep_of(hook, airflow, clock=lambda: time.time() + 3 * 86400)) == {}
    sweep = sweep_of(hook, airflow)
    assert fates(sweep) == {job_id: "orphan"}
    [result] = sweep.end(sweep.look(), timeout=30)
    assert result.done, result.words
    assert fates(sweep) == {}


def test_a_job_that_is_submitted_is_asked_again_and_what_fails_does_not_spare_the_rest(
    hook: TCBatchHook, submit: Callable[..., str], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = submit()
    wait_for_state(hook, stuck, "RUNNING")
    emulator.configure(submitted_seconds=1.0)
    fresh = submit(token="b" * 32)
    env = make_env(hook)
    sweep = sweep_of(hook, Airflow({"manual__1": OVER}))
    findings = sweep.look()
    real = hook.end_job

    def end_job(job_id: str, **options: Any) -> Any:
        if job_id == stuck:
            raise e.PermissionDenied("not allowed")
        return real(job_id, **options)

    monkeypatch.setattr(hook, "end_job", end_job)
    results = {result.finding.thing.thing_id: result for result in sweep.end(findings, timeout=30)}
    assert (results[stuck].done, results[stuck].words) == (False, "PermissionDenied: not allowed")
    assert (results[fresh].done, results[env].done) == (True, True)
    assert state(hook, fresh) == "FAILED"


def test_time_runs_out(hook: TCBatchHook, submit: Callable[..., str], emulator: Emulator) -> None:
    emulator.configure(terminate_seconds=20, node_creating_seconds=60)
    job_id, env_id = submit(), make_env(hook)
    wait_for_state(hook, job_id, "RUNNING")
    sweep = sweep_of(hook, Airflow({"manual__1": OVER}))
    words = {result.finding.thing.thing_id: result.words for result in sweep.end(sweep.look(), timeout=0.5)}
    assert "it is RUNNING" in words[job_id]
    assert "still exists: 0 of 1 nodes run" in words[env_id]
    emulator.configure(terminate_seconds=0.02)


def test_an_environment_on_which_somebody_elses_job_runs_is_left_alone(
    hook: TCBatchHook, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    env_id = make_env(hook)
    task = {**job("sleep 60")["Tasks"][0], "EnvId": env_id}
    del task["ComputeEnv"]
    other = submit(None, Tasks=[task])
    wait_for_state(hook, other, "RUNNING")
    sweep = sweep_of(hook, Airflow({"manual__1": OVER}))
    [result] = sweep.end(sweep.look(), timeout=30)
    assert (result.done, result.words) == (False, "something that is no orphan runs on it")
    assert hook.describe_compute_env(env_id).desired_compute_node_count == 1
    hook.end_job(other)
    [result] = sweep.end(sweep.look(), timeout=30)
    assert result.done


def test_what_somebody_claims_while_others_are_ended_is_left_alone(
    hook: TCBatchHook, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is cleared while the sweep waits for the end of a job of another run."""
    cleared = replace(OWNER, run_id="manual__2")
    job_id, env_id = submit(), make_env(hook, cleared)
    airflow = Airflow({"manual__1": OVER, "manual__2": OVER})
    sweep = sweep_of(hook, airflow)
    findings = sweep.look()
    assert {finding.fate.value for finding in findings} == {"orphan"}
    real = hook.end_job

    def end_job(job_id: str, **options: Any) -> Any:
        airflow.runs["manual__2"] = Run("queued", {"work": None})
        return real(job_id, **options)

    monkeypatch.setattr(hook, "end_job", end_job)
    ended, claimed = sweep.end(findings, timeout=30)
    assert (ended.finding.thing.thing_id, ended.done) == (job_id, True)
    assert (claimed.finding.thing.thing_id, claimed.done, claimed.failed) == (env_id, False, False)
    assert (claimed.finding.fate.value, claimed.finding.why) == ("spared", "its run is queued")
    assert hook.describe_compute_env(env_id).desired_compute_node_count == 1


@pytest.mark.parametrize("kind", ["job", "environment"])
def test_it_is_claimed_right_before_it_is_ended(hook: TCBatchHook, submit: Callable[..., str], kind: str) -> None:
    thing_id = submit() if kind == "job" else make_env(hook)
    airflow = Airflow({"manual__1": OVER})
    sweep = sweep_of(hook, airflow)
    findings = sweep.look()
    airflow.runs["manual__1"] = Run("running", {"work": "running"})
    [left] = sweep.end(findings, timeout=30)
    assert (left.finding.thing.thing_id, left.failed) == (thing_id, False)
    assert fates(sweep) == {thing_id: "spared"}
    if kind == "job":
        assert state(hook, thing_id) != "FAILED"


def test_its_run_is_cleared_while_its_nodes_go(
    hook: TCBatchHook, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP_SECONDS", 0.1)
    emulator.configure(node_deleting_seconds=60)
    env_id = make_env(hook)
    airflow = Airflow({"manual__1": OVER})
    sweep = sweep_of(hook, airflow)
    findings = sweep.look()
    real = hook.remove_compute_env

    def remove(env_id: str, **options: Any) -> Any:
        left = real(env_id, **options)
        airflow.runs["manual__1"] = Run("queued", {"work": None})
        return left

    monkeypatch.setattr(hook, "remove_compute_env", remove)
    [left] = sweep.end(findings, timeout=30)
    assert left.finding.why == "its run is queued"
    assert hook.describe_compute_env(env_id).next_action != "DELETING"


def test_an_older_job_is_ended_while_its_task_goes_on_with_another(
    hook: TCBatchHook, submit: Callable[..., str]
) -> None:
    old = submit()
    time.sleep(1.1)  # the service tells times in whole seconds
    new = submit(token="b" * 32)
    sweep = sweep_of(hook, Airflow({"manual__1": Run("running", {"work": "running"})}), clock=lambda: time.time() + 9)
    assert fates(sweep) == {old: "orphan", new: "spared"}
    [ended] = sweep.end(sweep.look(), timeout=30)
    assert (ended.finding.thing.thing_id, ended.done) == (old, True)


@pytest.mark.parametrize("claimed", [False, True])
def test_what_runs_share(hook: TCBatchHook, monkeypatch: pytest.MonkeyPatch, claimed: bool) -> None:
    """It is closed first: a run that has begun meanwhile either takes another, or is seen."""
    env_id = make_env(hook, replace(OWNER, dag_id="etl+report", run_id=SHARED))
    airflow = Airflow({})
    key = (("etl", "report"), ("work_teardown",))
    airflow.sharing[key] = Run(others=True)
    sweep = sweep_of(hook, airflow)
    assert fates(sweep) == {env_id: "spared"}
    airflow.sharing[key] = Run()
    findings = sweep.look()
    real = hook.modify_compute_env

    def rename(env_id: str, **options: Any) -> Any:
        airflow.sharing[key] = Run(others=claimed)
        return real(env_id, **options)

    monkeypatch.setattr(hook, "modify_compute_env", rename)
    [ended] = sweep.end(findings, timeout=30)
    assert (ended.done, ended.failed) == (not claimed, False), ended.words
    if claimed:
        view = hook.describe_compute_env(env_id)
        assert (view.env_name, view.desired_compute_node_count) == ("pool-closed", 1)


def test_an_environment_without_nodes(hook: TCBatchHook) -> None:
    run = Run("failed", {"work": "success", "work_teardown": "success"})
    ids = make_env(hook, DesiredComputeNodeCount=0), make_env(hook)
    assert fates(sweep_of(hook, Airflow({"manual__1": run}))) == dict(zip(ids, ("spared", "unsure"), strict=True))


def test_more_than_one_page(hook: TCBatchHook, submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_tcbatch.hooks import batch
    from airflow_provider_tcbatch.hooks._batch import compute_envs as batch_envs

    monkeypatch.setattr(batch, "PAGE", 2)
    monkeypatch.setattr(batch_envs, "PAGE", 2)
    # They go on from state to state while they are listed by state.
    ids = {submit(token=str(number) * 32) for number in range(5)} | {make_env(hook) for _ in range(3)}
    sweep = sweep_of(hook, Airflow({"manual__1": Run("running", {"work": "running"})}))
    assert set(fates(sweep)) == ids
