"""``airflow tcbatch orphans``: real processes for the ways in, direct calls for the rest."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import cli
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.orphans.sweep import Ended, OrphanSweep
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED
from airflow_provider_tcbatch.policies.ownership.marks import Mark, Owner, marked, marked_env
from tests.unit.conftest import job

DAG_FILE = """
from airflow.sdk import DAG, task

with DAG("{name}", schedule=None) as dag:
    @task
    def work(index):
        return index

    work.expand(index=[0, 1])

    @task
    def machines():
        return "env"

    machines()
    machines.override(task_id="m" * 200)()

    @task
    def pool_teardown():
        return "kept"

    pool_teardown()
"""


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs that wait for it end when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


class Deployment:
    """A deployment with a DAG that has run.

    :param name: of the deployment and the DAG.
    """

    def __init__(self, name: str, run: Any, gate: Path) -> None:
        self.name = name
        self.run_id = str(run.run_id)
        self._gate = gate

    def owner(self, task_id: str = "work", index: int = -1, **changes: Any) -> Owner:
        names = {"deployment": self.name, "dag_id": self.name, "run_id": self.run_id, **changes}
        return Owner(**names, task_id=task_id, map_index=index)

    def job(self, owner: Owner) -> str:
        body = job(f"until [ -e {self._gate} ]; do sleep 0.05; done")
        return TCBatchHook().submit_job(marked(body, owner, "a" * 32))

    def mark_run(self, state: str) -> None:
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(DagRun).where(DagRun.run_id == self.run_id).values(state=state))

    def mark_task(self, task_id: str, state: str) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import update

        mine = TaskInstance.run_id == self.run_id, TaskInstance.task_id == task_id
        with create_session() as session:
            session.execute(update(TaskInstance).where(*mine).values(state=state))


@pytest.fixture
def deployment(
    request: pytest.FixtureRequest, airflow_home: Path, connection: str, gate: Path, empty_emulator: Emulator
) -> Iterator[Deployment]:
    import importlib.util

    name = str(request.node.originalname)
    path = airflow_home / "dags" / f"{name}.py"
    path.write_text(DAG_FILE.format(name=name))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield Deployment(name, module.dag.test(), gate)
    path.unlink()
    empty_emulator.on_loop(lambda services: services.batch.envs.clear())


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, dict[str, Any]]]:
    """Run the command; rows by id."""

    def go(*words: str) -> dict[str, dict[str, Any]]:
        capsys.readouterr()
        cli.main(["orphans", "--output", "json", "--grace", "0", *words])
        return {row["id"]: row for row in json.loads(capsys.readouterr().out)}

    return go


def state(job_id: str) -> str:
    return str(TCBatchHook().describe_job(job_id).job_state)


def test_by_a_real_process(deployment: Deployment, tmp_path: Path) -> None:
    job_id = deployment.job(deployment.owner(index=0))
    words = ["orphans", "--end", "--yes", "--grace", "0", "--output", "json"]
    env = {**os.environ, "AIRFLOW__TCBATCH__DEPLOYMENT_ID": deployment.name}
    done = subprocess.run(
        [sys.executable, "-m", "airflow_provider_tcbatch.cli", *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)
    assert (row["id"], row["fate"], row["result"]) == (job_id, "orphan", "ended")
    assert row["owner"] == f"{deployment.name} {deployment.run_id} work[0]"
    assert "1 orphans" in done.stderr
    assert state(job_id) == "FAILED"


def test_nothing_is_changed_unless_it_is_asked_for(
    deployment: Deployment, call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, emulator: Emulator
) -> None:
    job_id = deployment.job(deployment.owner(index=1))
    ours = ["--deployment", deployment.name]
    assert {row["fate"] for row in call(*ours).values()} == {"orphan"}
    with pytest.raises(SystemExit, match="add --yes where nobody can be asked"):
        call(*ours, "--end")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n")
    with pytest.raises(SystemExit, match="Nothing was ended"):
        call(*ours, "--end")
    with pytest.raises(SystemExit, match=r"deployment_id is set"):
        call("--end", "--yes")

    def clear() -> str:
        # While the user thinks about it, somebody clears the task.
        deployment.mark_run("queued")
        return "y\n"

    monkeypatch.setattr("sys.stdin.readline", clear)
    assert call(*ours, "--end") == {}
    assert state(job_id) != "FAILED"
    deployment.mark_run("success")
    monkeypatch.setattr("sys.stdin.readline", lambda: "y\n")
    assert call(*ours, "--end")[job_id]["result"] == "ended"


def test_owners_are_found_in_the_database(deployment: Deployment, call: Callable[..., Any]) -> None:
    """Mapped tasks, runs that are gone, and environments whose mark is only a digest."""
    hook = TCBatchHook()
    wire = {"EnvName": "pool", "DesiredComputeNodeCount": 0, "EnvData": {"InstanceType": "S5.MEDIUM4"}}

    def env(owner: Owner, mark: Mark = Mark.NAME) -> str:
        return hook.create_compute_env(marked_env(wire, owner, "aaaaaaaa", mark=mark))

    # Its tag would be too long, so it holds digests.
    tagged = env(deployment.owner("m" * 200), Mark.TAG)
    shared = env(deployment.owner("machines", run_id=SHARED))
    described = env(deployment.owner("machines"))
    foreign = env(deployment.owner("machines", deployment="another"))
    gone = deployment.job(deployment.owner(run_id="manual__of_old"))
    stranger = deployment.job(deployment.owner(dag_id="no_such_dag"))
    second = deployment.job(deployment.owner(index=1))
    deployment.mark_run("failed")
    rows = call("--deployment", deployment.name)
    assert {job_id: row["fate"] for job_id, row in rows.items()} == {
        described: "orphan",
        tagged: "orphan",
        shared: "orphan",
        foreign: "unsure",
        gone: "orphan",
        stranger: "unsure",
        second: "orphan",
    }
    assert rows[described]["owner"] == f"{deployment.name} {deployment.run_id} machines"
    assert rows[tagged]["owner"] == f"{deployment.name} {deployment.run_id} {'m' * 200}"
    deployment.mark_run("running")
    rows = call("--deployment", deployment.name, "--all")
    assert {rows[each]["fate"] for each in (described, second)} == {"spared"}


def test_what_runs_share(deployment: Deployment, call: Callable[..., Any]) -> None:
    wire = {"EnvName": "pool", "DesiredComputeNodeCount": 0, "EnvData": {"InstanceType": "S5.MEDIUM4"}}

    def env(dag_id: str, task_id: str) -> str:
        owner = deployment.owner(task_id, dag_id=dag_id, run_id=SHARED)
        return TCBatchHook().create_compute_env(marked_env(wire, owner, "aaaaaaaa"))

    lost = env(f"{deployment.name}+no_such_dag", "machines")
    kept = env(deployment.name, "pool")
    unknown = env("no_such_dag+nor_this", "machines")
    words = ("--deployment", deployment.name, "--all")
    orphans = {lost: "orphan", kept: "unsure", unknown: "unsure"}
    assert {env_id: row["fate"] for env_id, row in call(*words).items()} == orphans
    going = {**orphans, lost: "spared", kept: "spared"}
    deployment.mark_run("queued")
    assert {env_id: row["fate"] for env_id, row in call(*words).items()} == going
    deployment.mark_run("failed")
    deployment.mark_task("machines", "deferred")
    assert {env_id: row["fate"] for env_id, row in call(*words).items()} == going, "a task of it is at work"


def test_the_table_and_the_exit_code(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = deployment.job(deployment.owner(index=0))

    def end(self: OrphanSweep, findings: Any, *, timeout: float) -> list[Ended]:
        assert timeout == 5
        return [Ended(finding, False, "PermissionDenied: not allowed") for finding in findings]

    monkeypatch.setattr(OrphanSweep, "end", end)
    words = ["orphans", "--deployment", deployment.name, "--grace", "0", "--end", "--yes", "--timeout", "5"]
    with pytest.raises(SystemExit) as raised:
        cli.main(words)
    assert raised.value.code == 1
    out = capsys.readouterr().out
    assert job_id in out
    assert "not ended" in out
    assert "PermissionDenied" in out.replace("\n", "")


def test_a_missing_connection_is_named(airflow_home: Path) -> None:
    with pytest.raises(SystemExit, match="no_such_connection"):
        cli.main(["orphans", "--conn-id", "no_such_connection"])


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "soon"])
def test_seconds(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        cli.main(["orphans", "--grace", text])
    assert "--grace" in capsys.readouterr().err
