"""The shared watcher: all waits of one process for one account and region, kept by one poller.

Events make it fast, batched polling makes it certain. An event only marks a job as *due now*; a wait is told
nothing that was not read from the API. So a lost, late, repeated, reordered or forged message can cost time or
a call, never correctness.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound, TCBatchError
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs
from airflow_provider_tcbatch.policies.job.notifications import FINAL_JOB_EVENTS
from airflow_provider_tcbatch.policies.job.outcome import judge
from airflow_provider_tcbatch.watching.event_tap import Ear
from airflow_provider_tcbatch.watching.poller import Poller
from airflow_provider_tcbatch.watching.subscription import JobSnapshot, Watch, WatcherTimings

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.models.views import JobView
    from airflow_provider_tcbatch.watching.event_listener import EventListener

__all__ = ["Watcher"]

log = logging.getLogger(__name__)


class Watcher(Poller[JobSnapshot]):
    """Watches any number of jobs with few calls.

    :param api: client to ask.
    :param listener: source of events, if there is one.
    :param timings: paces.
    """

    kind: ClassVar[str] = "jobs"
    action: ClassVar[str] = DescribeJobs.name()

    def __init__(
        self,
        api: ApiClient,
        listener: EventListener | None = None,
        timings: WatcherTimings | None = None,
    ) -> None:
        super().__init__(api, timings)
        self._listener = listener
        # Trust in events is earned by an event that came and lost by one that did not.
        self._trust = False
        self._unannounced: dict[str, float] = {}
        #: Those who listen, by the job that they want to hear of; ``None`` for those to whom others may matter.
        self._ears: dict[str | None, set[Ear]] = {}

    @property
    def jobs(self) -> int:
        """How many jobs are being waited for."""
        return len(self._watches)

    def start(self) -> None:
        """Start the background tasks on the running loop."""
        super().start()
        if self._listener is not None:
            self._background(self._listener.run(self.hear, self._events_failed), "tcbatch-listener")

    @property
    def listens(self) -> bool:
        """Whether it has a source of events."""
        return self._listener is not None

    @property
    def deaf(self) -> str | None:
        """Why no event is heard, nor will be by itself; ``None`` while they are, or may be soon."""
        if self._listener is None:
            return "the connection names no event_topic, or no address of CMQ (cmq_endpoint)"
        return self._listener.denied if self._crash is None else str(self._crash)

    @property
    def hears(self) -> bool:
        """Whether events are being heard now: there is a queue, and it can be read."""
        return self._listener is not None and self._listener.hearing.is_set()

    def listen(self, wants: Callable[[BatchEvent], bool], *, job_id: str | None = None) -> Ear:
        """Begin to hear events that the topic brings; leave the returned context to end.

        Nothing is missed from the moment on when the queue exists; what came before, or while it was gone, is lost. In
        a queue that several processes share, an event that one of them takes is not heard by the others.

        :param wants: whether an event matters. It must be quick, and must not raise.
        :param job_id: the only job whose events matter, if there is one: then nobody is asked about those of others.
        """
        ear = Ear(wants, partial(self._forget, job_id))
        self._ears.setdefault(job_id, set()).add(ear)
        return ear

    def _forget(self, job_id: str | None, ear: Ear) -> None:
        ears = self._ears.get(job_id, set())
        ears.discard(ear)
        if not ears:
            self._ears.pop(job_id, None)

    def hear(self, event: BatchEvent, received_at: float) -> bool:
        """Take an event in, for waits for its job and for those who listen.

        :param event: the event.
        :param received_at: unix seconds when it arrived.
        :returns: whether anybody here waits, or just waited, for it.
        """
        hinted = event.job_id is not None and self.hint(event.job_id, event.name, received_at)
        about = {None, event.job_id}
        wanted = [ear.take(event, received_at) for job_id in about for ear in list(self._ears.get(job_id, ()))]
        return hinted or any(wanted)

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
            watch.led = True
        else:
            for subscription in watch.subscribers:
                subscription.nudge()
        # If the API lags behind its own event, the next looks must follow soon.
        watch.fresh = now
        self._plan(watch, now + self._timings.coalesce)
        return True

    async def aclose(self) -> None:
        """End the background tasks."""
        await super().aclose()
        if self._listener is not None:
            await self._listener.aclose()

    def _slowest(self, watch: Watch[JobSnapshot]) -> float:
        """While events flow, jobs are looked at more seldom still."""
        return max(watch.poll_interval, self._timings.reconcile) if self._trust else watch.poll_interval

    def _before_turn(self, now: float) -> None:
        self._note_missed_events(now)

    # -- looking -------------------------------------------------------------------------------------

    async def _look(self, batch: list[Watch[JobSnapshot]]) -> None:
        # A call that an event asks for takes others along, whose own events may still be on their way.
        led = any(watch.led for watch in batch)
        for watch in batch:
            watch.led = False
        await self._look_at(batch, led)

    async def _look_at(self, batch: list[Watch[JobSnapshot]], led: bool) -> None:
        ids = [watch.key for watch in batch]
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
            await self._look_at(batch[:middle], led)
            await self._look_at(batch[middle:], led)
            return
        views = {view.job_id: view for view in answer.job_set}
        known = [watch for watch in batch if watch.key in views]
        await self._tell([(watch, self._snapshot(watch, views[watch.key], led)) for watch in known])
        for watch in batch:
            if watch.key not in views:
                await self._confirm_missing(watch, led)

    async def _confirm_missing(self, watch: Watch[JobSnapshot], led: bool) -> None:
        """DescribeJobs leaves out what it does not know; only DescribeJob says so."""
        try:
            view = await self._api.acall(DescribeJob(job_id=watch.key), attempts=1)
        except NotFound as error:
            if time.monotonic() - watch.born > self._timings.missing:
                await self._tell([(watch, JobSnapshot(watch.key, error=error))])
            return
        await self._tell([(watch, self._snapshot(watch, view, led))])

    def _snapshot(self, watch: Watch[JobSnapshot], view: JobView | DescribeJobResult, led: bool) -> JobSnapshot:
        return JobSnapshot(
            watch.key,
            state=str(view.job_state),
            task_counts=None if view.task_metrics is None else view.task_metrics.counts,
            source="event" if led or watch.hinted_at is not None else "poll",
            observed_at=time.time(),
            event_received_at=watch.hinted_at,
        )

    def _failure(self, key: str, error: TCBatchError) -> JobSnapshot:
        return JobSnapshot(key, error=error)

    def _differs(self, before: JobSnapshot, now: JobSnapshot) -> bool:
        return before.state != now.state or before.task_counts != now.task_counts

    # -- trust in events -------------------------------------------------------------------------------

    def _learn(self, watch: Watch[JobSnapshot], snapshot: JobSnapshot) -> None:
        """An end that no event announced is noted: the event may be late, or events may not flow."""
        if self._listener is not None and judge(snapshot.state).is_final and watch.hinted_at is None:
            self._unannounced[watch.key] = time.monotonic()

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
