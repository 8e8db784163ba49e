"""Requests of TDMQ CMQ's control plane (API ``tdmq`` 2020-02-17): topics, queues, subscriptions.

Receiving and deleting messages is not part of API 3.0; see ``client/cmq.py``.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from airflow_provider_tcbatch.models.actions import Action, Result

__all__ = [
    "CreateCmqQueue",
    "CreateCmqSubscribe",
    "CreateCmqTopic",
    "DeleteCmqQueue",
    "DeleteCmqSubscribe",
]


class CmqAction(Action[Result]):
    """Base of the requests whose answer carries nothing that is needed here."""

    service: ClassVar[str] = "tdmq"
    version: ClassVar[str] = "2020-02-17"


class CreateCmqTopic(CmqAction):
    """Make a topic; a second one of the same name is refused, so repeating is safe."""

    topic_name: str


class CreateCmqQueue(CmqAction):
    """Make a queue.

    :param queue_name: begins with a letter; letters, digits, ``-`` and ``_``; at most 64.
    :param polling_wait_seconds: long-poll time of receivers that name none, 0 to 30 s.
    :param visibility_timeout: seconds that a received message stays hidden, 1 to 43200.
    :param msg_retention_seconds: a message not deleted within this time is lost, 30 to 43200 s.
    """

    queue_name: str
    polling_wait_seconds: int | None = Field(default=None, ge=0, le=30)
    visibility_timeout: int | None = Field(default=None, ge=1, le=43200)
    msg_retention_seconds: int | None = Field(default=None, ge=30, le=43200)


class CreateCmqSubscribe(CmqAction):
    """Send a topic's messages on to a queue. Without a filter tag everything is sent on."""

    topic_name: str
    subscription_name: str
    protocol: str
    endpoint: str
    notify_content_format: str | None = None


class DeleteCmqQueue(CmqAction):
    """Remove a queue with its messages."""

    queue_name: str


class DeleteCmqSubscribe(CmqAction):
    """Remove a subscription."""

    topic_name: str
    subscription_name: str
