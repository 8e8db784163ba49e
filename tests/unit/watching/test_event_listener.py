"""The listener against the emulator: rights, a queue that others read too, and how it tells of its health."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient, Message
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.models.cmq import CreateCmqQueue, CreateCmqSubscribe
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.health import Health
from airflow_provider_tcbatch.watching.jobs import Watcher
from tests.support.event_first import end_by_event
from tests.unit.watching.test_jobs import emulator_queue_size, end_of, held, running, submit
from tests.unit.watching.test_process_queue import until

DENIED = "UnauthorizedOperation"


class Kept:
    """Metrics that a test can look at."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.gauges: dict[str, list[float]] = {}
        self.timings: list[float] = []

    def count(self, name: str, number: int) -> None:
        self.counts[name.removeprefix("tcbatch.events.")] += number

    def gauge(self, name: str, value: float) -> None:
        self.gauges.setdefault(name.removeprefix("tcbatch.events."), []).append(value)

    def timing(self, name: str, seconds: float) -> None:
        assert name == "tcbatch.events.lag"
        self.timings.append(seconds)


@pytest.fixture
def cmq(emulator: Emulator) -> CmqClient:
    info = emulator.info
    return CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)


@pytest.fixture
async def shared(own_emulator: Emulator, api: ApiClient) -> str:
    """A queue that several processes read."""
    name, topic = "shared", own_emulator.info.topic
    await api.acall(CreateCmqQueue(queue_name=name, visibility_timeout=1))
    await api.acall(CreateCmqSubscribe(topic_name=topic, subscription_name=name, protocol="queue", endpoint=name))
    return name


def event(job_id: str, name: str = "JOB_SUCCEED", **members: Any) -> str:
    return json.dumps({"Events": [{"EventName": name, "Batch": {"JobId": job_id}, **members}]})


@asynccontextmanager
async def listening(ear: EventListener, mine: Sequence[str] = ()) -> AsyncIterator[asyncio.Queue[BatchEvent]]:
    """Run a listener for some jobs; yields what it hears."""
    heard: asyncio.Queue[BatchEvent] = asyncio.Queue()

    def hear(event: BatchEvent, received_at: float) -> bool:
        heard.put_nowait(event)
        return event.job_id in mine

    task = asyncio.create_task(ear.run(hear, lambda: None))
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ear.aclose()


async def hears(heard: asyncio.Queue[BatchEvent], job_id: str) -> None:
    while (await asyncio.wait_for(heard.get(), 60)).job_id != job_id:
        pass


