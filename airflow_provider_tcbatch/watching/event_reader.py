"""Reads a durable queue, and deletes a message only once what it says has been stored.

Waits have :mod:`~airflow_provider_tcbatch.watching.event_listener`, for which an event is a hint that may be lost. Here
an event is all there is: nothing is deleted before its reader says so, what is read again is recognised, and whatever
goes wrong is waited out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.cmq import BATCH_SIZE
from airflow_provider_tcbatch.exceptions import ApiError, ConfigurationError, NotFound, PermissionDenied, TCBatchError
from airflow_provider_tcbatch.models.bounds import MESSAGE, TooMuch
from airflow_provider_tcbatch.models.cmq import DescribeCmqQueueDetail
from airflow_provider_tcbatch.models.events import events_of
from airflow_provider_tcbatch.policies.event.confirmation import completed, confirms, doubt, nameless
from airflow_provider_tcbatch.watching.event_facts import look_up

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.cmq import CmqClient, Message
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.policies.event.confirmation import EventFacts

__all__ = ["Arrival", "EventReader", "QueueMemory", "QueueSource", "Sighting", "memory_of"]

log = logging.getLogger(__name__)

#: Messages that may be on their way at once. Airflow gives up a trigger that has 1024 unread ones.
_MOST = 500
#: Seconds between two batches. Up to Airflow 3.3.2 a run takes in what was stored until the *first* event of an asset
#: that waits for it, and the scheduler then forgets what has come since: that waits for yet another event
#: (apache/airflow#70972). So what comes together is stored together, and the rest when the run should have been made.
_PACE = 5.0
#: A batch holds so many messages at most, so many bytes, and so many values of JSON: all of it is handed on at once.
_PORTION = 250
_PORTION_SIZE = 262_144
_PORTION_VALUES = 20_000
#: Ids that are remembered of each queue: about 1 MB.
_REMEMBERED = 10_000
#: Seconds that the API is given to bear out an event: it may know of a change later than the queue does.
_PATIENCE = 10.0
#: Seconds between two looks at what is in doubt.
_LOOK_AGAIN = 1.0
#: Seconds for which deletions are gathered into one request.
_GATHER = 0.05
#: Longest pause after failures, in seconds.
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class QueueSource:
    """Where a queue is read: ready clients, which the reader closes."""

    cmq: CmqClient
    api: ApiClient


@dataclass(frozen=True)
class Sighting:
    """An event of a message.

    :param event: the event, with the names that the API knows if it was asked.
    :param event_id: the same for all deliveries of the event.
    :param confirmed: whether the API bears it out; false if it was not asked.
    :param doubt: why it does not, if it was asked.
    """

    event: BatchEvent
    event_id: str
    confirmed: bool = False
    doubt: str | None = None


@dataclass(eq=False)
class Arrival:
    """A message that nobody has handled yet.

    :param message: the message.
    :param events: what it holds, if it holds events of Batch at all.
    :param sightings: those of them that are new.
    """

    message: Message
    events: list[BatchEvent]
    sightings: list[Sighting] = field(default_factory=list)
    #: Why its events were not looked for, if they were not.
    problem: str | None = None
    #: Whether somebody has already said that it can't be used.
    reported: bool = False
    #: When the API is asked about it next, and until when; 0 before the first time.
    next_look: float = 0.0
    last_look: float = 0.0
    #: Whether somebody was there, since it was read, who wants the API to bear events out; and whether it has done so,
    #: or has had its time.
    strict: bool = False
    settled: bool = False

    @property
    def doubts(self) -> list[Sighting]:
        """What the API does not bear out."""
        return [sighting for sighting in self.sightings if sighting.doubt]

    @property
    def key(self) -> str:
        """What tells the message from others."""
        return self.message.message_id or self.message.handle


class QueueMemory:
    """What a process knows of a queue, whoever reads it, and whenever."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        #: How many of those who read want the API to bear events out, and how many want the names that it knows.
        self.doubters = self.namers = 0

    def __contains__(self, one: str) -> bool:
        return one in self._ids

    def remember(self, ids: Iterable[str]) -> None:
        """Note messages and events that have been handled."""
        for one in ids:
            self._ids[one] = None
            self._ids.move_to_end(one)
        while len(self._ids) > _REMEMBERED:
            self._ids.popitem(last=False)

    @contextlib.contextmanager
    def asking(self, *, doubts: bool, names: bool) -> Iterator[None]:
        """Have the API asked about events meanwhile.

        :param doubts: wait until it bears an event out, or has had its time.
        :param names: find out what jobs and environments are called; what it says else does not matter.
        """
        self.doubters += doubts
        self.namers += names
        try:
            yield
        finally:
            self.doubters -= doubts
            self.namers -= names


