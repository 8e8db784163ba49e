"""Error codes of the service, mapped to classes, with what to do about them."""

from __future__ import annotations

import re
from typing import TypeVar

from airflow_provider_tcbatch.exceptions import (
    ApiError,
    InfrastructureError,
    InvalidRequest,
    KeysRefused,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    ResourceBusy,
    ServerNotTrusted,
    Throttled,
)
from airflow_provider_tcbatch.models.bounds import shortened

__all__ = ["NOT_TRUSTED", "TOO_MUCH", "api_error", "network_code", "refused_hint", "refuses_keys"]

#: Our own code for an answer that is over its bounds, see :mod:`~airflow_provider_tcbatch.models.bounds`.
TOO_MUCH = "ClientAnswerTooLarge"

#: Our own code for a server whose certificate can't be verified.
NOT_TRUSTED = "ClientServerNotTrusted"

_T = TypeVar("_T")

#: Longest matching prefix wins. A prefix ends at a dot or at the end of the code.
_CLASSES: dict[str, tuple[type[ApiError], bool]] = {
    "RequestLimitExceeded": (Throttled, True),
    "InternalError": (InfrastructureError, True),
    "ServiceUnavailable": (InfrastructureError, True),
    "ResourceUnavailable": (InfrastructureError, True),
    "ClientNetworkError": (InfrastructureError, True),
    "ServerNetworkError": (InfrastructureError, True),
    TOO_MUCH: (InfrastructureError, True),
    NOT_TRUSTED: (ServerNotTrusted, False),
    # Said of what can't be done, too: sending it again is no general remedy.
    "FailedOperation.CmqBackendError": (InfrastructureError, False),
    "AuthFailure": (PermissionDenied, False),
    "UnauthorizedOperation": (PermissionDenied, False),
    "IpInBlacklist": (PermissionDenied, False),
    "IpNotInWhitelist": (PermissionDenied, False),
    "LimitExceeded": (QuotaExceeded, False),
    "ResourceInsufficient": (QuotaExceeded, False),
    **dict.fromkeys(
        (
            "ActionOffline",
            "AllowedOneAttributeInEnvIdAndComputeEnv",
            "FailedOperation.MaxMessageSizeError",
            "InvalidAction",
            "InvalidFilter",
            "InvalidParameter",
            "InvalidParameterAtLeastOneAttribute",
            "InvalidParameterValue",
            "InvalidRequest",
            "InvalidZone",
            "MissingParameter",
            "NoSuchProduct",
            "NoSuchVersion",
            "RequestSizeLimitExceeded",
            "ResponseSizeLimitExceeded",
            "UnknownParameter",
            "UnsupportedProtocol",
            "UnsupportedRegion",
        ),
        (InvalidRequest, False),
    ),
    "ResourceNotFound": (NotFound, False),
    "ResourceInUse": (ResourceBusy, False),
    "UnsupportedOperation": (ResourceBusy, False),
    "UnsupportedOperation.AcceptOtherRequest": (ResourceBusy, True),
    "UnsupportedOperation.ComputeEnvAcceptOtherRequest": (ResourceBusy, True),
}

#: Codes of the SDK's own, with the beginning of whatever answered instead of the service.
_NETWORK = frozenset({"ClientNetworkError", "ServerNetworkError", NOT_TRUSTED})
_TAG = re.compile(r"<[^<>]{0,200}>")

