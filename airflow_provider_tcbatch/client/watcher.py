"""The shared watcher: all waits of one process for one account and region, kept by one poller.

Events make it fast, batched polling makes it certain. An event only marks a job as *due now*; a wait is told
nothing that was not read from the API. So a lost, late, repeated, reordered or forged message can cost time or
a call, never correctness.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InfrastructureError, InvalidRequest, NotFound, TCBatchError, Throttled
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs
from airflow_provider_tcbatch.policies.outcome import judge
from airflow_provider_tcbatch.policies.pacing import pace

if TYPE_CHECKING:
    from typing_extensions import Self

    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.listener import EventListener
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["JobSnapshot", "Subscription", "Watcher", "WatcherTimings", "spawn"]

log = logging.getLogger(__name__)

#: Most job ids that one DescribeJobs takes.
BATCH = 100


@dataclass(frozen=True)
class JobSnapshot:
    """What is known of a job.

    :param job_id: the job.
    :param state: its state; empty if ``error`` is set.
    :param view: the API's answer it was read from.
    :param source: ``event`` if an event led to this read, else ``poll``.
    :param observed_at: unix seconds when the API's answer arrived.
    :param event_received_at: unix seconds when the event arrived, if one did.
    :param error: why the job can't be watched any longer.
    """

    job_id: str
    state: str = ""
    view: JobView | DescribeJobResult | None = None
    source: str = "poll"
    observed_at: float = 0.0
    event_received_at: float | None = None
    error: TCBatchError | None = None


@dataclass(frozen=True)
class WatcherTimings:
    """Paces of the watcher, in seconds.

    :param first: a new wait is looked at within this time: an event may have come just before it.
    :param coalesce: how long events are gathered before one call confirms them.
    :param reconcile: longest time between two looks at a job while events flow, unless the wait's own
        ``poll_interval`` is longer.
    :param announce: an event that is later than this is taken as lost.
    :param missing: how long a new job may be unknown to the service.
    :param backoff: pause after the first failed call; doubled by each further one.
    :param failures: failed calls in a row before the waits are told.
    """

    first: float = 1.0
    coalesce: float = 0.05
    reconcile: float = 60.0
    announce: float = 30.0
    missing: float = 30.0
    backoff: float = 4.0
    failures: int = 5


def spawn(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    """Start a background task in an empty context.

    A task inherits the context of the coroutine that starts it: in a triggerer that is one task instance's
    log file and trace, which must not receive what is done for everybody.
    """
    loop = asyncio.get_running_loop()
    return contextvars.Context().run(lambda: loop.create_task(coroutine, name=name))


class _Alarm:
    """Something to sleep on until it rings or time is up.

    ``asyncio.wait_for`` would do, but on Python 3.10 and 3.11 it swallows a cancellation that meets the end of what
    it waits for, and the task would never end.
    """

    __slots__ = ("_sleeper",)

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None

    async def sleep(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._sleeper = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self.ring)
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def ring(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)


class _Watch:
    """One job and those who wait for it."""

    __slots__ = ("born", "due", "fresh", "hinted_at", "job_id", "last", "on_the_way", "poll_interval", "subscribers")

    def __init__(self, job_id: str, now: float) -> None:
        self.job_id = job_id
        self.subscribers: list[Subscription] = []
        self.poll_interval = 0.0
        self.born = now
        #: Since when it is looked at often; moved forward by an event.
        self.fresh = now
        self.due = now
        self.on_the_way = False
        self.hinted_at: float | None = None
        self.last: JobSnapshot | None = None


class Subscription:
    """A wait for one job: yields a snapshot whenever its state or its counts have changed.

    Only the latest snapshot is kept: a slow reader misses intermediate states, never the final one.
    """

    __slots__ = ("_alarm", "_latest", "_watch", "_watcher")

    def __init__(self, watcher: Watcher, watch: _Watch) -> None:
        self._watcher = watcher
        self._watch = watch
        self._latest: JobSnapshot | None = watch.last
        self._alarm = _Alarm()

    async def next(self, timeout: float | None = None) -> JobSnapshot | None:
        """Return the next snapshot, or ``None`` when ``timeout`` seconds passed without one."""
        if self._latest is None and (timeout is None or timeout > 0):
            await self._alarm.sleep(timeout)
        snapshot, self._latest = self._latest, None
        return snapshot

    def put(self, snapshot: JobSnapshot) -> None:
        """Hand over a snapshot; called by the watcher."""
        self._latest = snapshot
        self._alarm.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher._unsubscribe(self, self._watch)


class Watcher:
    """Watches any number of jobs with few calls.

    It must be started on, and used from, one event loop. It owns nothing but its tasks: clients are closed by
    whoever made them (see :mod:`~airflow_provider_tcbatch.client.registry`).

    :param api: client to ask.
    :param listener: source of events, if there is one.
    :param timings: paces.
    """

    def __init__(
        self,
        api: ApiClient,
        listener: EventListener | None = None,
        timings: WatcherTimings = WatcherTimings(),
    ) -> None:
        self._api = api
        self._listener = listener
        self._timings = timings
        self._watches: dict[str, _Watch] = {}
        self._heap: list[tuple[float, int, _Watch]] = []
        self._serial = itertools.count()
        self._alarm = _Alarm()
        self._polls = asyncio.Semaphore(4)
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash: TCBatchError | None = None
        self._failures = 0
        self._failed_at = float("-inf")
        self._paused_until = float("-inf")
        # Trust in events is earned by an event that came and lost by one that did not.
        self._trust = False
        self._unannounced: dict[str, float] = {}

    # -- for those who wait --------------------------------------------------------------------------

    @property
    def crashed(self) -> bool:
        """Whether a bug has stopped it; it must be replaced."""
        return self._crash is not None

    def start(self) -> None:
        """Start the background tasks on the running loop."""
        self._background(self._schedule(), "tcbatch-watcher")
        if self._listener is not None:
            self._background(self._listener.run(self.hint, self._events_failed), "tcbatch-listener")

    def subscribe(self, job_id: str, poll_interval: float = 30.0) -> Subscription:
        """Begin to wait for a job; leave the returned context to end.

        :param job_id: the job.
        :param poll_interval: longest time in seconds between two looks at it while no events flow.
        """
        now = time.monotonic()
        watch = self._watches.get(job_id)
        if watch is None:
            watch = self._watches[job_id] = _Watch(job_id, now)
            watch.poll_interval = poll_interval
            self._plan(watch, now + self._timings.first * random.uniform(0.3, 1.0))
        watch.poll_interval = min(watch.poll_interval, poll_interval)
        subscription = Subscription(self, watch)
        watch.subscribers.append(subscription)
        if self._crash is not None:
            subscription.put(JobSnapshot(job_id, error=self._crash))
        return subscription

    def _unsubscribe(self, subscription: Subscription, watch: _Watch) -> None:
        if subscription in watch.subscribers:
            watch.subscribers.remove(subscription)
        if not watch.subscribers and self._watches.get(watch.job_id) is watch:
            del self._watches[watch.job_id]

    def hint(self, job_id: str, received_at: float) -> bool:
        """Take an event for what it is: a reason to look at a job now.

        :param job_id: the job that an event named.
        :param received_at: unix seconds when it arrived.
        :returns: whether anybody here waits, or just waited, for the job.
        """
        expected = self._unannounced.pop(job_id, None) is not None
        watch = self._watches.get(job_id)
        if watch is None:
            return expected
        self._trust = True
        now = time.monotonic()
        watch.hinted_at = received_at
        # If the API lags behind its own event, the next looks must follow soon.
        watch.fresh = now
        self._plan(watch, now + self._timings.coalesce)
        return True

    async def aclose(self) -> None:
        """End the background tasks."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._listener is not None:
            await self._listener.aclose()

    # -- when to look --------------------------------------------------------------------------------

    def _plan(self, watch: _Watch, due: float) -> None:
        """Look at a job no later than ``due``."""
        if watch.on_the_way:
            # The answer under way may be older than the event: look again right after it.
            watch.due = min(watch.due, due)
            return
        watch.due = due
        heapq.heappush(self._heap, (due, next(self._serial), watch))
        if self._heap[0][2] is watch:
            self._alarm.ring()

    def _interval(self, watch: _Watch, now: float) -> float:
        """Young jobs are looked at soon, old ones seldom, and while events flow more seldom still."""
        slowest = max(watch.poll_interval, self._timings.reconcile) if self._trust else watch.poll_interval
        return pace(now - watch.fresh, slowest) * random.uniform(0.9, 1.0)

    def _take(self, now: float) -> list[_Watch]:
        """Jobs for one call: those that are due, and as many that soon will be as still fit in."""
        batch: list[_Watch] = []
        while self._heap and len(batch) < BATCH:
            due, _, watch = self._heap[0]
            stale = watch.due != due or watch.on_the_way or self._watches.get(watch.job_id) is not watch
            if not stale and due > now and (not batch or due - now > self._interval(watch, now) / 2):
                break
            heapq.heappop(self._heap)
            if not stale:
                watch.on_the_way = True
                watch.due = float("inf")
                batch.append(watch)
        return batch

    async def _schedule(self) -> None:
        while True:
            now = time.monotonic()
            self._note_missed_events(now)
            batch = self._take(now) if now >= self._paused_until else []
            if batch:
                await self._polls.acquire()
                self._background(self._poll(batch), "tcbatch-poll")
                continue
            wait = max(self._heap[0][0] if self._heap else now + 60.0, self._paused_until) - now
            await self._alarm.sleep(max(wait, 0.001))

    # -- looking -------------------------------------------------------------------------------------

    async def _poll(self, batch: list[_Watch]) -> None:
        started = time.monotonic()
        try:
            await self._look(batch)
            self._failures = 0
        except Throttled as error:
            # The limiter has already slowed down. A throttle costs time and nothing else.
            log.info("Throttled, going on more slowly: %s", error)
        except TCBatchError as error:
            await self._failed(batch, error, started)
        finally:
            self._polls.release()
            now = time.monotonic()
            for watch in batch:
                watch.on_the_way = False
                if self._watches.get(watch.job_id) is watch:
                    self._plan(watch, min(watch.due, now + self._interval(watch, now)))

    async def _look(self, batch: list[_Watch]) -> None:
        ids = [watch.job_id for watch in batch]
        try:
            answer = await self._api.acall(DescribeJobs(job_ids=ids, limit=len(ids)), attempts=1)
        except InvalidRequest as error:
            # One malformed id spoils the whole call: find it, and let the others go on.
            if len(batch) == 1:
                await self._tell([(batch[0], JobSnapshot(ids[0], error=error))])
                return
            middle = len(batch) // 2
            await self._look(batch[:middle])
            await self._look(batch[middle:])
            return
        views = {view.job_id: view for view in answer.job_set}
        await self._tell(
            [(watch, self._snapshot(watch, views[watch.job_id])) for watch in batch if watch.job_id in views]
        )
        for watch in batch:
            if watch.job_id not in views:
                await self._confirm_missing(watch)

    async def _confirm_missing(self, watch: _Watch) -> None:
        """DescribeJobs leaves out what it does not know; only DescribeJob says so."""
        try:
            view = await self._api.acall(DescribeJob(job_id=watch.job_id), attempts=1)
        except NotFound as error:
            if time.monotonic() - watch.born > self._timings.missing:
                await self._tell([(watch, JobSnapshot(watch.job_id, error=error))])
            return
        await self._tell([(watch, self._snapshot(watch, view))])

    def _snapshot(self, watch: _Watch, view: JobView | DescribeJobResult) -> JobSnapshot:
        return JobSnapshot(
            watch.job_id,
            state=str(view.job_state),
            view=view,
            source="poll" if watch.hinted_at is None else "event",
            observed_at=time.time(),
            event_received_at=watch.hinted_at,
        )

    async def _failed(self, batch: list[_Watch], error: TCBatchError, started: float) -> None:
        now = time.monotonic()
        if started >= self._failed_at:  # calls that were under way together fail as one
            self._failures += 1
            self._failed_at = now
            self._paused_until = now + self._timings.backoff * 2 ** (self._failures - 1) * random.uniform(0.8, 1.2)
        log.warning("Looking at %d jobs failed (%d in a row): %s", len(batch), self._failures, error)
        if self._failures >= self._timings.failures:
            self._paused_until = now
            told = InfrastructureError(
                f"{self._failures} calls in a row failed, the last one with: {error}", retryable=True
            )
            await self._tell([(watch, JobSnapshot(watch.job_id, error=told)) for watch in batch])

    # -- telling -------------------------------------------------------------------------------------

    async def _tell(self, news: Iterable[tuple[_Watch, JobSnapshot]]) -> None:
        """Wake those whose job has changed, in portions: thousands at once would stall the loop."""
        for number, (watch, snapshot) in enumerate(news, start=1):
            if snapshot.error is None:
                self._learn(watch, snapshot)
            if _differs(watch.last, snapshot):
                watch.last = snapshot
                for subscription in watch.subscribers:
                    subscription.put(snapshot)
            if number % BATCH == 0:
                await asyncio.sleep(0)

    def _learn(self, watch: _Watch, snapshot: JobSnapshot) -> None:
        """An end that no event announced is noted: the event may be late, or events may not flow."""
        if self._listener is not None and judge(snapshot.state).is_final and watch.hinted_at is None:
            self._unannounced[watch.job_id] = time.monotonic()

    def _note_missed_events(self, now: float) -> None:
        overdue = [job_id for job_id, since in self._unannounced.items() if now - since > self._timings.announce]
        for job_id in overdue:
            del self._unannounced[job_id]
        if overdue and self._trust:
            log.warning("No event announced the end of %s: polling at full pace again", ", ".join(overdue[:5]))
            self._distrust()

    def _events_failed(self) -> None:
        """The listener can't receive: called by it, once per breakdown."""
        self._distrust()

    def _distrust(self) -> None:
        if not self._trust:
            return
        self._trust = False
        now = time.monotonic()
        for watch in self._watches.values():
            sooner = now + self._interval(watch, now) * random.random()
            if sooner < watch.due and not watch.on_the_way:
                self._plan(watch, sooner)
        self._alarm.ring()

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
                subscription.put(JobSnapshot(watch.job_id, error=self._crash))


def _differs(before: JobSnapshot | None, now: JobSnapshot) -> bool:
    if before is None or now.error is not None or before.state != now.state:
        return True
    return _counts(before.view) != _counts(now.view)


def _counts(view: JobView | DescribeJobResult | None) -> object:
    return None if view is None else view.task_metrics
