"""The operator in Airflow, with ``dag.test()``: jobs of real runs, whose states it asks as a task does."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.orphans.sweep import Ended, OrphanSweep
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.orphans import AskedByTask, TCBatchOrphansOperator
from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED
from airflow_provider_tcbatch.policies.orphans import GRACE_SECONDS, KEEP_VARIABLE, Fate
from airflow_provider_tcbatch.policies.ownership.marks import Owner, marked, marked_env
from tests.support.task_context import Task, instance_in
from tests.unit.conftest import job

DAG_FILE = """
from airflow.sdk import DAG, task
from airflow_provider_tcbatch.operators.orphans import TCBatchOrphansOperator

with DAG("{name}", schedule=None) as dag:
    @task
    def work(index):
        if index == 1:
            raise RuntimeError("this instance fails")

    work.expand(index=[0, 1])

    @task
    def pool_teardown():
        return "kept"

    pool_teardown()

with DAG("{name}_sweep", schedule=None) as sweep:
    TCBatchOrphansOperator(task_id="sweep", deployment="{name}", **{options!r})
"""


@pytest.fixture
def dags(airflow_home: Path, connection: str, empty_emulator: Emulator) -> Iterator[Callable[..., Any]]:
    """Writes a DAG file and returns it as a module."""
    written: list[Path] = []

    def make(name: str, **options: Any) -> Any:
        path = airflow_home / "dags" / f"{name}.py"
        path.write_text(DAG_FILE.format(name=name, options=options))
        written.append(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield make
    for path in written:
        path.unlink()


def left_behind(owner: Owner, gate: Path) -> str:
    body = job(f"until [ -e {gate} ]; do sleep 0.05; done")
    return TCBatchHook().submit_job(marked(body, owner, "a" * 32))


def returned(run: Any, task_id: str) -> Any:
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    with create_session() as session:
        query = XComModel.get_many(run_id=run.run_id, dag_ids=run.dag_id, task_ids=task_id, key="return_value")
        [row] = session.scalars(query)
        return XComModel.deserialize_value(row)


@pytest.mark.parametrize("end", [False, pytest.param(True, marks=pytest.mark.oldest)])
def test_it_asks_airflow_about_the_owners(
    dags: Callable[..., Any], emulator: Emulator, tmp_path: Path, end: bool
) -> None:
    """The jobs of a run that failed are orphans, mapped instances each for itself, and those of one that goes on are
    not."""
    name = f"orphans_{end}".lower()
    module = dags(name, end=end, grace=0, timeout=60)
    failed = module.dag.test()
    assert str(failed.state) == "failed"
    gate = tmp_path / "gate"
    orphans = {left_behind(Owner(name, name, failed.run_id, "work", index), gate) for index in (0, 1)}
    gone = left_behind(Owner(name, name, "manual__of_old", "work", 0), gate)
    stranger = left_behind(Owner(name, "no_such_dag", "manual__1", "work"), gate)
    run = make_run(name)
    owned = left_behind(Owner(name, name, run, "work", 0), gate)

    swept = module.sweep.test()
    assert str(swept.state) == "success"
    rows = {row["id"]: row for row in returned(swept, "sweep")}
    assert {job_id: (row["fate"], row["result"]) for job_id, row in rows.items()} == {
        **dict.fromkeys(orphans | {gone}, ("orphan", "ended" if end else None)),
        stranger: ("unsure", None),
    }
    assert {row["owner"] for row in rows.values()} >= {f"{name} {failed.run_id} work[1]"}
    views = {view.job_id: str(view.job_state) for view in TCBatchHook().describe_jobs([*orphans, gone, owned])}
    assert (views.pop(owned) == "FAILED", {state == "FAILED" for state in views.values()}) == (False, {end})
    gate.touch()


def test_it_asks_about_all_runs_of_what_they_share(dags: Callable[..., Any], empty_emulator: Emulator) -> None:
    name = "orphans_shared"
    module = dags(name, grace=0)
    wire = {"EnvName": "pool", "DesiredComputeNodeCount": 0, "EnvData": {"InstanceType": "S5.MEDIUM4"}}

    def env(dag_ids: str, task_id: str) -> str:
        return TCBatchHook().create_compute_env(marked_env(wire, Owner(name, dag_ids, SHARED, task_id), "aaaaaaaa"))

    def found() -> dict[str, str]:
        swept = module.sweep.test()
        assert str(swept.state) == "success"
        return {row["id"]: row["fate"] for row in returned(swept, "sweep")}

    module.dag.test()
    lost, kept, unknown = env(f"{name}+no_such_dag", "machines"), env(name, "pool"), env("no_such_dag", "machines")
    assert found() == {lost: "orphan", kept: "unsure", unknown: "unsure"}
    make_run(name)
    assert found() == {unknown: "unsure"}, "a run goes on"
    empty_emulator.on_loop(lambda services: services.batch.envs.clear())


def make_run(dag_id: str) -> str:
    """A run that goes on: its tasks wait."""
    import pendulum
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    date = pendulum.datetime(2026, 2, 3)
    dag: Any = SerializedDagModel.get_dag(dag_id)
    with create_session() as session:
        run = dag.create_dagrun(
            run_id="manual__goes_on",
            logical_date=date,
            data_interval=dag.timetable.infer_manual_data_interval(run_after=date),
            run_after=date,
            run_type=DagRunType.MANUAL,
            state="running",
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )
        return str(run.run_id)


def test_where_airflow_can_not_be_asked_everything_is_spared(connection: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = left_behind(Owner("unasked", "d", "r", "t"), gate)
    # No task runs here, so there is nobody to ask.
    operator = TCBatchOrphansOperator(task_id="sweep", deployment="unasked", grace=0, end=True)
    [row] = operator.execute(Task().next_try())
    assert (row["id"], row["fate"], row["result"]) == (job_id, "unsure", None)
    assert "Airflow could not tell about its run" in row["why"]
    gate.touch()


def test_it_fails_if_something_could_not_be_ended(
    connection: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the reasons, and after it has told what it found."""
    job_id = left_behind(Owner("failing", "d", "r", "t"), tmp_path / "gate")
    [finding] = OrphanSweep(TCBatchHook(), AskedByTask(), "failing", grace=0).look()
    ended = [Ended(replace(finding, fate=Fate.ORPHAN), False, "PermissionDenied: not allowed")]
    monkeypatch.setattr(OrphanSweep, "end", lambda self, findings, timeout: ended)
    context = Task().next_try()
    operator = TCBatchOrphansOperator(task_id="sweep", deployment="failing", grace=0, end=True)
    with pytest.raises(e.TCBatchError, match=f"1 of 1 orphans could not be ended:\n  {job_id}: PermissionDenied"):
        operator.execute(context)
    [row] = instance_in(context).xcoms["return_value"]
    assert (row["id"], row["result"], row["words"]) == (job_id, "not ended", "PermissionDenied: not allowed")
    (tmp_path / "gate").touch()


