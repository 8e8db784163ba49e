"""Waiting for states that are not the end: of jobs by id, of a job by its name, of a task inside a job."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import ApiError
from airflow_provider_tcbatch.models.request import PAGE, filters_of
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.deadlines import Deadlines
from airflow_provider_tcbatch.policies.job.targets import Targets, TargetVerdict
from airflow_provider_tcbatch.policies.lookup import newest_named
from airflow_provider_tcbatch.waits.jobs import JobsEnd, JobsWait, Seen, Stop, first, until
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.models.views import JobView
    from airflow_provider_tcbatch.watching.jobs import Watcher
    from airflow_provider_tcbatch.watching.subscription import JobSnapshot, Subscription

__all__ = ["JobTargetsWait", "NamedJobWait"]


@dataclass
class JobTargetsWait(JobsWait):
    """A wait until all of some jobs have been seen in a state that is wanted; the first that fails ends it.

    :param targets: what is waited for.
    """

    targets: Targets = field(default_factory=Targets)

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the states.

        :param watcher: a started watcher for the jobs' account and region.
        :param settings: the connection.
        """
        end = await super().run(watcher, settings)
        return replace(end, status="reached") if end.status == "ended" else end

    def _is_over(self, state: str) -> bool:
        verdict = self.targets.judge(state)
        if verdict is TargetVerdict.FAILED:
            raise Stop(JobsEnd("failed", self._states, seen=self._seen))
        return verdict is TargetVerdict.REACHED


@dataclass
class NamedJobWait:
    """A wait for a state of the newest job of a name, which need not be submitted yet.

    No event says that a job of a name has come, so it is looked for every ``poll_interval``; the one that is the
    newest so far is watched in between.

    :param job_name: the name.
    :param targets: what is waited for.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: when to give up.
    :param log_line: takes what the task's log shows: a format and its arguments.
    :param patience: of the wait that this one is a part of; default is one of its own.
    """

    job_name: str
    targets: Targets
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    log_line: Callable[..., None] = lambda *_: None
    patience: Patience | None = None

    def __post_init__(self) -> None:
        self._patience = self.patience or Patience(self.log_line)

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the state.

        :param watcher: a started watcher for the job's account and region.
        :param settings: the connection.
        """
        end = await self._follow(watcher)
        return replace(end, outage=self._patience.untold())

    async def _follow(self, watcher: Watcher) -> JobsEnd:
        begun = time.time()
        known: JobView | None = None
        subscription: Subscription[JobSnapshot] | None = None
        with contextlib.ExitStack() as watching:
            while True:
                newest: JobView | None = None
                try:
                    newest = await self._newest(watcher.api)
                    self._patience.answered()
                except ApiError as error:
                    if self._patience.failed(error):
                        return JobsEnd("error", message=str(error))
                if newest is not None:
                    if known is None or known.job_id != newest.job_id:
                        self.log_line("The newest job called %r is %s", self.job_name, newest.job_id)
                        watching.close()
                        subscription = watching.enter_context(watcher.subscribe(newest.job_id, self.poll_interval))
                    known = newest
                    if (end := self._judge(known.job_id, str(known.job_state), Seen.after(None))) is not None:
                        return end
                pause = pace(time.time() - begun, self.poll_interval) if known is None else self.poll_interval
                look_at = time.time() + self._patience.pause(pause)
                if (end := await self._watch(subscription, known.job_id if known else None, look_at)) is not None:
                    return end

    async def _watch(
        self, subscription: Subscription[JobSnapshot] | None, job_id: str | None, look_at: float
    ) -> JobsEnd | None:
        """Watch a job until it is time to look for a newer one. If it can't be watched, that look says why.

        :param subscription: to the job; ``None`` while there is none.
        """
        while True:
            if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                return JobsEnd("timeout", limit=reached)
            if self._patience.over(first(self.deadlines)) is not None:
                return JobsEnd("away")
            if time.time() >= look_at:
                return None
            left = until(self.deadlines, self._patience, look_at) or 0.0
            if subscription is None or job_id is None:
                await asyncio.sleep(left)
                continue
            snapshot = await subscription.next(left)
            if snapshot is None or snapshot.error is not None:
                continue
            if (end := self._judge(job_id, snapshot.state, Seen.of(snapshot))) is not None:
                return end

    def _judge(self, job_id: str, state: str, seen: Seen) -> JobsEnd | None:
        verdict = self.targets.judge(state)
        if verdict is TargetVerdict.WAITING:
            return None
        return JobsEnd(verdict.value, {job_id: state}, seen=seen)

    async def _newest(self, api: ApiClient) -> JobView | None:
        from airflow_provider_tcbatch.models.actions import DescribeJobs

        request = DescribeJobs(filters=filters_of({"job-name": [self.job_name]}))
        found = [job async for page in api.apages(request, PAGE) for job in page.job_set]
        return newest_named(found, self.job_name)
