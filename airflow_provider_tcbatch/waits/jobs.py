"""Waiting for several jobs at once, or for instances of a task: for a trigger, and for a worker that waits itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ApiError
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.job.outcome import judge
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.watching.jobs import Watcher
    from airflow_provider_tcbatch.watching.subscription import JobSnapshot

__all__ = ["InstancesWait", "JobsEnd", "JobsWait", "Seen", "Stop", "first", "has_ended", "until", "untold"]

#: Most instances on one page of DescribeTask.
_PAGE = 1000


def has_ended(state: str, *, interrupted: bool) -> bool:
    """Whether a job, or an instance, has ended.

    :param interrupted: whether FAILED_INTERRUPTED is an end: nothing more happens by itself, but machines are kept.
    """
    outcome = judge(state)
    return outcome.is_final and (interrupted or outcome.state != State.FAILED_INTERRUPTED)


@dataclass(frozen=True)
class Seen:
    """The look that ended a wait.

    :param source: ``event`` if an event led to it, else ``poll``; ``None`` if no look ended it.
    :param observed_at: unix seconds of that look.
    :param event_received_at: unix seconds when the event arrived, if one did.
    """

    source: str | None = None
    observed_at: float | None = None
    event_received_at: float | None = None

    @classmethod
    def of(cls, snapshot: JobSnapshot) -> Seen:
        """What the watcher saw."""
        return cls(snapshot.source, snapshot.observed_at, snapshot.event_received_at)

    @classmethod
    def after(cls, snapshot: JobSnapshot | None) -> Seen:
        """A look of the wait's own, just now.

        :param snapshot: what led to it; ``None`` if only time did.
        """
        if snapshot is None:
            return cls("poll", time.time())
        return cls(snapshot.source, time.time(), snapshot.event_received_at)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "source": self.source,
            "observed_at": self.observed_at,
            "event_received_at": self.event_received_at,
        }


@dataclass(frozen=True)
class JobsEnd:
    """How a wait ended.

    :param status: ``ended`` if all have; ``timeout``; ``away``, if the API could not be asked for too long; ``error``;
        where states are waited for, ``reached`` and ``failed`` instead of ``ended``.
    :param states: the states that were read last, by job id or by index.
    :param limit: the limit that was reached, for ``timeout``.
    :param message: what went wrong, for ``error``.
    :param seen: the look that ended it.
    :param outage: what the log has not been told of an outage, see :class:`~.policies.outage.Outage`.
    """

    status: str
    states: dict[str, str] = field(default_factory=dict)
    limit: Limit | None = None
    message: str | None = None
    seen: Seen = field(default_factory=Seen)
    outage: dict[str, Any] | None = None

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""
        limit = self.limit and self.limit.value
        told = {"status": self.status, "states": self.states, "limit": limit, "message": self.message}
        return {**told, **self.seen.to_json(), **untold(self.outage)}


def untold(outage: dict[str, Any] | None) -> dict[str, Any]:
    """What an event tells of an outage; nothing, where there is nothing left to tell."""
    return {} if outage is None else {"outage": outage}


def first(deadlines: Deadlines) -> float | None:
    """When the first limit of a wait is reached, in unix seconds; ``None`` if it has none."""
    limit = deadlines.next(started=True)
    return limit and limit[0]


def until(deadlines: Deadlines, patience: Patience, look_at: float | None = None) -> float | None:
    """Seconds until a wait has something to do.

    :param look_at: when it looks by itself, in unix seconds.
    """
    limit = first(deadlines)
    alarms = [at for at in (limit, patience.alarm(limit), look_at) if at is not None]
    return max(0.0, min(alarms) - time.time()) if alarms else None


class Stop(Exception):
    """One of the jobs ends the wait for all of them."""

    def __init__(self, end: JobsEnd) -> None:
        super().__init__(end.status)
        self.end = end


@dataclass
class JobsWait:
    """A wait for the end of several jobs; the first error ends it.

    :param job_ids: the jobs.
    :param poll_interval: longest time in seconds between two looks at a job while no events flow.
    :param deadlines: when to give up.
    :param interrupted: whether FAILED_INTERRUPTED is an end.
    :param log_line: takes what the task's log shows: a format and its arguments.
    :param patience: of the wait that this one is a part of; default is one of its own.
    """

    job_ids: Sequence[str]
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    interrupted: bool = True
    log_line: Callable[..., None] = lambda *_: None
    patience: Patience | None = None

    def __post_init__(self) -> None:
        self._patience = self.patience or Patience(self.log_line)
        self._states: dict[str, str] = {}
        self._ended = 0
        #: The last look that told something new.
        self._seen = Seen()

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the end.

        :param watcher: a started watcher for the jobs' account and region.
        :param settings: the connection.
        """
        waits = [asyncio.ensure_future(self._follow(watcher, job_id)) for job_id in self.job_ids]
        try:
            await asyncio.gather(*waits)
        except Stop as stop:
            return replace(stop.end, outage=self._patience.untold())
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return JobsEnd("ended", self._states, seen=self._seen, outage=self._patience.untold())

    async def _follow(self, watcher: Watcher, job_id: str) -> None:
        with watcher.subscribe(job_id, self.poll_interval) as subscription:
            while True:
                self._patience.heed(subscription, job_id)
                snapshot = await subscription.next(until(self.deadlines, self._patience))
                self._patience.heed(subscription, job_id)
                if snapshot is not None and snapshot.error is not None:
                    raise Stop(JobsEnd("error", self._states, message=str(snapshot.error)))
                if snapshot is not None:
                    self._states[job_id] = snapshot.state
                    self._seen = Seen.of(snapshot)
                    if self._is_over(snapshot.state):
                        self._ended += 1
                        # The last one is told anyway: where thousands of waits end at once, a line of each would keep
                        # them all waiting for the log.
                        if self._ended < len(self.job_ids):
                            told = (self._ended, len(self.job_ids))
                            self.log_line("Job %s is %s (%d of %d)", job_id, snapshot.state, *told)
                        return
                if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                    raise Stop(JobsEnd("timeout", self._states, limit=reached))
                if self._patience.over(first(self.deadlines)) is not None:
                    raise Stop(JobsEnd("away", self._states))

    def _is_over(self, state: str) -> bool:
        """Whether a job in this state is waited for no longer.

        :raises Stop: if none of them is.
        """
        return has_ended(state, interrupted=self.interrupted)


