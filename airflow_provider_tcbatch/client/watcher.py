"""The shared watcher: all waits of one process for one account and region, kept by one poller.

Events make it fast, batched polling makes it certain. An event only marks a job as *due now*; a wait is told
nothing that was not read from the API. So a lost, late, repeated, reordered or forged message can cost time or
a call, never correctness.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from collections.abc import Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.client.waiting import Alarm, JobSnapshot, Subscription, Watch, WatcherTimings, spawn
from airflow_provider_tcbatch.exceptions import InfrastructureError, InvalidRequest, NotFound, TCBatchError, Throttled
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs
from airflow_provider_tcbatch.policies.notifying import FINAL_JOB_EVENTS
from airflow_provider_tcbatch.policies.outcome import judge
from airflow_provider_tcbatch.policies.pacing import pace

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.listener import EventListener
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["Watcher"]

log = logging.getLogger(__name__)

#: Most job ids that one DescribeJobs takes.
BATCH = 100


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
        timings: WatcherTimings | None = None,
    ) -> None:
        self._api = api
        self._listener = listener
        self._timings = timings or WatcherTimings()
        self._watches: dict[str, Watch] = {}
        self._heap: list[tuple[float, int, Watch]] = []
        self._serial = itertools.count()
        self._alarm = Alarm()
        self._polls = asyncio.Semaphore(4)
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash: TCBatchError | None = None
        self._succeeded_at = float("-inf")
        # Trust in events is earned by an event that came and lost by one that did not.
        self._trust = False
        self._unannounced: dict[str, float] = {}

    # -- for those who wait --------------------------------------------------------------------------

    @property
    def api(self) -> ApiClient:
        """The client that it asks."""
        return self._api

    @property
    def jobs(self) -> int:
        """How many jobs are being waited for."""
        return len(self._watches)

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
        soon = now + self._timings.first * random.uniform(0.3, 1.0)
        if watch is None:
            watch = self._watches[job_id] = Watch(job_id, now)
            watch.poll_interval = poll_interval
            self._plan(watch, soon)
        elif poll_interval < watch.poll_interval:
            watch.poll_interval = poll_interval
            self._plan(watch, soon)
        subscription = Subscription(self, watch)
        watch.subscribers.append(subscription)
        if self._crash is not None:
            subscription.put(JobSnapshot(job_id, error=self._crash))
        return subscription

    def unsubscribe(self, subscription: Subscription, watch: Watch) -> None:
        """End a wait; called by the subscription."""
        if subscription in watch.subscribers:
            watch.subscribers.remove(subscription)
        if not watch.subscribers and self._watches.get(watch.job_id) is watch:
            del self._watches[watch.job_id]

    def hint(self, job_id: str, name: str, received_at: float) -> bool:
        """Take an event for what it is: a reason to look at a job now.

        :param job_id: the job that an event named.
        :param name: name of the event.
        :param received_at: unix seconds when it arrived.
        :returns: whether anybody here waits, or just waited, for the job.
        """
        final = name in FINAL_JOB_EVENTS
        expected = final and self._unannounced.pop(job_id, None) is not None
        watch = self._watches.get(job_id)
        if watch is None:
            return expected
        now = time.monotonic()
        if final:
            self._trust = True
            watch.hinted_at = received_at
        else:
            for subscription in watch.subscribers:
                subscription.nudge()
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

    def _plan(self, watch: Watch, due: float) -> None:
        """Look at a job no later than ``due``."""
        if due >= watch.due:
            return
        watch.due = due
        if watch.on_the_way:
            # The answer under way may be older than the reason to look: look again right after it.
            return
        heapq.heappush(self._heap, (due, next(self._serial), watch))
        if self._heap[0][2] is watch:
            self._alarm.ring()

    def _interval(self, watch: Watch, now: float) -> float:
        """Young jobs are looked at soon, old ones seldom, and while events flow more seldom still."""
        slowest = max(watch.poll_interval, self._timings.reconcile) if self._trust else watch.poll_interval
        return pace(now - watch.fresh, slowest) * random.uniform(0.9, 1.0)

    def _take(self, now: float) -> list[Watch]:
        """Jobs for one call: those that are due, and as many that soon will be as still fit in."""
        batch: list[Watch] = []
        size = BATCH
        while self._heap and len(batch) < size:
            due, _, watch = self._heap[0]
            stale = watch.due != due or watch.on_the_way or self._watches.get(watch.job_id) is not watch
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

    def _portion(self, watch: Watch) -> int:
        """How many jobs may share a call with this one.

        Where calls fail while others succeed, something about one of their jobs is to blame: ever smaller calls find it
        and let the others go on. Where all calls fail, splitting them would only make more of them.
        """
        if watch.failures < 2 or self._succeeded_at <= watch.failed_at:
            return BATCH
        return max(1, BATCH >> (3 * (watch.failures - 1)))

    async def _schedule(self) -> None:
        while True:
            now = time.monotonic()
            self._note_missed_events(now)
            if batch := self._take(now):
                await self._polls.acquire()
                self._background(self._poll(batch), "tcbatch-poll")
                continue
            wait = (self._heap[0][0] if self._heap else now + 60.0) - now
            await self._alarm.sleep(max(wait, 0.001))

    # -- looking -------------------------------------------------------------------------------------

    async def _poll(self, batch: list[Watch]) -> None:
        started = time.monotonic()
        pause = 0.0
        try:
            await self._look(batch)
            self._succeeded_at = time.monotonic()
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
                if self._watches.get(watch.job_id) is watch:
                    self._plan(watch, now + pause if pause else min(asked, now + self._interval(watch, now)))

    async def _look(self, batch: list[Watch]) -> None:
        ids = [watch.job_id for watch in batch]
        try:
            answer = await self._api.acall(DescribeJobs(job_ids=ids, limit=len(ids)), attempts=1)
        except InvalidRequest as error:
            if not error.code.startswith("InvalidParameter"):
                raise
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

    async def _confirm_missing(self, watch: Watch) -> None:
        """DescribeJobs leaves out what it does not know; only DescribeJob says so."""
        try:
            view = await self._api.acall(DescribeJob(job_id=watch.job_id), attempts=1)
        except NotFound as error:
            if time.monotonic() - watch.born > self._timings.missing:
                await self._tell([(watch, JobSnapshot(watch.job_id, error=error))])
            return
        await self._tell([(watch, self._snapshot(watch, view))])

    def _snapshot(self, watch: Watch, view: JobView | DescribeJobResult) -> JobSnapshot:
        return JobSnapshot(
            watch.job_id,
            state=str(view.job_state),
            view=view,
            source="poll" if watch.hinted_at is None else "event",
            observed_at=time.time(),
            event_received_at=watch.hinted_at,
        )

    async def _failed(self, batch: list[Watch], error: TCBatchError, started: float) -> float:
        """Note that a look at these jobs failed; tell those that failed too often. Returns the pause in seconds."""
        for watch in batch:
            watch.failures += 1
            watch.failed_at = started
        most = max(watch.failures for watch in batch)
        log.warning("Looking at %d jobs failed (%d in a row): %s", len(batch), most, error)
        told = InfrastructureError(f"{most} looks in a row failed, the last one with: {error}", retryable=True)
        lost = [watch for watch in batch if watch.failures >= self._timings.failures]
        await self._tell((watch, JobSnapshot(watch.job_id, error=told)) for watch in lost)
        if len(batch) > 1 and most >= 2 and self._succeeded_at <= started:
            await self._probe(batch)
        doublings = min(most, self._timings.failures) - 1
        return self._timings.backoff * float(2**doublings) * random.uniform(0.8, 1.2)

    async def _probe(self, batch: list[Watch]) -> None:
        """Look at one job of a call that failed: does nothing work, or is one of the others to blame?"""
        try:
            await self._look([random.choice(batch)])
        except TCBatchError:
            return
        self._succeeded_at = time.monotonic()

    # -- telling -------------------------------------------------------------------------------------

    async def _tell(self, news: Iterable[tuple[Watch, JobSnapshot]]) -> None:
        """Wake those whose job has changed, in portions: thousands at once would stall the loop."""
        for number, (watch, snapshot) in enumerate(news, start=1):
            if snapshot.error is None:
                watch.failures = 0
                self._learn(watch, snapshot)
            if _differs(watch.last, snapshot):
                watch.last = snapshot
                for subscription in watch.subscribers:
                    subscription.put(snapshot)
            if number % BATCH == 0:
                await asyncio.sleep(0)

    def _learn(self, watch: Watch, snapshot: JobSnapshot) -> None:
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
