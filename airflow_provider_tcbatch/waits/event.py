"""Waiting for an event: it is heard, and borne out by the API, or the API shows that it must have come."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ApiError, InvalidRequest
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.job.targets import TargetVerdict
from airflow_provider_tcbatch.policies.outage import can_not_be_asked, outage_pause
from airflow_provider_tcbatch.waits.event_confirmation import confirm
from airflow_provider_tcbatch.waits.event_inference import Finding, instances_wait, look
from airflow_provider_tcbatch.waits.job_parts import QuorumEnd, TaskTargetsWait
from airflow_provider_tcbatch.waits.job_states import JobTargetsWait, NamedJobWait
from airflow_provider_tcbatch.waits.jobs import JobsEnd, Seen, first, until, untold
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.models.event_json import EventJson
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow
    from airflow_provider_tcbatch.policies.event.awaited import AwaitedEvents
    from airflow_provider_tcbatch.watching.compute_envs import EnvWatcher
    from airflow_provider_tcbatch.watching.event_tap import Ear
    from airflow_provider_tcbatch.watching.jobs import Watcher

__all__ = ["EventEnd", "EventWait"]

#: Events that may be doubted at one time; of more the oldest is forgotten.
_ROOM = 100

#: Seconds after which it is noticed that nothing is heard, or never will be.
_DEAF_CHECK = 5.0

#: Seconds in which a queue is usually made.
_DEAF_AT_FIRST = 15.0

#: Pauses between two looks for what an event says, in seconds; the last one while nothing can be looked for.
_SOONEST, _LATEST, _BLIND = 0.25, 4.0, 60.0


@dataclass(frozen=True)
class EventEnd:
    """How a wait ended.

    :param status: ``reached``; ``failed``, if none of the events can come any more; ``timeout``; ``away``, if the API
        could not be asked for too long; ``error``.
    :param event: the event, or what the API tells of it.
    :param heard: whether it was heard.
    :param limit: the limit that was reached, for ``timeout``.
    :param message: what went wrong, for ``error``; what was seen, for ``failed``.
    :param seen: the look that ended it.
    :param outage: what the log has not been told of an outage, see :class:`~.policies.outage.Outage`.
    """

    status: str
    event: BatchEvent | None = None
    heard: bool = False
    limit: Limit | None = None
    message: str | None = None
    seen: Seen = field(default_factory=Seen)
    outage: dict[str, Any] | None = None

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""
        told: EventJson | None = None if self.event is None else self.event.to_json()
        return {
            "status": self.status,
            "event": told,
            "heard": self.heard,
            "limit": self.limit and self.limit.value,
            "message": self.message,
            **self.seen.to_json(),
            **untold(self.outage),
        }


@dataclass
class _Doubt:
    """An event that the API does not show yet."""

    event: BatchEvent
    received_at: float
    until: float
    due: float = 0.0
    pause: float = _SOONEST


@dataclass
class EventWait:
    """A wait for one of some events.

    :param awaited: the events.
    :param poll_interval: longest time in seconds between two looks, where there is something to look at.
    :param deadlines: when to give up.
    :param log_line: takes what the task's log shows: a format and its arguments.
    :param patience: how long the API may take to show what an event says, in seconds. Then it is ignored.
    :param envs: a started watcher of compute environments, where many may wait for one at the same time.
    """

    awaited: AwaitedEvents
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    log_line: Callable[..., None] = lambda *_: None
    patience: float = 15.0
    envs: EnvWatcher | None = None

    def __post_init__(self) -> None:
        #: Environment as it was counted last, by family.
        self._counted: dict[str, EnvNow | None] = {}
        # One of them is enough to tell of an outage.
        lines = [self.log_line] + [lambda *_: None] * len(self.awaited.looked_at)
        self._patience = {family: Patience(line) for family, line in zip(self.awaited.looked_at, lines, strict=False)}

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> EventEnd:
        """Wait for an event.

        :param watcher: a started watcher for the account and region.
        :param settings: the connection.
        """
        doubts: dict[str, _Doubt] = {}
        with watcher.listen(self._wants, job_id=self.awaited.job_id) as ear:
            waits: list[Coroutine[Any, Any, EventEnd | Finding]] = [self._hear(watcher, ear, doubts)]
            waits += [self._look(watcher, settings, family) for family in self.awaited.looked_at]
            tasks = [asyncio.ensure_future(wait) for wait in waits]
            try:
                end = await self._first(tasks, lambda: bool(doubts) or ear.pending)
                told = next(iter(self._patience.values()), None)
                return end if told is None else replace(end, outage=told.untold())
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _first(self, tasks: list[asyncio.Task[EventEnd | Finding]], in_doubt: Callable[[], bool]) -> EventEnd:
        """How the first of these ends.

        :param in_doubt: whether an event was heard that is not judged yet: it may be older than the state that makes
            others hopeless.
        """
        hopeless: dict[str, str] = {}
        running = set(tasks)
        while True:
            over = hopeless.keys() >= set(self.awaited.families)
            if over and not in_doubt():
                return EventEnd("failed", message="; ".join(hopeless.values()), seen=Seen.after(None))
            limit = self.deadlines.next(started=True)
            left = None if limit is None else max(0.0, limit[0] - time.time())
            if over:
                left = _SOONEST if left is None else min(left, _SOONEST)
            done, running = await asyncio.wait(running, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            ends = [task.result() for task in done]
            for end in ends:
                if isinstance(end, Finding) and end.verdict is TargetVerdict.FAILED:
                    hopeless[end.family] = end.words
            known = [end for end in map(self._end, ends) if end is not None]
            if known:
                return next((end for end in known if end.status == "reached"), known[0])
            if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                return EventEnd("timeout", limit=reached)

    def _end(self, end: EventEnd | Finding) -> EventEnd | None:
        if isinstance(end, EventEnd):
            return end
        if end.verdict is not TargetVerdict.REACHED or not self.awaited.proven:
            return None
        self.log_line("%s: that is known without an event", end.words)
        return EventEnd("reached", end.event, seen=Seen.after(None))

    # -- hearing ---------------------------------------------------------------------------------------

    def _wants(self, event: BatchEvent) -> bool:
        return self.awaited.matches(self.awaited.complete(event)) is not False

    async def _hear(self, watcher: Watcher, ear: Ear, doubts: dict[str, _Doubt]) -> EventEnd:
        deaf = False
        troubles = 0
        begun = time.monotonic()
        needed = bool(self.awaited.heard_only)
        while True:
            if needed and (why := watcher.deaf) is not None:
                names = " or ".join(self.awaited.heard_only)
                return EventEnd("error", message=f"{names} must be heard, and no event can be: {why}")
            if needed and not deaf and not watcher.hears and time.monotonic() >= begun + _DEAF_AT_FIRST:
                deaf = True
                self.log_line("No event is heard at the moment, as a warning above or in the triggerer's log explains")
            now = time.time()
            pauses = [doubt.due - now for doubt in doubts.values()] + [_DEAF_CHECK] * needed
            heard = await ear.next(max(0.0, min(pauses)) if pauses else None)
            if heard is not None:
                event = self.awaited.complete(heard[0])
                key = event.event_id("")
                # One that is repeated is looked for anew: the first one may have been forged.
                doubts.pop(key, None)
                if len(doubts) >= _ROOM:
                    del doubts[next(iter(doubts))]
                doubts[key] = _Doubt(event, heard[1], time.time() + self.patience)
            try:
                if (end := await self._confirm(watcher.api, doubts)) is not None:
                    return end
                troubles = troubles if doubts else 0
            except ApiError as error:
                if not error.retryable:
                    return EventEnd("error", message=str(error))
                # Whoever gave up now would forget what was heard, and it does not come again.
                if not troubles:
                    self.log_line("What was heard can't be looked for, and is kept meanwhile: %s", error)
                troubles += 1
                if can_not_be_asked(error):
                    # None of them can be looked for.
                    again = time.time() + min(_BLIND, outage_pause(troubles, random.random()))
                    for doubt in doubts.values():
                        doubt.due, doubt.until = max(doubt.due, again), max(doubt.until, again + self.patience)

    async def _confirm(self, api: ApiClient, doubts: dict[str, _Doubt]) -> EventEnd | None:
        for key, doubt in list(doubts.items()):
            now = time.time()
            if doubt.due > now:
                continue
            doubt.due, doubt.pause = now + doubt.pause, min(_LATEST, doubt.pause * 2)
            try:
                confirmed = await confirm(api, doubt.event)
            except InvalidRequest as error:  # an id that can't be one
                self.log_line("Event %s is ignored: %s", doubt.event.name, error)
                del doubts[key]
                continue
            if confirmed is not None:
                if self.awaited.matches(confirmed):
                    self.log_line("Event %s was heard: %s", confirmed.name, confirmed.to_json())
                    seen = Seen("event", time.time(), doubt.received_at)
                    return EventEnd("reached", confirmed, heard=True, seen=seen)
                del doubts[key]  # it was about a job, or an environment, of another name
            elif now >= doubt.until:
                told = {name: value for name, value in doubt.event.to_json().items() if value}
                self.log_line("An event is ignored, for the service does not show what it says: %s", told)
                del doubts[key]
        return None

    # -- looking ---------------------------------------------------------------------------------------

    async def _look(self, watcher: Watcher, settings: ConnectionSettings, family: str) -> EventEnd | Finding:
        """Look until the events of a family must have come, or can't come any more."""
        patience = self._patience[family]
        begun = time.time()
        said = ""
        while True:
            if (trouble := await self._until_news(watcher, settings, family)) is not None:
                return trouble
            try:
                seen = await look(watcher.api, self.awaited, family)
                patience.answered()
                if seen.words != said:
                    self.log_line("%s", seen.words)
                said = seen.words
                if seen.verdict is not TargetVerdict.WAITING:
                    return seen
            except ApiError as error:
                if patience.failed(error):
                    return EventEnd("error", message=str(error))
            look_at = time.time() + patience.pause(pace(time.time() - begun, self.poll_interval))
            while (left := look_at - time.time()) > 0:
                if patience.over(limit := first(self.deadlines)) is not None:
                    return EventEnd("away")
                alarm = patience.alarm(limit)
                await asyncio.sleep(left if alarm is None else max(0.0, min(left, alarm - time.time())))

    async def _until_news(self, watcher: Watcher, settings: ConnectionSettings, family: str) -> EventEnd | None:
        """Wait until a look is worth while, together with all who watch jobs or environments; returns what went wrong,
        if anything.

        No event tells that there is a newer job, or an environment, of a name: these are looked at.
        """
        job_id, targets = self.awaited.job_id, self.awaited.targets(family)
        patience = self._patience[family]
        common: dict[str, Any] = {
            "poll_interval": self.poll_interval,
            "deadlines": self.deadlines,
            "patience": patience,
        }
        if family == "JOB" and job_id is None:
            end = await NamedJobWait(str(self.awaited.job_name), targets, **common).run(watcher, settings)
        elif family == "JOB" and job_id is not None:
            end = await JobTargetsWait([job_id], targets=targets, **common).run(watcher, settings)
        elif family == "TASK" and job_id is not None:
            task = str(self.awaited.task_name)
            end = await TaskTargetsWait(job_id, task, targets, **common).run(watcher, settings)
        elif family == "TASK_INSTANCE" and job_id is not None:
            wait = instances_wait(self.awaited, job_id, targets.wanted, **common)
            return _trouble(await wait.run(watcher, settings))
        elif self.envs is not None and self.awaited.env_id is not None:
            return await self._until_counted(self.envs, self.awaited.env_id, family, patience)
        else:
            return None
        return _trouble(end)

    async def _until_counted(self, envs: EnvWatcher, env_id: str, family: str, patience: Patience) -> EventEnd | None:
        """Wait until the counts of an environment tell something that has not been looked at yet."""
        gone = "DELETED" in self.awaited.states(family)
        with envs.watch(env_id, self.poll_interval, known=gone) as subscription:
            while True:
                seen = family in self._counted and self.awaited.worth_a_look(family, self._counted[family])
                # The service's answers about one environment and about many may differ for a while: look again.
                look_at = time.time() + self.poll_interval if seen else None
                patience.heed(subscription, "envs")
                snapshot = await subscription.next(until(self.deadlines, patience, look_at))
                patience.heed(subscription, "envs")
                if patience.over(first(self.deadlines)) is not None:
                    return EventEnd("away")
                if snapshot is None and look_at is not None and time.time() >= look_at:
                    return None
                if snapshot is None:
                    continue
                if snapshot.error is not None:
                    return EventEnd("error", message=str(snapshot.error))
                news = family not in self._counted or self._counted[family] != snapshot.now
                self._counted[family] = snapshot.now
                if news and self.awaited.worth_a_look(family, snapshot.now):
                    return None


def _trouble(end: JobsEnd | QuorumEnd) -> EventEnd | None:
    """What kept a part of the wait from going on, if anything did."""
    return EventEnd(end.status, message=end.message) if end.status in ("error", "away") else None
