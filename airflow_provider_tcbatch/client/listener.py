"""Hears the events that Batch publishes to a CMQ topic.

Two modes. *Own queue*: this process makes a queue and subscribes it to the topic, so every process hears
everything. *Shared queue*: the user names one queue; a message for a job that nobody here waits for is left to
reappear for another process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import secrets
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import NotFound, PermissionDenied, ResourceBusy, TCBatchError
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
)
from airflow_provider_tcbatch.models.events import parse_message

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.cmq import CmqClient, Message
    from airflow_provider_tcbatch.models.actions import Action
    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["EventListener", "Hear", "own_queue_name"]

#: Called with an event and the unix seconds when it arrived; says whether anybody here waits for it.
Hear = Callable[["BatchEvent", float], bool]

log = logging.getLogger(__name__)

#: In a shared queue, a message that nobody claimed for this many seconds is deleted.
_UNCLAIMED_SECONDS = 600.0

#: Longest pause after failures, in seconds.
_LONGEST_PAUSE = 30.0


def own_queue_name(prefix: str = "airflow-tcbatch") -> str:
    """Make a queue name that tells where it came from: at most 64 letters, digits and dashes."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname()).strip("-")[:24]
    return f"{prefix}-{host}-{secrets.token_hex(4)}"


class EventListener:
    """Long-polls a queue and passes on which jobs its messages are about.

    :param cmq: client for the queue; closed with the listener.
    :param api: client that makes and removes an own queue.
    :param topic: topic that jobs publish to.
    :param queue: name of a shared queue; ``None`` for a queue of this process' own.
    """

    def __init__(self, cmq: CmqClient, api: ApiClient, topic: str, queue: str | None = None) -> None:
        self._cmq = cmq
        self._api = api
        self._topic = topic
        self._shared = queue is not None
        self._queue = queue or own_queue_name()
        # An own queue exists, and is subscribed: making it may fail in between.
        self._exists = self._subscribed = False
        #: Set while events are being heard.
        self.hearing = asyncio.Event()
        #: Messages received so far.
        self.received = 0
        #: What the credentials may not do, so that nothing is heard; ``None`` while that is not so.
        self.denied: str | None = None

    async def run(self, hear: Hear, failed: Callable[[], None]) -> None:
        """Listen until cancelled, or until it turns out that it can't be done.

        :param hear: told of every event.
        :param failed: called when events stop being heard.
        """
        try:
            await self._listen(hear, failed)
        finally:
            self.hearing.clear()
            # Also when the process ends: asyncio cancels its tasks and waits for them.
            await self._remove_queue()

    async def _listen(self, hear: Hear, failed: Callable[[], None]) -> None:
        failures = 0
        while True:
            try:
                if not self._shared and not self._subscribed:
                    await self._make_queue()
                self.hearing.set()
                await self._hear(hear)
                if failures:
                    log.info("Events are heard again on queue %s", self._queue)
                failures = 0
                self.denied = None
            except PermissionDenied as error:
                self.denied = str(error)
                failed()
                log.warning("Events can't be heard, waits go on by polling: %s", error)
                return
            except Exception as error:
                # Whatever it is (a message that can't be read, keys that can't be refreshed): events make waits fast,
                # and must never end one.
                failures += 1
                self.hearing.clear()
                failed()
                if isinstance(error, NotFound) and self._subscribed:
                    # An own queue that somebody removed is made again.
                    self._exists = self._subscribed = False
                pause = min(_LONGEST_PAUSE, 2.0 ** min(failures, 5)) * random.uniform(0.5, 1.0)
                level = logging.WARNING if failures == 1 else logging.DEBUG
                text = str(error) if isinstance(error, TCBatchError) else f"{type(error).__name__}: {error}"
                log.log(level, "Events can't be heard, polling meanwhile, next try in %.0f s: %s", pause, text)
                await asyncio.sleep(pause)

    async def _hear(self, hear: Hear) -> None:
        messages = await self._cmq.areceive(self._queue)
        now = time.time()
        handled = [message.handle for message in messages if self._handle(message, hear, now)]
        if handled:
            await self._cmq.adelete(self._queue, handled)

    def _handle(self, message: Message, hear: Hear, now: float) -> bool:
        """Pass a message on; says whether it may be deleted."""
        self.received += 1
        try:
            events = parse_message(message.body)
        except Exception as error:  # anybody may write to a queue; what can't be read is only a lost hint
            log.warning("Message %s on queue %s: %s: %s", message.message_id, self._queue, type(error).__name__, error)
            events = []
        if not events:
            log.warning("Message %s on queue %s holds no Batch event", message.message_id, self._queue)
        # Everybody is told before the message is deleted: what is lost in between is only found by polling.
        wanted = [hear(event, now) for event in events]
        if not self._shared or any(wanted):
            return True
        return bool(message.enqueued_at) and now - message.enqueued_at > _UNCLAIMED_SECONDS

    async def _make_queue(self) -> None:
        await self._make(CreateCmqQueue(queue_name=self._queue, polling_wait_seconds=3, visibility_timeout=30))
        self._exists = True
        await self._make(
            CreateCmqSubscribe(
                topic_name=self._topic,
                subscription_name=self._queue,
                protocol="queue",
                endpoint=self._queue,
                notify_content_format="SIMPLIFIED",
            )
        )
        self._subscribed = True
        log.info("Hearing events of topic %s on queue %s", self._topic, self._queue)

    async def _make(self, action: Action[Any]) -> None:
        try:
            await self._api.acall(action)
        except ResourceBusy:  # ResourceInUse.*: it exists already, from an attempt whose answer was lost
            log.debug("%s: %s exists already", action.name(), self._queue)

    async def _remove_queue(self) -> None:
        """Remove an own queue, as far as that is possible: one that stays behind costs nothing but its name."""
        removals: list[Action[Any]] = []
        if self._subscribed:
            removals.append(DeleteCmqSubscribe(topic_name=self._topic, subscription_name=self._queue))
        if self._exists:
            removals.append(DeleteCmqQueue(queue_name=self._queue))
        self._exists = self._subscribed = False
        try:
            for removal in removals:
                await asyncio.wait_for(self._api.acall(removal, attempts=1), 3.0)
        except (TCBatchError, asyncio.TimeoutError) as error:
            log.info("Queue %s could not be removed: %s", self._queue, error)

    async def aclose(self) -> None:
        """Close the client."""
        await self._cmq.aclose()
