"""Waiting for a compute environment: the one way to do it, for a trigger and for a worker that waits itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.models.request import PAGE, filters_of
from airflow_provider_tcbatch.policies.compute_env.nodes import Condition, EnvNow, Until, Verdict, judge_env
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.lookup import only_env
from airflow_provider_tcbatch.waits.jobs import Seen, first, until, untold
from airflow_provider_tcbatch.waits.patience import Patience

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.watching.compute_envs import EnvWatcher

__all__ = ["EnvEnd", "EnvWait", "find_env"]

#: What is waited for where something goes: it was there before.
_ENDS = (Until.DELETED, Until.EMPTY, Until.NODES_GONE, Until.INSTANCES_GONE)


@dataclass(frozen=True)
class EnvEnd:
    """How a wait ended.

    :param status: ``reached``; ``failing``, if nodes have failed without which it can't be reached; ``gone``, if the
        environment does not exist, or is being deleted; ``timeout``; ``look``, if it is time for another look;
        ``away``, if the API could not be asked for too long; ``error``.
    :param now: the environment as it was read last; ``None`` if it does not exist, or was never seen.
    :param limit: the limit that was reached, for ``timeout``.
    :param message: what went wrong, for ``error``.
    :param seen: the look that ended it; no event leads to one.
    :param outage: what the log has not been told of an outage, see :class:`~.policies.outage.Outage`.
    """

    status: str
    now: EnvNow | None = None
    limit: Limit | None = None
    message: str | None = None
    seen: Seen = field(default_factory=Seen)
    outage: dict[str, Any] | None = None

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""
        return {
            "status": self.status,
            "counts": None if self.now is None else self.now.to_json(),
            "limit": self.limit and self.limit.value,
            "message": self.message,
            **self.seen.to_json(),
            **untold(self.outage),
        }


@dataclass
class EnvWait:
    """A wait for one environment.

    :param env_id: the environment.
    :param condition: what is waited for.
    :param poll_interval: longest time in seconds between two looks.
    :param deadlines: when to give up.
    :param look_at: unix seconds at which the wait ends in any case, because whoever waits has something to do then.
    :param log_line: takes what the task's log shows: a format and its arguments.
    """

    env_id: str
    condition: Condition
    poll_interval: float = 30.0
    deadlines: Deadlines = field(default_factory=Deadlines)
    look_at: float | None = None
    log_line: Callable[..., None] = lambda *_: None

    async def run(self, watcher: EnvWatcher, settings: ConnectionSettings) -> EnvEnd:
        """Wait for the end.

        :param watcher: a started watcher for the environment's account and region.
        :param settings: the connection.
        """
        patience = Patience(self.log_line)
        end = await self._follow(watcher, patience)
        return replace(end, outage=patience.untold())

    async def _follow(self, watcher: EnvWatcher, patience: Patience) -> EnvEnd:
        now: EnvNow | None = None
        said = ""
        nodes, known = self.condition.needs_nodes, self.condition.until in _ENDS
        with watcher.watch(self.env_id, self.poll_interval, nodes=nodes, known=known) as subscription:
            while True:
                patience.heed(subscription)
                snapshot = await subscription.next(until(self.deadlines, patience, self.look_at))
                patience.heed(subscription)
                if snapshot is not None and snapshot.error is not None:
                    return EnvEnd("error", now, message=str(snapshot.error))
                if snapshot is not None:
                    now = snapshot.now
                    words = "it does not exist" if now is None else str(now)
                    if words != said:
                        self.log_line("Compute environment %s: %s", self.env_id, words)
                    said = words
                    verdict = judge_env(now, self.condition)
                    if verdict is not Verdict.WAITING:
                        return EnvEnd(verdict.value, now, seen=Seen("poll", snapshot.observed_at))
                if (reached := self.deadlines.reached(time.time(), started=True)) is not None:
                    return EnvEnd("timeout", now, limit=reached)
                if patience.over(first(self.deadlines)) is not None:
                    return EnvEnd("away", now)
                if self.look_at is not None and time.time() >= self.look_at:
                    return EnvEnd("look", now)


async def find_env(api: ApiClient, name: str) -> str | None:
    """Id of the environment of a name; ``None`` if there is none.

    :raises ValueError: if there are several.
    """
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvs

    request = DescribeComputeEnvs(filters=filters_of({"env-name": [name]}))
    return only_env([env async for page in api.apages(request, PAGE) for env in page.compute_env_set], name)
