"""Keys that are renewed by themselves and refused before their time: asked for anew, once, by whoever needs them."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.sources import (
    AssumeRole,
    CredentialSource,
    CvmRole,
    DefaultChain,
    ProfileFile,
    StaticKeys,
    TkeOidc,
)
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    InfrastructureError,
    KeysRefused,
    PermissionDenied,
    TCBatchError,
)
from airflow_provider_tcbatch.models.actions import DescribeJobs, RetryJobs
from airflow_provider_tcbatch.models.cmq import DescribeCmqQueues
from airflow_provider_tcbatch.operators._base.operator import AirflowFailException
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from tests.support.processes import wait_for
from tests.support.task_context import Task, instance_in
from tests.unit.client.auth.test_sources import ROLE, Clock, FakeCloud, home, set_pod
from tests.unit.conftest import job

__all__ = ["home"]

#: Codes that say that the keys are refused.
REFUSALS = [
    *("SecretIdNotFound", "InvalidSecretId", "SignatureFailure", "TokenFailure", "InvalidAuthorization"),
    *("SignatureExpire", "MFAFailure"),
]


class Roles(FakeCloud):
    """Metadata and STS that give out keys which the emulator accepts."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__()
        self.emulator = emulator
        self.ids: list[str] = []
        #: Whether the keys that are given out from now on are known to nobody.
        self.bad = False
        #: A SecretId that STS refuses.
        self.refused: str | None = None

    @property
    def refusal(self) -> tuple[str, str] | None:
        """What STS says to the last request."""
        refused = self.refused is not None and f"={self.refused}/" in self.requests[-1][0].get("authorization", "")
        return ("AuthFailure.SecretIdNotFound", "not found") if refused else None

    @refusal.setter
    def refusal(self, value: tuple[str, str] | None) -> None:
        """It depends on the keys."""

    def keys(self, name: str) -> dict[str, str]:
        self.given += 1
        key = self.emulator.issue_token(7200)
        self.ids.append(key.secret_id)
        if self.bad:
            self.revoke()
        return {"TmpSecretId": key.secret_id, "TmpSecretKey": key.secret_key, "Token": key.token}

    def revoke(self) -> None:
        """From now on the keys that were given out last are unknown, as a session that somebody has ended."""
        self.emulator.on_loop(lambda services: services.host.access.keys.pop(self.ids[-1], None))


