"""The Cmq actions of TDMQ's API 3.0: making, showing and removing queues, topics and subscriptions."""

from __future__ import annotations

from airflow_provider_tcbatch.emulator.cmq import queues, topics
from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.common import Handler, numbers


def create_durable_topic(broker: Broker, name: str) -> None:
    """A topic that SubmitJob accepts: with a queue of its own that is subscribed to it."""
    topic = broker.add_topic(name, numbers({}, topics.TOPIC_NUMBERS))
    queue = broker.queue(f"{name}-base") or broker.add_queue(f"{name}-base", numbers({}, queues.QUEUE_NUMBERS))
    topics.subscribe(broker, topic, f"{name}-base", {"Protocol": "queue", "Endpoint": queue.name})


HANDLERS: dict[str, Handler] = {**queues.HANDLERS, **topics.HANDLERS}
