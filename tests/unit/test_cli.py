"""The command line: real processes for the ways in, direct calls for the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import cli
from airflow_provider_tcbatch.commands.table import show

DAG_FILE = """
from datetime import datetime
from airflow.sdk import DAG, task
from airflow.providers.standard.operators.bash import BashOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

print("what a DAG file prints is no part of a request")


def job(command, **members):
    application = {"DeliveryForm": "LOCAL", "Command": command}
    env = {"EnvData": {"InstanceType": "S1.SMALL1"}}
    return {"Tasks": [{"TaskName": "main", "Application": application, "ComputeEnv": env, **members}]}


with DAG("rendered", schedule="@daily", start_date=datetime(2026, 1, 1), params={"n": 5}) as dag:
    keys = [{"Scene": "COS", "SecretId": "AKIDx", "SecretKey": "a-literal-secret"}]
    TCBatchSubmitJobOperator(
        task_id="plain",
        job=job("run {{ ds }} {{ params.n }} {{ conn.registry.password }}", Authentications=keys),
    )
    path = "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/{{ ds }}"
    TCBatchSubmitJobOperator(task_id="wrong", job=job("true", RedirectInfo={"StdoutRedirectPath": path}))
    TCBatchSubmitJobOperator.partial(task_id="mapped").expand(job=[job("one {{ ds }}"), job("two {{ ds }}")])

    @task
    def command():
        return "from another task"

    TCBatchSubmitJobOperator(task_id="after", job=job(command()))
    machines = job("true")
    machines["Tasks"][0] = {**machines["Tasks"][0], "EnvId": command()}
    del machines["Tasks"][0]["ComputeEnv"]
    TCBatchSubmitJobOperator(task_id="on_machines", job=machines)

    @task
    def jobs():
        return [job("one"), job("two")]

    TCBatchSubmitJobOperator.partial(task_id="mapped_over_output").expand(job=jobs())
    BashOperator(task_id="bash", bash_command="true")
"""

BROKEN_FILE = """
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

with DAG("broken", schedule=None):
    TCBatchSubmitJobOperator(task_id="x", job={"Tasks": [{"TaskName": "main", "Comand": "true"}]})
"""

UNRELATED_FILE = """
from airflow.sdk import DAG
raise RuntimeError("of another team")
"""

REGISTRY = '{"conn_type": "generic", "password": "a-secret-of-a-connection"}'

#: A connection that leads nowhere: nothing is sent.
NOWHERE = json.dumps(
    {
        "conn_type": "tencentcloud",
        "login": "AKIDtest",
        "password": "a-key",
        "extra": {"region": "ap-guangzhou", "zone": "ap-guangzhou-3", "endpoint": "http://127.0.0.1:9"},
    }
)


@pytest.fixture
def dags(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", REGISTRY)
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", NOWHERE)
    files = {"rendered.py": DAG_FILE, "broken.py": BROKEN_FILE, "unrelated.py": UNRELATED_FILE}
    for name, text in files.items():
        (airflow_home / "dags" / name).write_text(text)
    yield airflow_home / "dags"
    for name in files:
        (airflow_home / "dags" / name).unlink()


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    cli.main(["render", *words])
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as raised:
        cli.main(["render", *words])
    assert capsys.readouterr().out == ""
    return str(raised.value)


def command_of(wire: Any) -> Any:
    return wire["Job"]["Tasks"][0]["Application"].get("Command")


@pytest.mark.parametrize(
    "way_in",
    [
        ["-m", "airflow", "tcbatch"],  # from Airflow 3.3 on
        pytest.param(["-m", "airflow_provider_tcbatch.cli"], marks=[pytest.mark.oldest, pytest.mark.middle]),
    ],
    ids=lambda words: words[1],
)
def test_a_request_is_printed_by_a_real_process(dags: Path, way_in: list[str]) -> None:
    words = ["render", "rendered", "plain", "--logical-date", "2026-01-31", "--conf", '{"n": 7}']
    done = subprocess.run(
        [sys.executable, *way_in, *words], capture_output=True, text=True, timeout=120, env=os.environ, check=False
    )
    assert done.returncode == 0, done.stderr
    wire = json.loads(done.stdout)
    assert command_of(wire) == "run 2026-01-31 7 ***"
    assert wire["Placement"] == {"Zone": "ap-guangzhou-3"}
    assert wire["ClientToken"] == "0" * 32
    assert wire["Job"]["Tasks"][0]["Authentications"][0] == {"Scene": "COS", "SecretId": "AKIDx", "SecretKey": "***"}
    assert "a-literal-secret" not in done.stdout + done.stderr
    assert "what a DAG file prints" in done.stderr


def test_mapped_tasks(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    date = ["--logical-date", "2026-01-31"]
    wire = call(capsys, "rendered", "mapped", "--map-index", "1", *date)
    assert command_of(wire) == "two 2026-01-31"
    assert wire["Job"]["JobName"] == "rendered-mapped-1-00000000"
    assert "has no map index 2: it has 2" in refused(capsys, "rendered", "mapped", "--map-index", "2", *date)
    assert "is mapped" in refused(capsys, "rendered", "mapped", *date)
    assert "is not mapped" in refused(capsys, "rendered", "plain", "--map-index", "0", *date)


def test_a_run_that_exists(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its date, its conf, and what its other tasks returned."""
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    assert "there is no run yet" in refused(capsys, "rendered", "after"), "a task needs a command"
    run_id = make_run("rendered", conf={"n": 9}, tasks=["command"])
    with create_session() as session:
        row = session.scalar(select(DagRun.id).where(DagRun.run_id == run_id))
        ids = {"dag_run_id": row, "dag_id": "rendered", "run_id": run_id, "task_id": "command"}
        session.add(XComModel(**ids, key="return_value", value="from another task"))
    assert command_of(call(capsys, "rendered", "after", "--run-id", run_id)) == "from another task"
    wire = call(capsys, "rendered", "plain", "--run-id", run_id)
    assert command_of(wire) == "run 2026-02-03 9 ***"
    assert command_of(call(capsys, "rendered", "plain", "--logical-date", "2026-02-03")) == "run 2026-02-03 9 ***"
    assert command_of(call(capsys, "rendered", "plain", "-r", run_id, "-c", '{"n": 1}')) == "run 2026-02-03 1 ***"
    [variable] = [v for v in wire["Job"]["Tasks"][0]["EnvVars"] if v["Name"] == "AIRFLOW_CTX_DAG_RUN_ID"]
    assert variable["Value"] == run_id


