"""What comes from outside, over all bounds: one look that fails, or one message that is left."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.client import api as api_module
from airflow_provider_tcbatch.client import cos as cos_module
from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.sources import CvmRole, ProfileFile, StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient, Message
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.exceptions import ConfigurationError, InfrastructureError
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.models.actions import DescribeJobs
from airflow_provider_tcbatch.models.cmq import CreateCmqQueue
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.jobs import Watcher
from tests.support.strange_server import Asked, Made, StrangeServer, api_answer, strange_server
from tests.unit.watching.test_event_listener import event, hears, listening
from tests.unit.watching.test_jobs import FAST, TICK, end_of, running
from tests.unit.watching.test_process_queue import until

KEYS = StaticKeys("AKIDtest", "secret")
MB = 1024 * 1024


def endless(piece: bytes = b"x" * 65_536) -> Iterator[bytes]:
    return itertools.repeat(piece)


def dripping(seconds: float = 0.05) -> Iterator[bytes]:
    """A byte now and then."""
    while True:
        time.sleep(seconds)
        yield b" "


def client_of(server: StrangeServer, **options: Any) -> ApiClient:
    limits = {"DescribeJobs": 1e6}
    return ApiClient(KEYS, ApiSettings("ap-guangzhou", {"batch": server.url}, limits=limits, share=1.0, **options))


JSON_TYPE = {"Content-Type": "application/json"}
DEEP = b'{"Response":{"JobSet":' + b"[" * 3_000 + b"]" * 3_000 + b"}}"
MANY = b'{"Response":{"JobSet":[' + b"{}," * 300_000 + b"{}]}}"

# -- answers of API 3.0 --------------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def look(request: pytest.FixtureRequest) -> Any:
    """Looks at all jobs, blocking or not."""

    async def send(client: ApiClient) -> Any:
        if request.param == "sync":
            return await asyncio.to_thread(client.call, DescribeJobs(), attempts=1)
        try:
            return await client.acall(DescribeJobs(), attempts=1)
        finally:
            await client.aclose()

    return send


@pytest.mark.parametrize(
    ("made", "why"),
    [
        pytest.param(lambda: Made([DEEP], headers=JSON_TYPE), "nested more than 40 deep", id="nested"),
        pytest.param(lambda: Made([MANY + b" " * 1_000_000], headers=JSON_TYPE), "values|faults", id="many values"),
        pytest.param(lambda: Made(endless(), headers=JSON_TYPE), "more than .* bytes", id="without an end"),
        pytest.param(lambda: Made(endless(), status=500), "more than .* bytes", id="an error without an end"),
        pytest.param(
            lambda: Made([gzip.compress(b" " * 64 * MB)], headers={**JSON_TYPE, "Content-Encoding": "gzip"}),
            "more than .* bytes",
            id="small until it is unpacked",
        ),
        pytest.param(
            lambda: Made([b"{}"], headers={**JSON_TYPE, "Content-Encoding": "br"}), "not asked for", id="encoded as br"
        ),
        pytest.param(
            lambda: Made([b"no gzip"], headers={**JSON_TYPE, "Content-Encoding": "gzip"}),
            "it can't be unpacked",
            id="packed wrongly",
        ),
        pytest.param(lambda: api_answer(Error="none"), "answer", id="an error that is none"),
    ],
)
async def test_an_answer_over_a_bound_is_a_look_that_failed(
    look: Callable[[ApiClient], Any], made: Callable[[], Made], why: str
) -> None:
    with strange_server(lambda asked: made()) as server:
        with pytest.raises(InfrastructureError, match=why) as caught:
            await look(client_of(server))
        assert caught.value.retryable
        assert len(str(caught.value)) < 3_000
        # What is left in the buffers of two sockets counts as sent.
        assert server.sent < 32 * MB


async def test_an_answer_that_never_gets_anywhere(look: Callable[[ApiClient], Any]) -> None:
    with strange_server(lambda asked: Made(dripping(), headers=JSON_TYPE)) as server:
        looking = look(client_of(server, timeout=0.5))
        with pytest.raises(InfrastructureError, match="Time"):
            await asyncio.wait_for(looking, 30)


@contextmanager
def dripping_headers(good: int) -> Iterator[Any]:
    """A server that answers so many requests of a connection, and the next one with headers that never end."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        answered = 0

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.answered < good:
                self.answered += 1
                data = json.dumps({"Response": {"RequestId": "r", "TotalCount": 0, "JobSet": []}}).encode()
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
                return
            with contextlib.suppress(OSError):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                for _ in range(600):
                    time.sleep(0.05)
                    self.wfile.write(b"x")
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield SimpleNamespace(url=f"http://127.0.0.1:{running.server_address[1]}")
        running.shutdown()


@pytest.mark.parametrize("good", [0, 1], ids=["new connection", "kept connection"])
async def test_headers_that_never_get_anywhere(good: int) -> None:
    """For a blocking call; an awaited one is bounded as a whole."""
    with dripping_headers(good) as server:
        client = client_of(server, timeout=1.0)
        for _ in range(good):
            assert client.call(DescribeJobs()).job_set == []
        calling = asyncio.to_thread(client.call, DescribeJobs(), attempts=1)
        with pytest.raises(InfrastructureError, match="not all of the answer came within 2 s") as late:
            await asyncio.wait_for(calling, 20)
        assert late.value.maybe_done
        assert late.value.retryable


