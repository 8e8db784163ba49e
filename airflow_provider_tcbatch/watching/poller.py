"""Looking at many things with few calls: what all watchers have in common.

A poller knows when to look, how to share calls, what to do when they fail, and whom to tell. What a look is, and what
a change is, is said by whoever derives from it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from airflow_provider_tcbatch.client.background import Alarm, spawn
from airflow_provider_tcbatch.exceptions import InfrastructureError, TCBatchError, Throttled
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.outage import Outage, can_not_be_asked
from airflow_provider_tcbatch.watching.api_probe import Probe
from airflow_provider_tcbatch.watching.subscription import SnapshotT, Subscription, Watch, WatcherTimings
from airflow_provider_tcbatch.watching.turn_release import Release

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient

__all__ = ["Poller"]

log = logging.getLogger(__name__)

#: Most ids that one call takes.
BATCH = 100

#: Longest pause in seconds between two looks at what can't be looked at.
LONGEST_BACKOFF = 64.0

#: How many waits an answer wakes in one turn of the loop: each then takes some tenths of a millisecond to end, and
#: several answers may arrive in one turn.
PORTION = 15


class Poller(Generic[SnapshotT]):
    """Watches any number of things of one kind with few calls.

    It must be started on, and used from, one event loop. It owns nothing but its tasks: clients are closed by
    whoever made them (see :mod:`~airflow_provider_tcbatch.watching.registry`).

    :param api: client to ask.
    :param timings: paces.
    """

    #: What is watched, for the log.
    kind: ClassVar[str] = "things"
    #: The action that looks at many of them.
    action: ClassVar[str]
    #: Whether the log is its own; where it serves one wait that one tells of outages.
    speaks = True

    def __init__(self, api: ApiClient, timings: WatcherTimings | None = None) -> None:
        self._api = api
        self._timings = timings or WatcherTimings()
        self._watches: dict[str, Watch[SnapshotT]] = {}
        self._heap: list[tuple[float, int, Watch[SnapshotT]]] = []
        self._serial = itertools.count()
        self._alarm = Alarm()
        self._polls = asyncio.Semaphore(4)
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash: TCBatchError | None = None
        #: Tells those who wait for nothing but the end of an outage.
        self.probe = Probe(api)
        #: Whether some of the waits are told that the API can't be asked.
        self._outages = False
        self._succeeded_at = float("-inf")
        self._release: Release | None = None

    # -- what a kind of things says --------------------------------------------------------------------

    async def _look(self, batch: list[Watch[SnapshotT]]) -> None:
        """Look at these things with as few calls as possible, and tell."""
        raise NotImplementedError

    def _failure(self, key: str, error: TCBatchError) -> SnapshotT:
        """The snapshot that says why something can't be watched any longer."""
        raise NotImplementedError

    def _differs(self, before: SnapshotT, now: SnapshotT) -> bool:
        """Whether there is any news."""
        raise NotImplementedError

    def _slowest(self, watch: Watch[SnapshotT]) -> float:
        """Longest time in seconds between two looks."""
        return watch.poll_interval

    def _learn(self, watch: Watch[SnapshotT], snapshot: SnapshotT) -> None:
        """Something was read from the API."""

    def _before_turn(self, now: float) -> None:
        """Called whenever the schedule is looked through."""

    # -- for those who wait --------------------------------------------------------------------------

    @property
    def api(self) -> ApiClient:
        """The client that it asks."""
        return self._api

    @property
    def crashed(self) -> bool:
        """Whether a bug has stopped it; it must be replaced."""
        return self._crash is not None

    def start(self) -> None:
        """Start the background tasks on the running loop."""
        self._background(self._schedule(), "tcbatch-watcher")

    def subscribe(self, key: str, poll_interval: float = 30.0) -> Subscription[SnapshotT]:
        """Begin to wait; leave the returned context to end.

        :param key: id of what is waited for.
        :param poll_interval: longest time in seconds between two looks at it while no events flow.
        """
        now = time.monotonic()
        watch = self._watches.get(key)
        soon = now + self._timings.first * random.uniform(0.3, 1.0)
        if watch is None:
            watch = self._watches[key] = Watch(key, now)
            watch.poll_interval = poll_interval
            self._plan(watch, soon)
        elif poll_interval < watch.poll_interval:
            watch.poll_interval = poll_interval
            self._plan(watch, soon)
        subscription = Subscription(self, watch)
        watch.subscribers.append(subscription)
        if self._crash is not None:
            subscription.put(self._failure(key, self._crash))
        return subscription

    def unsubscribe(self, subscription: Subscription[SnapshotT], watch: Watch[SnapshotT]) -> None:
        """End a wait; called by the subscription."""
        if subscription in watch.subscribers:
            watch.subscribers.remove(subscription)
        if not watch.subscribers and self._watches.get(watch.key) is watch:
            del self._watches[watch.key]

    @property
    def release(self) -> Release:
        """Lets through those who wait to send what was refused for its rate."""
        if self._release is None:
            self._release = Release(self._api.settings.limits, self._api.settings.share)
        return self._release

    async def aclose(self) -> None:
        """End the background tasks."""
        await self.probe.aclose()
        if self._release is not None:
            await self._release.aclose()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- when to look --------------------------------------------------------------------------------

    def _plan(self, watch: Watch[SnapshotT], due: float) -> None:
        """Look at something no later than ``due``."""
        if due >= watch.due:
            return
        watch.due = due
        if watch.on_the_way:
            # The answer under way may be older than the reason to look: look again right after it.
            return
        heapq.heappush(self._heap, (due, next(self._serial), watch))
        if self._heap[0][2] is watch:
            self._alarm.ring()

    def _interval(self, watch: Watch[SnapshotT], now: float) -> float:
        """What is young is looked at soon, what is old seldom."""
        return pace(now - watch.fresh, self._slowest(watch)) * random.uniform(0.9, 1.0)

    def _take(self, now: float) -> list[Watch[SnapshotT]]:
        """What goes into one call: what is due, and as much that soon will be as still fits in."""
        batch: list[Watch[SnapshotT]] = []
        size = BATCH
        while self._heap and len(batch) < size:
            due, _, watch = self._heap[0]
            stale = watch.due != due or watch.on_the_way or self._watches.get(watch.key) is not watch
            if not stale:
                if due > now and (not batch or due - now > self._interval(watch, now) / 2):
                    break
                portion = self._portion(watch)
                if not batch:
                    size = portion
                elif portion != size:
                    break
            heapq.heappop(self._heap)
            if not stale:
                watch.on_the_way = True
                watch.due = float("inf")
                batch.append(watch)
        return batch

    def _portion(self, watch: Watch[SnapshotT]) -> int:
        """How many others may share a call with this one.

        Where calls fail while others succeed, something about one of those in them is to blame: ever smaller calls
        find it and let the others go on. Where all calls fail, splitting them would only make more of them.
        """
        if watch.failures < 2 or self._succeeded_at <= watch.failed_at:
            return BATCH
        return max(1, BATCH >> (3 * (watch.failures - 1)))

    async def _schedule(self) -> None:
        while True:
            now = time.monotonic()
            self._before_turn(now)
            wait = (self._heap[0][0] if self._heap else now + 60.0) - now
            if wait > 0:
                await self._alarm.sleep(max(wait, 0.001))
                continue
            # Whoever has to wait for his turn comes together with all who are due by then.
            await self._polls.acquire()
            await asyncio.sleep(self._api.limiter.pause(self.action))
            if batch := self._take(time.monotonic()):
                self._background(self._poll(batch), "tcbatch-poll")
                await asyncio.sleep(0)  # it takes its place in the line
            else:
                self._polls.release()

    # -- looking -------------------------------------------------------------------------------------

    async def _poll(self, batch: list[Watch[SnapshotT]]) -> None:
        started = time.monotonic()
        pause = 0.0
        try:
            await self._look(batch)
            self._succeeded_at = time.monotonic()
            await self._answered(batch)
        except Throttled as error:
            # The limiter has already slowed down. A throttle costs time and nothing else.
            log.info("Throttled, going on more slowly: %s", error)
        except TCBatchError as error:
            pause = await self._failed(batch, error, started)
        finally:
            self._polls.release()
            now = time.monotonic()
            for watch in batch:
                watch.on_the_way = False
                asked, watch.due = watch.due, float("inf")
                if self._watches.get(watch.key) is watch:
                    self._plan(watch, now + pause if pause else min(asked, now + self._interval(watch, now)))

    async def _failed(self, batch: list[Watch[SnapshotT]], error: TCBatchError, started: float) -> float:
        """Note that a look at these failed, and tell their waits what that means. Returns the pause in seconds."""
        away = can_not_be_asked(error)
        sent_at = time.time() - (time.monotonic() - started)
        for watch in batch:
            watch.failures += 1
            watch.failed_at = started
            watch.refusals = 0 if away else watch.refusals + 1
            if watch.failing_since is None:
                watch.failing_since = sent_at
        most = max(watch.failures for watch in batch)
        # On a worker this is the task's log, and an outage may take hours.
        log.log(
            logging.DEBUG if away else logging.WARNING,
            "Looking at %d %s failed (%d in a row): %s",
            len(batch),
            self.kind,
            most,
            error,
        )
        if away:
            await self._tell_outage(batch, str(error))
        else:
            told = InfrastructureError(f"{most} looks in a row failed, the last one with: {error}", retryable=True)
            lost = [watch for watch in batch if watch.refusals >= self._timings.failures]
            await self._tell((watch, self._failure(watch.key, told)) for watch in lost)
        if len(batch) > 1 and most >= 2 and self._succeeded_at <= started:
            await self._probe(batch)
        longest = max(self._timings.backoff, min(LONGEST_BACKOFF, *(watch.poll_interval for watch in batch)))
        doubled = self._timings.backoff * float(2 ** min(most - 1, 10))
        return min(longest, doubled) * random.uniform(0.8, 1.2)

    async def _tell_outage(self, batch: list[Watch[SnapshotT]], error: str) -> None:
        """Let the waits for these know that the API can't be asked, once each."""
        known: dict[float, Outage] = {}  # thousands share it
        begins = not self._outages
        count = 0
        for watch in batch:
            if watch.outage is not None or watch.failures < self._timings.flukes or watch.failing_since is None:
                continue
            self._outages = True
            watch.outage = known.setdefault(watch.failing_since, Outage(watch.failing_since, error))
            count = await self._wake(watch, count)
        if begins and self._outages and self.speaks:
            log.warning("%d looks in a row at %s failed, they go on: %s", self._timings.flukes, self.kind, error)

    async def _answered(self, batch: list[Watch[SnapshotT]]) -> None:
        """Looks at these succeed again: their waits, and all others that wait for the same, need not wait longer."""
        back = False
        count = 0
        for watch in batch:
            if watch.failures:
                watch.failures = watch.refusals = 0
                watch.failing_since = None
            if watch.outage is not None:
                back, watch.outage = True, None
                count = await self._wake(watch, count)
        if back and self._outages:
            self._outages = False
            if self.speaks:
                log.info("Looking at %s succeeds again", self.kind)
            now = time.monotonic()
            for watch in list(self._watches.values()):
                if watch.failures:
                    self._plan(watch, now + self._timings.first * random.random())

    async def _wake(self, watch: Watch[SnapshotT], count: int) -> int:
        """Wake the waits for something, in portions; returns how many have been woken so far."""
        for subscription in list(watch.subscribers):
            count += 1
            subscription.wake()
            if count % PORTION == 0:
                await asyncio.sleep(0)
        return count

    async def _probe(self, batch: list[Watch[SnapshotT]]) -> None:
        """Look at one of those in a call that failed: does nothing work, or is one of the others to blame?"""
        try:
            await self._look([random.choice(batch)])
        except TCBatchError:
            return
        self._succeeded_at = time.monotonic()

    # -- telling -------------------------------------------------------------------------------------

    async def _tell(self, news: Iterable[tuple[Watch[SnapshotT], SnapshotT]]) -> None:
        """Wake those for whom there is news, in portions: thousands at once would stall the loop."""
        for number, (watch, snapshot) in enumerate(news, start=1):
            if snapshot.error is None:
                self._learn(watch, snapshot)
                if watch.failures:
                    await self._answered([watch])
            if watch.last is None or snapshot.error is not None or self._differs(watch.last, snapshot):
                watch.last = snapshot
                for count, subscription in enumerate(list(watch.subscribers), start=1):
                    subscription.put(snapshot)
                    if count % PORTION == 0:
                        await asyncio.sleep(0)
            if number % PORTION == 0:
                await asyncio.sleep(0)

    # -- background tasks ----------------------------------------------------------------------------

    def _background(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = spawn(coroutine, name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        # A bug of ours must reach every waiter: silence would leave their tasks waiting for ever.
        log.error("Task %s of the watcher crashed", task.get_name(), exc_info=error)
        self._crash = TCBatchError(f"The watcher crashed ({type(error).__name__}: {error})")
        for watch in self._watches.values():
            for subscription in watch.subscribers:
                subscription.put(self._failure(watch.key, self._crash))
