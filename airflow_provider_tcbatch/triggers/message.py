"""Starting DAGs from any message of a TDMQ CMQ queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.triggers.cmq import CmqTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.event_reader import Arrival
    from airflow_provider_tcbatch.models.payloads import QueueMessagePayload

__all__ = ["CmqMessageTrigger"]


class CmqMessageTrigger(CmqTrigger):
    """Tell of each message of a TDMQ CMQ queue, whatever it says.

    ``MessageQueueTrigger(scheme="tencent+cmq")`` of the common.messaging provider is another name for it. The payload
    is a :class:`~airflow_provider_tcbatch.events.QueueMessagePayload`. What follows from a message is stored at least
    once; ``message_id`` tells repeated ones.

    :param queue_name: a durable queue that nothing else reads.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    """

    def payloads(self, arrival: Arrival) -> Iterator[QueueMessagePayload]:
        """The payload of a message."""
        from airflow_provider_tcbatch.models.payloads import QueueMessagePayload, event_payload, json_of, plain

        body = plain(arrival.message.body)
        where = {"queue_name": self.queue_name, "message_id": arrival.key}
        yield QueueMessagePayload(
            queue_name=self.queue_name,
            message_id=arrival.key,
            enqueued_at=arrival.message.enqueued_at,
            body=body,
            json=json_of(body),
            events=[
                event_payload(event, event.event_id(arrival.key), **where, confirmed=False) for event in arrival.events
            ],
        )
