"""Queues, topics and subscriptions in memory."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_tcbatch.emulator.ids import new_id

MAX_UNACKED = 100_000


@dataclass(slots=True)
class Message:
    """One message in one queue."""

    msg_id: str
    body: str
    enqueued_at: float
    tags: tuple[str, ...] = ()
    handle: str | None = None
    first_dequeued_at: float | None = None
    visible_at: float = 0.0
    dequeue_count: int = 0


@dataclass
class Queue:
    """A queue; ``attributes`` are the members of CreateCmqQueue with their defaults filled in."""

    name: str
    queue_id: str
    created_at: float
    attributes: dict[str, Any]
    tags: list[dict[str, str]] = field(default_factory=list)
    modified_at: float = 0.0
    ready: deque[Message] = field(default_factory=deque)
    # By receipt handle: only the handle of the last receive is here, so that an older one is invalid.
    inflight: dict[str, Message] = field(default_factory=dict)
    delayed: int = 0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    closed: bool = False
    removed: bool = False


@dataclass
class Subscription:
    """Delivers a topic's messages to one endpoint."""

    name: str
    subscription_id: str
    topic: str
    protocol: str
    endpoint: str
    created_at: float
    filter_tags: tuple[str, ...]
    binding_keys: tuple[str, ...]
    notify_strategy: str
    content_format: str
    modified_at: float = 0.0