def make_run(dag_id: str, *, conf: dict[str, Any], tasks: list[str]) -> str:
    import pendulum
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    date = pendulum.datetime(2026, 2, 3)
    run_id = f"manual__{date.isoformat()}"
    dag: Any = SerializedDagModel.get_dag(dag_id)
    with create_session() as session:
        run = dag.create_dagrun(
            run_id=run_id,
            logical_date=date,
            data_interval=dag.timetable.infer_manual_data_interval(run_after=date),
            run_after=date,
            conf=conf,
            run_type=DagRunType.MANUAL,
            state="running",
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )
        assert {ti.task_id for ti in run.task_instances} >= set(tasks)
    return run_id


def test_what_can_not_be_shown_is_said_plainly(dags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a BashOperator: it submits no Batch job" in refused(capsys, "rendered", "bash")
    assert "has no task 'plan'; it has after, bash" in refused(capsys, "rendered", "plan")
    assert "has no run 'nope'" in refused(capsys, "rendered", "plain", "--run-id", "nope")
    assert "StdoutRedirectPath: must end with a slash" in refused(capsys, "rendered", "wrong")
    assert "--conf is not JSON" in refused(capsys, "rendered", "plain", "--conf", "{n: 7}")
    assert "--conf is not a JSON object" in refused(capsys, "rendered", "plain", "--conf", "[7]")
    assert "not both" in refused(capsys, "rendered", "plain", "--run-id", "x", "--logical-date", "2026-01-31")
    broken = refused(capsys, "broken", "x")
    assert "failed to parse" in broken
    assert "Job.Tasks[0].Comand: unknown field" in broken
    assert "of another team" not in broken, "it is no part of what was asked for"
    assert "unrelated.py" in broken


@pytest.mark.parametrize("words", [["on_machines"], ["mapped_over_output", "--map-index", "1"]])
def test_what_needs_a_run_says_so(dags: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """What another task returns decides about the request, and there is no run in which it has."""
    said = refused(capsys, "rendered", *words, "--logical-date", "2026-01-31")
    assert "without what other tasks return, and there is no run yet: name one" in said
    assert "--run-id" in said


def test_brackets_are_no_markup(airflow_home: Path) -> None:
    """Airflow's help and tables take them for styles of rich."""
    command = [sys.executable, "-m", "airflow_provider_tcbatch.cli", "orphans", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ, check=True)
    assert "(default: [tcbatch] deployment_id)" in " ".join(done.stdout.split())


def test_brackets_stand_in_tables_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"step": "asset watchers", "what": "[triggerer] shared_stream_cohort_grace_period is 0"}]
    for output in ("table", "plain", "json", "yaml"):
        show(rows, output)
        assert "[triggerer] shared_stream" in capsys.readouterr().out, output


def test_a_missing_connection_is_named(
    dags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT")
    assert "tencentcloud_default" in refused(capsys, "rendered", "plain", "--logical-date", "2026-01-31")


def test_airflow_gets_one_group_of_commands() -> None:
    [group] = cli.get_cli_commands()
    assert group.name == "tcbatch"
    assert "render" in {command.name for command in cli.COMMANDS}


def test_starting_airflow_imports_nothing_heavy() -> None:
    script = "import airflow.cli.cli_config, sys; before = set(sys.modules); import airflow_provider_tcbatch.cli as c; "
    script += "c.get_cli_commands(); print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert set(done.stdout.split()) - {"airflow_provider_tcbatch"} == {"airflow_provider_tcbatch.cli"}
