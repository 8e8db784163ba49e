"""Waiting for parts of a job: a state of one task, or a quorum of the instances of a task."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ApiError, NotFound
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.backoff import pace
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.job.outcome import judge
from airflow_provider_tcbatch.policies.job.quorum import InstanceNow, Quorum, QuorumCounts, QuorumVerdict, judge_quorum
from airflow_provider_tcbatch.policies.job.targets import Targets, TargetVerdict
from airflow_provider_tcbatch.waits.jobs import JobsEnd, Seen, first, until, untold
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.models.actions import DescribeJobResult, DescribeTask, DescribeTaskResult
    from airflow_provider_tcbatch.models.views import InstanceMetrics, TaskInstanceView
    from airflow_provider_tcbatch.watching.jobs import Watcher

__all__ = ["QuorumEnd", "QuorumWait", "TaskTargetsWait", "counts_to_json", "is_still", "look_once", "task_state"]

#: Most instances on one page of DescribeTask.
_PAGE = 1000


def is_still(state: object, metrics: InstanceMetrics | None) -> bool:
    """Whether nothing of a job, or of a task, begins any more.

    Whether it is FAILED at its first failed instance or at its last one is not documented: so they are counted.

    :param state: its state.
    :param metrics: how many of its instances are in each state, if that is known.
    """
    if state not in (State.SUCCEED, State.FAILED):
        return False
    return metrics is None or metrics.runnable_count + metrics.starting_count + metrics.running_count == 0


def task_state(view: DescribeJobResult, task_name: str) -> str | None:
    """State of a task of a job; ``None`` while the service does not list tasks.

    :param view: the job as DescribeJob shows it.
    :raises NotFound: if the job has no such task.
    """
    states = {task.task_name: str(task.task_state) for task in view.task_set or ()}
    if states and task_name not in states:
        names = ", ".join(repr(name) for name in itertools.islice(states, 5))
        raise NotFound(f"Job {view.job_id} has no task {task_name!r}; it has {names}")
    return states.get(task_name)


@dataclass
class TaskTargetsWait:
    """A wait for a state of one task.

    The job's watcher says when a task of it has changed; only then, or while it can't tell, the tasks are read.

    :param job_id: the job.
    :param task_name: its task.
    :param targets: what is waited for.
    :param poll_interval: longest time in seconds between two looks while no events flow.
    :param deadlines: when to give up.
    :param log_line: takes what the task's log shows: a format and its arguments.
    :param patience: of the wait that this one is a part of; default is one of its own.
    """

    job_id: str
    task_name: str
    targets: Targets
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    log_line: Callable[..., None] = lambda *_: None
    patience: Patience | None = None

    def __post_init__(self) -> None:
        self._patience = self.patience or Patience(self.log_line)
        self._state: str | None = None

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> JobsEnd:
        """Wait for the state.

        :param watcher: a started watcher for the job's account and region.
        :param settings: the connection.
        """
        end = await self._follow(watcher)
        return replace(end, outage=self._patience.untold())

    async def _follow(self, watcher: Watcher) -> JobsEnd:
        from airflow_provider_tcbatch.models.actions import DescribeJob

        patience = self._patience
        fresh = time.time()
        look_at: float | None = None
        told: tuple[int, ...] | None = None
        with watcher.subscribe(self.job_id, self.poll_interval) as subscription:
            while True:
                snapshot = await subscription.next(until(self.deadlines, patience, look_at))
                patience.heed(subscription, "job")
                if snapshot is not None and snapshot.error is not None:
                    return JobsEnd("error", self._states(), message=str(snapshot.error))
                if snapshot is not None:
                    told = snapshot.task_counts
                    fresh = look_at = time.time()
                if look_at is not None and time.time() >= look_at:
                    pause = pace(time.time() - fresh, self.poll_interval)
                    look_at = time.time() + pause
                    try:
                        view = await watcher.api.acall(DescribeJob(job_id=self.job_id), attempts=1)
                        patience.answered()
                        if (end := self._judge(view, Seen.after(snapshot))) is not None:
                            return end
                        if told is not None and told == _task_counts(view) and not judge(view.job_state).is_final:
                            look_at = None  # both answers are of one moment: the watcher tells of the next change
                    except ApiError as error:
                        if patience.failed(error):
                            return JobsEnd("error", self._states(), message=str(error))
                        look_at = time.time() + patience.pause(pause)
                if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                    return JobsEnd("timeout", self._states(), limit=reached)
                if patience.over(first(self.deadlines)) is not None:
                    return JobsEnd("away", self._states())

    def _judge(self, view: DescribeJobResult, seen: Seen) -> JobsEnd | None:
        state = task_state(view, self.task_name)
        if state is None:
            return None
        if state != self._state:
            self.log_line("Task %r of job %s is %s", self.task_name, self.job_id, state)
        self._state = state
        verdict = self.targets.judge(state, over=is_still(view.job_state, view.task_instance_metrics))
        return None if verdict is TargetVerdict.WAITING else JobsEnd(verdict.value, self._states(), seen=seen)

    def _states(self) -> dict[str, str]:
        return {} if self._state is None else {self.task_name: self._state}


@dataclass(frozen=True)
class QuorumEnd:
    """How a wait for instances ended.

    :param status: ``reached``; ``failed``, if they can't come to it any more; ``timeout``; ``away``, if the API could
        not be asked for too long; ``error``.
    :param counts: the instances as they were read last.
    :param limit: the limit that was reached, for ``timeout``.
    :param message: what went wrong, for ``error``.
    :param seen: the look that ended it.
    :param outage: what the log has not been told of an outage, see :class:`~.policies.outage.Outage`.
    """

    status: str
    counts: QuorumCounts | None = None
    limit: Limit | None = None
    message: str | None = None
    seen: Seen = field(default_factory=Seen)
    outage: dict[str, Any] | None = None

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""
        return {
            "status": self.status,
            "counts": None if self.counts is None else counts_to_json(self.counts),
            "limit": self.limit and self.limit.value,
            "message": self.message,
            **self.seen.to_json(),
            **untold(self.outage),
        }


def counts_to_json(counts: QuorumCounts) -> dict[str, int]:
    """The numbers behind a verdict in plain JSON."""
    return {name: getattr(counts, name) for name in ("have", "never", "needed", "total")}


@dataclass
class QuorumWait:
    """A wait for instances of a task. No event is published for them by default, so it polls; what the job's watcher
    sees leads to a look at once.

    :param job_id: the job.
    :param task_name: its task.
    :param wanted: states, one of which is enough for an instance.
    :param quorum: how many instances must come to one.
    :param indexes: the instances; ``None`` for all.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: when to give up.
    :param log_line: takes what the task's log shows: a format and its arguments.
    :param patience: of the wait that this one is a part of; default is one of its own.
    """

    job_id: str
    task_name: str
    wanted: frozenset[str]
    quorum: Quorum
    indexes: frozenset[int] | None = None
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    log_line: Callable[..., None] = lambda *_: None
    patience: Patience | None = None

    def __post_init__(self) -> None:
        self._patience = self.patience or Patience(self.log_line)

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> QuorumEnd:
        """Wait for the quorum.

        :param watcher: a started watcher for the job's account and region.
        :param settings: the connection.
        """
        end = await self._follow(watcher)
        return replace(end, outage=self._patience.untold())

    async def _follow(self, watcher: Watcher) -> QuorumEnd:
        patience = self._patience
        counts: QuorumCounts | None = None
        fresh = look_at = time.time()
        ended: bool | None = None
        with watcher.subscribe(self.job_id, self.poll_interval) as subscription:
            while True:
                snapshot = await subscription.next(until(self.deadlines, patience, look_at))
                patience.heed(subscription, "job")
                if snapshot is not None and snapshot.error is not None:
                    return QuorumEnd("error", counts, message=str(snapshot.error))
                if snapshot is not None:
                    ended = judge(snapshot.state).is_final
                    fresh = look_at = time.time()
                if time.time() >= look_at:
                    pause = pace(time.time() - fresh, self.poll_interval)
                    look_at = time.time() + pause
                    try:
                        before, counts = counts, await self.look(watcher.api, ended=ended)
                        patience.answered()
                        if counts != before:
                            self.log_line("Task %r of job %s: %s", self.task_name, self.job_id, counts)
                        if counts.verdict is not QuorumVerdict.WAITING:
                            status = "reached" if counts.verdict is QuorumVerdict.REACHED else "failed"
                            return QuorumEnd(status, counts, seen=Seen.after(snapshot))
                    except ApiError as error:
                        if patience.failed(error):
                            return QuorumEnd("error", counts, message=str(error))
                        look_at = time.time() + patience.pause(pause)
                if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                    return QuorumEnd("timeout", counts, limit=reached)
                if patience.over(first(self.deadlines)) is not None:
                    return QuorumEnd("away", counts)

    async def look(self, api: ApiClient, *, ended: bool | None = None) -> QuorumCounts:
        """Look once, with as few calls as it takes.

        :param ended: whether the job is known to have ended; ``None`` if that is to be found out where it matters.
        :raises NotFound: if there is no such job or task.
        """
        from airflow_provider_tcbatch.models.actions import DescribeJob

        counts, over = await self._count(api)
        if counts.verdict is QuorumVerdict.WAITING and not over and ended is not False:
            # A task whose predecessor failed stays as it is.
            view = await api.acall(DescribeJob(job_id=self.job_id), attempts=1)
            if is_still(view.job_state, view.task_instance_metrics):
                # The instances were read before their job had ended, maybe.
                counts, _ = await self._count(api, over=True)
        return counts

    async def _count(self, api: ApiClient, *, over: bool = False) -> tuple[QuorumCounts, bool]:
        """Read the task and judge it; tells, too, whether nothing of it begins any more.

        :param over: whether nothing of its job does.
        """
        from airflow_provider_tcbatch.models.actions import DescribeTask

        request = DescribeTask(job_id=self.job_id, task_name=self.task_name)
        # Of all instances the service tells the numbers, however many there are.
        first = await api.acall(request.model_copy(update={"limit": 1 if self.indexes is None else _PAGE}), attempts=1)
        metrics = first.task_instance_metrics
        count = max(first.task_instance_total_count or 0, 0 if metrics is None else metrics.total)
        total = count if self.indexes is None else len(self.indexes)
        instances: list[InstanceNow] = []

        def verdict() -> QuorumCounts:
            counts = judge_quorum(instances, self.wanted, self.quorum, total, over=over)
            unknown = first.task_state in (None, State.SUBMITTED) or total == 0
            if unknown and not over and counts.verdict is not QuorumVerdict.WAITING:
                # Whether all instances are listed from the beginning is not documented.
                listed = counts.verdict is QuorumVerdict.REACHED and total > 0
                return counts if listed else QuorumCounts(QuorumVerdict.WAITING, counts.have, 0, counts.needed, total)
            return counts

        over = over or is_still(first.task_state, metrics)
        sure = False
        if self.indexes is None and metrics is not None and metrics.total == count:
            instances = list(_counted(metrics))
            # The numbers don't tell whether what has failed was running before.
            sure = not (self.wanted & {State.STARTING.value, State.RUNNING.value} and metrics.failed)
        if not sure and not (instances and verdict().verdict is QuorumVerdict.REACHED):
            instances = [_now(view) async for view in self._instances(api, request, first)]
        return verdict(), over

    async def _instances(
        self, api: ApiClient, request: DescribeTask, first: DescribeTaskResult
    ) -> AsyncIterator[TaskInstanceView]:
        """The instances that are looked at, as far as the service lists them.

        :param first: the first page, if it is a whole one.
        """
        wanted = self.indexes
        found: set[int] = set()
        offset = 0
        while True:
            page = first
            if offset or wanted is None:
                # Not filtered by state: such a list would shrink, and move, between two of its pages.
                page = await api.acall(request.model_copy(update={"offset": offset, "limit": _PAGE}), attempts=1)
            for view in page.task_instance_set or ():
                if view.task_instance_index not in found and (wanted is None or view.task_instance_index in wanted):
                    found.add(view.task_instance_index)
                    yield view
            offset += _PAGE
            if (wanted is not None and found >= wanted) or offset >= (page.task_instance_total_count or 0):
                return


async def look_once(settings: ConnectionSettings, wait: QuorumWait) -> QuorumCounts:
    """Look once, for a worker that waits itself.

    :raises ApiError: if that fails.
    """
    api = settings.api_client()
    try:
        return await wait.look(api)
    finally:
        await api.aclose()


def _task_counts(view: DescribeJobResult) -> tuple[int, ...] | None:
    return None if view.task_metrics is None else view.task_metrics.counts


def _counted(metrics: InstanceMetrics) -> Iterable[InstanceNow]:
    """As many instances as are counted in each state."""
    for state in State:
        yield from itertools.repeat(InstanceNow(state.value), getattr(metrics, f"{state.value.lower()}_count"))


def _now(view: TaskInstanceView) -> InstanceNow:
    return InstanceNow(str(view.task_instance_state), launched=bool(view.launch_time), ran=bool(view.running_time))
