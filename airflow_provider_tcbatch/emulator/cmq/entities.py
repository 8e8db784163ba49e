"""Queues, topics, subscriptions and messages, as the emulator holds them."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

MAX_UNACKED = MAX_DELAYED = 100_000

#: What a queue's DeadLetterPolicy may be: too often received, or too long not consumed.
BY_RECEIVE_COUNT, BY_TIME_TO_LIVE = 0, 1


@dataclass(slots=True, eq=False)
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
    #: The retention time counts from here: from its arrival, or from when the queue was rewound.
    kept_since: float = 0.0
    #: Where it is: ``ready``, ``inflight``, ``delayed`` (until visible_at), ``acknowledged``, or nowhere any more.
    place: str = ""
    queue: Queue | None = None
    #: Its number among all that ever were in a queue.
    row: int = 0

    def __post_init__(self) -> None:
        self.kept_since = self.kept_since or self.enqueued_at


@dataclass(eq=False)
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
    # Acknowledged, but kept while the queue can still be rewound to them.
    acknowledged: deque[Message] = field(default_factory=deque)
    delayed: int = 0
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)
    closed: bool = False
    removed: bool = False

    @property
    def size(self) -> int:
        """Messages that are still to be consumed."""
        return len(self.ready) + len(self.inflight) + self.delayed


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

    def wants(self, tags: tuple[str, ...], routing_key: str) -> bool:
        """Whether a message of these tags and this routing key is for it; without a filter every one is."""
        if self.binding_keys:
            return any(routing_matches(key, routing_key) for key in self.binding_keys)
        return not self.filter_tags or bool(set(self.filter_tags) & set(tags))


def routing_matches(binding_key: str, routing_key: str) -> bool:
    """Whether a routing key fits a binding key, in which ``*`` is one word and ``#`` any number of them."""
    # From the right: fits[n] says whether the rest of the pattern fits the words from n on. No pattern takes long.
    words = routing_key.split(".") if routing_key else []
    fits = [False] * len(words) + [True]
    for part in reversed(binding_key.split(".")):
        if part == "#":
            for index in range(len(words) - 1, -1, -1):
                fits[index] = fits[index] or fits[index + 1]
        else:
            fits = [part in ("*", word) and rest for word, rest in zip(words, fits[1:], strict=True)] + [False]
    return fits[0]


@dataclass(eq=False)
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
