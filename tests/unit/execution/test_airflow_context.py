from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseOperator

from airflow_provider_tcbatch.execution.airflow_context import deployment_id, owner_of, this_try, variables_of
from airflow_provider_tcbatch.policies.ownership.marks import Owner
from airflow_provider_tcbatch.policies.ownership.record import ThisTry
from tests.support.task_context import Task, instance_in


@pytest.fixture
def context() -> Any:
    return Task(retries=2).next_try()


def test_the_owner_is_the_task_instance(context: Any) -> None:
    assert owner_of(context) == Owner("airflow", "a_dag", "manual__2026-01-31", "submit", -1)


@pytest.mark.parametrize(("index", "expected"), [(None, -1), (-1, -1), (0, 0), (7, 7)])
def test_the_owner_of_a_mapped_task_has_its_index(context: Any, index: int | None, expected: int) -> None:
    instance_in(context).map_index = index
    assert owner_of(context).map_index == expected


@pytest.mark.parametrize(("configured", "expected"), [(None, "airflow"), ("", "airflow"), ("team-a", "team-a")])
def test_several_deployments_of_one_account_are_told_apart(
    context: Any, monkeypatch: pytest.MonkeyPatch, configured: str | None, expected: str
) -> None:
    if configured is not None:
        monkeypatch.setenv("AIRFLOW__TCBATCH__DEPLOYMENT_ID", configured)
    assert deployment_id() == expected
    assert owner_of(context).deployment == expected


def test_the_try_is_told_from_those_before_it() -> None:
    task, operator = Task(retries=2), BaseOperator(task_id="submit", retries=2)
    first, second, cleared = task.next_try(), task.next_try(), task.clear()
    tries = [this_try(context, operator) for context in (first, second, cleared)]
    assert tries[0] == ThisTry(try_number=1, ti_id=str(first["ti"].id), max_tries=2, retries=2)
    assert [entry.try_number for entry in tries] == [1, 2, 3]
    assert [entry.max_tries for entry in tries] == [2, 2, 4], "only a clear changes it"
    assert len({entry.ti_id for entry in tries}) == 3


def test_a_try_without_retries_has_numbers_all_the_same(context: Any) -> None:
    instance_in(context).max_tries = None
    this = this_try(context, BaseOperator(task_id="submit"))
    assert (this.max_tries, this.retries) == (0, 0)


def test_the_variables_have_the_names_that_airflow_uses(context: Any) -> None:
    instance_in(context).map_index = 3
    context["dag_run"].data_interval_end = datetime(2026, 1, 31, tzinfo=timezone.utc)
    assert variables_of(context) == {
        "AIRFLOW_CTX_DAG_ID": "a_dag",
        "AIRFLOW_CTX_DAG_RUN_ID": "manual__2026-01-31",
        "AIRFLOW_CTX_TASK_ID": "submit",
        "AIRFLOW_CTX_MAP_INDEX": "3",
        "AIRFLOW_CTX_TRY_NUMBER": "1",
        "AIRFLOW_CTX_LOGICAL_DATE": "2026-01-31T00:00:00+00:00",
        "AIRFLOW_CTX_DATA_INTERVAL_START": "2026-01-30T00:00:00+00:00",
        "AIRFLOW_CTX_DATA_INTERVAL_END": "2026-01-31T00:00:00+00:00",
    }


@pytest.mark.parametrize("run", [None, SimpleNamespace(logical_date=None)])
def test_what_a_run_does_not_have_is_left_out(context: Any, run: Any) -> None:
    context["dag_run"] = run
    assert sorted(variables_of(context)) == [
        "AIRFLOW_CTX_DAG_ID",
        "AIRFLOW_CTX_DAG_RUN_ID",
        "AIRFLOW_CTX_MAP_INDEX",
        "AIRFLOW_CTX_TASK_ID",
        "AIRFLOW_CTX_TRY_NUMBER",
    ]