@pytest.fixture
def cloud(emulator: Emulator) -> Iterator[Roles]:
    fake = Roles(emulator)
    thread = threading.Thread(target=fake.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield fake
    emulator.faults.clear()
    fake.server.shutdown()
    thread.join()
    fake.server.server_close()


def cvm(cloud: Roles, **options: Any) -> CredentialSource:
    return CvmRole(endpoint=cloud.url, **options)


def assumed(cloud: Roles, **options: Any) -> CredentialSource:
    return AssumeRole(StaticKeys("AKIDbase", "key"), ROLE, endpoint=cloud.url, **options)


@pytest.fixture(params=["cvm", "assumed", "pod", "chain"])
def source(request: Any, cloud: Roles, home: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialSource:
    """Each kind of source that asks for its keys."""
    if request.param == "pod":
        set_pod(monkeypatch, home)
        return TkeOidc(endpoint=cloud.url)
    if request.param == "chain":
        return DefaultChain(metadata=cloud.url)
    return cvm(cloud) if request.param == "cvm" else assumed(cloud)


def api_of(emulator: Emulator, source: CredentialSource) -> ApiClient:
    info = emulator.info
    endpoints = {"batch": info.endpoint, "tdmq": info.endpoint}
    return ApiClient(source, ApiSettings(region=info.region, endpoints=endpoints, share=1.0, connection="conn 'x'"))


def cmq_of(emulator: Emulator, source: CredentialSource) -> CmqClient:
    return CmqClient(source, emulator.info.cmq_endpoint, connection="conn 'x'")


def cos_of(emulator: Emulator, source: CredentialSource) -> CosClient:
    return CosClient(source, CosSettings(emulator.info.region, emulator.info.cos_endpoint))


def requests_of(emulator: Emulator, source: CredentialSource) -> dict[str, Callable[[], Any]]:
    """A request on each channel, by name; each call makes another."""
    api, cmq, cos = api_of(emulator, source), cmq_of(emulator, source), cos_of(emulator, source)
    queue, bucket = f"{emulator.info.topic}-base", emulator.info.bucket

    async def acall() -> Any:
        client = api_of(emulator, source)
        try:
            return await client.acall(DescribeJobs(limit=1), attempts=1)
        finally:
            await client.aclose()

    async def areceive() -> Any:
        client = cmq_of(emulator, source)
        try:
            return await client.areceive(queue, wait=0)
        finally:
            await client.aclose()

    return {
        "batch": lambda: api.call(DescribeJobs(limit=1), attempts=1),
        "batch, asynchronous": lambda: asyncio.run(acall()),
        "tdmq": lambda: api.call(DescribeCmqQueues(limit=1), attempts=1),
        "cmq": lambda: cmq.receive(queue, wait=0),
        "cmq, asynchronous": lambda: asyncio.run(areceive()),
        "cos": lambda: cos.put(bucket, "a", "text"),
        "cos, without a body in the answer": lambda: cos.exists(bucket, "a"),
    }


CHANNELS = [
    "batch",
    "batch, asynchronous",
    "tdmq",
    "cmq",
    "cmq, asynchronous",
    "cos",
    "cos, without a body in the answer",
]


@pytest.mark.parametrize("channel", CHANNELS)
def test_keys_that_die_early_are_asked_for_anew(
    emulator: Emulator, cloud: Roles, source: CredentialSource, channel: str
) -> None:
    call = requests_of(emulator, source)[channel]
    call()
    before = cloud.given
    cloud.revoke()
    call()
    call()
    assert cloud.given == before + 1


@pytest.mark.parametrize("code", REFUSALS)
def test_whatever_the_service_says_of_them(emulator: Emulator, cloud: Roles, code: str) -> None:
    api = api_of(emulator, assumed(cloud))
    api.call(DescribeJobs(limit=1), attempts=1)
    emulator.faults.add("error", action="DescribeJobs", code=f"AuthFailure.{code}", count=1)
    api.call(DescribeJobs(limit=1), attempts=1)
    assert cloud.given == 2


@pytest.mark.parametrize("code", ["AuthFailure.UnauthorizedOperation", "UnauthorizedOperation"])
def test_a_right_that_is_missing_is_no_matter_of_the_keys(emulator: Emulator, cloud: Roles, code: str) -> None:
    api = api_of(emulator, assumed(cloud))
    emulator.faults.add("error", action="DescribeJobs", code=code)
    with pytest.raises(PermissionDenied):
        api.call(DescribeJobs(limit=1))
    assert cloud.given == 1


@pytest.mark.parametrize("how", ["threads", "coroutines"])
def test_all_who_wait_ask_once(emulator: Emulator, cloud: Roles, how: str) -> None:
    source = assumed(cloud)
    clients = [api_of(emulator, source) for _ in range(8)]
    for client in clients[:1]:
        client.call(DescribeJobs(limit=1), attempts=1)
    cloud.revoke()
    cloud.delay = 0.2

    async def together() -> None:
        await asyncio.gather(*(client.acall(DescribeJobs(limit=1), attempts=1) for client in clients * 4))
        for client in clients:
            await client.aclose()

    if how == "coroutines":
        asyncio.run(together())
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda client: client.call(DescribeJobs(limit=1), attempts=1), clients))
    assert cloud.given == 2


@pytest.mark.parametrize("channel", CHANNELS[:-2])
def test_new_keys_that_are_refused_as_well(emulator: Emulator, cloud: Roles, channel: str) -> None:
    """It may pass, so it is no permanent error; and STS is not asked at every call."""
    clock = Clock()
    source = assumed(cloud, clock=clock)
    call = requests_of(emulator, source)[channel]
    call()
    cloud.revoke()
    cloud.bad = True
    for _ in range(3):
        with pytest.raises(ApiError) as caught:
            call()
        assert caught.value.retryable
        assert not isinstance(caught.value, PermissionDenied)
        assert f"role {ROLE}" in str(caught.value)
        assert "field Login" not in str(caught.value)
    assert cloud.given == 2
    clock.now += 31
    with pytest.raises(ApiError):
        call()
    assert cloud.given == 3
    cloud.bad = False
    clock.now += 31
    call()
    assert cloud.given == 4