_memories: dict[Hashable, QueueMemory] = {}


def memory_of(key: Hashable) -> QueueMemory:
    """The memory of a queue in this process."""
    return _memories.setdefault(key, QueueMemory())


@dataclass
class _Flight:
    """A message that has been read and not yet handled.

    :param handles: one for each time that it was read; those whose time is over delete nothing.
    :param event_ids: what is new in it, and not known to be unfounded.
    """

    handles: list[str]
    event_ids: set[str]


class EventReader:
    """Reads one queue, for one consumer, on one event loop.

    :param queue_name: name of the queue.
    :param connect: makes the clients; called again when keys are refused, so that new ones are found.
    :param memory: what the process knows of the queue.
    :param visibility: seconds for which a message that was read should stay hidden, or it comes again too soon.
    """

    def __init__(
        self,
        queue_name: str,
        connect: Callable[[], Awaitable[QueueSource]],
        memory: QueueMemory,
        *,
        visibility: float = 0.0,
    ) -> None:
        self.queue_name = queue_name
        self._connect = connect
        self._memory = memory
        self._visibility = visibility
        self._source: QueueSource | None = None
        self._flights: dict[str, _Flight] = {}
        #: Messages that are too large to be handed on.
        self._left: dict[str, None] = {}
        self._held: list[Arrival] = []
        self._ready: list[Arrival] = []
        self._next_batch = 0.0
        self._doomed: list[str] = []
        self._deletes = asyncio.Event()
        self._room = asyncio.Event()
        self._failures = 0
        self._failing_since = 0.0
        self._told = ""
        self._deleter: asyncio.Task[None] | None = None
        self._checker: asyncio.Task[None] | None = None

    async def batches(self) -> AsyncGenerator[list[Arrival], None]:
        """Messages as they come, without end: what comes together is handed out together.

        It never raises: what goes wrong is logged and waited out.
        """
        self._deleter = asyncio.create_task(self._delete_in_portions(), name="tcbatch-event-deleter")
        while True:
            if self._ready and time.monotonic() >= self._next_batch and (batch := self._portion()):
                self._next_batch = time.monotonic() + _PACE
                # Nothing was awaited since _portion: who comes now hears of none of them.
                yield batch
            await self._turn()

    def finish(self, key: str, *, delete: bool) -> None:
        """Say what has become of a message.

        :param key: the arrival's key.
        :param delete: whether it has been handled; otherwise it comes again.
        """
        flight = self._flights.pop(key, None)
        if flight is None:
            return
        if delete:
            self._memory.remember([key, *flight.event_ids])
            self._doom(flight.handles)
        self._room.set()

    async def aclose(self) -> None:
        """Delete what has been handled, and close the clients. What is on its way comes again to whoever reads next."""
        self._flights.clear()
        for task in (self._deleter, self._checker):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self._delete()
        await self._disconnect()

    # -- reading -------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """One look at the queue, and at what the API says about what it holds."""
        try:
            source = self._source or await self._open()
            # The service recommends 3 s at most. Whole seconds are all that can be asked for.
            wait = 1.0 if self._held else 3.0
            if self._ready:
                wait = min(wait, max(0.0, self._next_batch - time.monotonic()))
            if len(self._flights) < _MOST and wait >= 1:
                for message in await source.cmq.areceive(self.queue_name, wait=int(wait)):
                    self._take(message)
                    await asyncio.sleep(0)  # each may take some milliseconds to read
            elif self._held or self._ready:
                await asyncio.sleep(wait)
            else:
                self._room.clear()
                await self._room.wait()
            await self._settle(source)
        except Exception as error:
            # Whatever it is (a message that can't be read, keys that can't be refreshed), nothing is lost by waiting.
            await self._wait_out(error)
            return
        if self._failures:
            log.info("Queue %s is read again, after %.0f s", self.queue_name, time.monotonic() - self._failing_since)
            self._failures, self._told = 0, ""

    def _portion(self) -> list[Arrival]:
        """What is handed out next."""
        # Somebody who wants the API to be asked may have come since these were read.
        early = [arrival for arrival in self._ready if self._in_question(arrival)]
        if early:
            self._held += early
            self._ready = [arrival for arrival in self._ready if arrival not in early]
        size = count = values = 0
        for arrival in self._ready[:_PORTION]:
            body = arrival.message.body
            size += len(body)
            values += body.count(",") + body.count("[") + body.count("{")
            if count and (size > _PORTION_SIZE or values > _PORTION_VALUES):
                break
            count += 1
        portion, self._ready = self._ready[:count], self._ready[count:]
        return portion

    def _take(self, message: Message) -> None:
        arrival = Arrival(message, [])
        if (flight := self._flights.get(arrival.key)) is not None:
            # It was delivered twice; or it took longer than the queue hides it, and only the latest handle deletes it.
            flight.handles = [*flight.handles, message.handle][-BATCH_SIZE:]
            return
        if arrival.key in self._memory:
            log.info("Message %s on queue %s came again, and is deleted", arrival.key, self.queue_name)
            self._doom([message.handle])
            return
        try:
            MESSAGE.check_size(len(message.body.encode("utf-8", "replace")))
        except TooMuch as error:
            self._leave(arrival.key, error)
            return
        try:
            arrival.events = events_of(message.body)
        except TooMuch as error:
            arrival.problem = str(error)
        under_way = {event_id for flight in self._flights.values() for event_id in flight.event_ids}
        ids = {}
        for event in arrival.events:
            event_id = event.event_id(arrival.key)
            if event_id in ids or event_id in under_way or event_id in self._memory:
                # If the message that brought it first fails, it comes again with that one.
                log.info("%s on queue %s is known already (%s)", event.name, self.queue_name, event_id)
                self._give_time(event_id)
            else:
                ids[event_id] = event
        arrival.sightings = [Sighting(event, event_id) for event_id, event in ids.items()]
        self._flights[arrival.key] = _Flight([message.handle], set(ids))
        self._held.append(arrival)

    def _leave(self, key: str, error: TooMuch) -> None:
        """Leave a message where it is: it comes again and again, until whoever owns the queue does something."""
        if key not in self._left:
            log.warning(
                "Message %s on queue %s is left there: %s. What to do: take it from the queue by hand, or give the "
                "queue a dead-letter queue; it is dropped when the queue's retention is over",
                key,
                self.queue_name,
                error,
            )
        self._left[key] = None
        if len(self._left) > _REMEMBERED:
            del self._left[next(iter(self._left))]

    # -- asking the API ------------------------------------------------------------------------------

    def _give_time(self, event_id: str) -> None:
        """An event has come again: if it is in doubt, that may be because it came before it was true."""
        for arrival in self._held:
            if any(sighting.doubt and sighting.event_id == event_id for sighting in arrival.sightings):
                arrival.last_look = time.monotonic() + _PATIENCE

    def _in_question(self, arrival: Arrival) -> bool:
        """Whether something is left to be found out for those who read."""
        if not arrival.sightings or not (self._memory.doubters or self._memory.namers):
            return False
        if not arrival.last_look:
            return True
        # Who only wants names has had its time; who has doubts may have come since.
        waits = self._memory.doubters > 0 or time.monotonic() < arrival.last_look
        return waits and not arrival.settled and bool(self._open_doubts(arrival))

    def _open_doubts(self, arrival: Arrival) -> list[Sighting]:
        """Doubts that matter to those who read: to who only wants a name, that it is not known yet."""
        if arrival.strict or self._memory.doubters:
            return arrival.doubts
        return [sighting for sighting in arrival.doubts if self._memory.namers and nameless(sighting.event)]

    async def _settle(self, source: QueueSource) -> None:
        """Have those of the held messages ready about whose events nothing is left to be found out."""
        if self._memory.doubters or self._memory.namers:
            await self._ask(source)
        now = time.monotonic()
        held = []
        for arrival in self._held:
            arrival.strict = arrival.strict or self._memory.doubters > 0
            doubts = self._open_doubts(arrival)
            if doubts and now < arrival.last_look:
                held.append(arrival)
                continue
            arrival.settled = doubts == arrival.doubts
            for sighting in doubts:
                log.warning(
                    "%s in message %s on queue %s is not borne out by the API: %s",
                    sighting.event.name or "An event",
                    arrival.key,
                    self.queue_name,
                    sighting.doubt,
                )
                # Nor is it remembered: whoever foresees an event could keep it from being told.
                self._flights[arrival.key].event_ids.discard(sighting.event_id)
            self._ready.append(arrival)
        self._held = held

    async def _ask(self, source: QueueSource) -> None:
        now = time.monotonic()
        due = [arrival for arrival in self._held if arrival.next_look <= now and arrival.sightings]
        events = [sighting.event for arrival in due for sighting in arrival.sightings]
        if not events:
            return
        facts = iter(await look_up(source.api, events))
        for arrival in due:
            arrival.next_look = now + _LOOK_AGAIN
            arrival.last_look = arrival.last_look or now + _PATIENCE
            arrival.sightings = [_checked(one, next(facts)) for one in arrival.sightings]

    # -- deleting ------------------------------------------------------------------------------------

    def _doom(self, handles: list[str]) -> None:
        self._doomed += handles
        self._deletes.set()

    async def _delete_in_portions(self) -> None:
        while True:
            await self._deletes.wait()
            await asyncio.sleep(_GATHER)
            self._deletes.clear()
            await self._delete()

    async def _delete(self) -> None:
        if self._source is None:
            return
        handles, self._doomed = self._doomed, []
        try:
            if handles:
                await self._source.cmq.adelete(self.queue_name, handles)
        except asyncio.CancelledError:
            # Whoever reads next may be another process, which would not recognise them.
            self._doomed = [*handles, *self._doomed]
            raise
        except Exception as error:
            # They come again, are recognised, and are deleted then.
            log.info("%d messages of queue %s can't be deleted now: %s", len(handles), self.queue_name, error)

    # -- trouble -------------------------------------------------------------------------------------

    async def _open(self) -> QueueSource:
        self._source = source = await self._connect()
        if self._visibility and self._checker is None:
            self._checker = asyncio.create_task(self._check_visibility(source), name="tcbatch-queue-check")
        if self._doomed:
            self._deletes.set()
        return source

    async def _wait_out(self, error: Exception) -> None:
        self._failures += 1
        if self._failures == 1:
            self._failing_since = time.monotonic()
        known = isinstance(error, TCBatchError)
        if isinstance(error, (PermissionDenied, ConfigurationError)) or not isinstance(error, ApiError):
            # The connection may have been changed: keys that rotate, a field that was wrong.
            await self._disconnect()
        pause = min(_LONGEST_PAUSE, 2.0 ** min(self._failures, 6)) * random.uniform(0.5, 1.0)
        # A message differs from the last one by its request id at least: what is told once is told by its kind.
        kind = f"{type(error).__name__} {getattr(error, 'code', '')}"
        level = logging.DEBUG if kind == self._told else logging.WARNING
        self._told = kind
        text = str(error) if known else f"{type(error).__name__}: {error}"
        if isinstance(error, NotFound):
            text = (
                f"it does not exist ({error.action}: {error.code}). What to do: make it and subscribe it to the topic, "
                "or correct queue_name in the DAG"
            )
        log.log(level, "Events of queue %s wait, going on trying: %s", self.queue_name, text)
        await asyncio.sleep(pause)

    async def _disconnect(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            for client in (source.cmq, source.api):
                with contextlib.suppress(Exception):
                    await client.aclose()

    async def _check_visibility(self, source: QueueSource) -> None:
        """Say once if messages come again before they can have been handled."""
        try:
            answer = await source.api.acall(DescribeCmqQueueDetail(queue_name=self.queue_name), attempts=1)
        except TCBatchError as error:
            log.debug("Queue %s can't be described: %s", self.queue_name, error)
            return
        hidden = None if answer.queue_describe is None else answer.queue_describe.visibility_timeout
        if hidden is not None and hidden < self._visibility:
            log.warning(
                "Queue %s keeps a message hidden for %d s only, and must do so for %d s: twice [triggerer] "
                "shared_stream_ack_timeout. Otherwise an event may start a DAG twice after a breakdown. What to do: "
                "set its visibility timeout (ModifyCmqQueueAttribute, or the console) to %d s",
                self.queue_name,
                hidden,
                self._visibility,
                self._visibility,
            )


def _checked(sighting: Sighting, facts: EventFacts) -> Sighting:
    event = sighting.event
    return Sighting(completed(event, facts), sighting.event_id, confirms(event, facts), doubt(event, facts))
