from __future__ import annotations

import pytest

from airflow_provider_tcbatch.client.errors import api_error
from airflow_provider_tcbatch.exceptions import ApiUnavailable, TCBatchError
from airflow_provider_tcbatch.policies.outage import Outage, can_not_be_asked, outage_pause, patient_until


@pytest.mark.parametrize(
    "code", ["ServerNetworkError", "ClientNetworkError", "InternalError.CallCvm", "ServiceUnavailable"]
)
def test_errors_that_say_nothing_about_the_request(code: str) -> None:
    assert can_not_be_asked(api_error(code, "x", action="DescribeJobs"))
    assert can_not_be_asked(api_error("RequestLimitExceeded", "x", action="DescribeJobs"))


@pytest.mark.parametrize(
    "code",
    [
        "InvalidParameter.JobIdMalformed",
        "UnauthorizedOperation",
        "ResourceNotFound.Job",
        "UnsupportedOperation.AcceptOtherRequest",
        "FailedOperation.CmqBackendError",
        "Unheard.Of",
    ],
)
def test_errors_about_the_request(code: str) -> None:
    assert not can_not_be_asked(api_error(code, "x", action="DescribeJobs"))
    assert not can_not_be_asked(TCBatchError("x"))


def test_who_has_been_patient_is_not_asked_to_be_so_again() -> None:
    assert not can_not_be_asked(ApiUnavailable("x", retryable=True))


def test_pauses_grow_and_are_spread() -> None:
    assert [outage_pause(failures, 0.5) for failures in range(1, 8)] == [4, 8, 16, 32, 60, 60, 60]
    assert (outage_pause(1, 0), outage_pause(1, 1)) == (3, 5)
    assert outage_pause(10_000, 0.5) == 60


def test_a_limit_of_the_task_decides_if_there_is_one() -> None:
    assert patient_until(100, None, 3600) == 3700
    assert patient_until(100, 160, 3600) == 160
    assert patient_until(100, 90_000, 3600) == 90_000
    assert patient_until(100, 100, 3600) == 3700, "it was over before: it has no say any more"


def test_what_the_log_says() -> None:
    assert str(Outage(0, "ServerNetworkError: 503")) == (
        "The API of Batch can't be asked since 00:00:00 UTC: ServerNetworkError: 503"
    )
    assert str(Outage(0, "x", 65)) == (
        "The API of Batch can be asked again: it could not from 00:00:00 UTC to 00:01:05 UTC (65 s)"
    )
