"""Hears the events that Batch publishes to a CMQ topic.

Two modes. *Own queue*: this process makes a queue and subscribes it to the topic, so every process hears
everything. *Shared queue*: the user names one queue; a message for a job that nobody here waits for is left to
reappear for another process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.background import spawn
from airflow_provider_tcbatch.client.cmq import BATCH_SIZE
from airflow_provider_tcbatch.exceptions import NotFound, PermissionDenied, TCBatchError
from airflow_provider_tcbatch.models.bounds import TooMuch
from airflow_provider_tcbatch.models.check_message import check_of
from airflow_provider_tcbatch.models.events import events_of
from airflow_provider_tcbatch.watching.health import Health
from airflow_provider_tcbatch.watching.process_queue import OwnQueue

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.cmq import CmqClient, Message
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.watching.health import Metrics
    from airflow_provider_tcbatch.watching.process_queue import QueueTimings

__all__ = ["EventListener", "Hear"]

#: Called with an event and the unix seconds when it arrived; says whether anybody here waits for it.
Hear = Callable[["BatchEvent", float], bool]

log = logging.getLogger(__name__)

#: In a shared queue, a message that nobody claimed for this many seconds is deleted.
_UNCLAIMED_SECONDS = 600.0

#: Seconds for which others have a shared queue for themselves, and how often a message was received that shows that it
#: may go to and fro. One that comes still more often is nobody's.
_GIVE_WAY, _TO_AND_FRO = 0.8, range(3, 41)

#: How many messages that somebody here has claimed are remembered: where deleting one comes too late, or gets lost, it
#: comes again, and by then it may be that nobody waits for it.
_REMEMBERED = 2000

#: Messages that follow one another within the first are gathered for the second, in seconds.
_FLOW, _GATHER = 0.5, 0.1

#: Seconds between two lines about messages that hold no events; all are counted, see the summary.
_TELL_SECONDS = 60.0

#: Longest pause after failures, in seconds.
_LONGEST_PAUSE = 30.0

#: Seconds until it is tried again what the credentials may not do: rights may be granted later.
_DENIED_PAUSE = 600.0

_DENIED_ADVICE = (
    "Waits go on by polling. What to do: grant the right, or set field event_queue of the connection to one queue for "
    "all triggerers, which needs no right to make queues; 'airflow tcbatch events check' tells what is missing"
)


class EventListener:
    """Long-polls a queue and passes on which jobs its messages are about.

    :param cmq: client for the queue; closed with the listener.
    :param api: client that makes and removes an own queue.
    :param topic: topic that jobs publish to.
    :param queue: name of a shared queue; ``None`` for a queue of this process' own.
    :param deployment: what tells this Airflow from others on the account; it is part of the own queue's name.
    :param metrics: where figures about its health go.
    :param timings: paces of an own queue.
    :param denied: seconds until it tries again what it may not do.
    """

    def __init__(
        self,
        cmq: CmqClient,
        api: ApiClient,
        topic: str,
        queue: str | None = None,
        *,
        deployment: str = "airflow",
        metrics: Metrics | None = None,
        timings: QueueTimings | None = None,
        denied: float = _DENIED_PAUSE,
    ) -> None:
        self._cmq = cmq
        self._named = queue
        self._own = OwnQueue(api, topic, deployment, timings) if queue is None else None
        self._denied_pause = denied
        self._health = Health(topic, metrics)
        self._came_at = self._told_at = 0.0
        self._claimed: dict[str, None] = {}
        #: Set while events are being heard.
        self.hearing = asyncio.Event()
        #: Messages received so far.
        self.received = 0
        #: What the credentials may not do, so that nothing is heard; ``None`` while that is not so.
        self.denied: str | None = None

    @property
    def queue(self) -> str:
        """Name of the queue that it listens to; an own one may be replaced."""
        return self._own.name if self._own is not None else str(self._named)

    async def run(self, hear: Hear, failed: Callable[[], None]) -> None:
        """Listen until cancelled.

        :param hear: told of every event.
        :param failed: called when events stop being heard.
        """
        keeper = None if self._own is None else spawn(self._own.keep(), "tcbatch-own-queue")
        try:
            await self._listen(hear, failed)
        finally:
            self._set_hearing(False)
            if keeper is not None:
                keeper.cancel()
            if self._own is not None:
                # Also when the process ends: asyncio cancels its tasks and waits for them.
                await self._own.remove()

    async def _listen(self, hear: Hear, failed: Callable[[], None]) -> None:
        failures, told = 0, ""
        while True:
            try:
                if self._own is not None and not self._own.ready:
                    await self._own.make()
                if not failures:
                    self._set_hearing(True)
                await self._hear(hear)
                self._set_hearing(True)
                if failures:
                    log.info("Events are heard again on queue %s", self.queue)
                failures, told = 0, ""
                self.denied = None
            except Exception as error:
                # Whatever it is (a message that can't be read, keys that can't be refreshed): events make waits fast,
                # and must never end one.
                failures += 1
                denied = isinstance(error, PermissionDenied)
                self.denied = str(error) if denied else None
                self._set_hearing(False)
                self._health.failed()
                self._health.polled(self.queue, time.time())
                failed()
                if isinstance(error, NotFound) and self._own is not None:
                    await self._own.replace()
                pause = self._denied_pause if denied else min(_LONGEST_PAUSE, 2.0 ** min(failures, 5))
                pause *= random.uniform(0.5, 1.0)
                text = str(error) if isinstance(error, TCBatchError) else f"{type(error).__name__}: {error}"
                if denied:
                    text = f"{text}. {_DENIED_ADVICE}"
                # Told once, and again when it is another kind of trouble.
                kind = f"{type(error).__name__} {getattr(error, 'action', '')}"
                level = logging.DEBUG if kind == told else logging.WARNING
                told = kind
                log.log(level, "Events can't be heard, polling meanwhile, next try in %.0f s: %s", pause, text)
                await asyncio.sleep(pause)

    def _set_hearing(self, hears: bool) -> None:
        if hears == self.hearing.is_set():
            return
        if hears:
            self.hearing.set()
        else:
            self.hearing.clear()
        self._health.hearing(hears)

    async def _hear(self, hear: Hear) -> None:
        queue = self.queue
        messages = await self._cmq.areceive(queue)
        now = time.time()
        flow = bool(messages) and now - self._came_at < _FLOW
        self._came_at = now if messages else self._came_at
        left = []
        for number, message in enumerate(messages):
            if number:
                await asyncio.sleep(0)  # each may take some milliseconds to read
            if not self._handle(message, hear, now):
                left.append(message)
        handled = [message.handle for message in messages if message not in left]
        self._health.polled(queue, now)
        if handled:
            await self._cmq.adelete(queue, handled)
        if any(message.dequeue_count in _TO_AND_FRO for message in left) and random.random() < 0.5:
            # Those who come back in step take from each other what they leave, each time, until one is out of step.
            await asyncio.sleep(_GIVE_WAY)
        elif flow and len(messages) < BATCH_SIZE:
            # Else each message would cost a call to receive it, and one to delete it.
            await asyncio.sleep(_GATHER)

    def _handle(self, message: Message, hear: Hear, now: float) -> bool:
        """Pass a message on; says whether it may be deleted."""
        self.received += 1
        events, problem = self._read(message)
        if problem:
            # Thousands of lines would keep all who wait for the log.
            level = logging.WARNING if now - self._told_at > _TELL_SECONDS else logging.DEBUG
            if level == logging.WARNING:
                self._told_at = now
            log.log(level, "Message %s on queue %s %s", message.message_id, self.queue, problem)
        # Everybody is told before the message is deleted: what is lost in between is only found by polling.
        wanted = [hear(event, now) for event in events]
        claimed = any(wanted) or message.message_id in self._claimed
        if claimed and self._own is None:
            self._remember(message.message_id)
        old = bool(message.enqueued_at) and now - message.enqueued_at > _UNCLAIMED_SECONDS
        deleted = self._own is not None or claimed or old
        self._health.message(message, events, now, claimed=claimed, left=not deleted)
        return deleted

    @staticmethod
    def _read(message: Message) -> tuple[list[BatchEvent], str | None]:
        """The events of a message; if it is none of Batch's nor of the check's, why."""
        try:
            if events := events_of(message.body):
                return events, None
        except TooMuch as error:
            return [], f"is not looked at: {error}. It is taken for one without events"
        except Exception as error:  # anybody may write to a queue; what can't be read is only a lost hint
            return [], f"can't be read: {type(error).__name__}: {error}"
        return [], None if check_of(message.body) is not None else "holds no Batch event"

    def _remember(self, message_id: str) -> None:
        self._claimed[message_id] = None
        if len(self._claimed) > _REMEMBERED:
            del self._claimed[next(iter(self._claimed))]

    async def aclose(self) -> None:
        """Close the client."""
        await self._cmq.aclose()
