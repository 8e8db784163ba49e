"""What is secret in a request reaches no logger, whatever its level, on whatever channel the request is sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from qcloud_cos import CosS3Client  # noqa: F401  its loggers are made by importing it
from tencentcloud.batch.v20170312.batch_client import BatchClient
from tencentcloud.batch.v20170312.models import DescribeJobsRequest, SubmitJobRequest
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.keys import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.client.cos import CosClient
from airflow_provider_tcbatch.client.endpoints import CosSettings
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import SubmitJob
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.request import Action
from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate

DOCKER, LOGIN, MOUNT = "docker-pass-71", "Login-pass-72", "mount-key-73"

JOB: dict[str, Any] = {
    "JobName": "secrets",
    "Tasks": [
        {
            "TaskName": "main",
            "Application": {
                "DeliveryForm": "LOCAL",
                "Command": "true",
                "Docker": {"Image": "busybox", "User": "u", "Password": DOCKER},
            },
            "ComputeEnv": {
                "EnvType": "MANAGED",
                "EnvData": {
                    "InstanceTypes": ["S5.MEDIUM4"],
                    "ImageId": "img-m4q71qnf",
                    "LoginSettings": {"Password": LOGIN},
                },
            },
            "Authentications": [{"Scene": "COS", "SecretId": "id", "SecretKey": MOUNT}],
        }
    ],
}


class Everything(logging.Handler):
    """Keeps what all loggers say, before anybody masks it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.name}: {record.getMessage()} {record.exc_text or ''}")


@pytest.fixture
def logs() -> Iterator[list[str]]:
    """Every logger at DEBUG, also those that had a level of their own, with a handler for all."""
    handler, root = Everything(), logging.getLogger()
    own = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for name in ("tencentcloud_sdk_common", "httpx", "httpcore.http11", "urllib3.connectionpool", "qcloud_cos"):
        own.append(logging.getLogger(name))
    before = {logger: (logger.level, logger.disabled, logger.propagate) for logger in [root, *own]}
    for logger in before:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
        logger.propagate = True
    root.addHandler(handler)
    yield handler.said
    root.removeHandler(handler)
    for logger, (level, disabled, propagate) in before.items():
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


@pytest.fixture
def keys(emulator: Emulator) -> StaticKeys:
    """Temporary keys, whose token is sent with each request."""
    key = emulator.issue_token()
    return StaticKeys(key.secret_id, key.secret_key, key.token)


def settings_of(emulator: Emulator) -> ApiSettings:
    info = emulator.info
    return ApiSettings(region=info.region, endpoints={"batch": info.endpoint, "tdmq": info.endpoint}, share=1.0)


async def test_no_library_logs_a_request(emulator: Emulator, keys: StaticKeys, logs: list[str]) -> None:
    info = emulator.info
    api = ApiClient(keys, settings_of(emulator))
    submit = SubmitJob.parse({"Placement": {"Zone": info.zone}, "Job": JOB}, at="SubmitJob")
    api.call(submit)
    await api.acall(submit)
    await api.aclose()
    cmq = CmqClient(keys, info.cmq_endpoint, connection="connection 'x'")
    cmq.publish(info.topic, "a message")
    cos = CosClient(keys, CosSettings(region=info.region, endpoint=info.cos_endpoint))
    cos.put(info.bucket, "hidden.txt", b"content")
    assert cos.get(info.bucket, "hidden.txt") == b"content"
    place = urlsplit(info.endpoint)
    profile = ClientProfile(httpProfile=HttpProfile(protocol=place.scheme, endpoint=place.netloc))
    typed = BatchClient(keys.get(), info.region, profile)
    request = SubmitJobRequest()
    request._deserialize({"Placement": {"Zone": info.zone}, "Job": JOB})
    typed.SubmitJob(request)
    typed.DescribeJobs(DescribeJobsRequest())

    told = "\n".join(logs)
    assert {"httpcore.http11", "urllib3.connectionpool"} <= {line.partition(":")[0] for line in logs}, "at DEBUG"
    current = keys.get()
    secrets = {
        "SecretKey": current.secret_key,
        "token": current.token,
        "Docker.Password": DOCKER,
        "LoginSettings.Password": LOGIN,
        "Authentications.SecretKey": MOUNT,
    }
    for name, secret in secrets.items():
        assert secret not in told, (name, [line for line in logs if secret in line][:3])
    # Signatures and what they are made with are nobody's business either.
    for word in ("TC3-HMAC", "q-signature", "sign_key", "SendRequest"):
        assert word not in told, [line for line in logs if word in line][:3]


def test_warnings_of_the_libraries_stay(keys: StaticKeys, logs: list[str]) -> None:
    keys.get()
    for name in ("tencentcloud_sdk_common", "qcloud_cos.cos_client"):
        logging.getLogger(name).warning("a warning of %s", name)
        logging.getLogger(name).info("no warning")
    assert [line.strip() for line in logs if "warning" in line] == [
        f"{name}: a warning of {name}" for name in ("tencentcloud_sdk_common", "qcloud_cos.cos_client")
    ]


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
async def test_the_masker_knows_the_secrets_of_a_request_before_it_is_sent(kind: str, emulator: Emulator) -> None:
    """Also of a request that no operator has made."""
    keys = StaticKeys(emulator.info.secret_id, emulator.info.secret_key)
    api = ApiClient(keys, settings_of(emulator))
    masked: list[tuple[str, dict[str, int]]] = []
    keys.mask = lambda secret: masked.append((secret, dict(api.sent)))
    zone = {"Placement": {"Zone": emulator.info.zone}, "Job": JOB}
    task = JOB["Tasks"][0]
    actions: tuple[Action[Any], ...] = (
        SubmitJob.parse(zone, at="SubmitJob"),
        CreateTaskTemplate.parse({"TaskTemplateName": f"t-{kind}", "TaskTemplateInfo": task}, at="Template"),
        SubmitJob(placement={"Zone": emulator.info.zone}, job=Job.parse(JOB, at="Job")),
    )
    for action in actions:
        masked.clear()
        if kind == "blocking":
            api.call(action)
        else:
            await api.acall(action)
        before = {secret for secret, sent in masked if sent.get(action.name(), 0) == api.sent[action.name()] - 1}
        assert {DOCKER, LOGIN, MOUNT} <= before, action.name()
    await api.aclose()
