"""API 3.0 requests: TC3-HMAC-SHA256."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from airflow_provider_tcbatch.emulator.errors import ApiError

ALGORITHM = "TC3-HMAC-SHA256"

_AUTHORIZATION = re.compile(
    r"^TC3-HMAC-SHA256\s+Credential=(?P<id>[^/,\s]+)/(?P<date>\d{4}-\d\d-\d\d)/(?P<service>[a-z0-9]+)/tc3_request,"
    r"\s*SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})$"
)


@dataclass(frozen=True)
class Authorization:
    """The parsed ``Authorization`` header."""

    secret_id: str
    date: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


def parse(header: str | None) -> Authorization:
    """Take the header apart.

    :raises ApiError: AuthFailure.InvalidAuthorization when it is missing or malformed.
    """
    match = _AUTHORIZATION.match(header or "")
    if match is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "The Authorization header is missing or malformed.")
    return Authorization(
        secret_id=match["id"],
        date=match["date"],
        service=match["service"],
        signed_headers=tuple(match["headers"].lower().split(";")),
        signature=match["signature"],
    )


def signature(
    secret_key: str,
    *,
    date: str,
    service: str,
    timestamp: str,
    signed_headers: tuple[str, ...],
    headers: Mapping[str, str],
    body: bytes,
    lower_values: bool = True,
) -> str:
    """The signature a client with this key would send for ``POST /``.

    :param lower_values: header values are signed in lower case, as the documentation says.
    """
    values = {name: headers.get(name, "").strip() for name in signed_headers}
    if lower_values:
        values = {name: value.lower() for name, value in values.items()}
    # A client may leave the payload out of the signature and says so in this header.
    unsigned = headers.get("x-tc-content-sha256") == "UNSIGNED-PAYLOAD"
    payload = b"UNSIGNED-PAYLOAD" if unsigned else body
    canonical = "\n".join(
        [
            "POST",
            "/",
            "",
            "".join(f"{name}:{values[name]}\n" for name in signed_headers),
            ";".join(signed_headers),
            hashlib.sha256(payload).hexdigest(),
        ]
    )
    scope = f"{date}/{service}/tc3_request"
    to_sign = "\n".join([ALGORITHM, timestamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"TC3" + secret_key.encode()
    for part in (date, service, "tc3_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def verify(
    authorization: Authorization,
    *,
    keys: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    now: float,
    window: float,
) -> None:
    """Check identity, time and signature of a request.

    :param keys: secret keys by secret id.
    :param headers: request headers, names in lower case.
    :param now: the emulator's clock, epoch seconds.
    :param window: accepted clock difference, seconds.
    :raises ApiError: one of the AuthFailure codes.
    """
    secret_key = keys.get(authorization.secret_id)
    if secret_key is None:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId is not found, check that it is right.")
    timestamp = headers.get("x-tc-timestamp", "")
    if not re.fullmatch(r"\d{1,12}", timestamp):
        raise ApiError("MissingParameter", "The request is missing a valid X-TC-Timestamp header.")
    if abs(now - int(timestamp)) > window:
        raise ApiError(
            "AuthFailure.SignatureExpire",
            f"The signature has expired: the request's time differs by more than {window:g} s from the server's.",
        )
    if not {"content-type", "host"} <= set(authorization.signed_headers):
        raise ApiError("AuthFailure.InvalidAuthorization", "Content-Type and Host must be among the SignedHeaders.")
    day = datetime.fromtimestamp(int(timestamp), timezone.utc).strftime("%Y-%m-%d")
    if day != authorization.date:
        raise ApiError("AuthFailure.SignatureFailure", "The date of the credential scope is not X-TC-Timestamp's.")
    for lower_values in (True, False):
        expected = signature(
            secret_key,
            date=authorization.date,
            service=authorization.service,
            timestamp=timestamp,
            signed_headers=authorization.signed_headers,
            headers=headers,
            body=body,
            lower_values=lower_values,
        )
        if hmac.compare_digest(expected, authorization.signature):
            return
    raise ApiError(
        "AuthFailure.SignatureFailure", "The provided credentials could not be validated, check the SecretKey."
    )