def test_a_bucket_that_a_role_may_not_read_costs_one_renewal(emulator: Emulator, cloud: Roles) -> None:
    """COS says AccessDenied of a token that has expired, and of a right that is missing."""
    clock = Clock()
    cos = cos_of(emulator, assumed(cloud, clock=clock))
    body = "<Error><Code>AccessDenied</Code><Message>no</Message><Resource/><RequestId>1</RequestId></Error>"
    emulator.faults.add("http_error", service="cos", status=403, body=body)
    for _ in range(3):
        with pytest.raises(PermissionDenied):
            cos.get(emulator.info.bucket, "a")
        clock.now += 31
    assert cloud.given == 2


def test_where_nothing_can_be_had_instead(emulator: Emulator, cloud: Roles) -> None:
    """The metadata are away, or say no: there have been keys, so that is no mistake in the connection."""
    api = api_of(emulator, cvm(cloud))
    api.call(DescribeJobs(limit=1), attempts=1)
    cloud.revoke()
    role, cloud.role = cloud.role, None
    for _ in range(2):
        with pytest.raises(ApiError, match=r"were refused and can't be renewed.*HTTP 404") as caught:
            api.call(DescribeJobs(limit=1), attempts=1)
        assert caught.value.retryable
    cloud.role = role
    api.call(DescribeJobs(limit=1), attempts=1)


def test_a_call_goes_on_until_there_are_keys_again(emulator: Emulator, cloud: Roles) -> None:
    api = api_of(emulator, assumed(cloud))
    api.call(DescribeJobs(limit=1), attempts=1)
    cloud.revoke()
    emulator.faults.add("error", action="DescribeJobs", code="AuthFailure.SecretIdNotFound", count=2)
    api.call(DescribeJobs(limit=1))
    assert cloud.given == 2


def test_the_keys_that_a_role_is_assumed_with_are_renewed_too(emulator: Emulator, cloud: Roles) -> None:
    """STS refuses the keys of the machine's role, with which another role is assumed."""
    base = CvmRole(endpoint=cloud.url)
    base.get()
    source = AssumeRole(base, ROLE, endpoint=cloud.url)
    cloud.refused = base.get().secret_id
    api_of(emulator, source).call(DescribeJobs(limit=1), attempts=1)
    authorizations = [headers["authorization"] for headers, _ in cloud.requests]
    assert [f"Credential={cloud.refused}/" in authorization for authorization in authorizations] == [True, False]


@pytest.mark.parametrize("bad", ["sts", "keys"])
def test_keys_that_nobody_renews_stay_a_permanent_error(emulator: Emulator, cloud: Roles, bad: str) -> None:
    wrong = StaticKeys("AKIDnobody", "wrong")
    if bad == "keys":
        api = api_of(emulator, wrong)
        with pytest.raises(PermissionDenied, match="Login"):
            api.call(DescribeJobs(limit=1))
        assert api.sent == {"DescribeJobs": 1}
        return
    cloud.refused = "AKIDnobody"
    with pytest.raises(ConfigurationError, match=r"can't be used: AssumeRole: AuthFailure\.SecretIdNotFound") as caught:
        AssumeRole(wrong, ROLE, endpoint=cloud.url).get()
    assert not isinstance(caught.value, ApiError)


def test_a_profile_whose_keys_were_replaced(emulator: Emulator, home: Path) -> None:
    """Rotated by hand or by a script: the file is read anew; one that has not changed is wrong for good."""
    file = home / ".tencentcloud" / "credentials"
    file.parent.mkdir(exist_ok=True)
    info = emulator.info
    file.write_text("[default]\nsecret_id=AKIDold\nsecret_key=old\n")
    api = api_of(emulator, ProfileFile())
    with pytest.raises(PermissionDenied):
        api.call(DescribeJobs(limit=1))
    file.write_text(f"[default]\nsecret_id={info.secret_id}\nsecret_key={info.secret_key}\n")
    other = api_of(emulator, source := ProfileFile())
    file.write_text("[default]\nsecret_id=AKIDold\nsecret_key=old\n")
    source.get()
    file.write_text(f"[default]\nsecret_id={info.secret_id}\nsecret_key={info.secret_key}\n")
    other.call(DescribeJobs(limit=1))


