"""Sending an event to every topic that asked for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch import events

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

log = logging.getLogger("tcbatch_emulator.jobs")

#: Topic and EventVars by the name of the event.
Subscribers = dict[str, list[tuple[str, list[dict[str, str]]]]]


@dataclass(frozen=True)
class Published:
    """An event on its way."""

    time: float
    topic: str
    msg_id: str
    body: str


def subscribers(host: Host, spec: dict[str, Any]) -> Subscribers:
    """Who is to be told what, by the Notifications of a Job or a NamedComputeEnv."""
    result: Subscribers = {}
    if spec.get("NotificationTarget", "CMQ") == "TDMQ_CMQ" or host.settings.legacy_cmq_target == "deliver":
        for notification in spec.get("Notifications", ()):
            for event in notification["EventConfigs"]:
                result.setdefault(event["EventName"], []).append((notification["TopicName"], event["EventVars"]))
    return result


def publish(
    batch: BatchService, wanted: Subscribers, name: str, subject: str, members: Callable[[], dict[str, Any]]
) -> Iterator[Published]:
    """Publish an event, one message for each topic that wants it.

    :param subject: the id of the job or environment, for the log.
    :param members: makes the ``Batch`` object; asked only when somebody wants the event.
    """
    host = batch.host
    if host.settings.events == "off":
        return
    for topic_name, event_vars in wanted.get(name, ()):
        topic = batch.topics.broker.topic(topic_name)
        if topic is None:
            log.warning("%s of %s is lost: the topic %s does not exist any more", name, subject, topic_name)
            continue
        now = host.now()
        body = events.body(name, now, host.identity.region, members(), event_vars, host.settings)
        msg_id = batch.topics.post.deliver(topic, name, events.encode(body) if host.settings.event_base64 else body)
        yield Published(now, topic_name, msg_id, body)
