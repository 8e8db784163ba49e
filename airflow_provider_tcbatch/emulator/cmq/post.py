"""The way of an event from Batch to its topic, on which a fault may lie in wait."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.entities import Topic
from airflow_provider_tcbatch.emulator.faults import Faults

_GARBLED = "this is no JSON"


class Post:
    """Brings events to topics.

    :param broker: where the topics are.
    :param faults: what may happen on the way.
    """

    def __init__(self, broker: Broker, faults: Faults) -> None:
        self._broker = broker
        self._faults = faults
        #: What waits for another event of the same topic to overtake it.
        self._held: dict[str, list[Callable[[], None]]] = {}

    def deliver(self, topic: Topic, event_name: str, body: str) -> str:
        """Publish an event, or do with it what a fault says.

        :return: the message id, also of a message that never arrives.
        """
        message_id = self._broker.new_message_id()
        fault = self._faults.event(event_name, topic.name)
        kind = fault.kind if fault else None

        def publish(text: str = body) -> None:
            self._broker.publish(topic, text, message_id=message_id)

        if fault is None:
            publish()
        elif kind == "duplicate_event":
            for _ in range(1 + fault.copies):
                publish()
        elif kind == "delay_event":
            self._broker.later(fault.seconds, publish)
        elif kind == "garble_event":
            publish(_GARBLED if fault.body is None else fault.body)
        elif kind == "reorder_event":
            self._held.setdefault(topic.name, []).append(publish)
            # Nothing may ever follow it.
            self._broker.later(fault.seconds, lambda: self._release(topic.name))
        if kind != "reorder_event":
            self._release(topic.name)
        return message_id

    def _release(self, topic: str) -> None:
        for publish in self._held.pop(topic, ()):
            publish()
