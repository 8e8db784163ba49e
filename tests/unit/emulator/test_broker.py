from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator.clock import Clock as PlayedClock
from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.entities import Queue


class Clock(PlayedClock):
    def __init__(self) -> None:
        super().__init__()
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def broker(clock: Clock) -> Broker:
    return Broker(clock)


def make(broker: Broker, name: str = "q", **attributes: Any) -> Queue:
    return broker.add_queue(name, {"VisibilityTimeout": 30, "MsgRetentionSeconds": 3600, **attributes})


async def test_message_is_lost_after_the_retention_time(broker: Broker, clock: Clock) -> None:
    queue = make(broker)
    broker.send(queue, "old")
    clock.time += 3599
    broker.send(queue, "young")
    clock.time += 1
    broker.prune(queue)
    assert [message.body for message in broker.take(queue, 16)] == ["young"]
    broker.close()


async def test_names_are_case_insensitive(broker: Broker) -> None:
    queue = make(broker, "Queue")
    assert broker.queue("qUEUE") is queue


async def test_delayed_message(broker: Broker) -> None:
    queue = make(broker)
    broker.send(queue, "later", delay=0.05)
    assert broker.take(queue, 1) == []
    assert queue.delayed == 1
    assert [message.body for message in await broker.receive(queue, 1, 5)] == ["later"]
    assert queue.delayed == 0
    broker.close()


async def test_each_message_wakes_one_receiver(broker: Broker) -> None:
    queue = make(broker)
    receivers = [asyncio.create_task(broker.receive(queue, 1, 5)) for _ in range(3)]
    await asyncio.sleep(0)
    for body in ("a", "b", "c"):
        broker.send(queue, body)
    got = await asyncio.gather(*receivers)
    assert sorted(message.body for messages in got for message in messages) == ["a", "b", "c"]
    broker.close()


async def test_cancelled_receiver_hands_its_wake_up_on(broker: Broker) -> None:
    queue = make(broker)
    first = asyncio.create_task(broker.receive(queue, 1, 5))
    second = asyncio.create_task(broker.receive(queue, 1, 5))
    await asyncio.sleep(0)
    broker.send(queue, "m")
    first.cancel()
    messages = await asyncio.wait_for(second, 60)
    assert [message.body for message in messages] == ["m"]
    broker.close()


async def test_receive_times_out_with_nothing(broker: Broker) -> None:
    assert await broker.receive(make(broker), 1, 0.01) == []


async def test_filter_tags(broker: Broker) -> None:
    from airflow_provider_tcbatch.emulator.cmq.entities import Subscription

    topic = broker.add_topic("t", {})
    for name, tags in (("all", ()), ("red", ("red",))):
        make(broker, name)
        topic.subscriptions[name] = Subscription(name, "s", "t", "queue", name, 0, tags, (), "", "")
    assert broker.publish(topic, "1", tags=("red", "blue"))[1] == 2
    assert broker.publish(topic, "2")[1] == 1
    red = broker.queue("red")
    assert red is not None
    assert [message.body for message in broker.take(red, 16)] == ["1"]
    broker.close()