def test_nothing_is_ended_before_it_is_said_whose_it_may_be(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    context: Any = Task().next_try()
    with pytest.raises(e.ConfigurationError, match=r"\[tcbatch\] deployment_id is set.*'airflow'"):
        TCBatchOrphansOperator(task_id="sweep", end=True).execute(context)
    TCBatchOrphansOperator(task_id="sweep").execute(context)  # looking does no harm
    monkeypatch.setenv("AIRFLOW__TCBATCH__DEPLOYMENT_ID", "set-for-the-test")
    assert TCBatchOrphansOperator(task_id="sweep", end=True).execute(context) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [({"end": "yes"}, "end is 'yes'"), ({"grace": -1}, "grace is -1"), ({"timeout": 0}, "timeout")],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(e.InvalidRequest, match=words):
        TCBatchOrphansOperator(task_id="sweep", **options)
    assert TCBatchOrphansOperator(task_id="sweep", grace=timedelta(hours=2)).grace == 7200


def test_the_grace_is_that_of_the_command_line() -> None:
    assert TCBatchOrphansOperator(task_id="sweep").grace == GRACE_SECONDS


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, False),
        ({"wait_for_completion": False}, True),
        ({"cancel_on_kill": False}, True),
        ({"cancel_on_failure": False}, True),
    ],
)
def test_a_job_that_may_outlive_its_task_says_so(connection: str, options: dict[str, Any], kept: bool) -> None:
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("true"), **options)
    wire = operator.render_request(Task().next_try())
    names = {variable["Name"] for variable in wire["Job"]["Tasks"][0]["EnvVars"]}
    assert (KEEP_VARIABLE in names) is kept
