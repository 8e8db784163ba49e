from __future__ import annotations

import copy
import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.connection.worker_process import is_there
from airflow_provider_tcbatch.execution import airflow_calls
from airflow_provider_tcbatch.execution.airflow_calls import push, slowest_call
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.policies.deferral import HEARTBEAT, Deferral
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.triggers.job import TCBatchQuotaTrigger
from tests.support.task_context import TaskDeferred

JOB = {"Tasks": [{"TaskName": "t", "Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-1"}]}


@pytest.fixture(autouse=True)
def no_calls_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_calls, "_slowest", 0.0)


def operators() -> list[Any]:
    return [
        TCBatchSubmitJobOperator(task_id="submit", job=copy.deepcopy(JOB)),
        TCBatchJobSensor(task_id="sense", job_ids="job-1"),
    ]


def deferral(operator: Any) -> Deferral:
    trigger = TCBatchQuotaTrigger(until=0.0, waiting_since=0.0, attempts=1)
    with pytest.raises(TaskDeferred) as raised:
        operator.defer(trigger=trigger, method_name="execute_complete")
    assert raised.value.trigger is trigger
    return Deferral.from_text(trigger.deferral)


@pytest.mark.parametrize("number", range(2))
def test_the_trigger_knows_the_worker(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "3")
    known = deferral(operators()[number])
    assert (known.slowest_call, known.heartbeat) == (0.0, 3.0)
    assert 1 <= known.slowdown < 1e6
    assert is_there(known.process) is True


@pytest.mark.parametrize("endless", ["inf", "1e300"])
def test_an_endless_heartbeat_does_not_keep_a_task_deferred_for_ever(
    endless: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", endless)
    assert [deferral(operator).heartbeat for operator in operators()] == [HEARTBEAT, HEARTBEAT]


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("wrong", ["abc", "-1", "nan"])
def test_a_misspelt_heartbeat_does_not_keep_a_task_from_deferring(
    number: int, wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", wrong)
    assert deferral(operators()[number]).heartbeat == HEARTBEAT
    assert f"[workers] min_heartbeat_interval of Airflow's configuration is {wrong!r}; write seconds" in caplog.text


def test_the_slowest_call_counts() -> None:
    pauses = iter([0.01, 0.3, 0.01])
    ti = SimpleNamespace(xcom_push=lambda key, value: time.sleep(next(pauses)))
    for number in range(3):
        push({"ti": ti}, "key", number)  # type: ignore[typeddict-item]
    assert slowest_call() >= 0.3
    assert deferral(operators()[0]).slowest_call == pytest.approx(slowest_call(), abs=0.01)


def test_a_call_that_fails_counts_too() -> None:
    def fail(key: str, value: Any) -> None:
        time.sleep(0.2)
        raise RuntimeError("the API server does not answer")

    with pytest.raises(RuntimeError):
        push({"ti": SimpleNamespace(xcom_push=fail)}, "key", 1)  # type: ignore[typeddict-item]
    assert slowest_call() >= 0.2


@pytest.mark.parametrize("number", range(2))
def test_a_worker_has_no_links_to_look_up(number: int) -> None:
    operator = operators()[number]
    assert operator.operator_extra_links, "the stored DAG has them"
    running = operator.prepare_for_execution()
    assert not running.operator_extra_links
    assert operator.operator_extra_links, "only the copy that runs has none"
    unmapped = operators()[number]  # Airflow makes it of a mapped operator, and prepares nothing
    unmapped.pre_execute({})
    assert not unmapped.operator_extra_links