@dataclass
class InstancesWait:
    """A wait for the end of instances of one task. No event is published for it by default, so it polls.

    :param job_id: the job.
    :param task_name: the task.
    :param indexes: its instances.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: when to give up.
    :param log_line: takes what the task's log shows: a format and its arguments.
    """

    job_id: str
    task_name: str
    indexes: Collection[int]
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    log_line: Callable[..., None] = lambda *_: None

    async def run(self, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the end.

        :param settings: the connection.
        """
        api = settings.api_client()
        try:
            return await self._poll(api)
        finally:
            await api.aclose()

    async def _poll(self, api: ApiClient) -> JobsEnd:
        begun = time.time()
        patience = Patience(self.log_line)
        states: dict[str, str] = {}

        def end(status: str, **more: Any) -> JobsEnd:
            return JobsEnd(status, states, outage=patience.untold(), **more)

        while True:
            try:
                states = await self._unfinished(api)
                patience.answered()
                if not states:
                    return end("ended")
            except ApiError as error:
                if patience.failed(error):
                    return end("error", message=str(error))
            look_at = time.time() + patience.pause(pace(time.time() - begun, self.poll_interval))
            while time.time() < look_at:
                if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                    return end("timeout", limit=reached)
                if patience.over(first(self.deadlines)) is not None:
                    return end("away")
                await asyncio.sleep(until(self.deadlines, patience, look_at) or 0.0)

    async def _unfinished(self, api: ApiClient) -> dict[str, str]:
        """States of those of the instances that have not ended, by index."""
        from airflow_provider_tcbatch.models.actions import DescribeTask

        found: dict[str, str] = {}
        offset = 0
        while True:
            # Not filtered by state: such a list would shrink, and move, between two of its pages.
            page = await api.acall(
                DescribeTask(job_id=self.job_id, task_name=self.task_name, offset=offset, limit=_PAGE)
            )
            for view in page.task_instance_set or ():
                state = str(view.task_instance_state)
                if view.task_instance_index in self.indexes and not has_ended(state, interrupted=False):
                    found[str(view.task_instance_index)] = state
            offset += _PAGE
            if offset >= (page.task_instance_total_count or 0):
                return found
