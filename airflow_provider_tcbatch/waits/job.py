"""Waiting for a job: the one way to do it, for a trigger in its triggerer and for a worker that waits itself."""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.connection.deployment import explain_timeout
from airflow_provider_tcbatch.connection.masking import masked
from airflow_provider_tcbatch.exceptions import ApiError, NotFound, TCBatchError
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy, counts_of, judge
from airflow_provider_tcbatch.text import visible
from airflow_provider_tcbatch.waits import log_turns
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.cos import CosClient
    from airflow_provider_tcbatch.client.endpoints import CosSettings
    from airflow_provider_tcbatch.client.logs.budget import LineBudget
    from airflow_provider_tcbatch.client.logs.stream import LogStream
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.watching.jobs import Watcher
    from airflow_provider_tcbatch.watching.subscription import JobSnapshot, Subscription

__all__ = ["JobWait", "WaitEnd", "counts_of"]

#: A job's instances are counted no more often than this, in seconds, and so that all waits of a process together cause
#: about one such call a second: progress is shown with what the API's limit leaves over.
_PROGRESS_SECONDS = 30.0

#: A hint that something happened to the job leads to a count at once, but not more often than this, in seconds.
_HINT_SECONDS = 1.0

#: From when to when, in seconds, the first state is said of a wait that is brief (another one at once).
_FIRST_SAID = (2.0, 8.0)


#: The clients for COS of all waits that share a watcher, and with it their keys, by where COS is.
_cos_clients: weakref.WeakKeyDictionary[Watcher, dict[CosSettings, CosClient]] = weakref.WeakKeyDictionary()

#: Time in seconds between two looks at the output of a job's instances.
_STREAM_SECONDS = 10.0


@dataclass(frozen=True)
class WaitEnd:
    """How a wait ended.

    :param status: ``ended``; ``failing``, if the job runs but can't succeed any more; ``timeout``; ``away``, if the
        API could not be asked for too long; ``error``.
    :param state: state of the job that was read last.
    :param limit: the limit that was reached, for ``timeout``.
    :param message: what went wrong, for ``error``.
    :param source: ``event`` if an event led to the last look, else ``poll``.
    :param observed_at: unix seconds of that look.
    :param event_received_at: unix seconds when the event arrived, if one did.
    :param streamed: whether the output of the instances has been shown.
    :param outage: what the log has not been told of an outage, see :class:`~.policies.outage.Outage`.
    """

    status: str
    state: str | None = None
    limit: Limit | None = None
    message: str | None = None
    source: str | None = None
    observed_at: float | None = None
    event_received_at: float | None = None
    streamed: bool = False
    outage: dict[str, Any] | None = None

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""
        told = {**asdict(self), "limit": self.limit and self.limit.value}
        if self.outage is None:
            del told["outage"]
        return told


