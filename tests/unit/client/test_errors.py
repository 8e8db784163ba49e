from __future__ import annotations

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.errors import api_error


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("RequestLimitExceeded", e.Throttled, True),
        ("RequestLimitExceeded.UinLimitExceeded", e.Throttled, True),
        ("InternalError", e.InfrastructureError, True),
        ("InternalError.CallCvm", e.InfrastructureError, True),
        ("ClientNetworkError", e.InfrastructureError, True),
        ("AuthFailure.SignatureFailure", e.PermissionDenied, False),
        ("UnauthorizedOperation.UserNotAllowedToUseBatch", e.PermissionDenied, False),
        ("LimitExceeded.JobQuota", e.QuotaExceeded, False),
        ("ResourceNotFound.Job", e.NotFound, False),
        ("ResourceInUse.Job", e.ResourceBusy, False),
        ("UnsupportedOperation", e.ResourceBusy, False),
        ("UnsupportedOperation.ComputeEnvAcceptOtherRequest", e.ResourceBusy, True),
        ("InvalidParameterValue.DependenceUnfeasible", e.InvalidRequest, False),
        ("InvalidParameterAtLeastOneAttribute", e.InvalidRequest, False),
        ("FailedOperation", e.ApiError, False),
        ("FailedOperation.CmqBackendError", e.InfrastructureError, False),
        ("FailedOperation.MaxMessageSizeError", e.InvalidRequest, False),
        ("ActionOffline", e.InvalidRequest, False),
        ("ResponseSizeLimitExceeded", e.InvalidRequest, False),
        ("SomethingNew.Entirely", e.ApiError, False),
        ("AllowedOneAttributeInEnvIdAndComputeEnv", e.InvalidRequest, False),
    ],
)
def test_codes_become_classes(code: str, kind: type[e.ApiError], retryable: bool) -> None:
    error = api_error(code, "text.", action="DescribeJob", request_id="r-1")
    assert type(error) is kind
    assert (error.code, error.action, error.request_id, error.retryable) == (code, "DescribeJob", "r-1", retryable)
    assert "DescribeJob" in str(error)
    assert "r-1" in str(error)


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("AuthFailure.SecretIdNotFound", "Login"),
        ("AuthFailure.SignatureFailure", "Password"),
        ("AuthFailure.TokenFailure", "token"),
        ("InvalidZone.MismatchRegion", "zone"),
        ("InvalidParameter.NotificationTopicName", "event_topic"),
        ("ClientNetworkError", "endpoint"),
    ],
)
def test_advice_names_the_connection_and_its_field(code: str, field: str) -> None:
    text = str(api_error(code, "text", action="SubmitJob", connection="connection 'prod'"))
    assert field in text
    assert "connection 'prod'" in text


def test_an_unreachable_service_names_the_field_of_its_own_address() -> None:
    assert "tdmq_endpoint" in str(api_error("ClientNetworkError", "x", action="CreateCmqQueue", field="tdmq_endpoint"))


def documented_codes() -> list[str]:
    """Every code that the official SDK lists for Batch."""
    from tencentcloud.batch.v20170312 import errorcodes

    return sorted(value for name, value in vars(errorcodes).items() if name.isupper() and isinstance(value, str))


FAMILIES: dict[str, tuple[type[e.ApiError], ...]] = {
    "AllowedOneAttributeInEnvIdAndComputeEnv": (e.InvalidRequest,),
    "InternalError": (e.InfrastructureError,),
    "InvalidFilter": (e.InvalidRequest,),
    "InvalidParameter": (e.InvalidRequest,),
    "InvalidParameterAtLeastOneAttribute": (e.InvalidRequest,),
    "InvalidParameterValue": (e.InvalidRequest,),
    "InvalidZone": (e.InvalidRequest,),
    "LimitExceeded": (e.QuotaExceeded,),
    "ResourceInUse": (e.ResourceBusy,),
    "ResourceNotFound": (e.NotFound,),
    "UnauthorizedOperation": (e.PermissionDenied,),
    "UnknownParameter": (e.InvalidRequest,),
    "UnsupportedOperation": (e.ResourceBusy,),
}


@pytest.mark.parametrize("code", documented_codes())
def test_every_documented_code_of_batch_has_its_class(code: str) -> None:
    error = api_error(code, "text", action="AnAction")
    assert type(error) in FAMILIES[code.split(".")[0]]
    busy = code.endswith(("AcceptOtherRequest", "ComputeEnvAcceptOtherRequest"))
    assert error.retryable == (isinstance(error, e.InfrastructureError) or busy)


def test_the_list_of_documented_codes_is_the_real_one() -> None:
    codes = documented_codes()
    assert len(codes) > 60
    assert "LimitExceeded.JobQuota" in codes


def test_only_an_answer_that_is_lost_leaves_open_whether_it_was_done() -> None:
    kinds = [kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.ApiError)]
    assert {kind for kind in kinds if kind.maybe_done} == {e.InfrastructureError, e.ApiUnavailable}
