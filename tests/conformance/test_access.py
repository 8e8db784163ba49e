"""Temporary keys and TLS."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosServiceError
from tencentcloud.batch.v20170312 import batch_client, models
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.signing import cmq as cmq_signing
from tests.conformance.conftest import QUICK, profile, request_of
from tests.conformance.test_cli import serving

Keys = tuple[str, str, str | None]


@pytest.fixture
def temporary(emulator: Emulator) -> Keys:
    key = emulator.issue_token(600)
    return key.secret_id, key.secret_key, key.token


def describe_jobs(emulator: Emulator, keys: Keys) -> str:
    client = batch_client.BatchClient(Credential(*keys), emulator.info.region, profile(emulator))
    try:
        client.DescribeJobs(request_of(models, "DescribeJobs", {}))
    except TencentCloudSDKException as error:
        return str(error.get_code())
    return "OK"


def receive(emulator: Emulator, keys: Keys) -> int:
    secret_id, secret_key, token = keys
    url = emulator.info.cmq_endpoint + cmq_signing.PATH
    params = {
        "Action": "ReceiveMessage",
        "SecretId": secret_id,
        "Timestamp": str(int(time.time())),
        "Nonce": "1",
        "queueName": f"{emulator.info.topic}-base",
        **({"Token": token} if token else {}),
    }
    text = cmq_signing.source("POST", urlsplit(url).netloc, params)
    params["Signature"] = cmq_signing.signature(secret_key, text, sha256=False)
    return int(requests.post(url, data=params, timeout=10).json()["code"])


def list_objects(emulator: Emulator, keys: Keys) -> str:
    secret_id, secret_key, token = keys
    address = urlsplit(emulator.info.cos_endpoint)
    config: dict[str, Any] = {"SecretId": secret_id, "SecretKey": secret_key, "Token": token}
    client = CosS3Client(
        CosConfig(Region=emulator.info.region, Scheme="http", IP=address.hostname, Port=address.port, **config), retry=0
    )
    try:
        client.list_objects(emulator.info.bucket)
    except CosServiceError as error:
        return str(error.get_error_code())
    return "OK"


def test_temporary_keys_with_their_token(emulator: Emulator, temporary: Keys) -> None:
    assert describe_jobs(emulator, temporary) == "OK"
    assert receive(emulator, temporary) == 7000
    assert list_objects(emulator, temporary) == "OK"


def test_presigned_with_a_token(emulator: Emulator, temporary: Keys) -> None:
    secret_id, secret_key, token = temporary
    client = CosS3Client(CosConfig(Region=emulator.info.region, SecretId=secret_id, SecretKey=secret_key, Token=token))
    url = client.get_presigned_url(
        Bucket=emulator.info.bucket, Key="absent", Method="GET", Params={"x-cos-security-token": token}
    )
    parts = urlsplit(url)
    answer = requests.get(
        f"{emulator.info.cos_endpoint}{parts.path}?{parts.query}", headers={"Host": parts.netloc}, timeout=10
    )
    assert "NoSuchKey" in answer.text


@pytest.mark.parametrize("problem", ["missing", "wrong", "expired", "with the permanent key"])
def test_token_that_does_not_fit(emulator: Emulator, temporary: Keys, problem: str) -> None:
    secret_id, secret_key, token = temporary
    if problem == "expired":
        key = emulator.issue_token(-1)
        secret_id, secret_key, token = key.secret_id, key.secret_key, key.token
    elif problem == "with the permanent key":
        secret_id, secret_key = emulator.info.secret_id, emulator.info.secret_key
    else:
        token = None if problem == "missing" else "nonsense"
    keys = (secret_id, secret_key, token)
    assert describe_jobs(emulator, keys) == "AuthFailure.TokenFailure"
    assert receive(emulator, keys) == 4100
    assert list_objects(emulator, keys) == "AccessDenied"


def test_command_with_tls_and_token(tmp_path: Path) -> None:
    with serving("--tls", "--token", "my-token", tmp=tmp_path) as (_, info):
        assert info["endpoint"].startswith("https://127.0.0.1:")
        assert info["token"] == "my-token"
        ca_file = Path(info["ca_file"])
        assert sorted(path.name for path in ca_file.parent.iterdir()) == ["ca.pem", "server.pem"]
        http = HttpProfile(endpoint=urlsplit(info["endpoint"]).netloc, certification=str(ca_file))
        keys = Credential(info["temporary_secret_id"], info["temporary_secret_key"], info["token"])
        client = batch_client.BatchClient(keys, info["region"], ClientProfile(httpProfile=http))
        assert client.DescribeJobs(request_of(models, "DescribeJobs", {})).TotalCount == 0
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(info["endpoint"] + "/_emulator/health", timeout=5)


def test_without_a_token_no_temporary_key_exists(emulator: Emulator) -> None:
    assert emulator.info.token is None
    assert emulator.info.temporary_secret_key is None


def test_drop_over_tls() -> None:
    with Emulator(QUICK, tls=True) as emulator:
        emulator.faults.add("drop", count=1)
        with pytest.raises(requests.ConnectionError):
            requests.post(emulator.info.endpoint + "/", data="{}", timeout=5, verify=emulator.info.ca_file)
        answer = requests.get(emulator.info.endpoint + "/_emulator/health", timeout=5, verify=emulator.info.ca_file)
        assert answer.json()["status"] == "ok"
