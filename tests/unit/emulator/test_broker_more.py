"""Rewinding, dead letters, routing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.emulator.clock import Clock as PlayedClock
from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.entities import BY_RECEIVE_COUNT, BY_TIME_TO_LIVE, Queue, routing_matches
from airflow_provider_tcbatch.emulator.cmq.post import Post
from airflow_provider_tcbatch.emulator.faults import Faults


class Clock(PlayedClock):
    """Its timers run a thousand times faster than the wall, and it jumps when told to."""

    def __init__(self) -> None:
        super().__init__(speed=1000)
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def broker(clock: Clock) -> Any:
    broker = Broker(clock)
    yield broker
    broker.close()


def make(broker: Broker, name: str = "q", **attributes: Any) -> Queue:
    return broker.add_queue(name, {"VisibilityTimeout": 30, "MsgRetentionSeconds": 3600, **attributes})


def bodies(broker: Broker, queue: Queue) -> list[str]:
    return [message.body for message in broker.take(queue, 16)]


async def test_rewind_offers_again_what_was_deleted_or_lost(broker: Broker, clock: Clock) -> None:
    queue = make(broker, RewindSeconds=10_000, VisibilityTimeout=3000)
    for body in ("deleted", "lost", "waiting"):
        broker.send(queue, body)
        clock.time += 100
    (taken,) = broker.take(queue, 1)
    assert broker.delete(queue, str(taken.handle))
    clock.time += 3450
    assert bodies(broker, queue) == ["waiting"]
    assert len(queue.acknowledged) == 2
    assert broker.rewind(queue, 1_000_100) == 1
    assert broker.rewind(queue, 1_000_000) == 1
    # In the order of their arrival, and with a new time to be consumed in.
    assert bodies(broker, queue) == ["deleted", "lost"]
    clock.time += 10_000
    assert broker.rewind(queue, 1_000_000) == 0


async def test_nothing_is_kept_without_rewinding(broker: Broker) -> None:
    queue = make(broker)
    broker.send(queue, "gone")
    (taken,) = broker.take(queue, 1)
    broker.delete(queue, str(taken.handle))
    assert not queue.acknowledged
    assert broker.rewind(queue, 0) == 0


async def test_received_too_often(broker: Broker) -> None:
    dead = make(broker, "dead")
    queue = make(broker, DeadLetterQueueName="DEAD", Policy=BY_RECEIVE_COUNT, MaxReceiveCount=2, VisibilityTimeout=1)
    sent = broker.send(queue, "poison")
    assert [message.dequeue_count for message in await broker.receive(queue, 1, 5)] == [1]
    assert [message.dequeue_count for message in await broker.receive(queue, 1, 5)] == [2]
    (buried,) = await broker.receive(dead, 1, 5)
    assert (buried.body, buried.msg_id, buried.dequeue_count) == ("poison", sent, 1)
    assert queue.size == 0


async def test_lay_too_long(broker: Broker, clock: Clock) -> None:
    dead = make(broker, "dead")
    queue = make(broker, DeadLetterQueueName="dead", Policy=BY_TIME_TO_LIVE, MaxTimeToLive=300)
    broker.send(queue, "old")
    waiting = asyncio.create_task(broker.receive(dead, 1, 5))
    await asyncio.sleep(0)
    clock.time += 300
    assert [message.body for message in await waiting] == ["old"]
    # What came early enough is consumed from its own queue, however it is asked for.
    broker.send(queue, "young")
    clock.time += 299
    assert bodies(broker, queue) == ["young"]


async def test_a_missing_dead_letter_queue_keeps_the_message(broker: Broker) -> None:
    queue = make(broker, DeadLetterQueueName="nowhere", Policy=BY_RECEIVE_COUNT, MaxReceiveCount=1, VisibilityTimeout=1)
    broker.send(queue, "kept")
    assert len(await broker.receive(queue, 1, 5)) == 1
    assert len(await broker.receive(queue, 1, 5)) == 1


async def test_a_message_that_reappears_behind_a_younger_one_still_grows_old(broker: Broker, clock: Clock) -> None:
    queue = make(broker, VisibilityTimeout=1)
    broker.send(queue, "old")
    broker.take(queue, 1)
    clock.time += 1800
    broker.send(queue, "young")
    for _ in range(1000):
        if len(queue.ready) == 2:
            break
        await asyncio.sleep(0.001)
    clock.time += 1800
    assert [message.body for message in queue.ready] == ["young", "old"]
    assert bodies(broker, queue) == ["young"]


@pytest.mark.parametrize(
    ("binding", "routing", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("#", "", True),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("*.*.x", "a.b.x", True),
        ("a", "", False),
    ],
)
def test_routing(binding: str, routing: str, expected: bool) -> None:
    assert routing_matches(binding, routing) is expected


def _slowly(binding: list[str], words: list[str]) -> bool:
    if not binding:
        return not words
    if binding[0] == "#":
        return any(_slowly(binding[1:], words[start:]) for start in range(len(words) + 1))
    return bool(words) and binding[0] in ("*", words[0]) and _slowly(binding[1:], words[1:])


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["a", "b"]), max_size=6),
)
def test_routing_against_a_plain_definition(binding: list[str], words: list[str]) -> None:
    assert routing_matches(".".join(binding), ".".join(words)) is _slowly(binding, words)


@pytest.fixture
def posted(broker: Broker) -> tuple[Post, Faults, Any, Queue]:
    from airflow_provider_tcbatch.emulator.cmq.topics import subscribe

    faults = Faults()
    topic, queue = broker.add_topic("t", {}), make(broker, VisibilityTimeout=40_000)
    subscribe(broker, topic, "s", {"Protocol": "queue", "Endpoint": "q"})
    return Post(broker, faults), faults, topic, queue


async def test_events_that_are_lost_doubled_or_garbled(broker: Broker, posted: tuple[Post, Faults, Any, Queue]) -> None:
    post, faults, topic, queue = posted
    faults.add("lose_event", action="JOB_RUNNING")
    faults.add("duplicate_event", action="JOB_FAILED", copies=2)
    faults.add("garble_event", action="JOB_SUCCEED", target="t")
    assert post.deliver(topic, "JOB_RUNNING", "lost")
    message_id = post.deliver(topic, "JOB_FAILED", "thrice")
    post.deliver(topic, "JOB_SUCCEED", "garbled")
    post.deliver(topic, "TASK_FAILED", "plain")
    messages = broker.take(queue, 16)
    assert [message.body for message in messages] == ["thrice", "thrice", "thrice", "this is no JSON", "plain"]
    assert [message.msg_id for message in messages[:3]] == [message_id] * 3


async def test_events_out_of_order(broker: Broker, posted: tuple[Post, Faults, Any, Queue]) -> None:
    post, faults, topic, queue = posted
    faults.add("reorder_event", action="JOB_RUNNING", seconds=50)
    post.deliver(topic, "JOB_RUNNING", "first")
    assert bodies(broker, queue) == []
    post.deliver(topic, "JOB_SUCCEED", "second")
    assert bodies(broker, queue) == ["second", "first"]
    # Nothing follows this one.
    post.deliver(topic, "JOB_RUNNING", "alone")
    assert [message.body for message in await broker.receive(queue, 1, 5)] == ["alone"]


async def test_late_events(broker: Broker, posted: tuple[Post, Faults, Any, Queue]) -> None:
    post, faults, topic, queue = posted
    faults.add("delay_event", seconds=20, count=1)
    post.deliver(topic, "JOB_SUCCEED", "late")
    post.deliver(topic, "JOB_SUCCEED", "on time")
    assert bodies(broker, queue) == ["on time"]
    assert [message.body for message in await broker.receive(queue, 1, 5)] == ["late"]
