"""TDMQ CMQ queues for the common.messaging provider (extra ``messaging``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.messaging.providers.base_provider import BaseMessageQueueProvider

if TYPE_CHECKING:
    from airflow.triggers.base import BaseEventTrigger

__all__ = ["TencentCmqMessageQueueProvider"]


class TencentCmqMessageQueueProvider(BaseMessageQueueProvider):
    """``MessageQueueTrigger(scheme="tencent+cmq", queue_name="orders")``: any message of a queue.

    All arguments but ``scheme`` are those of :class:`~airflow_provider_tcbatch.triggers.message.CmqMessageTrigger`.
    """

    scheme = "tencent+cmq"

    def trigger_class(self) -> type[BaseEventTrigger]:
        """The trigger that ``MessageQueueTrigger`` stands for."""
        from airflow_provider_tcbatch.triggers.message import CmqMessageTrigger

        return CmqMessageTrigger
