"""What the chain from Batch to Airflow needs: topic, subscriptions, queues; and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.policies.event.queue_leases import PREFIX

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.cmq_views import CmqQueue, CmqSubscription

__all__ = [
    "ASSET_RETENTION",
    "BASE_RETENTION",
    "CHECK_PREFIX",
    "FAULTS",
    "State",
    "Step",
    "asset_queue_troubles",
    "asset_visibility",
    "base_queue_name",
    "base_queue_troubles",
    "grace_trouble",
    "lasting",
    "setup_command",
    "shared_queue_troubles",
    "subscription_trouble",
]

#: Seconds that a queue for asset watchers keeps what nobody has deleted: the most that the service takes.
ASSET_RETENTION = 43200

#: The same for a base queue, which nobody reads: long enough to look at what came.
BASE_RETENTION = 3600

#: What the name begins with of a queue that a check makes, and removes again.
CHECK_PREFIX = "tcbatch-check-"

#: A base queue with as many messages fills up.
_FULL = 100_000

#: Seconds: in a shared queue, a message that is somebody else's comes to him after this time at the earliest.
_SHARED_VISIBILITY = 60


class State(str, Enum):
    """How a step of a check, or of a set-up, ended."""

    OK = "ok"
    MADE = "made"
    CHANGED = "changed"
    WOULD = "would be made"
    WARNING = "warning"
    MISSING = "missing"
    FAILED = "failed"
    SKIPPED = "not checked"


#: What keeps events from coming: something is not there, or a service could not be asked for it, or refuses it.
FAULTS = (State.MISSING, State.FAILED)


def setup_command(topic: str, asset_queue: str | None, base_queue: str) -> str:
    """What to do where something does not exist, ready to be copied.

    :param asset_queue: the queue of asset watchers that was named.
    :param base_queue: the topic's durable queue.
    """
    words = ["airflow tcbatch events setup", "--topic", topic]
    words += ["--asset-queue", asset_queue] if asset_queue else []
    words += ["--base-queue", base_queue] if base_queue != base_queue_name(topic) else []
    return f"run '{' '.join(words)}' with keys that may make it"


@dataclass(frozen=True)
class Step:
    """One step.

    :param name: what it is about.
    :param state: how it ended.
    :param what: what was found.
    :param todo: what to do about it; empty where there is nothing to do.
    """

    name: str
    state: State
    what: str
    todo: str = ""


def base_queue_name(topic: str) -> str:
    """Name of a topic's durable queue; the service takes 64 characters."""
    return f"{topic[:59]}-base"


def asset_visibility(ack_timeout: float) -> int:
    """Seconds that a message for asset watchers must stay hidden: twice what Airflow may need to store its event.

    A message that comes to light before is delivered again, and starts its DAG again.

    :param ack_timeout: ``[triggerer] shared_stream_ack_timeout``.
    """
    return min(43200, max(30, int(-(-2 * ack_timeout // 1))))


def asset_queue_troubles(queue: CmqQueue, *, ack_timeout: float, event_queue: str | None) -> list[tuple[str, str]]:
    """What is wrong with a queue for asset watchers, and what to do.

    :param event_queue: the queue that waits share, if they do.
    """
    name, found = queue.queue_name, []
    if event_queue is not None and event_queue.lower() == name.lower():
        found.append(
            (
                f"{name} is also the connection's event_queue: triggerers that wait for jobs take its messages away "
                "from asset watchers, and the other way round",
                "name another queue for asset watchers, and set it up",
            )
        )
    needed = asset_visibility(ack_timeout)
    if queue.visibility_timeout is None or queue.visibility_timeout < needed:
        found.append(
            (
                f"visibility timeout is {queue.visibility_timeout} s: a message that Airflow takes longer to store "
                "comes again, and starts its DAG again",
                f"set it to {needed} s or more, twice [triggerer] shared_stream_ack_timeout ({ack_timeout:g} s)",
            )
        )
    if queue.msg_retention_seconds is not None and queue.msg_retention_seconds < ASSET_RETENTION:
        found.append(
            (
                f"retention is {queue.msg_retention_seconds} s: events are lost when no triggerer runs for longer",
                f"set it to {ASSET_RETENTION} s, the most there is",
            )
        )
    return found


def base_queue_troubles(queue: CmqQueue) -> list[tuple[str, str]]:
    """What is wrong with a base queue, which nobody reads, and what to do."""
    waiting = queue.active_msg_num or 0
    room = queue.max_msg_heap_num or 0
    if waiting < _FULL and not (room and waiting > room // 10):
        return []
    return [
        (
            f"{waiting} messages lie in it and nobody reads them (retention {queue.msg_retention_seconds} s)",
            f"set its retention to {BASE_RETENTION} s or less, and clear it",
        )
    ]


def shared_queue_troubles(queue: CmqQueue) -> list[tuple[str, str]]:
    """What is wrong with a queue that triggerers share, and what to do."""
    seconds = queue.visibility_timeout or 0
    if seconds <= _SHARED_VISIBILITY:
        return []
    return [
        (
            f"visibility timeout is {seconds} s: so long an event is hidden when the wrong triggerer receives it",
            "set it to 30 s",
        )
    ]


def subscription_trouble(subscriptions: Iterable[CmqSubscription], queue: str, setup: str) -> tuple[str, str] | None:
    """What keeps a topic's messages from a queue, and what to do; ``None`` if nothing does.

    :param setup: what to do where the subscription does not exist.
    """
    mine = [each for each in subscriptions if (each.endpoint or "").lower() == queue.lower()]
    if not mine:
        return f"{queue} is not subscribed to the topic", setup
    if all(each.filter_tags or each.binding_key for each in mine):
        return (
            f"the subscription of {queue} has a filter: Batch publishes without tags, so nothing passes",
            "clear its filter tags and binding keys",
        )
    return None


def lasting(subscriptions: Iterable[CmqSubscription]) -> Sequence[str]:
    """Names of subscriptions that stay when no triggerer runs, and no check."""
    passing = (PREFIX, CHECK_PREFIX)
    return [each.subscription_name for each in subscriptions if not each.subscription_name.startswith(passing)]


def grace_trouble(grace: float | None) -> tuple[str, str] | None:
    """What a restart of a triggerer may do to several watchers of one queue, and what to do.

    :param grace: ``[triggerer] shared_stream_cohort_grace_period``; ``None`` where Airflow has no shared streams.
    """
    if grace is None or grace > 0:
        return None
    return (
        "[triggerer] shared_stream_cohort_grace_period is 0: where several asset watchers share a queue, those that "
        "come back last after a restart miss the events that the first one has received by then",
        "set it to a few seconds (5), or give each watcher a queue of its own",
    )
