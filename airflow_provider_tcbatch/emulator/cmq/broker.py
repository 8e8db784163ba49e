"""What happens to messages: sent, published, received, hidden, deleted."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from airflow_provider_tcbatch.emulator.clock import Clock, Timer
from airflow_provider_tcbatch.emulator.cmq.entities import BY_RECEIVE_COUNT, BY_TIME_TO_LIVE, Message, Queue, Topic
from airflow_provider_tcbatch.emulator.ids import new_id
from airflow_provider_tcbatch.emulator.persistence.ledger import Ledger


class Broker:
    """All queues and topics. Runs on one event loop and is not thread safe.

    :param clock: the clock of queues.
    :param is_dead: whether a queue is out of order now; what a topic sends to it is lost.
    :param ledger: is told what changes.
    :param first: number of the first message; no message of the same account had one as high.
    """

    def __init__(
        self,
        clock: Clock,
        is_dead: Callable[[str], bool] = lambda name: False,
        ledger: Ledger | None = None,
        first: int = 1,
    ) -> None:
        self._clock = clock
        self.now = clock.now
        self._is_dead = is_dead
        # Names are case-insensitive, so keys are in lower case.
        self.queues: dict[str, Queue] = {}
        self.topics: dict[str, Topic] = {}
        self.deleted_names: dict[tuple[str, str], float] = {}
        self.ledger = ledger or Ledger()
        self._message_ids = itertools.count(first)
        self._rows = itertools.count(first)
        self._timers: set[Timer] = set()

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
        self.ledger.touch(queue)
        return queue

    def remove_queue(self, queue: Queue) -> None:
        """Forget a queue with its messages; receivers that wait on it are woken."""
        self.queues.pop(queue.name.lower(), None)
        self.deleted_names["queue", queue.name.lower()] = self.now()
        queue.closed = queue.removed = True
        self.ledger.touch(queue)
        self._wake(queue, len(queue.waiters))

    def add_topic(self, name: str, attributes: dict[str, Any], tags: list[dict[str, str]] | None = None) -> Topic:
        """Make a topic; the caller has checked that the name is free."""
        now = self.now()
        topic = Topic(name, new_id("cmqt"), now, attributes, tags or [], now)
        self.topics[name.lower()] = topic
        self.ledger.touch(topic)
        return topic

    def remove_topic(self, topic: Topic) -> None:
        """Forget a topic with its subscriptions."""
        self.topics.pop(topic.name.lower(), None)
        self.deleted_names["topic", topic.name.lower()] = self.now()
        self.ledger.touch(topic)

    def resume(self, queue: Queue, messages: Iterable[Message]) -> None:
        """Give a queue of an emulator before this one its messages again, oldest first."""
        for message in messages:
            message.queue = queue
            if message.place == "delayed":
                queue.delayed += 1
                self.later(message.visible_at - self.now(), lambda m=message: self._end_delay(queue, m))  # type: ignore[misc]
            elif message.place == "inflight" and message.handle:
                queue.inflight[message.handle] = message
                self._reappear_later(queue, message, message.handle, message.visible_at - self.now())
            elif message.place == "acknowledged":
                queue.acknowledged.append(message)
            else:
                self._make_ready(queue, message)

    # -- messages ------------------------------------------------------------------------------------------

    def new_message_id(self) -> str:
        """An id for a message that is about to be published."""
        return f"{next(self._message_ids):016d}"

    def send(self, queue: Queue, body: str, *, delay: float = 0.0, tags: tuple[str, ...] = ()) -> str:
        """Put one message into a queue and wake one receiver.

        :param delay: seconds until the message can be received.
        :return: the message id.
        """
        message = Message(self.new_message_id(), body, self.now(), tags)
        self._enqueue(queue, message, delay)
        return message.msg_id

    def _put(self, queue: Queue, message: Message, place: str) -> None:
        """A message is somewhere else now, or nowhere."""
        message.queue, message.place = queue, place
        message.row = message.row or next(self._rows)
        self.ledger.touch(message)

    def _enqueue(self, queue: Queue, message: Message, delay: float) -> None:
        if delay > 0:
            message.visible_at = self.now() + delay
            self._put(queue, message, "delayed")
            queue.delayed += 1
            self.later(delay, lambda: self._end_delay(queue, message))
        else:
            self._make_ready(queue, message)

    def _end_delay(self, queue: Queue, message: Message) -> None:
        queue.delayed -= 1
        self._make_ready(queue, message)

    def _make_ready(self, queue: Queue, message: Message) -> None:
        self._put(queue, message, "ready")
        queue.ready.append(message)
        if self._dies(queue):
            left = message.kept_since + float(queue.attributes["MaxTimeToLive"]) - self.now()
            # A little late rather than a little early, or the message would stay for good.
            self.later(max(left, 0.0) + 0.01, lambda: self.prune(queue))
        self._wake(queue, 1)

    def publish(
        self,
        topic: Topic,
        body: str,
        *,
        tags: tuple[str, ...] = (),
        routing_key: str = "",
        message_id: str | None = None,
    ) -> tuple[str, int]:
        """Deliver a message to the queues of a topic's subscriptions.

        :param message_id: from :meth:`new_message_id`, when it had to be known earlier.
        :return: the message id, and the number of subscriptions that wanted the message.
        """
        topic.published += 1
        self.ledger.touch(topic)
        message_id = message_id or self.new_message_id()
        wanted = 0
        for subscription in topic.subscriptions.values():
            if not subscription.wants(tags, routing_key):
                continue
            wanted += 1
            queue = self.queue(subscription.endpoint) if subscription.protocol == "queue" else None
            if queue is not None and not self._is_dead(queue.name):
                self._enqueue(queue, Message(message_id, body, self.now(), tags), 0.0)
        return message_id, wanted

    def take(self, queue: Queue, limit: int) -> list[Message]:
        """Up to ``limit`` visible messages, each made invisible for the queue's visibility timeout."""
        now = self.now()
        timeout = float(queue.attributes["VisibilityTimeout"])
        taken: list[Message] = []
        while queue.ready and len(taken) < limit:
            message = queue.ready.popleft()
            if self._is_over(queue, message, now):
                self._let_go(queue, message)
                continue
            message.dequeue_count += 1
            message.first_dequeued_at = message.first_dequeued_at or now
            message.visible_at = now + timeout
            message.handle = f"{message.msg_id}-{message.dequeue_count}-{secrets.token_hex(8)}"
            queue.inflight[message.handle] = message
            self._put(queue, message, "inflight")
            self._reappear_later(queue, message, message.handle, timeout)
            taken.append(message)
        return taken

    def _reappear_later(self, queue: Queue, message: Message, handle: str, seconds: float) -> None:
        self.later(seconds, lambda: self._reappear(queue, message, handle))

    def _reappear(self, queue: Queue, message: Message, handle: str) -> None:
        if queue.inflight.pop(handle, None) is None:
            return
        message.handle = None
        attributes = queue.attributes
        too_often = message.dequeue_count >= attributes.get("MaxReceiveCount", 0)
        if too_often and attributes.get("Policy") == BY_RECEIVE_COUNT and self._bury(queue, message):
            return
        self._put(queue, message, "ready")
        queue.ready.append(message)
        self._wake(queue, 1)

    def _bury(self, queue: Queue, message: Message) -> bool:
        """Move a message to the queue's dead letter queue; False when it has none."""
        target = self.queue(queue.attributes.get("DeadLetterQueueName", ""))
        if target is None or target is queue:
            return False
        self._put(queue, message, "")
        self._enqueue(target, Message(message.msg_id, message.body, self.now(), message.tags), 0.0)
        return True

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
        message = queue.inflight.pop(handle, None)
        if message is None:
            return False
        self._acknowledge(queue, message)
        return True

    def _acknowledge(self, queue: Queue, message: Message) -> None:
        self._put(queue, message, "")
        rewind = float(queue.attributes.get("RewindSeconds", 0))
        if rewind > 0:
            oldest = self.now() - rewind
            while queue.acknowledged and queue.acknowledged[0].enqueued_at < oldest:
                self._put(queue, queue.acknowledged.popleft(), "")
            queue.acknowledged.append(message)
            self._put(queue, message, "acknowledged")

    def rewind(self, queue: Queue, start: float) -> int:
        """Offer what was acknowledged again, if it arrived at ``start`` (epoch seconds) or later.

        :return: how many messages that were.
        """
        self.prune(queue)
        oldest = max(start, self.now() - float(queue.attributes.get("RewindSeconds", 0)))
        again = [message for message in queue.acknowledged if message.enqueued_at >= oldest]
        queue.acknowledged = deque(message for message in queue.acknowledged if message.enqueued_at < oldest)
        for message in again:
            message.kept_since, message.handle = self.now(), None
            self._put(queue, message, "ready")
        queue.ready = deque(sorted([*queue.ready, *again], key=lambda message: message.enqueued_at))
        self._wake(queue, len(again))
        return len(again)

    def forget_acknowledged(self, queue: Queue) -> None:
        """Make a rewind find nothing."""
        for message in queue.acknowledged:
            self._put(queue, message, "")
        queue.acknowledged.clear()

    def clear(self, queue: Queue) -> None:
        """Drop all messages of a queue."""
        for message in (*queue.ready, *queue.inflight.values(), *queue.acknowledged):
            self._put(queue, message, "")
        queue.ready.clear()
        queue.inflight.clear()
        queue.acknowledged.clear()

    def prune(self, queue: Queue) -> None:
        """Let go of messages past their time, so that counts are right."""
        now = self.now()
        if any(self._is_over(queue, message, now) for message in queue.ready):
            old, queue.ready = queue.ready, deque()
            for message in old:
                if self._is_over(queue, message, now):
                    self._let_go(queue, message)
                else:
                    queue.ready.append(message)

    @staticmethod
    def _dies(queue: Queue) -> bool:
        """Whether messages that lie too long go to a dead letter queue."""
        return bool(queue.attributes.get("DeadLetterQueueName")) and queue.attributes.get("Policy") == BY_TIME_TO_LIVE

    def _is_over(self, queue: Queue, message: Message, now: float) -> bool:
        attributes = queue.attributes
        keep = attributes["MaxTimeToLive"] if self._dies(queue) else attributes["MsgRetentionSeconds"]
        return now - message.kept_since >= float(keep)

    def _let_go(self, queue: Queue, message: Message) -> None:
        # The service acknowledges by itself, that is loses, what nobody deleted within the retention time.
        if not (self._dies(queue) and self._bury(queue, message)):
            self._acknowledge(queue, message)

    def _wake(self, queue: Queue, count: int) -> None:
        while count > 0 and queue.waiters:
            waiter = queue.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                count -= 1

    def later(self, delay: float, call: Callable[[], None]) -> None:
        """Call something after so many seconds of the queues' clock, unless the broker is closed first."""

        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = self._clock.call_later(delay, run)
        self._timers.add(timer)

    def close(self) -> None:
        """Wake every receiver and stop all timers."""
        for timer in list(self._timers):
            timer.cancel()
        self._timers.clear()
        for queue in self.queues.values():
            queue.closed = True
            self._wake(queue, len(queue.waiters))