#: What to look at; ``{connection}`` and ``{field}`` are filled in.
_HINTS = {
    "AuthFailure.SecretIdNotFound": "check the SecretId (field Login) of {connection}",
    "AuthFailure.InvalidSecretId": "check the SecretId (field Login) of {connection}",
    "AuthFailure.SignatureFailure": "check the SecretKey (field Password) of {connection}",
    "AuthFailure.TokenFailure": "the temporary token is wrong or has expired: check field token of {connection}",
    "AuthFailure.SignatureExpire": "this machine's clock is more than five minutes off",
    "AuthFailure.UnauthorizedOperation": "the CAM policy of the keys in {connection} lacks this action",
    "UnauthorizedOperation": "the CAM policy of the keys in {connection} lacks this action",
    "InvalidZone.MismatchRegion": "check the zone against the region (fields zone and region of {connection})",
    "InvalidParameterValue.InvalidZoneMismatchRegion": (
        "check the zone against the region (fields zone and region of {connection})"
    ),
    "InvalidParameterValue.UnavailableZone": "choose another zone (argument zone, or field zone of {connection})",
    "InvalidParameter.NotificationTopicName": (
        "the topic must exist in the job's region and have a subscription: check field event_topic of {connection} "
        "and the job's Notifications"
    ),
    "UnsupportedRegion": "check field region of {connection}",
    "ClientNetworkError": "check field {field} of {connection} and the network",
    "ServerNetworkError": "check field {field} of {connection} and the network",
    NOT_TRUSTED: (
        "name the PEM file of the authority that made the server's certificate in field ca_file of {connection}, or "
        "check field {field}"
    ),
}


#: What says that the keys themselves are refused: API 3.0, CMQ's data plane (authentication failed), COS.
#: https://cloud.tencent.com/document/product/436/7730
_REFUSALS = ("AuthFailure", "4100", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")


def network_code(error: BaseException) -> str:
    """The code for an error of the network: the SDK's, or our own where the server is there, but is not trusted.

    A certificate that has expired, or is not valid yet, is no matter of trust: it is renewed, or a clock is set.
    """
    text = str(error)
    passes = "certificate has expired" in text or "not yet valid" in text
    return NOT_TRUSTED if "CERTIFICATE_VERIFY_FAILED" in text and not passes else "ClientNetworkError"


def refused_hint(renewed_by: str) -> str:
    """What to look at where keys that are renewed by themselves are refused.

    :param renewed_by: where they come from.
    """
    return f"check {renewed_by}: keys that were asked for anew are refused, too"


def refuses_keys(code: str) -> bool:
    """Whether an error code says that the keys are refused: expired, revoked, unknown; not that they lack a right.

    :param code: code as the service spells it.
    """
    return code.partition(".")[0] in _REFUSALS and not code.endswith(".UnauthorizedOperation")


def api_error(
    code: str,
    message: str,
    *,
    action: str,
    request_id: str | None = None,
    connection: str = "the connection",
    field: str = "endpoint",
    renewed_by: str | None = None,
) -> ApiError:
    """Make the exception for an error code.

    :param code: code as the service, or the SDK, spells it.
    :param message: its text; unstable and only for people.
    :param action: API action that was called.
    :param request_id: id of the request, if an answer came.
    :param connection: how to name the Airflow connection in the advice.
    :param field: its field that says where this request goes.
    :param renewed_by: where the keys come from, if they are renewed by themselves: that they are refused passes.
    """
    kind, retryable = _longest(_CLASSES, code) or (ApiError, False)
    hint = _longest(_HINTS, code)
    if renewed_by is not None and refuses_keys(code):
        kind, retryable = KeysRefused, True
        if code != "AuthFailure.SignatureExpire":
            hint = refused_hint(renewed_by).replace("{", "{{").replace("}", "}}")
    if code in _NETWORK:
        # What a gateway says for the service may be a page.
        message = " ".join(_TAG.sub(" ", message).split())
    text = f"{action}: {code}: {shortened(message.strip()).rstrip('.')}"
    if hint:
        text += f". What to do: {hint.format(connection=connection, field=field)}"
    if request_id:
        text += f" (RequestId {request_id})"
    return kind(text, code=code, action=action, request_id=request_id, retryable=retryable)


def _longest(table: dict[str, _T], code: str) -> _T | None:
    parts = code.split(".")
    for length in range(len(parts), 0, -1):
        if (found := table.get(".".join(parts[:length]))) is not None:
            return found
    return None
