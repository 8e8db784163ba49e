"""CMQ data plane requests: HMAC over method, host, path and the sorted raw parameters."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import Literal

from airflow_provider_tcbatch.emulator.errors import CmqError

PATH = "/v2/index.php"


def source(method: str, host: str, params: Mapping[str, str], *, leave_out_at: bool = False) -> str:
    """The text that is signed: values as they are, not URL-encoded, keys sorted before ``_`` becomes ``.``.

    :param host: host as in the URL, with its port if the URL has one.
    :param leave_out_at: the vendor's SDK leaves values that begin with ``@`` out of a POST signature.
    """
    pairs = [
        f"{key.replace('_', '.')}={params[key]}"
        for key in sorted(params)
        if key != "Signature" and not (leave_out_at and params[key].startswith("@"))
    ]
    return f"{method}{host}{PATH}?{'&'.join(pairs)}"


def signature(secret_key: str, text: str, *, sha256: bool) -> str:
    """Base64 of the HMAC of ``text``."""
    digest = hashlib.sha256 if sha256 else hashlib.sha1
    return base64.b64encode(hmac.new(secret_key.encode(), text.encode(), digest).digest()).decode()


def verify(
    method: str,
    host: str,
    params: Mapping[str, str],
    *,
    keys: Mapping[str, str],
    now: float,
    window: float,
    at_values: Literal["either", "signed", "left_out"] = "either",
) -> None:
    """Check identity, time and signature of a request.

    :param at_values: how values that begin with ``@`` are expected to be treated in a POST signature.
    :raises CmqError: 4000 for missing or malformed parameters, 4100 for failed authentication.
    """
    for name in ("SecretId", "Timestamp", "Nonce", "Signature"):
        if not params.get(name):
            raise CmqError(4000, 10390, f"lacked of required parameter {name}")
    secret_id = params["SecretId"]
    if not secret_id.startswith("AKID"):
        raise CmqError(4000, 10450, "secret id doesn't begin with AKID")
    for name in ("Timestamp", "Nonce"):
        if not re.fullmatch(r"\d{1,20}", params[name]):
            raise CmqError(4000, 10360, f"{name} error type")
    secret_key = keys.get(secret_id)
    if secret_key is None:
        raise CmqError(4100, 10270, "secret id is not existed")
    if abs(now - int(params["Timestamp"])) > window:
        raise CmqError(4100, 10030, "authentication failed: the request has expired")
    sha256 = params.get("SignatureMethod") == "HmacSHA256"
    ways = {"either": (False, True), "signed": (False,), "left_out": (True,)}[at_values]
    for leave_out_at in ways if method == "POST" else (False,):
        expected = signature(secret_key, source(method, host, params, leave_out_at=leave_out_at), sha256=sha256)
        if hmac.compare_digest(expected.encode(), params["Signature"].encode()):
            return
    raise CmqError(4100, 10030, "authentication failed")
