"""Starting DAGs from any message of a TDMQ CMQ queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.triggers._base.queue_trigger import BaseQueueTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.payloads import QueueMessagePayload, QueueMessagesPayload
    from airflow_provider_tcbatch.watching.event_reader import Arrival

__all__ = ["CmqMessageTrigger"]


class CmqMessageTrigger(BaseQueueTrigger):
    """Tell of the messages of a TDMQ CMQ queue, whatever they say, but for those of ``airflow tcbatch events check``.

    ``MessageQueueTrigger(scheme="tencent+cmq")`` of the common.messaging provider is another name for it. The payload
    is ``{"messages": [...]}``, a list of :class:`~airflow_provider_tcbatch.events.QueueMessagePayload`: the first one
    at once, those that come within the next 5 s together. What follows from a message is stored at least once;
    ``message_id`` tells repeated ones.

    :param queue_name: a durable queue that nothing else reads.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    """

    def payload(self, batch: Sequence[Arrival]) -> QueueMessagesPayload | None:
        """Some messages, in the order in which the queue delivered them."""
        from airflow_provider_tcbatch.models.check_message import check_of

        messages = [self._message(arrival) for arrival in batch if check_of(arrival.message.body) is None]
        return {"messages": messages} if messages else None

    def _message(self, arrival: Arrival) -> QueueMessagePayload:
        from airflow_provider_tcbatch.models.event_json import plain
        from airflow_provider_tcbatch.models.payloads import QueueMessagePayload, event_payload, json_of

        body = plain(arrival.message.body)
        return QueueMessagePayload(
            queue_name=self.queue_name,
            message_id=arrival.key,
            enqueued_at=arrival.message.enqueued_at,
            body=body,
            json=json_of(body),
            events=[
                event_payload(event, queue_name=self.queue_name, message_id=arrival.key, confirmed=False)
                for event in arrival.events
            ],
        )