async def test_a_packed_answer_is_read() -> None:
    body = gzip.compress(json.dumps({"Response": {"RequestId": "r", "TotalCount": 0, "JobSet": []}}).encode())
    with strange_server(lambda asked: Made([body], headers={**JSON_TYPE, "Content-Encoding": "gzip"})) as server:
        client = client_of(server)
        assert (await client.acall(DescribeJobs())).job_set == []
        await client.aclose()


@pytest.mark.parametrize("strange", [DEEP, MANY], ids=["nested", "many values"])
async def test_waits_outlive_a_strange_answer(strange: bytes) -> None:
    """Each of two waits, one of which is not in the strange answer at all."""
    asked_for = itertools.count()

    def answer(asked: Asked) -> Made:
        if next(asked_for) < 2:
            return Made([strange], headers=JSON_TYPE)
        ids = asked.json["JobIds"]
        assert isinstance(ids, list)
        return api_answer(TotalCount=len(ids), JobSet=[{"JobId": one, "JobState": "SUCCEED"} for one in ids])

    with strange_server(answer) as server:
        client = client_of(server)
        async with running(Watcher(client, None, FAST)) as watcher:
            with watcher.subscribe("job-11111111", TICK) as one, watcher.subscribe("job-22222222", TICK) as other:
                for subscription in (one, other):
                    end = await end_of(subscription, 30)
                    assert (end.state, end.error) == ("SUCCEED", None)
        await client.aclose()


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_pages_without_an_end_are_given_up(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "_MOST_PAGES", 7)
    entry = {"JobId": "job-11111111", "JobState": "RUNNING"}
    with strange_server(lambda asked: api_answer(TotalCount=10**9, JobSet=[entry])) as server:
        client = client_of(server)

        async def read_all() -> None:
            if way == "sync":
                list(client.pages(DescribeJobs(), 100))
            else:
                _ = [page async for page in client.apages(DescribeJobs(), 100)]

        with pytest.raises(InfrastructureError, match="after 7 pages of 100, of 1,000,000,000 entries"):
            await read_all()
        assert len(server.asked) == 7
        await client.aclose()


async def test_a_page_without_entries_is_the_last() -> None:
    with strange_server(lambda asked: api_answer(TotalCount=10**9, JobSet=[])) as server:
        client = client_of(server)
        assert len([page async for page in client.apages(DescribeJobs(), 100)]) == 1
        assert len(server.asked) == 1
        await client.aclose()


# -- messages ------------------------------------------------------------------------------------------

LARGE = json.dumps([{}] * 247_000)


@pytest.fixture
async def queue(own_emulator: Emulator, api: ApiClient) -> str:
    await api.acall(CreateCmqQueue(queue_name="bounded", visibility_timeout=1))
    return "bounded"


@pytest.fixture
def cmq(own_emulator: Emulator) -> CmqClient:
    info = own_emulator.info
    return CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)


