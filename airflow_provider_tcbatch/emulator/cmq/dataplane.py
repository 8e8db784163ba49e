"""The eight message actions of the CMQ data plane."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from airflow_provider_tcbatch.emulator.cmq.common import NAME
from airflow_provider_tcbatch.emulator.cmq.entities import MAX_DELAYED, MAX_UNACKED, Message, Queue, Topic
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.cmq.topics import BY_ROUTING_KEY
from airflow_provider_tcbatch.emulator.errors import CmqError

Params = Mapping[str, str]
Handler = Callable[[CmqService, Params], Awaitable[dict[str, Any]]]

MAX_BATCH = 16
MAX_BATCH_BYTES = 1024 * 1024


def _need(params: Params, name: str) -> str:
    value = params.get(name)
    if not value:
        raise CmqError(4000, 10390, f"lacked of required parameter {name}")
    return value


def _number(params: Params, name: str, low: int, high: int) -> int | None:
    text = params.get(name)
    if text is None or text == "":
        return None
    if not re.fullmatch(r"-?\d{1,10}", text):
        raise CmqError(4000, 10360, f"{name} error type")
    value = int(text)
    if not low <= value <= high:
        raise CmqError(4000, 10350, f"{name} value or length is out of range")
    return value


def _repeated(params: Params, name: str, largest: int) -> list[str]:
    """``name.1``, ``name.2`` …; counting may begin with 0 or 1 and must have no gap."""
    numbers = []
    for key in params:
        if key.startswith(name + "."):
            tail = key[len(name) + 1 :]
            if not re.fullmatch(r"\d{1,4}", tail):
                raise CmqError(4000, 10310, f"parameter {name} key format error")
            numbers.append(int(tail))
    numbers.sort()
    if not numbers:
        return []
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise CmqError(4000, 10380, f"{name} is not consequent")
    if len(numbers) > largest:
        raise CmqError(4000, 10370, f"{name} batch size is out of range")
    return [params[f"{name}.{number}"] for number in numbers]


def _queue(cmq: CmqService, params: Params) -> Queue:
    name = _need(params, "queueName")
    if not NAME.match(name):
        raise CmqError(4000, 10020, "queue name format error")
    queue = cmq.broker.queue(name)
    fault = cmq.host.faults.queue(name)
    if fault is not None and fault.code and fault.code.isdecimal():
        raise CmqError(int(fault.code), 10050, "server internal error")
    if queue is None or fault is not None:
        raise CmqError(4440, 10100, "queue is not existed, or deleted")
    return queue


def _topic(cmq: CmqService, params: Params) -> Topic:
    name = _need(params, "topicName")
    if not NAME.match(name):
        raise CmqError(4000, 10590, "topic name format error")
    topic = cmq.broker.topic(name)
    if topic is None:
        raise CmqError(4440, 10600, "topic is not existed")
    if not topic.subscriptions:
        raise CmqError(6030, 10650, "topic has no subscription")
    return topic


def _check_body(body: str, attributes: Mapping[str, Any]) -> str:
    if not body:
        raise CmqError(4000, 10120, "message body can't be empty")
    if len(body.encode()) > attributes["MaxMsgSize"]:
        raise CmqError(4400, 10230, "exceed maximum message size")
    return body


async def send_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """SendMessage."""
    queue = _queue(cmq, params)
    body = _check_body(params.get("msgBody", ""), queue.attributes)
    delay = _delay(params)
    _check_room(queue, 1, delay)
    return {"msgId": cmq.broker.send(queue, body, delay=delay)}


async def batch_send_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """BatchSendMessage."""
    queue = _queue(cmq, params)
    bodies = _bodies(params, queue.attributes)
    delay = _delay(params)
    _check_room(queue, len(bodies), delay)
    return {"msgList": [{"msgId": cmq.broker.send(queue, body, delay=delay)} for body in bodies]}


def _delay(params: Params) -> int:
    delay = _number(params, "delaySeconds", -(10**10), 10**10) or 0
    if not 0 <= delay <= 3600:
        raise CmqError(4000, 10692, "delay seconds out of range")
    return delay


def _check_room(queue: Queue, count: int, delay: int) -> None:
    if queue.size + count > queue.attributes["MaxMsgHeapNum"]:
        raise CmqError(4410, 10240, "reach maximum retention number of message")
    if delay and queue.delayed + count > MAX_DELAYED:
        raise CmqError(6070, 10690, "too many unacked(inactive) messages or delayed messages")


def _bodies(params: Params, attributes: Mapping[str, Any]) -> list[str]:
    bodies = _repeated(params, "msgBody", MAX_BATCH)
    if not bodies:
        raise CmqError(4000, 10390, "lacked of required parameter msgBody.1")
    if sum(len(body.encode()) for body in bodies) > MAX_BATCH_BYTES:
        raise CmqError(4470, 10300, "total message size exceed 1MB")
    return [_check_body(body, attributes) for body in bodies]


async def receive_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """ReceiveMessage."""
    return (await _receive(cmq, params, 1))[0]


async def batch_receive_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """BatchReceiveMessage."""
    _need(params, "numOfMsg")
    count = _number(params, "numOfMsg", 1, MAX_BATCH)
    return {"msgInfoList": await _receive(cmq, params, count or 1)}


async def _receive(cmq: CmqService, params: Params, count: int) -> list[dict[str, Any]]:
    queue = _queue(cmq, params)
    wait = _number(params, "pollingWaitSeconds", 0, cmq.host.settings.cmq_max_poll_seconds)
    if len(queue.inflight) >= MAX_UNACKED:
        raise CmqError(6070, 10690, "too many unacked(inactive) messages or delayed messages")
    messages = await cmq.broker.receive(
        queue, count, wait if wait is not None else queue.attributes["PollingWaitSeconds"]
    )
    if not messages and queue.removed:
        raise CmqError(4440, 10100, "queue is not existed, or deleted")
    if not messages:
        raise CmqError(7000, 10200, "no message")
    return [_message_view(message) for message in messages]


def _message_view(message: Message) -> dict[str, Any]:
    return {
        "msgBody": message.body,
        "msgId": message.msg_id,
        "receiptHandle": message.handle,
        "enqueueTime": int(message.enqueued_at),
        "firstDequeueTime": int(message.first_dequeued_at or 0),
        "nextVisibleTime": int(message.visible_at),
        "dequeueCount": message.dequeue_count,
        "msgTag": list(message.tags),
    }


async def delete_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """DeleteMessage."""
    queue = _queue(cmq, params)
    if not cmq.broker.delete(queue, _need(params, "receiptHandle")):
        raise CmqError(4430, 10260, "receipt handle is invalid")
    return {}


async def batch_delete_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """BatchDeleteMessage."""
    queue = _queue(cmq, params)
    handles = _repeated(params, "receiptHandle", MAX_BATCH)
    if not handles:
        raise CmqError(4000, 10390, "lacked of required parameter receiptHandle.1")
    bad = [handle for handle in handles if not cmq.broker.delete(queue, handle)]
    if bad:
        errors = [{"code": 4430, "message": "invalid receiptHandle", "receiptHandle": handle} for handle in bad]
        if len(bad) == len(handles):
            raise CmqError(6020, 10290, "batch delete message failed", errorList=errors)
        raise CmqError(6010, 10150, "delete message partially failed", errorList=errors)
    return {}


def _tags(params: Params) -> tuple[str, ...]:
    tags = _repeated(params, "msgTag", 1000)
    if len(tags) > 5:
        raise CmqError(4000, 10720, "too many msgTag")
    if any(len(tag) > 16 for tag in tags):
        raise CmqError(4000, 10350, "msgTag value or length is out of range")
    return tuple(tags)


def _routing_key(params: Params, topic: Topic) -> str:
    key = params.get("routingKey", "")
    if topic.attributes.get("FilterType") == BY_ROUTING_KEY and not key:
        raise CmqError(4000, 10700, "lack routingKey")
    if len(key.encode()) > 64:
        raise CmqError(4000, 10350, "routingKey value or length is out of range")
    if key.count(".") > 15:
        raise CmqError(4000, 10691, "too many delimiters")
    return key


def _publish(cmq: CmqService, params: Params, topic: Topic, bodies: Sequence[str]) -> list[str]:
    tags, key = _tags(params), _routing_key(params, topic)
    if not any(subscription.wants(tags, key) for subscription in topic.subscriptions.values()):
        raise CmqError(6030, 10730, "no bindingKey or filterTag matches")
    return [cmq.broker.publish(topic, body, tags=tags, routing_key=key)[0] for body in bodies]


async def publish_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """PublishMessage."""
    topic = _topic(cmq, params)
    body = _check_body(params.get("msgBody", ""), topic.attributes)
    return {"msgId": _publish(cmq, params, topic, [body])[0]}


async def batch_publish_message(cmq: CmqService, params: Params) -> dict[str, Any]:
    """BatchPublishMessage."""
    topic = _topic(cmq, params)
    bodies = _bodies(params, topic.attributes)
    return {"msgList": [{"msgId": message_id} for message_id in _publish(cmq, params, topic, bodies)]}


HANDLERS: dict[str, Handler] = {
    "SendMessage": send_message,
    "BatchSendMessage": batch_send_message,
    "ReceiveMessage": receive_message,
    "BatchReceiveMessage": batch_receive_message,
    "DeleteMessage": delete_message,
    "BatchDeleteMessage": batch_delete_message,
    "PublishMessage": publish_message,
    "BatchPublishMessage": batch_publish_message,
}
#: Actions that may wait for a message.
WAITING = frozenset({"ReceiveMessage", "BatchReceiveMessage"})
