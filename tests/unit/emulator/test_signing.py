from __future__ import annotations

from functools import partial

import pytest

from airflow_provider_tcbatch.emulator.cos.app import locate
from airflow_provider_tcbatch.emulator.errors import ApiError, CmqError, CosError
from airflow_provider_tcbatch.emulator.signing import cmq, cos, tc3

KEY_ID = "AKIDEXAMPLE0000000000000000000000000"
KEY = "EXAMPLEKEY00000000000000000000000"
COMMON = {
    "Nonce": "123456789",
    "RequestClient": "SDK_Python_1.3",
    "SecretId": KEY_ID,
    "Timestamp": "1767225600",
}


@pytest.mark.parametrize(
    ("method", "host", "key", "params", "expected"),
    [
        (
            "POST",
            "cmq-gz.public.tencenttdmq.com",
            KEY,
            {
                **COMMON,
                "Action": "ReceiveMessage",
                "SignatureMethod": "HmacSHA256",
                "pollingWaitSeconds": "3",
                "queueName": "airflow-q",
            },
            "zQUm1xCCVxi1eqnaY/Tzn70zd+Sv0GH3JnWi3sMUtNk=",
        ),
        (
            "GET",
            "127.0.0.1:8123",
            KEY,
            {
                **COMMON,
                "Action": "BatchDeleteMessage",
                "SignatureMethod": "HmacSHA1",
                "Token": "tmp/token+with=chars",
                "queueName": "airflow-q",
                "receiptHandle.1": "h1",
                "receiptHandle.10": "h10",
                "receiptHandle.2": "h2",
            },
            "GXYHBZIY5egDLxrl54bRwYk63mM=",
        ),
    ],
)
def test_cmq_vectors(method: str, host: str, key: str, params: dict[str, str], expected: str) -> None:
    sha256 = params["SignatureMethod"] == "HmacSHA256"
    assert cmq.signature(key, cmq.source(method, host, params), sha256=sha256) == expected
    signed = {**params, "Signature": expected}
    cmq.verify(method, host, signed, keys={KEY_ID: key}, now=1767225600, window=300)
    for change in ({"queueName": "other"}, {"Signature": "x"}, {"Nonce": "1"}):
        with pytest.raises(CmqError, match="authentication failed"):
            cmq.verify(method, host, {**signed, **change}, keys={KEY_ID: key}, now=1767225600, window=300)
    with pytest.raises(CmqError, match="expired"):
        cmq.verify(method, host, signed, keys={KEY_ID: key}, now=1767225600 + 301, window=300)


def test_cmq_values_that_begin_with_at() -> None:
    params = {**COMMON, "Action": "SendMessage", "queueName": "q", "msgBody": "@all"}
    for leave_out in (False, True):
        text = cmq.source("POST", "h", params, leave_out_at=leave_out)
        signed = {**params, "Signature": cmq.signature(KEY, text, sha256=False)}
        verify = partial(cmq.verify, "POST", "h", signed, keys={KEY_ID: KEY}, now=1767225600, window=1)
        verify()
        verify(at_values="left_out" if leave_out else "signed")
        with pytest.raises(CmqError, match="authentication failed"):
            verify(at_values="signed" if leave_out else "left_out")


def test_tc3_example_of_the_documentation() -> None:
    # The worked example of API 3.0's signature page.
    body = b'{"Limit": 1, "Filters": [{"Values": ["\\u672a\\u547d\\u540d"], "Name": "instance-name"}]}'
    signature = tc3.signature(
        "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        date="2019-02-25",
        service="cvm",
        timestamp="1551113065",
        signed_headers=("content-type", "host"),
        headers={"content-type": "application/json; charset=utf-8", "host": "cvm.tencentcloudapi.com"},
        body=body,
    )
    assert signature == "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"


@pytest.mark.parametrize("header", [None, "", "Basic x", "TC3-HMAC-SHA256 Credential=a/b/c/tc3_request"])
def test_tc3_malformed(header: str | None) -> None:
    with pytest.raises(ApiError, match=r"AuthFailure\.InvalidAuthorization"):
        tc3.parse(header)


def test_cos_malformed() -> None:
    for text in ("", "q-sign-algorithm=sha1", "q-sign-algorithm=md5&q-ak=x"):
        with pytest.raises(CosError):
            cos.parse(text)


@pytest.mark.parametrize(
    ("host", "path", "expected", "signed"),
    [
        ("b-1250000000.cos.ap-guangzhou.myqcloud.com", "/a%20b", "/b-1250000000/a%20b", ("/a b",)),
        ("b-1250000000.cosgz.myqcloud.com:8096", "/k", "/b-1250000000/k", ("/k",)),
        ("b-1250000000.127.0.0.1:8096", "/k", "/b-1250000000/k", ("/k",)),
        ("b-1250000000.localhost:8096", "/", "/b-1250000000/", ("/",)),
        ("127.0.0.1:8096", "/b-1250000000/d/k", "/b-1250000000/d/k", ("/b-1250000000/d/k", "/d/k")),
        ("service.cos.myqcloud.com", "/", "/", ("/", "/")),
    ],
)
def test_cos_hosts(host: str, path: str, expected: str, signed: tuple[str, ...]) -> None:
    target = locate(host, path)
    assert target.path == expected
    assert target.signed_paths == signed


def test_foreign_host_is_refused() -> None:
    with pytest.raises(CosError, match="not a COS host"):
        locate("example.com", "/")
