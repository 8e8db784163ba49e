from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.time_limit import TimeLimit
from airflow_provider_tcbatch.connection.deployment import api_patience, explain_timeout
from airflow_provider_tcbatch.execution.errors import default_deferrable, permanent_errors
from airflow_provider_tcbatch.operators._base.operator import duration
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchTerminateJobOperator
from airflow_provider_tcbatch.operators.orphans import TCBatchOrphansOperator
from airflow_provider_tcbatch.policies.backoff import LONGEST
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor


@pytest.mark.parametrize(
    "error",
    [
        e.InvalidRequest("wrong", code="InvalidParameter", action="SubmitJob", request_id="r-1", problems=["Job: no"]),
        e.PermissionDenied("no", code="UnauthorizedOperation", action="SubmitJob", request_id="r-1"),
    ],
)
def test_what_no_retry_can_mend_is_not_retried_and_keeps_all_it_says(error: e.ApiError) -> None:
    with pytest.raises(type(error), match=str(error)) as raised, permanent_errors():
        raise error
    assert isinstance(raised.value, AirflowFailException)
    assert raised.value.__cause__ is None, "what it was made of says nothing more"
    assert raised.value.__suppress_context__
    for name, value in vars(error).items():
        assert getattr(raised.value, name) == value, name


@pytest.mark.parametrize("error", [e.QuotaExceeded("full"), e.Throttled("slow"), e.JobFailed("x", job_id="job-1")])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, permanent_errors():
        raise error
    assert raised.value is error


def test_an_error_is_made_permanent_once() -> None:
    with pytest.raises(e.InvalidRequest) as inner, permanent_errors():
        raise e.InvalidRequest("wrong")
    with pytest.raises(e.InvalidRequest) as outer, permanent_errors():
        raise inner.value
    assert outer.value is inner.value


@pytest.mark.parametrize(
    ("given", "seconds"), [(5, 5.0), (0.5, 0.5), (timedelta(minutes=2), 120.0), (timedelta(milliseconds=1), 0.001)]
)
def test_a_duration_is_seconds_or_a_timedelta(given: Any, seconds: float) -> None:
    assert duration("timeout", given, "t") == seconds


@pytest.mark.parametrize("wrong", [0, -1, timedelta(0), timedelta(-1), True, "5", None, float("nan"), float("inf")])
def test_a_wrong_duration_names_task_and_argument(wrong: Any) -> None:
    with pytest.raises(e.InvalidRequest, match=r"Task 'load': timeout is .*seconds above 0"):
        duration("timeout", wrong, "load")


def longest(name: str) -> Callable[[float], Any]:
    """Makes something with a duration of that name."""
    job = {"Tasks": [{"TaskName": "t", "Application": {"DeliveryForm": "LOCAL", "Command": "x"}, "EnvId": "env-1"}]}
    kinds: dict[str, Callable[[float], Any]] = {
        "wait": lambda value: TCBatchTerminateJobOperator(task_id="end", job_ids="job-1", timeout=value),
        "sweep": lambda value: TCBatchOrphansOperator(task_id="sweep", timeout=value),
        "grace": lambda value: TCBatchOrphansOperator(task_id="sweep", grace=value),
        "sensor": lambda value: TCBatchJobSensor(task_id="sense", job_ids="job-1", timeout=value),
        "poke": lambda value: TCBatchJobSensor(task_id="sense", job_ids="job-1", poke_interval=value),
    }

    def submit(value: float) -> Any:
        options: dict[str, Any] = {name: value}
        return TCBatchSubmitJobOperator(task_id="submit", job=job, **options)

    return kinds.get(name, submit)


@pytest.mark.parametrize(
    "name",
    [
        *("poll_interval", "timeout", "queue_timeout", "wait_for_quota"),
        *("wait", "sweep", "grace", "sensor", "poke"),
    ],
)
def test_what_nobody_can_wait_for_is_refused(name: str) -> None:
    assert LONGEST < threading.TIMEOUT_MAX
    longest(name)(LONGEST)
    with pytest.raises(e.InvalidRequest, match=f"at most {LONGEST:.0f} s"):
        longest(name)(1.01 * LONGEST)


@pytest.mark.parametrize("given", ["inf", "1e300", f"{threading.TIMEOUT_MAX:.0f}", "1e11"])
def test_an_option_of_more_than_that_is_as_much(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__EXPLAIN_TIMEOUT", given)
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", given)
    assert TimeLimit(explain_timeout()).run(lambda: "read") == "read"
    assert json.loads(json.dumps(api_patience(), allow_nan=False)) == LONGEST


def test_a_misspelt_default_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "yess")
    with pytest.raises(
        e.InvalidRequest, match=r"'end' .*\[operators\] default_deferrable .*'yess'; write True or False"
    ):
        longest("wait")(5)


@pytest.mark.parametrize("configured", [True, False])
def test_deferring_is_airflows_choice(monkeypatch: pytest.MonkeyPatch, configured: bool) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(configured))
    assert default_deferrable() is configured
