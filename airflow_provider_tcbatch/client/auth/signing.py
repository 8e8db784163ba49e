"""Requests of API 3.0, signed by the SDK (TC3-HMAC-SHA256).

Only the SDK's module that signs is used. Its clients bring requests and urllib3, and to import these takes a task's
process longer than a submission does; httpx is there already, since Airflow uses it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.auth.keys import Keys

__all__ = ["signed"]

_CONTENT_TYPE = "application/json"

#: Who asks, as Tencent's logs show it.
_CLIENT = "airflow-provider-tcbatch"


def signed(
    action: str,
    params: Mapping[str, Any],
    *,
    service: str,
    version: str,
    host: str,
    region: str,
    keys: Keys | None,
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a POST to ``/``, as the SDK's ``CommonClient`` makes them.

    :param action: name of the action.
    :param params: its parameters, as wire JSON.
    :param service: product in the signature (``batch``).
    :param version: version of the product's API.
    :param host: host as in the URL, with its port if it has one.
    :param region: region of the resources.
    :param keys: keys to sign with; ``None`` for the actions that take no signature.
    """
    body = json.dumps(params).encode()
    now = int(time.time())
    headers = {
        "Content-Type": _CONTENT_TYPE,
        "Host": host,
        "X-TC-Action": action,
        "X-TC-RequestClient": _request_client(),
        "X-TC-Timestamp": str(now),
        "X-TC-Version": version,
        "X-TC-Region": region,
        "X-TC-Language": "en-US",
        "X-TC-TraceId": str(uuid.uuid4()),
    }
    if keys is None:
        return {**headers, "Authorization": "SKIP"}, body
    if keys.token:
        headers["X-TC-Token"] = keys.token
    date = time.strftime("%Y-%m-%d", time.gmtime(now))
    signature = _signature(keys.secret_key, service, host, date, now, body)
    headers["Authorization"] = (
        f"TC3-HMAC-SHA256 Credential={keys.secret_id}/{date}/{service}/tc3_request, "
        f"SignedHeaders=content-type;host, Signature={signature}"
    )
    return headers, body


def _signature(secret_key: str, service: str, host: str, date: str, now: int, body: bytes) -> str:
    """Signature of a POST to ``/``: https://cloud.tencent.com/document/api/213/30654."""
    from tencentcloud.common.sign import Sign

    request = (
        f"POST\n/\n\ncontent-type:{_CONTENT_TYPE}\nhost:{host}\n\ncontent-type;host\n{hashlib.sha256(body).hexdigest()}"
    )
    scope = f"{date}/{service}/tc3_request"
    text = f"TC3-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature: str = Sign.sign_tc3(secret_key, date, service, text)
    return signature


@functools.cache
def _request_client() -> str:
    import tencentcloud

    return f"SDK_PYTHON_{tencentcloud.__version__}; {_CLIENT}"