# Slots, since a process may hold ten thousands of waits.
@dataclass(slots=True)
class JobWait:
    """A wait for the end of one job.

    :param job_id: the job.
    :param poll_interval: longest time in seconds between two looks at its state while no events flow.
    :param deadlines: when to give up.
    :param policy: what counts as success; matters here with ``fail_fast`` only.
    :param progress: log how many instances have ended, when that has changed.
    :param stream: follow the output of this many instances at a time; 0 for none.
    :param budget: how much of that output may be shown; ``None`` for as much as on a worker.
    :param log_line: takes what the task's log shows: a format and its arguments. The state that ends the wait is not
        said: whoever waits says it, and by what it was heard.
    :param brief: say the first state some seconds later. Where there are thousands of waits, each says its states
        minutes later, and not those that have passed by then, or for which it would be ten minutes: if thousands began
        or went on at once, a line of each would keep all waiting for the log.
    :param enforced: when a limit is reached that Airflow itself enforces (unix seconds): an outage may last until then.
    """

    job_id: str
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    policy: SuccessPolicy = field(default_factory=SuccessPolicy)
    progress: bool = False
    stream: int = 0
    budget: LineBudget | None = None
    log_line: Callable[..., None] = lambda *_: None
    brief: bool = False
    enforced: float | None = None

    _state: str | None = field(default=None, init=False)
    #: When the state is said (unix seconds), if it has not been yet.
    _line_at: float | None = field(default=None, init=False)
    _started: bool = field(default=False, init=False)
    _shown: tuple[int, int] | None = field(default=None, init=False)
    #: Since when the instances are counted often: the beginning of the wait, or the last hint.
    _fresh: float = field(default_factory=time.time, init=False)
    _counted_at: float = field(default=float("-inf"), init=False)
    _refused: bool = field(default=False, init=False)
    #: The end of the job, as long as its instances may still make a success of it.
    _lingering: WaitEnd | None = field(default=None, init=False)
    #: What it does about an outage, once there has been one.
    _patience: Patience | None = field(default=None, init=False)

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> WaitEnd:
        """Wait for the end.

        :param watcher: a started watcher for the job's account and region.
        :param settings: the connection, for the address of COS.
        """
        stream = await self._stream(watcher, settings) if self.stream else None
        with watcher.subscribe(self.job_id, self.poll_interval) as subscription:
            end = await self._follow(watcher, subscription, stream)
            if self._patience is not None:
                self._patience.heed(subscription)
                end = replace(end, outage=self._patience.untold())
        if stream is not None and end.status in ("ended", "failing"):
            await stream.finish(limit=explain_timeout())
        return end

    async def _stream(self, watcher: Watcher, settings: ConnectionSettings) -> LogStream:
        from airflow_provider_tcbatch.client.logs.stream import LogStream

        def show(task: str, index: int, stream: str, line: str) -> None:
            self.log_line("[%s %d %s] %s", visible(task), index, stream, visible(masked(line)))

        # Making a client for COS reads its keys: not on the event loop. One does for all waits of an account.
        known, key = _cos_clients.setdefault(watcher, {}), settings.cos
        if (cos := known.get(key)) is None:
            cos = known.setdefault(key, await asyncio.to_thread(settings.cos_client))
        return LogStream(watcher.api, cos, self.job_id, show, instances=self.stream, budget=self.budget)

    async def _follow(
        self, watcher: Watcher, subscription: Subscription[JobSnapshot], stream: LogStream | None
    ) -> WaitEnd:
        detail_at = self._next_detail(watcher)
        stream_at = time.time() + _STREAM_SECONDS / 2
        while True:
            now = time.time()
            limit, patient = self._heed_outage(subscription)
            # What Airflow itself enforces is no alarm: it would ring for ever once it is over.
            own = None if limit == self.enforced else limit
            alarms = [detail_at, own, patient, None if stream is None else stream_at, self._line_at]
            first = min((at for at in alarms if at is not None), default=None)
            snapshot = await subscription.next(None if first is None else max(0.0, first - now))
            now = time.time()
            if snapshot is not None and (end := self._heed(snapshot)) is not None:
                if self.policy.min_success is None or end.state != State.FAILED:
                    return end
                # Whether a job is FAILED at its first failed instance or at its last one is not documented.
                if self._lingering is None:
                    self.log_line("Job %s is %s, its other instances are waited for", self.job_id, end.state)
                self._lingering, detail_at = end, now
            now = time.time()
            if detail_at is not None and subscription.nudged and self.policy.fail_fast:
                # If the API lags behind its own event, the next counts must follow soon.
                self._fresh = now
                detail_at = min(detail_at, max(now, self._counted_at + _HINT_SECONDS))
            if detail_at is not None and now >= detail_at:
                if (end := await self._look_closer(watcher)) is not None:
                    return end
                detail_at = self._next_detail(watcher)
            if self._line_at is not None and now >= self._line_at:
                self.log_line("Job %s is %s", self.job_id, self._state)
                self._line_at = None
            if stream is not None and now >= stream_at:
                await stream.turn()
                stream_at = time.time() + _STREAM_SECONDS
            limit, _ = self._heed_outage(subscription)
            if self._patience is not None and self._patience.over(limit) is not None:
                return WaitEnd("away", self._state, streamed=stream is not None)
            reached = self.deadlines.reached(time.time(), started=self._started or self._away)
            if reached is Limit.QUEUE_TIMEOUT:
                # An instance may have run between two looks at the job.
                if (end := await self._look_closer(watcher)) is not None:
                    return end
                reached = self.deadlines.reached(time.time(), started=self._started)
            if reached is not None:
                return WaitEnd("timeout", self._state, limit=reached, streamed=stream is not None)

    @property
    def _away(self) -> bool:
        """Whether the API can't be asked: then nobody knows whether the job has started by now."""
        return self._patience is not None and self._patience.outage is not None

    def _heed_outage(self, subscription: Subscription[JobSnapshot]) -> tuple[float | None, float | None]:
        """Take in whether the API can be asked; when a limit is reached, and when there is something to do about it."""
        if subscription.outage is not None and self._patience is None:
            self._patience = Patience(self.log_line)
        if self._patience is None:
            first = self.deadlines.next(started=self._started)
            return first and first[0], None
        self._patience.heed(subscription)
        first = self.deadlines.next(started=self._started)
        if first is not None and first[1] is Limit.QUEUE_TIMEOUT and self._away and time.time() >= first[0]:
            first = self.deadlines.next(started=True)
        limit = first[0] if first is not None else self.enforced
        return limit, self._patience.alarm(limit)

    def _heed(self, snapshot: JobSnapshot) -> WaitEnd | None:
        """Take a snapshot in; the end of the wait, if it is one."""
        if snapshot.error is not None:
            return WaitEnd("error", self._state, message=str(snapshot.error))
        self._note_state(snapshot.state)
        if not judge(snapshot.state).is_final:
            return None
        return WaitEnd(
            "ended",
            self._state,
            source=snapshot.source,
            observed_at=snapshot.observed_at,
            event_received_at=snapshot.event_received_at,
            streamed=self.stream > 0,
        )

    def _note_state(self, state: str) -> None:
        final = judge(state).is_final
        if state != self._state:
            self._line_at = None
            if final:
                pass  # said by whoever waits
            elif self.brief:
                first, last = _FIRST_SAID if self._state is None else (0.0, 0.0)
                self._line_at = log_turns.turns.take(random.uniform(first, last))
            else:
                self.log_line("Job %s is %s", self.job_id, state)
        self._state = state
        if state == State.RUNNING or final:
            self._started = True

    def _next_detail(self, watcher: Watcher) -> float | None:
        """When to count the instances next, unix seconds; ``None`` if nobody needs to know."""
        now = time.time()
        if self.policy.fail_fast or self._lingering is not None:
            return now + pace(now - self._fresh, self.poll_interval)
        if self.progress:
            return now + max(_PROGRESS_SECONDS, watcher.jobs) * random.uniform(0.9, 1.1)
        return None

    async def _look_closer(self, watcher: Watcher) -> WaitEnd | None:
        """Count the instances: show progress, and see whether the job can still succeed."""
        from airflow_provider_tcbatch.models.actions import DescribeJob

        self._counted_at = time.time()
        try:
            view = await watcher.api.acall(DescribeJob(job_id=self.job_id), attempts=1)
        except TCBatchError as error:
            # The watcher looks at the job's state all the while: it tells when the service can't be reached.
            if isinstance(error, ApiError) and not isinstance(error, NotFound) and not error.retryable:
                if not self._refused:
                    self.log_line("The instances of job %s can't be counted: %s", self.job_id, error)
                self._refused = True
                self.progress = False
                return self._lingering
            return None
        counts = counts_of(view)
        if counts is None:
            return self._lingering
        self._started = self._started or counts.started > 0
        self.progress = self.progress and counts.total > 1
        if counts.total > 1 and self._shown != (counts.done, counts.failed) and (self._shown or counts.done):
            self.log_line(
                "Job %s: %d of %d instances done, %d failed", self.job_id, counts.done, counts.total, counts.failed
            )
        self._shown = (counts.done, counts.failed)
        outcome = judge(view.job_state, counts, self.policy)
        if self._lingering is not None and outcome.is_final:
            return self._lingering
        if outcome.early:
            return WaitEnd("failing", outcome.state, observed_at=time.time(), source="poll", streamed=self.stream > 0)
        return None
