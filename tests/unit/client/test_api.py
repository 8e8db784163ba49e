from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs, SubmitJob
from airflow_provider_tcbatch.policies.outage import can_not_be_asked
from tests.support.in_process import QUICK
from tests.unit.conftest import job

Answer = tuple[int, str, bytes]


@contextmanager
def server(
    answer: Callable[[str, dict[str, Any]], Answer | None], seen_from: Callable[[int], Any] = lambda port: None
) -> Iterator[str]:
    """A server whose answers a test makes up; ``None`` drops the connection.

    :param seen_from: told of the client's port for each request.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            seen_from(self.client_address[1])
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made = answer(self.headers["X-TC-Action"], json.loads(body))
            if made is None:
                self.close_connection = True
                return
            status, kind, data = made
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return None

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_address[1]}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


def client_of(url: str, **options: Any) -> ApiClient:
    settings = ApiSettings(region="ap-guangzhou", endpoints={"batch": url}, share=1.0, connection="conn 'x'", **options)
    return ApiClient(StaticKeys("AKIDtest", "secret"), settings)


def response(**members: Any) -> bytes:
    return json.dumps({"Response": {"RequestId": "r-1", **members}}).encode()


def error(code: str) -> bytes:
    return response(Error={"Code": code, "Message": "said the service"})


SUBMIT = {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": job("true")}


@pytest.fixture(params=["sync", "async"])
async def call(request: pytest.FixtureRequest) -> Any:
    """Sends an action blocking or not: both must behave alike."""

    async def send(client: ApiClient, action: Any, **options: Any) -> Any:
        if request.param == "sync":
            return client.call(action, **options)
        try:
            return await client.acall(action, **options)
        finally:
            await client.aclose()

    return send


async def test_a_job_is_submitted_and_described(call: Any, api: ApiClient) -> None:
    job_id = (await call(api, SubmitJob.parse(SUBMIT))).job_id
    described = await call(api, DescribeJob(job_id=job_id))
    assert described.job_id == job_id
    assert described.task_set[0].task_name == "main"


async def test_an_error_code_becomes_an_exception(call: Any, api: ApiClient) -> None:
    with pytest.raises(e.NotFound, match=r"DescribeJob: ResourceNotFound\.Job") as caught:
        await call(api, DescribeJob(job_id="job-00000000"))
    assert caught.value.request_id


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8"])
async def test_an_error_is_seen_whatever_its_content_type(call: Any, kind: str) -> None:
    """The SDK takes an error with a charset for an empty success."""
    with server(lambda *_: (200, kind, error("ResourceNotFound.Job"))) as url, pytest.raises(e.NotFound):
        await call(client_of(url), DescribeJob(job_id="job-1"))


async def test_an_answer_without_its_mandatory_member_is_no_success(call: Any) -> None:
    empty = (200, "application/json", response())
    with server(lambda *_: empty) as url, pytest.raises(e.InfrastructureError, match=r"can't be read: JobId.*r-1"):
        await call(client_of(url), SubmitJob.parse(SUBMIT))


async def test_keys_that_no_request_can_hold_name_the_connection(call: Any) -> None:
    client = client_of("http://127.0.0.1:9")
    client.credentials = StaticKeys("schlüssel", "secret")
    with pytest.raises(e.ConfigurationError, match=r"DescribeJob: no request can be made of .*the keys.*conn 'x'"):
        await call(client, DescribeJob(job_id="job-1"))


async def test_calls_share_a_connection() -> None:
    ports: set[int] = set()
    good = (200, "application/json", response(JobSet=[]))
    with server(lambda *_: good, seen_from=ports.add) as url:
        client = client_of(url)
        for _ in range(3):
            client.call(DescribeJobs())
        assert len(ports) == 1
        for _ in range(3):
            await client.acall(DescribeJobs())
        assert len(ports) == 2, "the asynchronous calls have one of their own"
        await client.aclose()


@pytest.mark.parametrize(
    "broken", [b"<html>proxy</html>", b"[]", b'{"x": 1}', b"", b'{"Response": {"Error": "busy"}}', b'{"Response": []}']
)
async def test_an_answer_that_is_none_names_the_endpoint(call: Any, broken: bytes) -> None:
    with server(lambda *_: (200, "application/json", broken)) as url, pytest.raises(e.InfrastructureError):
        await call(client_of(url), DescribeJob(job_id="job-1"), attempts=1)


async def test_a_read_is_repeated_until_it_succeeds(call: Any) -> None:
    answers = iter([None, (502, "text/html", b"bad gateway"), (200, "application/json", error("InternalError"))])
    good = (200, "application/json", response(JobSet=[], TotalCount=0))
    with server(lambda *_: next(answers, good)) as url:
        client = client_of(url)
        assert (await call(client, DescribeJobs())).job_set == []
    assert client.sent == {"DescribeJobs": 4}


@pytest.mark.parametrize(("token", "sent"), [(None, 1), ("t-1", 2)])
async def test_a_write_is_repeated_only_with_a_token(call: Any, token: str | None, sent: int) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(action: str, body: dict[str, Any]) -> Answer | None:
        bodies.append(body)
        return None if len(bodies) == 1 else (200, "application/json", response(JobId="job-1"))

    with server(answer) as url:
        action = SubmitJob.parse({**SUBMIT, "ClientToken": token} if token else SUBMIT)
        if token is None:
            with pytest.raises(e.InfrastructureError, match="endpoint of conn 'x'"):
                await call(client_of(url), action)
        else:
            assert (await call(client_of(url), action)).job_id == "job-1"
    assert len(bodies) == sent
    assert all(body == bodies[0] for body in bodies)


async def test_who_asks_the_same_at_the_same_time_shares_the_answer() -> None:
    asked: list[str] = []
    may_answer = threading.Event()

    def answer(name: str, body: dict[str, Any]) -> Answer:
        asked.append(body["JobId"])
        assert may_answer.wait(60)
        broken = body["JobId"] == "job-2"
        view = {"JobId": body["JobId"], "JobName": "a", "JobState": "RUNNING", "NextAction": ""}
        return 200, "application/json", error("InternalError") if broken else response(**view)

    with server(answer) as url:
        client = client_of(url)
        many = [asyncio.create_task(client.ashared(DescribeJob(job_id="job-1"))) for _ in range(20)]
        others = [asyncio.create_task(client.ashared(DescribeJob(job_id="job-2"))) for _ in range(20)]
        await asyncio.sleep(0)
        many[0].cancel()  # who goes takes nothing along
        may_answer.set()
        answers = await asyncio.gather(*many[1:])
        errors = await asyncio.gather(*others, return_exceptions=True)
        again = await client.ashared(DescribeJob(job_id="job-1"))
        await client.aclose()
    assert {view.job_id for view in (*answers, again)} == {"job-1"}
    assert {type(failed) for failed in errors} == {e.InfrastructureError}
    assert sorted(asked) == ["job-1", "job-1", "job-2"]


async def test_a_permanent_error_is_not_repeated(call: Any) -> None:
    with server(lambda *_: (200, "application/json", error("InvalidParameterValue"))) as url:
        client = client_of(url)
        with pytest.raises(e.InvalidRequest):
            await call(client, DescribeJobs())
    assert client.sent == {"DescribeJobs": 1}


async def test_a_throttle_slows_the_client_down(call: Any) -> None:
    answers = iter([(200, "application/json", error("RequestLimitExceeded"))])
    good = (200, "application/json", response(JobSet=[]))
    with server(lambda *_: next(answers, good)) as url:
        client = client_of(url)
        await call(client, DescribeJobs())
    for _ in range(10):
        client.limiter.reserve("DescribeJobs")
    assert client.limiter.reserve("DescribeJobs") > 1.5, "its window of a second has become twice as long"


async def test_who_waits_for_the_rate_and_is_cancelled_does_not_hold_the_others_up() -> None:
    with server(lambda *_: (200, "application/json", response(JobSet=[]))) as url:
        client = client_of(url)
        await client.acall(DescribeJobs())
        for _ in range(9):
            client.limiter.reserve("DescribeJobs")
        waits = [asyncio.create_task(client.acall(DescribeJobs())) for _ in range(200)]
        await asyncio.sleep(0)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        assert client.limiter.reserve("DescribeJobs") < 5.0, "200 take twenty seconds or more"
        await client.aclose()


async def test_wrong_keys_name_the_field(call: Any, emulator: Emulator, api: ApiClient) -> None:
    stranger = ApiClient(StaticKeys(emulator.info.secret_id, "wrong"), api.settings)
    with pytest.raises(e.PermissionDenied, match=r"Password.*conn 'x'"):
        await call(stranger, DescribeJobs())
    unknown = ApiClient(StaticKeys("AKIDunknown", "wrong"), api.settings)
    with pytest.raises(e.PermissionDenied, match=r"Login.*conn 'x'"):
        await call(unknown, DescribeJobs())


async def test_keys_that_have_aged_are_renewed_once(call: Any) -> None:
    class Renewing(StaticKeys):
        discarded = 0

        def discard(self, credential: Any) -> bool:
            self.discarded += 1
            return True

    answers = iter([(200, "application/json", error("AuthFailure.TokenFailure"))])
    good = (200, "application/json", response(JobId="job-1"))
    with server(lambda *_: next(answers, good)) as url:
        client = client_of(url)
        client.credentials = keys = Renewing("AKIDx", "y")
        # Even for a write: what was refused for its keys was not carried out.
        assert (await call(client, SubmitJob.parse(SUBMIT))).job_id == "job-1"
    assert keys.discarded == 1


async def test_a_server_is_verified_by_the_ca_file(call: Any) -> None:
    with Emulator(QUICK, tls=True) as emulator:
        info = emulator.info
        keys = StaticKeys(info.secret_id, info.secret_key)
        settings = ApiSettings(region=info.region, endpoints={"batch": info.endpoint}, ca_file=info.ca_file)
        assert (await call(ApiClient(keys, settings), DescribeJobs())).total_count == 0
        with pytest.raises(e.InfrastructureError, match="CERTIFICATE_VERIFY_FAILED"):
            await call(ApiClient(keys, replace(settings, ca_file=None)), DescribeJobs(), attempts=1)


async def test_an_authority_that_is_not_known_is_no_outage(call: Any) -> None:
    with Emulator(QUICK, tls=True) as emulator:
        info = emulator.info
        settings = ApiSettings(region=info.region, endpoints={"batch": info.endpoint}, connection="conn 'prod'")
        client = ApiClient(StaticKeys(info.secret_id, info.secret_key), settings)
        with pytest.raises(e.ServerNotTrusted, match=r"field ca_file of conn 'prod'") as caught:
            await call(client, DescribeJobs())
        assert isinstance(caught.value, e.ConfigurationError)
        assert not can_not_be_asked(caught.value)
        assert client.sent == {"DescribeJobs": 1}, "sending it again can't help"


@pytest.mark.parametrize("content", [None, "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
async def test_a_ca_file_that_can_not_be_used_is_named_at_once(call: Any, content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    settings = ApiSettings(region="ap-guangzhou", endpoints={"batch": "https://127.0.0.1:1"}, ca_file=str(path))
    client = ApiClient(StaticKeys("AKIDx", "y"), settings)
    with pytest.raises(e.ConfigurationError, match=r"can't be read: .*check field ca_file \('.*ca\.pem'\)"):
        await call(client, DescribeJobs())
    assert client.sent == {}


async def test_a_proxy_is_used(call: Any) -> None:
    """With httpx 0.28 the SDK's own way of passing a proxy raises."""
    seen: list[str] = []

    def answer(action: str, body: dict[str, Any]) -> Answer:
        seen.append(action)
        return 200, "application/json", response(JobSet=[])

    with server(answer) as proxy:
        client = client_of("http://batch.invalid", proxy=proxy)
        await call(client, DescribeJobs())
    assert seen == ["DescribeJobs"]


def test_pages_are_walked_to_the_end(api: ApiClient) -> None:
    ids = {api.call(SubmitJob.parse(SUBMIT)).job_id for _ in range(5)}
    found = [view.job_id for page in api.pages(DescribeJobs(), page_size=2) for view in page.job_set]
    assert ids <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("batch.ap-guangzhou.tencentcloudapi.com", ("https", "batch.ap-guangzhou.tencentcloudapi.com")),
        ("http://127.0.0.1:8095", ("http", "127.0.0.1:8095")),
        (None, ("https", "batch.tencentcloudapi.com")),
    ],
)
def test_endpoints_are_hosts_or_urls(endpoint: str | None, expected: tuple[str, str]) -> None:
    settings = ApiSettings(region="r", endpoints={"batch": endpoint} if endpoint else {})
    assert settings.endpoint("batch") == expected


@pytest.mark.parametrize("endpoint", ["ftp://x", "http://", "https://host/path"])
def test_an_endpoint_that_is_none_names_the_field(endpoint: str) -> None:
    with pytest.raises(e.ConfigurationError, match="field endpoint of conn 'x'"):
        ApiSettings(region="r", endpoints={"batch": endpoint}, connection="conn 'x'").endpoint("batch")
