"""What is written down of queues and topics, and how it is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from airflow_provider_tcbatch.emulator.cmq.entities import Message, Queue, Subscription, Topic
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.persistence.database import Database, Row
from airflow_provider_tcbatch.emulator.persistence.members import members

#: Members that are written down as they are.
QUEUE = ("name", "queue_id", "created_at", "attributes", "tags", "modified_at")
TOPIC = ("name", "topic_id", "created_at", "attributes", "tags", "modified_at", "published")
SUBSCRIPTION = tuple(field.name for field in dataclasses.fields(Subscription))
MESSAGE = (
    "msg_id",
    "body",
    "enqueued_at",
    "tags",
    "handle",
    "first_dequeued_at",
    "visible_at",
    "dequeue_count",
    "kept_since",
    "place",
)


class CmqRecords:
    """Makes records of what CMQ has.

    :param cmq: the service.
    """

    def __init__(self, cmq: CmqService) -> None:
        self._cmq = cmq
        self.makers: dict[type, Callable[[Any], Iterator[Row]]] = {
            Queue: self._queue,
            Topic: self._topic,
            Message: self._message,
        }

    def distrust(self) -> None:
        """Every record is written whole each time."""

    def _queue(self, queue: Queue) -> Iterator[Row]:
        if self._cmq.broker.queue(queue.name) is queue:
            yield "queue", queue.queue_id, members(queue, QUEUE)
        else:
            yield "queue", queue.queue_id, None
            yield "message", f"{queue.queue_id}/", None

    def _topic(self, topic: Topic) -> Iterator[Row]:
        if self._cmq.broker.topic(topic.name) is topic:
            found = [members(item, SUBSCRIPTION) for item in topic.subscriptions.values()]
            yield "topic", topic.topic_id, {**members(topic, TOPIC), "subscriptions": found}
        else:
            yield "topic", topic.topic_id, None

    def _message(self, message: Message) -> Iterator[Row]:
        queue = message.queue
        if queue is not None and self._cmq.broker.queue(queue.name) is queue:
            value = members(message, MESSAGE) if message.place else None
            yield "message", f"{queue.queue_id}/{message.row}", value

    def restore(self, database: Database) -> None:
        """Fill a service that has just begun."""
        broker = self._cmq.broker
        by_id: dict[str, Queue] = {}
        for queue_id, value in database.read("queue"):
            by_id[queue_id] = broker.queues[value["name"].lower()] = Queue(**value)
        for _, value in database.read("topic"):
            subscriptions = [_subscription(item) for item in value.pop("subscriptions")]
            topic = Topic(**value, subscriptions={item.name: item for item in subscriptions})
            broker.topics[topic.name.lower()] = topic
        messages: dict[str, list[Message]] = {}
        for name, value in database.read("message"):
            queue_id, _, row = name.partition("/")
            message = Message(**{**value, "tags": tuple(value["tags"]), "row": int(row)})
            messages.setdefault(queue_id, []).append(message)
        for queue_id, found in messages.items():
            if queue_id in by_id:
                broker.resume(by_id[queue_id], found)


def _subscription(value: dict[str, Any]) -> Subscription:
    tags, keys = tuple(value["filter_tags"]), tuple(value["binding_keys"])
    return Subscription(**{**value, "filter_tags": tags, "binding_keys": keys})
