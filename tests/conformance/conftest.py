from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from qcloud_cos import CosConfig, CosS3Client
from tencentcloud.batch.v20170312 import batch_client
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.tdmq.v20200217 import models as tdmq_models
from tencentcloud.tdmq.v20200217 import tdmq_client

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.signing import cmq as cmq_signing
from tests.support.in_process import QUICK, emulator, running_emulator
from tests.support.sdk_warnings import warnings_are_errors

__all__ = ["QUICK", "emulator", "running_emulator"]


def profile(emulator: Emulator) -> ClientProfile:
    return ClientProfile(
        language="en-US",
        httpProfile=HttpProfile(protocol="http", endpoint=urlsplit(emulator.info.endpoint).netloc, reqTimeout=20),
    )


def credential(emulator: Emulator) -> Credential:
    return Credential(emulator.info.secret_id, emulator.info.secret_key)


def request_of(models: Any, action: str, params: dict[str, Any]) -> Any:
    """A typed request; a member that the SDK's model does not know is an error."""
    request = getattr(models, f"{action}Request")()
    with warnings_are_errors():
        request.from_json_string(json.dumps(params))
    return request


Call = Callable[..., Any]


@pytest.fixture
def batch(emulator: Emulator) -> Call:
    """Call a Batch action through the official synchronous client: ``batch("DescribeJob", JobId=…)``."""
    client = batch_client.BatchClient(credential(emulator), emulator.info.region, profile(emulator))

    def call(action: str, **params: Any) -> Any:
        return getattr(client, action)(request_of(batch_models, action, params))

    return call


@pytest.fixture
def tdmq(emulator: Emulator) -> Call:
    """Call a TDMQ action through the official client."""
    client = tdmq_client.TdmqClient(credential(emulator), emulator.info.region, profile(emulator))

    def call(action: str, **params: Any) -> Any:
        return getattr(client, action)(request_of(tdmq_models, action, params))

    return call


@pytest.fixture
def cmq(emulator: Emulator) -> Call:
    """Call a data plane action, signed as the vendor's CMQ SDK signs: ``cmq("ReceiveMessage", queueName=…)``."""
    url = emulator.info.cmq_endpoint + cmq_signing.PATH

    def call(action: str, *, method: str = "POST", secret_key: str | None = None, **params: Any) -> dict[str, Any]:
        full = {name: str(value) for name, value in params.items()}
        full.update(
            Action=action,
            SecretId=full.get("SecretId", emulator.info.secret_id),
            Timestamp=full.get("Timestamp", str(int(time.time()))),
            Nonce="123456789",
            SignatureMethod=full.get("SignatureMethod", "HmacSHA256"),
            RequestClient="SDK_Python_1.3",
        )
        text = cmq_signing.source(method, urlsplit(url).netloc, full)
        full["Signature"] = cmq_signing.signature(
            secret_key or emulator.info.secret_key, text, sha256=full["SignatureMethod"] == "HmacSHA256"
        )
        if method == "POST":
            answer = requests.post(url, data=full, timeout=40)
        else:
            answer = requests.get(url, params=full, timeout=40)
        assert answer.status_code == 200
        result: dict[str, Any] = answer.json()
        return result

    return call


@pytest.fixture
def cos(emulator: Emulator) -> CosS3Client:
    """The official COS client on the virtual-host form."""
    address = urlsplit(emulator.info.cos_endpoint)
    return CosS3Client(
        CosConfig(
            Region=emulator.info.region,
            SecretId=emulator.info.secret_id,
            SecretKey=emulator.info.secret_key,
            Scheme="http",
            IP=address.hostname,
            Port=address.port,
        ),
        retry=0,
    )


def task(command: str, name: str = "main", **members: Any) -> dict[str, Any]:
    return {
        "TaskName": name,
        "Application": {"DeliveryForm": "LOCAL", "Command": command},
        "ComputeEnv": {"EnvData": {"InstanceType": "SA5.MEDIUM4"}},
        **members,
    }


def submission(*tasks: dict[str, Any], zone: str = "ap-guangzhou-3", token: str | None = None, **job: Any) -> Any:
    request: dict[str, Any] = {"Placement": {"Zone": zone}, "Job": {"JobName": "conformance", "Tasks": tasks, **job}}
    if token is not None:
        request["ClientToken"] = token
    return request


def states(
    emulator: Emulator, job_id: str, entity: str, index: int | None = None, task: str | None = None
) -> list[str]:
    """The states an entity went through, from the control API."""
    url = f"{emulator.info.endpoint}/_emulator/jobs/{job_id}/timeline"
    entries = requests.get(url, timeout=5).json()["entries"]
    return [
        entry["state"]
        for entry in entries
        if entry["entity"] == entity
        and (index is None or entry["index"] == index)
        and (task is None or entry["task"] == task)
    ]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
