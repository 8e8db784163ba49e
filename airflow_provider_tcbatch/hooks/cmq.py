"""Queues and topics of TDMQ CMQ, which carry Batch's events."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import NotFound, ResourceBusy
from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    CreateCmqTopic,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
    DeleteCmqTopic,
    DescribeCmqQueueDetail,
)

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.cmq import CmqClient, Message
    from airflow_provider_tcbatch.models.cmq_views import CmqQueue
    from airflow_provider_tcbatch.models.request import Action

__all__ = ["CmqHook"]


class CmqHook(TencentCloudHook):
    """Receives, deletes and publishes messages, and sets topics, queues and subscriptions up and down.

    Setting up what exists already, and removing what does not, are no errors.
    """

    @cached_property
    def cmq(self) -> CmqClient:
        """Client of the data plane."""
        return self.settings.cmq_client()

    def receive(self, queue: str, *, count: int = 16, wait: int = 3) -> list[Message]:
        """Receive messages; an empty list when none came.

        A message that is not deleted within the queue's visibility timeout comes again.

        :param count: most messages to take, 1 to 16.
        :param wait: seconds to wait for the first one, 0 to 30; more than 3 raises the share of duplicates.
        """
        return self.cmq.receive(queue, count=count, wait=wait)

    def delete(self, queue: str, messages: Sequence[Message]) -> None:
        """Delete messages that were received; those whose time has run out are passed over."""
        self.cmq.delete(queue, [message.handle for message in messages])

    def publish(self, topic: str, body: str) -> str:
        """Publish a message and return its id."""
        return self.cmq.publish(topic, body)

    # -- set up and tear down ------------------------------------------------------------------------

    def ensure_topic(self, topic: str) -> bool:
        """Make a topic unless it exists; says whether it was made."""
        return self._made(CreateCmqTopic(topic_name=topic))

    def ensure_queue(
        self, queue: str, *, visibility_timeout: int = 30, message_retention: int = 43200, long_poll: int = 3
    ) -> bool:
        """Make a queue unless it exists; says whether it was made. An existing one is left as it is.

        :param visibility_timeout: seconds that a received message stays hidden, 1 to 43200.
        :param message_retention: a message not deleted within this time is lost, 30 to 43200 s.
        :param long_poll: seconds that receivers wait who name no time, 0 to 30.
        """
        return self._made(
            CreateCmqQueue(
                queue_name=queue,
                visibility_timeout=visibility_timeout,
                msg_retention_seconds=message_retention,
                polling_wait_seconds=long_poll,
            )
        )

    def ensure_subscription(self, topic: str, queue: str, name: str | None = None) -> bool:
        """Send all messages of a topic on to a queue, unless a subscription of that name exists.

        :param name: name of the subscription; default is the queue's.
        """
        return self._made(
            CreateCmqSubscribe.parse(
                {
                    "TopicName": topic,
                    "SubscriptionName": name or queue,
                    "Protocol": "queue",
                    "Endpoint": queue,
                    # The only format that a queue takes.
                    "NotifyContentFormat": "SIMPLIFIED",
                }
            )
        )

    def remove_subscription(self, topic: str, name: str) -> bool:
        """Remove a subscription if it exists; says whether it was there."""
        return self._removed(DeleteCmqSubscribe(topic_name=topic, subscription_name=name))

    def remove_queue(self, queue: str) -> bool:
        """Remove a queue, with its messages, if it exists; says whether it was there."""
        return self._removed(DeleteCmqQueue(queue_name=queue))

    def remove_topic(self, topic: str) -> bool:
        """Remove a topic if it exists; says whether it was there."""
        return self._removed(DeleteCmqTopic(topic_name=topic))

    def describe_queue(self, queue: str) -> CmqQueue:
        """Attributes and fill level of a queue.

        :raises NotFound: if it does not exist.
        """
        found = self.api.call(DescribeCmqQueueDetail(queue_name=queue)).queue_describe
        if found is None:
            raise NotFound(f"Queue {queue!r} does not exist", action="DescribeCmqQueueDetail")
        return found

    def _made(self, action: Action[Any]) -> bool:
        try:
            self.api.call(action)
        except ResourceBusy as error:
            if not error.code.startswith("ResourceInUse"):
                raise
            return False
        return True

    def _removed(self, action: Action[Any]) -> bool:
        try:
            self.api.call(action)
        except NotFound:
            return False
        return True
