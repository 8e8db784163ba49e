"""What arrives on the event queue.

Only one sample of an event body was ever published (COMPUTE_NODE_CREATED), so the parser takes
nothing for granted: the body may be plain or base64 JSON, wrapped by an HTTP push, one event or several,
ids in any spelling at any depth. An event is a hint; what it says is confirmed through the API before
anything is decided. The state is read from the event's *name*, never from guessed members of its body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_tcbatch.models.bounds import EVENT, TooMuch
from airflow_provider_tcbatch.models.event_json import EventJson, plain

__all__ = ["BatchEvent", "events_of", "parse_message"]

_JOB_ID = re.compile(r"\bjob-[0-9a-z]{4,}\b")
_ENV_ID = re.compile(r"\benv-[0-9a-z]{4,}\b")
#: Not any word in capitals: ``JOB_ID`` is none.
_EVENT_NAME = re.compile(
    r"\b(?:(?:JOB|TASK|TASK_INSTANCE)_(?:RUNNING|SUCCEED|FAILED|FAILED_INTERRUPTED)|COMPUTE_ENV_(?:CREATED|DELETED)"
    r"|COMPUTE_NODE_(?:CREATED|CREATION_FAILED|RUNNING|ABNORMAL|DELETING))\b"
)

#: What events are about: the longer of two names that begin alike comes first.
_FAMILIES = ("COMPUTE_NODE", "COMPUTE_ENV", "TASK_INSTANCE", "TASK", "JOB")

#: Most events of one message: each is looked up, and handed to all who wait.
_MOST = 100

#: How often a body is unwrapped: a push inside of which is base64 inside of which is JSON.
_LAYERS = 4


@dataclass(frozen=True)
class BatchEvent:
    """One event.

    Only ``name`` is sure to mean what it says; of the others what the body did not hold, or not where it was looked
    for, is ``None``.

    :param name: event name (``JOB_SUCCEED``); empty if the body names none.
    :param job_id: the job it is about, if any.
    :param job_name: its name.
    :param task_name: the task inside it.
    :param instance_index: the instance of that task, counted from 0.
    :param env_id: the compute environment it is about, if any.
    :param env_name: its name.
    :param node_id: the compute node.
    :param time: event time as the body spells it.
    :param variables: the user's EventVars.
    :param raw: the event as it came.
    """

    name: str
    job_id: str | None = None
    job_name: str | None = None
    task_name: str | None = None
    instance_index: int | None = None
    env_id: str | None = None
    env_name: str | None = None
    node_id: str | None = None
    time: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    raw: Any = None

    @property
    def family(self) -> str:
        """JOB, TASK, TASK_INSTANCE, COMPUTE_ENV or COMPUTE_NODE; empty if its name is none of ours."""
        return next((family for family in _FAMILIES if self.name.startswith(f"{family}_")), "")

    @property
    def state(self) -> str:
        """The state that its *name* tells, such as SUCCEED; empty if its name is none of ours."""
        return self.name[len(self.family) + 1 :] if self.family else ""

    def event_id(self, message_id: str) -> str:
        """What is the same for all deliveries of one event, to tell repeated ones by: 32 hex digits.

        A topic may deliver a message more than once, and the service may publish it more than once. So it is made from
        what the event says, its time included; without a time from the message.

        :param message_id: id of the message that held it.
        """
        index = None if self.instance_index is None else str(self.instance_index)
        what = [self.name, self.job_id, self.task_name, index, self.env_id, self.node_id]
        told = [*what, self.time or f"message {message_id}", json.dumps(self.variables, sort_keys=True)]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]

    def to_json(self, message_id: str | None = None) -> EventJson:
        """The event in plain JSON.

        :param message_id: id of the message that held it, if that is known.
        """
        told_apart = self.time is not None or message_id is not None
        return {
            "event_id": self.event_id(message_id or "") if told_apart else None,
            "name": self.name,
            "job_id": self.job_id,
            "job_name": self.job_name,
            "task_name": self.task_name,
            "task_instance_index": self.instance_index,
            "env_id": self.env_id,
            "env_name": self.env_name,
            "node_id": self.node_id,
            "time": self.time,
            "variables": dict(self.variables),
        }


def parse_message(body: str) -> list[BatchEvent]:
    """Read the events of one message; an empty list if it holds none. Never raises, whatever the message is.

    :param body: message body as the queue delivered it.
    """
    try:
        return events_of(body)
    except TooMuch:
        return []


def events_of(body: str) -> list[BatchEvent]:
    """Read the events of one message; an empty list if it holds none.

    Anybody may write to a queue: what can't be handed on or stored (halves of surrogate pairs, NUL characters, numbers
    beyond all measure) is left out.

    :param body: message body as the queue delivered it.
    :raises TooMuch: if it is larger than a message of events can be, see :data:`~.models.bounds.EVENT`; the message
        says by what.
    """
    EVENT.check_size(len(body))
    document = _unwrap(body)
    if isinstance(document, str):
        return list(_at_most(_from_text(document)))
    events = _find(document, "events") if isinstance(document, Mapping) else document
    if isinstance(events, str):
        events = _unwrap(events)
    if isinstance(events, Mapping):
        events = [events]
    items = events if isinstance(events, list) and events else [document]
    return list(_at_most(event for item in items if (event := _event(item)) is not None))


def _at_most(events: Iterable[BatchEvent]) -> Iterator[BatchEvent]:
    for number, event in enumerate(events):
        if number == _MOST:
            raise TooMuch(f"it holds more than {_MOST} events")
        yield event


def _unwrap(body: str) -> Any:
    """The JSON inside a body, or the text itself if there is none."""
    document: Any = body
    for _ in range(_LAYERS):
        if isinstance(document, Mapping) and _find(document, "events") is None:
            # What an HTTP push, or a receiver that passes messages on, wraps a message in.
            inner = next((value for name, value in document.items() if _plain(name) == "msgbody"), None)
            if not isinstance(inner, str):
                break
            document = inner
        elif isinstance(document, str):
            decoded = _decode(document)
            if decoded is document:
                break
            document = decoded
        else:
            break
    return document


def _decode(body: str) -> Any:
    for text in (body, _from_base64(body)):
        if text is None:
            continue
        EVENT.check(text)
        try:
            return json.loads(text)
        except ValueError:
            continue
    return body


def _from_base64(text: str) -> str | None:
    packed = "".join(text.split())
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


def _from_text(text: str) -> Iterator[BatchEvent]:
    """Not JSON at all: the names and ids that a text mentions are still good hints."""
    match = _EVENT_NAME.search(text)
    name = match.group() if match else ""
    jobs, envs = dict.fromkeys(_JOB_ID.findall(text)), _ENV_ID.findall(text)
    if name or jobs or envs:
        for job_id in jobs or (None,):
            yield BatchEvent(name=name, job_id=job_id, env_id=envs[0] if envs else None, raw=text)


def _event(item: Any) -> BatchEvent | None:
    text = _text(item)
    name = _find(item, "eventname")
    if not isinstance(name, str):
        name = match.group() if (match := _EVENT_NAME.search(text)) else ""
    name = plain(name)
    # What the user's own variables are called says nothing about the event.
    body = (
        {key: value for key, value in item.items() if _plain(key) != "eventvars"} if isinstance(item, Mapping) else item
    )
    job_id = _identifier(body, "jobid", _JOB_ID, text)
    env_id = _identifier(body, "envid", _ENV_ID, text)
    if not name and job_id is None and env_id is None:
        return None
    return BatchEvent(
        name=name.upper(),
        job_id=job_id,
        job_name=_string(body, "jobname"),
        task_name=_string(body, "taskname"),
        instance_index=_index(_find(body, "taskinstanceindex")),
        env_id=env_id,
        env_name=_string(body, "envname"),
        node_id=_string(body, "computenodeid"),
        time=_string(body, "eventtime"),
        variables=dict(_variables(_find(item, "eventvars"))),
        raw=item,
    )


def _text(item: Any) -> str:
    if isinstance(item, str):
        return item
    try:
        return json.dumps(item, ensure_ascii=False)
    except RecursionError:  # nested more deeply than can be written, though not than could be read
        return ""


def _string(item: Any, key: str) -> str | None:
    found = _find(item, key)
    return (plain(found) or None) if isinstance(found, str) else None


def _index(found: Any) -> int | None:
    if isinstance(found, str) and found.isascii() and found.isdigit():
        return int(found[:9])
    # Nothing that takes more than 64 bits could be handed on.
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**31 else None


def _identifier(item: Any, key: str, pattern: re.Pattern[str], text: str) -> str | None:
    if (found := _string(item, key)) is not None:
        return found
    match = pattern.search(text)
    return match.group() if match else None


def _find(item: Any, key: str) -> Any:
    """First value under ``key``, whatever its case and underscores, breadth first."""
    level = [item]
    while level:
        below: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                for name, value in node.items():
                    if _plain(name) == key:
                        return value
                    below.append(value)
            elif isinstance(node, list):
                below.extend(node)
        level = below
    return None


def _plain(name: object) -> str:
    return str(name).replace("_", "").replace("-", "").lower()


def _variables(found: Any) -> Iterator[tuple[str, str]]:
    if isinstance(found, Mapping):
        yield from ((plain(str(name)), plain(str(value))) for name, value in found.items())
    elif isinstance(found, list):
        for entry in found:
            if isinstance(entry, Mapping):
                name, value = _find(entry, "name"), _find(entry, "value")
                if name is not None:
                    yield plain(str(name)), "" if value is None else plain(str(value))
