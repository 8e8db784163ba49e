"""Waiting for states that are not the end: of jobs by id, of a job by its name, of a task inside a job."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import ApiError, Throttled
from airflow_provider_tcbatch.hooks.batch_base import PAGE, filters_of
from airflow_provider_tcbatch.hooks.jobs_wait import FAILURES, JobsEnd, JobsWait, Seen, Stop
from airflow_provider_tcbatch.policies.deadline import Deadlines
from airflow_provider_tcbatch.policies.naming import newest_named
from airflow_provider_tcbatch.policies.pacing import pace
from airflow_provider_tcbatch.policies.targets import Targets, TargetVerdict

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.waiting import JobSnapshot, Subscription
    from airflow_provider_tcbatch.client.watcher import Watcher
    from airflow_provider_tcbatch.hooks.tencent_cloud import ConnectionSettings
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["Errors", "JobTargetsWait", "NamedJobWait"]


class Errors:
    """Counts failed looks in a row, and tells when there are too many. A throttle only costs time."""

    def __init__(self) -> None:
        self._count = 0

    def fine(self) -> None:
        """A look has succeeded."""
        self._count = 0

    def fatal(self, error: ApiError) -> bool:
        """A look has failed: whether that ends the wait."""
        self._count += not isinstance(error, Throttled)
        return self._count >= FAILURES or not error.retryable


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
    :param say: takes what the task's log shows: a format and its arguments.
    """

    job_name: str
    targets: Targets
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    say: Callable[..., None] = lambda *_: None

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the state.

        :param watcher: a started watcher for the job's account and region.
        :param settings: the connection.
        """
        begun = time.time()
        errors = Errors()
        known: JobView | None = None
        subscription: Subscription[JobSnapshot] | None = None
        with contextlib.ExitStack() as watching:
            while True:
                newest: JobView | None = None
                try:
                    newest = await self._newest(watcher.api)
                    errors.fine()
                except ApiError as error:
                    if errors.fatal(error):
                        return JobsEnd("error", message=str(error))
                if newest is not None:
                    if known is None or known.job_id != newest.job_id:
                        self.say("The newest job called %r is %s", self.job_name, newest.job_id)
                        watching.close()
                        subscription = watching.enter_context(watcher.subscribe(newest.job_id, self.poll_interval))
                    known = newest
                    if (end := self._judge(known.job_id, str(known.job_state), Seen.after(None))) is not None:
                        return end
                now = time.time()
                if (reached := self.deadlines.reached(now, started=True)) is not None:
                    return JobsEnd("timeout", limit=reached)
                limit = self.deadlines.next(started=True)
                pause = pace(now - begun, self.poll_interval) if known is None else self.poll_interval
                until = now + pause if limit is None else min(now + pause, limit[0])
                if subscription is None or known is None:
                    await asyncio.sleep(max(0.0, until - now))
                elif (end := await self._watch(subscription, known.job_id, until)) is not None:
                    return end

    async def _watch(self, subscription: Subscription[JobSnapshot], job_id: str, until: float) -> JobsEnd | None:
        """Watch a job until it is time to look for a newer one. If it can't be watched, that look says why."""
        while (left := until - time.time()) > 0:
            snapshot = await subscription.next(left)
            if snapshot is None or snapshot.error is not None:
                continue
            if (end := self._judge(job_id, snapshot.state, Seen.of(snapshot))) is not None:
                return end
        return None

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
