"""Own queues against the emulator: what the living do with those of the dead, and how a swept one comes back."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
    DescribeCmqQueues,
)
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.process_queue import OwnQueue, QueueTimings

QUICK = QueueTimings(beat=0.1, silence=0.6, looks=4, denied=0.2, settle=0)

#: A process that listens until somebody kills it.
LISTENS = """
import asyncio, sys
from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.process_queue import QueueTimings

key, secret, endpoint, cmq, region, topic = sys.argv[1:]
keys = StaticKeys(key, secret)

async def main():
    api = ApiClient(keys, ApiSettings(region=region, endpoints={"batch": endpoint, "tdmq": endpoint}, share=1.0))
    timings = QueueTimings(beat=0.1, silence=3600)
    listener = EventListener(CmqClient(keys, cmq), api, topic, deployment="test", timings=timings)
    task = asyncio.create_task(listener.run(lambda event, at: True, lambda: None))
    await listener.hearing.wait()
    print(listener.queue, flush=True)
    await task

asyncio.run(main())
"""


@pytest.fixture
def topic(own_emulator: Emulator) -> str:
    return own_emulator.info.topic


@pytest.fixture
def process(own_emulator: Emulator, topic: str) -> Iterator[subprocess.Popen[str]]:
    """A process that listens, and prints the name of its queue."""
    info = own_emulator.info
    words = [info.secret_id, info.secret_key, info.endpoint, info.cmq_endpoint, info.region, topic]
    with subprocess.Popen([sys.executable, "-c", LISTENS, *words], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def queues(emulator: Emulator) -> set[str]:
    return set(emulator.on_loop(lambda services: [queue.name for queue in services.cmq.broker.queues.values()]))


def subscriptions(emulator: Emulator) -> set[str]:
    topic = emulator.info.topic
    return set(emulator.on_loop(lambda services: list(services.cmq.broker.topics[topic.lower()].subscriptions)))


def signs(emulator: Emulator, name: str) -> int:
    return int(
        emulator.on_loop(lambda services: services.cmq.broker.queues[name.lower()].attributes["PollingWaitSeconds"])
    )


def listener(emulator: Emulator, api: ApiClient, **options: Any) -> EventListener:
    info = emulator.info
    cmq = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
    return EventListener(cmq, api, info.topic, **{"deployment": "test", "timings": QUICK, **options})


@asynccontextmanager
async def listening(ear: EventListener, heard: list[str] | None = None) -> AsyncIterator[EventListener]:
    def hear(event: BatchEvent, received_at: float) -> bool:
        if heard is not None and event.job_id is not None:
            heard.append(event.job_id)
        return True

    task = asyncio.create_task(ear.run(hear, lambda: None))
    try:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await ear.aclose()


async def until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    loop = asyncio.get_running_loop()
    late = loop.time() + timeout
    while not await asyncio.to_thread(condition):
        assert loop.time() < late, f"it did not come to this: {what}"
        await asyncio.sleep(0.02)


async def beats(emulator: Emulator, name: str, count: int = 20) -> None:
    """Let a living process give some signs: as many looks have gone by."""
    last, seen = signs(emulator, name), 0
    while seen < count:
        await asyncio.sleep(0.02)
        now = await asyncio.to_thread(signs, emulator, name)
        seen, last = seen + (now != last), now


async def left_behind(api: ApiClient, topic: str, deployment: str = "test") -> str:
    """A queue as a process leaves it that was killed."""
    queue = OwnQueue(api, topic, deployment)
    await queue.make()
    return queue.name


async def test_the_living_remove_the_queue_of_one_that_was_killed(
    own_emulator: Emulator, api: ApiClient, topic: str, process: subprocess.Popen[str]
) -> None:
    other = (await asyncio.to_thread(process.stdout.readline)).strip()  # type: ignore[union-attr]
    async with listening(listener(own_emulator, api)) as ear:
        await beats(own_emulator, ear.queue)
        assert {other, ear.queue} <= queues(own_emulator), "one that lives is left alone"
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: other not in queues(own_emulator), "the dead one's queue is removed")
        assert other not in subscriptions(own_emulator)
        assert ear.queue in queues(own_emulator) & subscriptions(own_emulator)
    assert ear.queue not in queues(own_emulator) | subscriptions(own_emulator)
    await api.aclose()


async def test_two_of_the_living_leave_each_other_alone(own_emulator: Emulator, api: ApiClient, topic: str) -> None:
    async with listening(listener(own_emulator, api)) as one, listening(listener(own_emulator, api)) as two:
        names = {one.queue, two.queue}
        await beats(own_emulator, one.queue)
        assert names <= queues(own_emulator) & subscriptions(own_emulator)
        assert {one.queue, two.queue} == names, "neither had to make another"
        dead = await left_behind(api, topic)
        await until(lambda: dead not in queues(own_emulator) | subscriptions(own_emulator), "both may sweep it")
        await beats(own_emulator, two.queue, 3)
        assert {one.queue, two.queue} == names
    await api.aclose()


async def test_what_is_not_ours_is_never_removed(own_emulator: Emulator, api: ApiClient, topic: str) -> None:
    """Nobody gives signs for any of these."""
    other_deployment = await left_behind(api, topic, "test-2")
    no_deployment = await left_behind(api, topic, "airflow")
    named = {"assets", "airflow-tcbatch-assets", "airflow-tcbatch-test-0123abcd", f"{topic}-durable"}
    for name in named:
        await api.acall(CreateCmqQueue(queue_name=name))
        await api.acall(CreateCmqSubscribe(topic_name=topic, subscription_name=name, protocol="queue", endpoint=name))
    dead = await left_behind(api, topic)
    before = queues(own_emulator)
    async with listening(listener(own_emulator, api)) as ear:
        await until(lambda: dead not in queues(own_emulator), "a dead one of this deployment is")
        await beats(own_emulator, ear.queue, 5)
        assert queues(own_emulator) == before - {dead} | {ear.queue}
    assert {other_deployment, no_deployment, *named} <= queues(own_emulator) & subscriptions(own_emulator)
    await api.aclose()


async def test_subscriptions_whose_queue_is_gone_are_removed(
    own_emulator: Emulator, api: ApiClient, topic: str
) -> None:
    half = await left_behind(api, topic)
    await api.acall(DeleteCmqQueue(queue_name=half))
    async with listening(listener(own_emulator, api)):
        await until(lambda: half not in subscriptions(own_emulator), "the subscription is removed")
    await api.aclose()


async def test_one_whose_queue_was_swept_makes_another_and_hears_again(
    own_emulator: Emulator, api: ApiClient, topic: str
) -> None:
    heard: list[str] = []
    async with listening(listener(own_emulator, api), heard) as ear:
        first = ear.queue
        await api.acall(DeleteCmqSubscribe(topic_name=topic, subscription_name=first))
        await api.acall(DeleteCmqQueue(queue_name=first))
        await until(lambda: ear.queue != first and ear.queue in subscriptions(own_emulator), "it makes another")
        await until(lambda: ear.hearing.is_set(), "it hears again")
        info = own_emulator.info
        cmq = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
        body = '{"Events":[{"EventName":"JOB_SUCCEED","Batch":{"JobId":"job-again000"}}]}'
        await asyncio.to_thread(cmq.publish, topic, body)
        await until(lambda: "job-again000" in heard, "an event is heard")
        await beats(own_emulator, ear.queue, 3)
    assert not {name for name in queues(own_emulator) | subscriptions(own_emulator) if "test" in name}
    await api.aclose()


async def test_whatever_keeps_the_old_queue_from_being_removed_another_is_made(
    own_emulator: Emulator, api: ApiClient, service: Service, topic: str
) -> None:
    async with listening(listener(own_emulator, service)) as ear:
        first, service.deletes = ear.queue, False
        await api.acall(DeleteCmqQueue(queue_name=first))
        await until(lambda: ear.queue != first and ear.queue in subscriptions(own_emulator), "it makes another")
        service.deletes = True
    await api.aclose()


async def test_one_that_was_unsubscribed_subscribes_again(own_emulator: Emulator, api: ApiClient, topic: str) -> None:
    """Whoever swept it was killed half-way: the queue is there, and stays silent."""
    async with listening(listener(own_emulator, api)) as ear:
        await api.acall(DeleteCmqSubscribe(topic_name=topic, subscription_name=ear.queue))
        await until(lambda: ear.queue in subscriptions(own_emulator), "it subscribes again")
    await api.aclose()


async def test_a_queue_that_was_just_made_is_not_given_up(own_emulator: Emulator, api: ApiClient, topic: str) -> None:
    """The data plane may not know it yet."""
    timings = QueueTimings(settle=60)
    ear = listener(own_emulator, api, timings=timings)
    own_emulator.faults.add("dead_queue", target=ear.queue, count=1)
    async with listening(ear):
        name = ear.queue
        await until(lambda: not ear.hearing.is_set(), "the queue is not found")
        await until(lambda: ear.hearing.is_set(), "and then it is")
        assert ear.queue == name
    await api.aclose()


class Service(ApiClient):
    """A service that differs from the emulator where nothing is documented."""

    by_part = True
    shows_signs = True
    deletes = True

    async def acall(self, action: Any, **options: Any) -> Any:
        if isinstance(action, DeleteCmqSubscribe) and not self.deletes:
            raise RuntimeError("the keys can't be refreshed")
        answer = await super().acall(action, **options)
        if isinstance(action, DescribeCmqQueues):
            if action.queue_name and not self.by_part:
                return answer.model_copy(update={"queue_list": [], "total_count": 0})
            if not self.shows_signs:
                for queue in answer.queue_list:
                    queue.polling_wait_seconds = None
        return answer


@pytest.fixture
async def service(api: ApiClient) -> AsyncIterator[Service]:
    made = Service(api.credentials, api.settings)
    yield made
    await made.aclose()


async def test_a_filter_that_takes_whole_names_only(
    own_emulator: Emulator, api: ApiClient, service: Service, topic: str
) -> None:
    service.by_part = False
    dead = await left_behind(api, topic)
    async with listening(listener(own_emulator, service)) as ear:
        await until(lambda: dead not in queues(own_emulator) | subscriptions(own_emulator), "it is swept all the same")
        await beats(own_emulator, ear.queue, 3)
        assert ear.queue in queues(own_emulator)
    await api.aclose()


async def test_where_signs_are_not_shown_nothing_is_removed(
    own_emulator: Emulator, api: ApiClient, service: Service, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    service.shows_signs = False
    left = await left_behind(api, topic)
    async with listening(listener(own_emulator, service)) as ear:
        await beats(own_emulator, ear.queue)
        assert {left, ear.queue} <= queues(own_emulator) & subscriptions(own_emulator)
    assert [record.getMessage() for record in caplog.records if "not swept" in record.getMessage()] == [
        f"Queues of dead processes are not swept: the service does not show the sign of {ear.queue}"
    ]
    await api.aclose()


@pytest.mark.parametrize(
    "action", ["ModifyCmqQueueAttribute", "DescribeCmqQueues", "DescribeCmqSubscriptionDetail", "DeleteCmqSubscribe"]
)
async def test_who_lacks_a_right_sweeps_nothing_and_hears_all_the_same(
    own_emulator: Emulator, api: ApiClient, topic: str, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dead = await left_behind(api, topic)
    fault = own_emulator.faults.add("error", service="tdmq", action=action, code="UnauthorizedOperation")
    heard: list[str] = []
    async with listening(listener(own_emulator, api), heard):
        await until(lambda: own_emulator.faults.all()[0].hits >= 4, "it is tried again")
        told = [record.getMessage() for record in caplog.records if "not swept" in record.getMessage()]
        assert len(told) == 1, "told once"
        assert action in told[0]
        assert "CAM policy" in told[0]
        assert dead in queues(own_emulator)
        own_emulator.faults.remove(fault)
        await until(lambda: dead not in queues(own_emulator), "rights that are granted later are used")
    await api.aclose()