@dataclass
class Topic:
    """A topic and its subscriptions by name."""

    name: str
    topic_id: str
    created_at: float
    attributes: dict[str, Any]
    tags: list[dict[str, str]] = field(default_factory=list)
    modified_at: float = 0.0
    published: int = 0
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Broker:
    """All queues and topics. Runs on one event loop and is not thread safe.

    :param now: the clock of queues, epoch seconds.
    :param wall: how long a number of that clock's seconds lasts on the wall's.
    """

    def __init__(self, now: Callable[[], float], wall: Callable[[float], float] = float) -> None:
        self.now = now
        self._wall = wall
        # Names are case-insensitive, so keys are in lower case.
        self.queues: dict[str, Queue] = {}
        self.topics: dict[str, Topic] = {}
        self.deleted_names: dict[tuple[str, str], float] = {}
        self._message_ids = itertools.count(1)
        self._timers: set[asyncio.TimerHandle] = set()

    # -- names ---------------------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue | None:
        """The queue of this name, in any case."""
        return self.queues.get(name.lower())

    def topic(self, name: str) -> Topic | None:
        """The topic of this name, in any case."""
        return self.topics.get(name.lower())

    def add_queue(self, name: str, attributes: dict[str, Any], tags: list[dict[str, str]] | None = None) -> Queue:
        """Make a queue; the caller has checked that the name is free."""
        now = self.now()
        queue = Queue(name, new_id("cmqq"), now, attributes, tags or [], now)
        self.queues[name.lower()] = queue
        return queue

    def remove_queue(self, queue: Queue) -> None:
        """Forget a queue with its messages; receivers that wait on it are woken."""
        self.queues.pop(queue.name.lower(), None)
        self.deleted_names["queue", queue.name.lower()] = self.now()
        queue.closed = queue.removed = True
        self._wake(queue, len(queue.waiters))

    def add_topic(self, name: str, attributes: dict[str, Any], tags: list[dict[str, str]] | None = None) -> Topic:
        """Make a topic; the caller has checked that the name is free."""
        now = self.now()
        topic = Topic(name, new_id("cmqt"), now, attributes, tags or [], now)
        self.topics[name.lower()] = topic
        return topic

    def remove_topic(self, topic: Topic) -> None:
        """Forget a topic with its subscriptions."""
        self.topics.pop(topic.name.lower(), None)
        self.deleted_names["topic", topic.name.lower()] = self.now()

    # -- messages ------------------------------------------------------------------------------------------

    def _message_id(self) -> str:
        return f"{next(self._message_ids):016d}"

    def send(self, queue: Queue, body: str, *, delay: float = 0.0, tags: tuple[str, ...] = ()) -> str:
        """Put one message into a queue and wake one receiver.

        :param delay: seconds until the message can be received.
        :return: the message id.
        """
        message = Message(self._message_id(), body, self.now(), tags)
        self._enqueue(queue, message, delay)
        return message.msg_id

    def _enqueue(self, queue: Queue, message: Message, delay: float) -> None:
        if delay > 0:
            queue.delayed += 1
            self._later(delay, lambda: self._end_delay(queue, message))
        else:
            queue.ready.append(message)
            self._wake(queue, 1)

    def _end_delay(self, queue: Queue, message: Message) -> None:
        queue.delayed -= 1
        queue.ready.append(message)
        self._wake(queue, 1)

    def publish(self, topic: Topic, body: str, *, tags: tuple[str, ...] = ()) -> tuple[str, int]:
        """Deliver a message to the queues of a topic's subscriptions.

        :return: the message id, and the number of queues that got the message.
        """
        topic.published += 1
        message_id = self._message_id()
        delivered = 0
        for subscription in topic.subscriptions.values():
            # A subscription without filter tags gets every message.
            if subscription.filter_tags and not set(subscription.filter_tags) & set(tags):
                continue
            queue = self.queue(subscription.endpoint) if subscription.protocol == "queue" else None
            if queue is not None:
                self._enqueue(queue, Message(message_id, body, self.now(), tags), 0.0)
                delivered += 1
        return message_id, delivered

    def take(self, queue: Queue, limit: int) -> list[Message]:
        """Up to ``limit`` visible messages, each made invisible for the queue's visibility timeout."""
        now = self.now()
        timeout = float(queue.attributes["VisibilityTimeout"])
        retention = float(queue.attributes["MsgRetentionSeconds"])
        taken: list[Message] = []
        while queue.ready and len(taken) < limit:
            message = queue.ready.popleft()
            # The service acknowledges by itself, that is loses, what nobody deleted within the retention time.
            if message.enqueued_at + retention <= now:
                continue
            message.dequeue_count += 1
            message.first_dequeued_at = message.first_dequeued_at or now
            message.visible_at = now + timeout
            message.handle = f"{message.msg_id}-{message.dequeue_count}-{secrets.token_hex(8)}"
            queue.inflight[message.handle] = message
            self._later(timeout, lambda m=message, h=message.handle: self._reappear(queue, m, h))  # type: ignore[misc]
            taken.append(message)
        return taken

    def _reappear(self, queue: Queue, message: Message, handle: str) -> None:
        if queue.inflight.pop(handle, None) is not None:
            message.handle = None
            queue.ready.append(message)
            self._wake(queue, 1)

    async def receive(self, queue: Queue, limit: int, wait: float) -> list[Message]:
        """Like :meth:`take`, waiting up to ``wait`` seconds for the first message.

        A cancelled call has taken nothing.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            taken = self.take(queue, limit)
            left = deadline - loop.time()
            if taken or left <= 0 or queue.closed:
                return taken
            waiter: asyncio.Future[None] = loop.create_future()
            queue.waiters.append(waiter)
            try:
                await asyncio.wait([waiter], timeout=left)
            except asyncio.CancelledError:
                # The wake-up was for this receiver; hand it to the next one, or a message would lie unnoticed.
                if waiter.done():
                    self._wake(queue, 1)
                raise
            finally:
                if not waiter.done():
                    waiter.cancel()
                    queue.waiters.remove(waiter)

    def delete(self, queue: Queue, handle: str) -> bool:
        """Delete a received message.

        :return: False when the handle is not, or no longer, valid.
        """
        return queue.inflight.pop(handle, None) is not None

    def clear(self, queue: Queue) -> None:
        """Drop all messages of a queue."""
        queue.ready.clear()
        queue.inflight.clear()

    def prune(self, queue: Queue) -> None:
        """Drop messages past their retention time, so that counts are right."""
        oldest = self.now() - float(queue.attributes["MsgRetentionSeconds"])
        if any(message.enqueued_at <= oldest for message in queue.ready):
            queue.ready = deque(message for message in queue.ready if message.enqueued_at > oldest)

    def _wake(self, queue: Queue, count: int) -> None:
        while count > 0 and queue.waiters:
            waiter = queue.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def _later(self, delay: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(self._wall(delay), run)
        self._timers.add(timer)

    def close(self) -> None:
        """Wake every receiver and stop all timers."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        for queue in self.queues.values():
            queue.closed = True
            self._wake(queue, len(queue.waiters))