# -- rights --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["CreateCmqQueue", "CreateCmqSubscribe"])
async def test_rights_that_are_granted_later_are_used(
    own_emulator: Emulator,
    api: ApiClient,
    cmq: CmqClient,
    action: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    emulator = own_emulator
    fault = emulator.faults.add("error", service="tdmq", action=action, code=DENIED)
    ear = EventListener(cmq, api, emulator.info.topic, denied=0.2)
    async with running(Watcher(api, ear)) as watcher:
        job_id = await asyncio.to_thread(submit, api, emulator, "true")
        with watcher.subscribe(job_id, 1) as subscription:
            snapshot = await end_of(subscription, 15)
        assert (snapshot.state, snapshot.source) == ("SUCCEED", "poll")
        await until(lambda: emulator.faults.all()[0].hits >= 3, "it tries again")
        assert not ear.hearing.is_set()
        [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert action in told
        for advice in ("CAM policy", "polling", "event_queue", "airflow tcbatch events check"):
            assert advice in told
        emulator.faults.remove(fault)
        await asyncio.wait_for(ear.hearing.wait(), 60)
        gate = tmp_path / "gate"
        job_id = await asyncio.to_thread(submit, api, emulator, held(gate))
        with watcher.subscribe(job_id, 60) as subscription:
            await asyncio.to_thread(end_by_event, emulator, ear.queue, job_id, gate.touch)
            assert (await end_of(subscription, 15)).source == "event"
    await api.aclose()


async def test_another_trouble_is_told_again(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, caplog: pytest.LogCaptureFixture
) -> None:
    emulator = own_emulator
    emulator.faults.add("error", service="tdmq", action="CreateCmqQueue", code=DENIED, count=3)
    emulator.faults.add("error", service="tdmq", action="CreateCmqSubscribe", code=DENIED, count=3)
    ear = EventListener(cmq, api, emulator.info.topic, denied=0.05)
    async with listening(ear):
        await asyncio.wait_for(ear.hearing.wait(), 60)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["CreateCmqQueue" in text for text in told] == [True, False]
    await api.aclose()


async def test_messages_that_follow_one_another_share_calls(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient
) -> None:
    ear = EventListener(cmq, api, own_emulator.info.topic)

    def calls() -> int:
        names = ("cmq.BatchReceiveMessage", "cmq.BatchDeleteMessage")
        return own_emulator.on_loop(lambda services: sum(services.host.calls.counts[name] for name in names))

    async with listening(ear, ["job-mine0000"]) as heard:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        before = calls()

        def publish(services: Services) -> None:
            topic = services.cmq.broker.topics[own_emulator.info.topic]

            def tell() -> None:
                services.cmq.broker.publish(topic, event("job-mine0000"))

            for number in range(80):
                services.cmq.broker.later(0.02 * number, tell)

        own_emulator.on_loop(publish)
        for _ in range(80):
            await hears(heard, "job-mine0000")
    assert calls() - before <= 80, "each alone would take two"
    await api.aclose()


# -- a queue that others read too ------------------------------------------------------------------------


async def test_what_others_listen_for_stays_in_a_shared_queue(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, shared: str
) -> None:
    """One process waits for jobs, another listens for events of environments; neither takes what is the other's."""
    topic = own_emulator.info.topic
    one = EventListener(cmq, api, topic, shared)
    other = EventListener(
        CmqClient(
            StaticKeys(own_emulator.info.secret_id, own_emulator.info.secret_key), own_emulator.info.cmq_endpoint
        ),
        api,
        topic,
        shared,
    )
    async with running(Watcher(api, one)) as first, running(Watcher(api, other)) as second:
        with first.listen(lambda event: event.job_id == "job-first000") as mine:
            with second.listen(lambda event: event.job_id == "job-second00") as theirs:
                for number in range(5):
                    await asyncio.to_thread(cmq.publish, topic, event("job-first000", Number=number))
                    await asyncio.to_thread(cmq.publish, topic, event("job-second00", Number=number))
                    await asyncio.to_thread(cmq.publish, topic, event("job-nobodys0", Number=number))
                for ear, job_id in ((mine, "job-first000"), (theirs, "job-second00")):
                    numbers: set[int] = set()
                    while numbers != set(range(5)):
                        taken = await ear.next(60)
                        assert taken is not None, f"all of {job_id} arrive, whoever received them first"
                        assert taken[0].job_id == job_id
                        numbers.add(taken[0].raw["Number"])
            await until(lambda: emulator_queue_size(api, shared) == 5, "nobody's are kept, the others deleted")
    await api.aclose()


async def test_two_do_not_take_from_each_other_for_ever(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, shared: str
) -> None:
    """Two messages that come back at different times are given by turns to two who wait: always to the same ones."""
    info = own_emulator.info
    another = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
    ears = [EventListener(client, api, info.topic, shared) for client in (cmq, another)]
    async with running(Watcher(api, ears[0])) as first, running(Watcher(api, ears[1])) as second:
        await until(
            lambda: own_emulator.on_loop(lambda services: len(services.cmq.broker.queues[shared].waiters)) == 2,
            "both wait",
        )
        await asyncio.to_thread(cmq.publish, info.topic, event("job-nobodys0"))
        await until(lambda: any(ear.received for ear in ears), "one of them takes it, and leaves it")
        [whose] = [watcher for watcher, ear in zip((first, second), ears, strict=True) if ear.received]
        await asyncio.sleep(0.5)  # half the time until it comes back
        with whose.listen(lambda event: event.job_id == "job-mine0000") as mine:
            await asyncio.to_thread(cmq.publish, info.topic, event("job-mine0000"))
            assert await mine.next(60) is not None
    await api.aclose()


async def test_an_event_that_an_ear_wants_is_claimed_and_what_nobody_wants_is_left(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, shared: str
) -> None:
    kept = Kept()
    ear = EventListener(cmq, api, own_emulator.info.topic, shared, metrics=kept)
    async with listening(ear, ["job-mine0000"]) as heard:
        for job_id in ("job-other000", "job-mine0000", "job-other000"):
            await asyncio.to_thread(cmq.publish, own_emulator.info.topic, event(job_id))
            await hears(heard, job_id)
        await until(lambda: kept.counts["left"] >= 3, "it reappears, and is counted again")
    assert kept.counts["claimed"] == 1
    assert kept.counts["received"] == kept.counts["claimed"] + kept.counts["left"] >= 4
    assert kept.counts["unreadable"] == kept.counts["errors"] == 0
    assert emulator_queue_size(api, shared) == 2
    await api.aclose()


async def test_a_message_that_was_deleted_too_late_is_deleted_when_it_comes_again(
    own_emulator: Emulator, api: ApiClient, cmq: CmqClient, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then it may be that nobody here waits for it any more."""
    delete = cmq.adelete

    async def late(queue: str, handles: Sequence[str]) -> None:
        monkeypatch.setattr(cmq, "adelete", delete)
        await asyncio.sleep(1.3)  # it is hidden for a second
        await delete(queue, handles)

    monkeypatch.setattr(cmq, "adelete", late)
    kept = Kept()
    ear = EventListener(cmq, api, own_emulator.info.topic, shared, metrics=kept)
    waiting = ["job-mine0000"]
    async with listening(ear, waiting) as heard:
        await asyncio.to_thread(cmq.publish, own_emulator.info.topic, event("job-mine0000"))
        await hears(heard, "job-mine0000")
        waiting.clear()
        await hears(heard, "job-mine0000")
        await until(lambda: emulator_queue_size(api, shared) == 0, "it is deleted")
    assert kept.counts["left"] == 0
    await api.aclose()


# -- health ----------------------------------------------------------------------------------------------


async def test_troubles_are_counted(own_emulator: Emulator, api: ApiClient, cmq: CmqClient, shared: str) -> None:
    kept = Kept()
    own_emulator.faults.add("error", service="cmq", action="BatchReceiveMessage", code="6000", count=2)
    ear = EventListener(cmq, api, own_emulator.info.topic, shared, metrics=kept)
    async with listening(ear) as heard:
        await asyncio.to_thread(cmq.publish, own_emulator.info.topic, "no event at all")
        await asyncio.to_thread(cmq.publish, own_emulator.info.topic, event("job-a0000000"))
        await hears(heard, "job-a0000000")
        await until(lambda: kept.counts["unreadable"] == 1, "it is counted")
        await asyncio.wait_for(ear.hearing.wait(), 60)
    assert kept.counts["errors"] == 2
    assert kept.gauges["hearing"] == [1, 0, 1, 0], "to try is not to hear"
    assert all(0 <= lag < 60 for lag in kept.timings)
    await api.aclose()


NOW = 1_800_000_000.0


def message(enqueued_at: float = 0.0) -> Message:
    return Message("", "handle", "id", enqueued_at)


def instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("enqueued", "time", "lag"),
    [
        (-10, instant(NOW - 20), [20]),  # the event's own time counts
        (-10, instant(NOW - 20).removesuffix("Z"), [20]),
        (-10, None, [10]),
        (-10, "yesterday", [10]),
        (-10, instant(NOW + 100), [0]),  # clocks differ
        (-NOW, None, []),  # the service does not say
        (-10, instant(0), []),
    ],
)
def test_the_lag_is_taken_from_the_best_clock_there_is(enqueued: float, time: str | None, lag: list[float]) -> None:
    kept = Kept()
    health = Health("topic", kept)
    health.message(message(NOW + enqueued), [BatchEvent("JOB_SUCCEED", time=time)], NOW, claimed=True, left=False)
    assert kept.timings == lag


def test_the_log_has_a_summary_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kept = Kept()
    health = Health("topic", kept, every=0)
    for claimed in (True, False):
        health.message(message(95), [BatchEvent("JOB_SUCCEED")], 100, claimed=claimed, left=not claimed)
    health.failed()
    health.polled("queue", 107)
    [text] = [record.getMessage() for record in caplog.records]
    assert text.startswith("Events of topic topic on queue queue: 2 messages in ")
    for part in (
        "1 for somebody here",
        "1 left",
        "0 unreadable",
        "1 errors",
        "lag 5.0 s on average",
        "message 7 s ago",
    ):
        assert part in text
    assert kept.gauges["last_message_age"] == [7]
    for _ in range(5):
        health.polled("queue", 200)
    assert len(caplog.records) == 2, "that nothing comes is told once"
    health.message(message(95), [], 300, claimed=False, left=False)
    health.polled("queue", 300)
    assert "1 messages" in caplog.records[-1].getMessage()
    assert "1 unreadable" in caplog.records[-1].getMessage()


def test_there_is_no_line_for_each_poll(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    health = Health("topic", every=1000)
    for _ in range(100):
        health.message(message(95), [BatchEvent("JOB_SUCCEED")], 100, claimed=True, left=False)
        health.polled("queue", 100)
    assert not caplog.records
