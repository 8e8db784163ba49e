"""What an asset event carries to the DAGs that it starts: plain JSON, typed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_tcbatch.models.bounds import MESSAGE
from airflow_provider_tcbatch.models.event_json import EventJson, plain

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = [
    "BatchEventPayload",
    "BatchEventsPayload",
    "QueueMessagePayload",
    "QueueMessagesPayload",
    "event_payload",
    "json_of",
]

#: Longest text of an event that is handed on as it came.
_LONGEST = 16_384


class BatchEventPayload(EventJson):
    """An event of Batch that has started a DAG: what :class:`EventJson` holds, and where it comes from."""

    #: The two parts of its name: ``JOB`` and ``SUCCEED``.
    family: str
    state: str
    #: Whether the API bears it out.
    confirmed: bool
    queue_name: str
    message_id: str
    #: The event as it came, as JSON text; ``None`` if it is longer than 16 KiB.
    raw: str | None


class QueueMessagePayload(TypedDict):
    """One message of a queue.

    - ``queue_name``, ``message_id``: where it came from; the id is the same for all deliveries of one message
    - ``enqueued_at``: unix seconds; 0 if the service does not say
    - ``body``: its text
    - ``json``: what the text says if it is JSON of at most 10,000 values, nested at most 40 deep, else ``None``
    - ``events``: the events of Batch that it holds, if any; nobody has asked the API about them. A message of more than
      64 KiB, 2,000 values or 100 events holds none.
    """

    queue_name: str
    message_id: str
    enqueued_at: float
    body: str
    json: Any
    events: list[BatchEventPayload]


class BatchEventsPayload(TypedDict):
    """What TCBatchEventTrigger tells: events that have come together."""

    events: list[BatchEventPayload]


class QueueMessagesPayload(TypedDict):
    """What CmqMessageTrigger tells: messages that have come together."""

    messages: list[QueueMessagePayload]


def event_payload(event: BatchEvent, *, queue_name: str, message_id: str, confirmed: bool) -> BatchEventPayload:
    """Make the payload of an event."""
    told = event.to_json(message_id)
    raw = _text_of(event.raw)
    return BatchEventPayload(
        event_id=told["event_id"],
        name=plain(told["name"]),
        job_id=_maybe(told["job_id"]),
        job_name=_maybe(told["job_name"]),
        task_name=_maybe(told["task_name"]),
        task_instance_index=told["task_instance_index"],
        env_id=_maybe(told["env_id"]),
        env_name=_maybe(told["env_name"]),
        node_id=_maybe(told["node_id"]),
        time=_maybe(told["time"]),
        variables={plain(name): plain(value) for name, value in told["variables"].items()},
        family=event.family,
        state=event.state,
        confirmed=confirmed,
        queue_name=queue_name,
        message_id=plain(message_id),
        raw=None if raw is None or len(raw) > _LONGEST else raw,
    )


def json_of(text: str) -> Any:
    """What a text says if it is JSON that Airflow can store, else ``None``.

    Anybody may write to a queue, and a payload that can't be stored stops a triggerer: no NaN, no number beyond 64
    bits, no half of a surrogate pair, nothing nested too deeply. Nor more of it than :data:`~.models.bounds.MESSAGE`
    allows.
    """
    text = plain(text)
    try:
        MESSAGE.check(text)
        value = json.loads(text)
        json.dumps(value, allow_nan=False)
    except ValueError:
        return None
    level = [value]
    # One level more than there may be: that of the innermost values.
    for _ in range(MESSAGE.depth + 1):
        if not level:
            return value
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                below += [*node.keys(), *node.values()]
            elif isinstance(node, list):
                below += node
            elif not _storable(node):
                return None
        level = below
    return None


def _storable(leaf: Any) -> bool:
    if isinstance(leaf, str):
        return plain(leaf) == leaf
    return not isinstance(leaf, int) or -(2**63) <= leaf < 2**63


def _maybe(text: str | None) -> str | None:
    return None if text is None else plain(text)


def _text_of(raw: Any) -> str | None:
    if raw is None or isinstance(raw, str):
        return _maybe(raw)
    try:
        return plain(json.dumps(raw, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None
