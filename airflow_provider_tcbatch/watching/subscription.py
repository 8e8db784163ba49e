"""What waits are made of: snapshots, subscriptions, and the bookkeeping behind them.

The scheduling itself is in :mod:`~airflow_provider_tcbatch.watching.poller`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from airflow_provider_tcbatch.client.background import Alarm
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.policies.outage import Outage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["JobSnapshot", "Snapshot", "SnapshotT", "Subscription", "Watch", "WatcherTimings"]


class Snapshot(Protocol):
    """What is known of something that is watched."""

    @property
    def error(self) -> TCBatchError | None:
        """Why it can't be watched any longer."""


SnapshotT = TypeVar("SnapshotT", bound=Snapshot)


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """What is known of a job.

    It is kept for every job that is waited for, so it holds no more than waits ask for.

    :param job_id: the job.
    :param state: its state; empty if ``error`` is set.
    :param task_counts: how many of its tasks are in each state, see :attr:`~.views.InstanceMetrics.counts`; ``None`` if
        the service did not say.
    :param source: ``event`` if an event led to this read, be it one of another job that shared the call, else ``poll``.
    :param observed_at: unix seconds when the API's answer arrived.
    :param event_received_at: unix seconds when the event arrived that announced the job's own end, if one did.
    :param error: why the job can't be watched any longer.
    """

    job_id: str
    state: str = ""
    task_counts: tuple[int, ...] | None = None
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
    :param backoff: pause of a wait after its first failed look; doubled by each further one, up to its
        ``poll_interval``, and a minute.
    :param flukes: looks at a job in a row that fail because the API can't be asked, before its waits are told so.
    :param failures: looks in a row that fail for another reason, before its waits are told that it can't be watched.
    """

    first: float = 1.0
    coalesce: float = 0.05
    reconcile: float = 60.0
    announce: float = 30.0
    missing: float = 30.0
    backoff: float = 4.0
    flukes: int = 3
    failures: int = 5


class Watch(Generic[SnapshotT]):
    """One job, or whatever else is watched, and those who wait for it."""

    __slots__ = (
        "born",
        "due",
        "failed_at",
        "failing_since",
        "failures",
        "fresh",
        "hinted_at",
        "key",
        "last",
        "led",
        "on_the_way",
        "outage",
        "poll_interval",
        "refusals",
        "subscribers",
    )

    def __init__(self, key: str, now: float) -> None:
        #: Its id.
        self.key = key
        self.subscribers: list[Subscription[SnapshotT]] = []
        self.poll_interval = 0.0
        self.born = now
        #: Since when it is looked at often; moved forward by an event.
        self.fresh = now
        self.due = float("inf")
        self.on_the_way = False
        #: Failed looks in a row, and when the last one was sent.
        self.failures = 0
        self.failed_at = float("-inf")
        #: How many of them in a row were refused, and not only in vain.
        self.refusals = 0
        #: When the first of them was sent (unix seconds), and what its waits know of it.
        self.failing_since: float | None = None
        self.outage: Outage | None = None
        #: When an event announced its end (unix seconds).
        self.hinted_at: float | None = None
        #: Whether an event that announced its end asks for the next look.
        self.led = False
        self.last: SnapshotT | None = None


class Watching(Protocol[SnapshotT]):
    """Who watches, as far as a subscription needs it."""

    def unsubscribe(self, subscription: Subscription[SnapshotT], watch: Watch[SnapshotT]) -> None:
        """End a wait."""


class Subscription(Generic[SnapshotT]):
    """A wait for one job, or for something else: yields a snapshot whenever its state or its counts have changed.

    Only the latest snapshot is kept: a slow reader misses intermediate states, never the final one.
    """

    __slots__ = ("_alarm", "_latest", "_nudged", "_watch", "_watcher", "nudged")

    def __init__(self, watcher: Watching[SnapshotT], watch: Watch[SnapshotT]) -> None:
        self._watcher = watcher
        self._watch = watch
        self._latest: SnapshotT | None = watch.last
        self._nudged = False
        #: Whether there was a nudge between the last two calls of :meth:`next`, or during the last one.
        self.nudged = False
        self._alarm = Alarm()

    async def next(self, timeout: float | None = None) -> SnapshotT | None:
        """Return the next snapshot; ``None`` when ``timeout`` seconds passed without one, or after a nudge."""
        if self._latest is None and not self._nudged and (timeout is None or timeout > 0):
            await self._alarm.sleep(timeout)
        elif timeout is not None and timeout <= 0:
            # Whoever comes back at once must not keep the loop from all others.
            await asyncio.sleep(0)
        snapshot, self._latest = self._latest, None
        self.nudged, self._nudged = self._nudged, False
        return snapshot

    @property
    def outage(self) -> Outage | None:
        """Since when the API can't be asked about it; ``None`` if it can, or that may be a fluke.

        When that changes, :meth:`next` returns ``None``.
        """
        return self._watch.outage

    def wake(self) -> None:
        """Let :meth:`next` return; called by the watcher."""
        self._alarm.ring()

    def nudge(self) -> None:
        """Something happened that the state may not show; called by the watcher."""
        self._nudged = True
        self._alarm.ring()

    def put(self, snapshot: SnapshotT) -> None:
        """Hand over a snapshot; called by the watcher."""
        self._latest = snapshot
        self._alarm.ring()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.unsubscribe(self, self._watch)