async def test_the_loop_is_not_held_while_others_ask(emulator: Emulator, cloud: Roles) -> None:
    source = assumed(cloud)
    first = await source.aget()
    cloud.revoke()
    cloud.delay = 1.0
    assert source.discard(first)
    asking = asyncio.ensure_future(source.aget())
    await asyncio.to_thread(wait_for, "somebody asks", lambda: len(cloud.requests) == 2, timeout=60)
    begun = asyncio.get_running_loop().time()
    assert source.discard(first)
    assert asyncio.get_running_loop().time() - begun < 0.5
    assert (await asking).secret_id == cloud.ids[-1]


def test_keys_are_never_mixed_in_cos(emulator: Emulator, cloud: Roles) -> None:
    """The SDK reads id, key and token one after the other, while another thread may renew them."""

    class Turning(StaticKeys):
        def __init__(self) -> None:
            super().__init__("id", "key")
            pairs = [emulator.issue_token(600) for _ in range(2)]
            self.turn = itertools.cycle([self._made_of(pair) for pair in pairs])

        @staticmethod
        def _made_of(pair: Any) -> Any:
            return StaticKeys(pair.secret_id, pair.secret_key, pair.token).get()

        def get(self) -> Any:
            return next(self.turn)

    cos = cos_of(emulator, Turning())
    cos.put(emulator.info.bucket, "mixed", "text")
    assert cos.get(emulator.info.bucket, "mixed") == b"text"


# -- operators -----------------------------------------------------------------------------------------------


@pytest.fixture
def connection(cloud: Roles, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """A connection whose keys are those of a role."""
    given = json.loads(emulator.info.airflow_conn_json)
    extra = given["extra"] if isinstance(given["extra"], dict) else json.loads(given["extra"])
    given["extra"] = {**extra, "role_arn": ROLE, "sts_endpoint": cloud.url}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(given))
    return "tencentcloud_default"


def test_a_task_whose_keys_are_refused_may_be_tried_again(
    connection: str, emulator: Emulator, cloud: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    task = Task(retries=3)
    cloud.bad = True
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("true"), deferrable=False, poll_interval=0.2)
    with pytest.raises(TCBatchError) as caught:
        operator.execute(task.next_try())
    assert not isinstance(caught.value, AirflowFailException)
    cloud.bad = False
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("true"), deferrable=False, poll_interval=0.2)
    job_id = operator.execute(task.next_try())
    assert job_id is not None
    assert emulator.wait_job(job_id) == "SUCCEED"


def test_a_wait_goes_on_with_new_keys(connection: str, emulator: Emulator, cloud: Roles, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"until [ -e {gate} ]; do sleep 0.05; done"
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job(command), deferrable=False, poll_interval=0.2)
    context: Any = Task().next_try()
    done: list[Any] = []

    def looks() -> int:
        calls = emulator.on_loop(lambda services: services.host.calls.as_json()["calls"])
        job_id = instance_in(context).xcoms.get("job_id")
        return sum(call["action"] == "DescribeJobs" and job_id in call["job_ids"] for call in calls)

    thread = threading.Thread(target=lambda: done.append(operator.execute(context)))
    thread.start()
    wait_for("it waits", lambda: looks() >= 2, timeout=60)
    cloud.revoke()
    wait_for("new keys", lambda: cloud.given == 2, timeout=60)
    gate.touch()
    thread.join(60)
    assert done == [instance_in(context).xcoms["job_id"]]


@pytest.mark.parametrize("wrong", ["refused", "no keys"])
def test_what_was_refused_for_its_keys_was_not_done(
    emulator: Emulator, cloud: Roles, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor was what could not be signed: that the service of the keys gave no answer says nothing of the request."""
    source = assumed(cloud)
    api = api_of(emulator, source)
    if wrong == "refused":
        source.get()
        cloud.bad = True
        cloud.revoke()
        kind: type[ApiError] = KeysRefused
    else:
        monkeypatch.setattr(source, "_endpoint", urlsplit("http://127.0.0.1:9"))
        kind = InfrastructureError
    with pytest.raises(kind) as caught:
        api.call(RetryJobs(job_ids=["job-1"]), attempts=1)
    assert not caught.value.maybe_done
