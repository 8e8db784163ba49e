"""The operators in Airflow, with ``dag.test()``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.operators.event_delivery import TCBatchEventsCheckOperator, TCBatchEventsSetupOperator
from tests.support.task_context import Task, instance_in

DAG_FILE = """
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.event_delivery import TCBatchEventsCheckOperator, TCBatchEventsSetupOperator

with DAG("events", schedule=None, params={"topic": "chain"}) as dag:
    names = dict(topic="{{ params.topic }}", asset_queue="{{ params.topic }}-assets")
    setup = TCBatchEventsSetupOperator(task_id="setup", **names)
    check = TCBatchEventsCheckOperator(task_id="check", through=["{{ params.topic }}-assets"], **names)
    setup >> check
"""


@pytest.fixture
def dag(airflow_home: Path, connection: str, own_emulator: Emulator) -> Iterator[Any]:
    path = airflow_home / "dags" / "events.py"
    path.write_text(DAG_FILE)
    spec = importlib.util.spec_from_file_location("events_dag", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.dag
    path.unlink()


def test_a_dag_sets_up_and_checks(dag: Any) -> None:
    run = dag.test()
    assert str(run.state) == "success"
    assert CmqHook().describe_queue("chain-assets").visibility_timeout == 600
    steps = run.get_task_instance("check").xcom_pull(task_ids="check")
    states = {step["step"]: step["state"] for step in steps}
    assert states["test message"] == states["asset queue"] == "ok"
    assert str(dag.test().state) == "success", "a second time, too"


@pytest.fixture
def execute(connection: str, own_emulator: Emulator) -> Callable[..., Any]:
    def go(operator: Any) -> Any:
        context = Task().next_try()
        instance_in(context).xcoms = pushed
        return operator.execute(context)

    pushed: dict[str, Any] = {}
    go.pushed = pushed  # type: ignore[attr-defined]
    return go


def test_what_is_missing_fails_the_task(execute: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)topic: chain does not exist.*airflow tcbatch events setup"):
        execute(TCBatchEventsCheckOperator(task_id="check", topic="chain"))
    assert {"topic": "missing"}.items() <= {row["step"]: row["state"] for row in execute.pushed["return_value"]}.items()


def test_one_queue_may_be_written_as_text(execute: Any) -> None:
    execute(TCBatchEventsSetupOperator(task_id="setup", topic="chain"))
    rows = execute(TCBatchEventsCheckOperator(task_id="check", topic="chain", through="chain-base"))
    assert [row["what"] for row in rows if row["step"] == "test message"][-1].startswith(
        "came from chain to chain-base"
    )


def test_what_may_not_be_made_fails_the_task(execute: Any, own_emulator: Emulator) -> None:
    own_emulator.faults.add("error", service="tdmq", action="CreateCmqTopic", code="UnauthorizedOperation")
    with pytest.raises(ConfigurationError, match="grant tdmq:CreateCmqTopic"):
        execute(TCBatchEventsSetupOperator(task_id="setup", topic="chain"))
