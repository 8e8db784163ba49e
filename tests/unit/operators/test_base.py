from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.operators.base import default_deferrable, duration, permanent_errors


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


@pytest.mark.parametrize("configured", [True, False])
def test_deferring_is_airflows_choice(monkeypatch: pytest.MonkeyPatch, configured: bool) -> None:
    monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", str(configured))
    assert default_deferrable() is configured
