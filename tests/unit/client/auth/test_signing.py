"""Requests are those that the SDK's own client makes, and are signed by it, without its HTTP stack."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.http.request import RequestInternal
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from airflow_provider_tcbatch.client.auth.keys import Keys
from airflow_provider_tcbatch.client.auth.signing import signed

PARAMS = {"Job": {"JobName": "größe", "Tasks": [{"TaskInstanceNum": 3, "Timeout": None}]}, "ClientToken": "t"}


def of_the_sdk(action: str, params: dict[str, Any], keys: Keys | None, host: str) -> tuple[dict[str, str], bytes]:
    """What the SDK would send."""
    credential = keys and Credential(keys.secret_id, keys.secret_key, keys.token)
    profile = ClientProfile(
        httpProfile=HttpProfile(endpoint=host), language="en-US", request_client="airflow-provider-tcbatch"
    )
    client = CommonClient("batch", "2017-03-12", credential, "ap-guangzhou", profile)
    request = RequestInternal(host, "POST", "/", header={"X-TC-TraceId": "trace"})
    client._build_req_inter(action, params, request, {"SkipSign": keys is None})
    return dict(request.header), request.data.encode()


@pytest.mark.parametrize("host", ["batch.tencentcloudapi.com", "127.0.0.1:8095"])
@pytest.mark.parametrize("keys", [Keys("AKIDx", "secret"), Keys("AKIDx", "schlüssel", "token"), None])
def test_a_request_is_the_one_that_the_sdk_makes(keys: Keys | None, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_764_403_199.9)
    monkeypatch.setattr(uuid, "uuid4", lambda: "trace")
    headers, body = signed(
        "SubmitJob", PARAMS, service="batch", version="2017-03-12", host=host, region="ap-guangzhou", keys=keys
    )
    assert (headers, body) == of_the_sdk("SubmitJob", PARAMS, keys, host)
    assert json.loads(body) == PARAMS


def test_keys_can_be_handed_to_clients_of_the_sdk() -> None:
    keys = Keys("AKIDx", "hush", "hush-token", expires_at=5.0)
    credential = Credential("AKIDx", "hush", "hush-token")
    assert keys.get_credential_info() == credential.get_credential_info()
    assert "hush" not in repr(keys)
    assert "token='" not in repr(keys)


def test_signing_brings_nothing_of_the_sdk_but_what_signs() -> None:
    program = """
import sys
from airflow_provider_tcbatch.client.auth.keys import Keys
from airflow_provider_tcbatch.client.auth.signing import signed
signed("A", {}, service="batch", version="2017-03-12", host="h", region="r", keys=Keys("a", "b"))
print(*sorted(name for name in sys.modules if name.partition(".")[0] in ("tencentcloud", "requests", "urllib3")))
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    sdk = "tencentcloud.common"
    errors = f"{sdk}.exception"
    assert loaded == ["tencentcloud", sdk, errors, f"{errors}.tencent_cloud_sdk_exception", f"{sdk}.sign"]
