"""COS requests: the ``q-sign`` authorization, in a header or in a presigned URL."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from airflow_provider_tcbatch.emulator.errors import CosError

SIGN_PARAMS = frozenset(
    {
        "q-sign-algorithm",
        "q-ak",
        "q-sign-time",
        "q-key-time",
        "q-header-list",
        "q-url-param-list",
        "q-signature",
    }
)
_TIMES = re.compile(r"^(\d{1,12});(\d{1,12})$")


@dataclass(frozen=True)
class Authorization:
    """The parsed members of a ``q-sign`` authorization."""

    secret_id: str
    sign_time: str
    key_time: str
    header_list: tuple[str, ...]
    param_list: tuple[str, ...]
    signature: str


def parse(text: str) -> Authorization:
    """Take ``q-sign-algorithm=sha1&q-ak=…`` apart.

    :raises CosError: AccessDenied when it is malformed.
    """
    members = dict(item.split("=", 1) for item in text.split("&") if "=" in item)
    if members.get("q-sign-algorithm") != "sha1" or not members.keys() >= SIGN_PARAMS:
        raise CosError(403, "AccessDenied", "The Authorization is missing or malformed.")
    return Authorization(
        secret_id=members["q-ak"],
        sign_time=members["q-sign-time"],
        key_time=members["q-key-time"],
        header_list=tuple(name for name in members["q-header-list"].lower().split(";") if name),
        param_list=tuple(name for name in members["q-url-param-list"].lower().split(";") if name),
        signature=members["q-signature"],
    )


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def signature(
    secret_key: str,
    authorization: Authorization,
    *,
    method: str,
    path: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
) -> str:
    """The signature a client with this key would send.

    :param path: decoded path that was signed, with its leading slash.
    :param params: decoded URL parameters by lower-case encoded name.
    :param headers: header values by lower-case name.
    """
    signed_params = "&".join(f"{name}={_encode(params.get(name, ''))}" for name in authorization.param_list)
    signed_headers = "&".join(f"{name}={_encode(headers.get(unquote(name), ''))}" for name in authorization.header_list)
    http = f"{method.lower()}\n{path}\n{signed_params}\n{signed_headers}\n"
    digest = hashlib.sha1(http.encode()).hexdigest()
    to_sign = f"sha1\n{authorization.sign_time}\n{digest}\n"
    sign_key = hmac.new(secret_key.encode(), authorization.key_time.encode(), hashlib.sha1).hexdigest()
    return hmac.new(sign_key.encode(), to_sign.encode(), hashlib.sha1).hexdigest()


def verify(
    authorization: Authorization,
    *,
    keys: Mapping[str, str],
    method: str,
    paths: Sequence[str],
    params: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    hosts: Sequence[str],
    now: float,
) -> None:
    """Check identity, time and signature.

    :param paths: the paths that a client may have signed: a path-style client signs the key alone, not the bucket.
    :param hosts: likewise the spellings of its host, with and without port.
    :raises CosError: InvalidAccessKeyId, AccessDenied (expired) or SignatureDoesNotMatch.
    """
    secret_key = keys.get(authorization.secret_id)
    if secret_key is None:
        raise CosError(403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist in our records.")
    for times in (authorization.sign_time, authorization.key_time):
        match = _TIMES.match(times)
        if match is None:
            raise CosError(403, "AccessDenied", "The times of the signature are malformed.")
        if now < int(match[1]) - 300:
            raise CosError(403, "RequestTimeTooSkewed", "The signature is not valid yet.")
        if now > int(match[2]):
            raise CosError(403, "AccessDenied", "Request has expired")
    encoded = {_encode(name).lower(): value for name, value in params}
    for path in paths:
        for host in hosts:
            expected = signature(
                secret_key,
                authorization,
                method=method,
                path=path,
                params=encoded,
                headers={**headers, "host": host},
            )
            if hmac.compare_digest(expected.encode(), authorization.signature.encode()):
                return
    raise CosError(
        403, "SignatureDoesNotMatch", "The signature we calculated does not match the signature you provided."
    )