def fill(emulator: Emulator, queue: str, *bodies: str) -> None:
    """Send messages, as whoever may write to the queue can."""

    def send(services: Services) -> None:
        found = services.cmq.broker.queue(queue)
        assert found is not None
        for body in bodies:
            services.cmq.broker.send(found, body)

    emulator.on_loop(send)


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_large_messages_are_received_one_by_one(
    own_emulator: Emulator, cmq: CmqClient, queue: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(own_emulator, queue, *[LARGE] * 5)
    found: dict[str, Message] = {}
    until = time.monotonic() + 60
    while len(found) < 5:
        assert time.monotonic() < until
        if way == "sync":
            messages = await asyncio.to_thread(cmq.receive, queue, wait=1)
        else:
            messages = await cmq.areceive(queue, wait=1)
        assert sum(len(message.body) for message in messages) < 2 * MB
        found |= {message.message_id: message for message in messages}
        await cmq.adelete(queue, [message.handle for message in messages])
    assert all(message.body == LARGE for message in found.values())
    assert caplog.text.count("received one by one") == 1
    fill(own_emulator, queue, *["small"] * 10)
    counts: list[int] = []
    while sum(counts) < 10:
        assert time.monotonic() < until
        messages = await cmq.areceive(queue, wait=1)
        counts.append(len(messages))
        await cmq.adelete(queue, [message.handle for message in messages])
    assert max(counts) > 1, "several are received together again"
    await cmq.aclose()


async def test_a_message_of_nothing_but_control_characters_is_received(
    own_emulator: Emulator, cmq: CmqClient, queue: str
) -> None:
    """JSON takes six bytes for each."""
    body = "\x01" * 1_000_000
    fill(own_emulator, queue, body, "after it")
    found: list[str] = []
    until = time.monotonic() + 60
    while len(found) < 2:
        assert time.monotonic() < until
        messages = await cmq.areceive(queue, wait=1)
        found += [message.body for message in messages]
        await cmq.adelete(queue, [message.handle for message in messages])
    assert sorted(found, key=len) == ["after it", body]
    await cmq.aclose()


async def test_waits_hear_on_past_large_messages(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(own_emulator, queue, *[LARGE] * 4)
    listener = EventListener(cmq, api, own_emulator.info.topic, queue)
    async with listening(listener, mine=["job-12345678"]) as heard:
        await until(lambda: listener.received >= 4, "all large ones have come", 60)
        fill(own_emulator, queue, event("job-12345678"))
        await asyncio.wait_for(hears(heard, "job-12345678"), 60)
        assert listener.hearing.is_set()
    assert caplog.text.count("is not looked at: it has more than 65,536 bytes") == 1


# -- COS -----------------------------------------------------------------------------------------------


def cos_of(server: StrangeServer) -> CosClient:
    return CosClient(KEYS, CosSettings("ap-guangzhou", endpoint=server.url))


def object_of(size: int, made: Callable[[Asked], Made]) -> Callable[[Asked], Made]:
    def answer(asked: Asked) -> Made:
        if asked.method == "HEAD":
            return Made([], headers={"Content-Length": str(size)})
        return made(asked)

    return answer


def test_a_server_that_ignores_range_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1024 * MB
    whole = object_of(size, lambda asked: Made(endless(), headers={"Content-Length": str(size)}))
    with strange_server(whole) as server:
        extra = json.dumps({"region": "ap-guangzhou", "cos_endpoint": server.url})
        connection = {"conn_type": "tencentcloud", "login": "AKIDtest", "password": "secret", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(connection))
        with pytest.raises(
            InfrastructureError, match="the whole object instead of the part from byte 1,073,725,440 on"
        ):
            CosHook().tail("logs-1250000000", "some", 16 * 1024)
        assert cos_of(server).range("logs-1250000000", "some", 0, 5) == b"xxxxx"
        assert server.sent < 64 * MB


def test_more_than_was_asked_for_is_not_taken() -> None:
    more = object_of(MB, lambda asked: Made(endless(), status=206, headers={"Transfer-Encoding": "identity"}))

    def answer(asked: Asked) -> Made:
        made = more(asked)
        made.headers.setdefault("Content-Length", str(1024 * MB))
        return made

    with strange_server(answer) as server:
        assert len(cos_of(server).tail("logs-1250000000", "some", 1000)[0]) == 1000
        assert server.sent < 32 * MB


def test_a_whole_object_has_a_bound_too() -> None:
    whole = object_of(1024 * MB, lambda asked: Made(endless(), headers={"Content-Length": str(1024 * MB)}))
    with strange_server(whole) as server:
        with pytest.raises(InfrastructureError, match=r"more than 1,048,576 bytes.*range.*most.*download_file"):
            cos_of(server).get("logs-1250000000", "some", most=MB)
        assert server.sent < 32 * MB


def test_an_object_that_comes_too_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cos_module, "_SECONDS", 0.5)
    slow = object_of(1000, lambda asked: Made(dripping(), status=206, headers={"Content-Length": "1000"}))
    with strange_server(slow) as server:
        with pytest.raises(InfrastructureError, match=r"TimeoutError: only .* bytes came within"):
            cos_of(server).tail("logs-1250000000", "some", 1000)
        assert server.sent < 1000


def test_an_error_of_cos_has_a_bound_too() -> None:
    with strange_server(lambda asked: Made(endless(), status=403)) as server:
        with pytest.raises(InfrastructureError, match="an answer of more than 4,194,304 bytes"):
            cos_of(server).get("logs-1250000000", "some")
        assert server.sent < 32 * MB


# -- keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [lambda: Made(endless()), lambda: Made([b"[" * 5_000])], ids=["without an end", "nested"]
)
def test_metadata_over_a_bound_gives_no_keys(made: Callable[[], Made]) -> None:
    with strange_server(lambda asked: made()) as server:
        with pytest.raises(ConfigurationError, match="TooMuch"):
            CvmRole("role", endpoint=server.url).get()
        assert server.sent < 32 * MB


def test_metadata_that_never_get_anywhere_give_no_keys() -> None:
    with strange_server(lambda asked: Made(dripping())) as server:
        role = CvmRole("role", endpoint=server.url, timeout=0.5)
        with pytest.raises(ConfigurationError, match="TimeoutError"):
            role.get()


@pytest.mark.parametrize("kind", ["ini", "json", "nested json"])
def test_a_file_over_a_bound_gives_no_keys(kind: str, tmp_path: Path) -> None:
    ini, tccli = tmp_path / "credentials", tmp_path / "default.credential"
    if kind == "ini":
        ini.write_text("[default]\nsecret_id = a\nsecret_key = b\n" + "#\n" * 40_000)
    else:
        tccli.write_text('{"a":' * 5_000 if kind == "nested json" else json.dumps({"secretId": "a" * 70_000}))
    with pytest.raises(ConfigurationError, match="TooMuch"):
        ProfileFile("default", files=(str(ini),), tccli=str(tmp_path)).get()
