"""The shared watcher of compute environments: all waits of one process for one account and region, in few calls.

The service allows few calls about environments (2 a second for one, for all that use the account): so one
DescribeComputeEnvs serves all waits, and the nodes of an environment are asked for only where somebody needs them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound, TCBatchError
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv, DescribeComputeEnvs
from airflow_provider_tcbatch.policies.compute_env.nodes import EnvNow, env_now
from airflow_provider_tcbatch.watching.poller import Poller
from airflow_provider_tcbatch.watching.subscription import Subscription, Watch

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvResult
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView

__all__ = ["EnvSnapshot", "EnvWatcher"]

#: Parts of what a wait is kept under: the same environment may be watched with its nodes and without, and by those who
#: know that it existed beside those who have only just made it.
_WITH_NODES = "+nodes"
_KNOWN = "+known"


@dataclass(frozen=True)
class EnvSnapshot:
    """What is known of an environment.

    :param env_id: the environment.
    :param now: as it is; ``None`` if it does not exist, or if ``error`` is set.
    :param observed_at: unix seconds when the API's answer arrived.
    :param error: why it can't be watched any longer.
    """

    env_id: str
    now: EnvNow | None = None
    observed_at: float = 0.0
    error: TCBatchError | None = None


class EnvWatcher(Poller[EnvSnapshot]):
    """Watches any number of compute environments with few calls.

    That an environment does not exist is no error: its snapshot says so.
    """

    kind: ClassVar[str] = "compute environments"
    action: ClassVar[str] = DescribeComputeEnvs.name()

    def watch(
        self, env_id: str, poll_interval: float = 30.0, *, nodes: bool = False, known: bool = False
    ) -> Subscription[EnvSnapshot]:
        """Begin to wait; leave the returned context to end.

        :param env_id: the environment.
        :param poll_interval: longest time in seconds between two looks.
        :param nodes: whether the nodes themselves are needed, which costs a call for each look.
        :param known: whether the service is believed at once when it says that there is no such environment. One that
            has only just been made may be unknown to it for a while.
        """
        return self.subscribe(env_id + _WITH_NODES * nodes + _KNOWN * known, poll_interval)

    async def _look(self, batch: list[Watch[EnvSnapshot]]) -> None:
        counted = [watch for watch in batch if _WITH_NODES not in watch.key]
        if counted:
            await self._count(counted)
        for watch in batch:
            if _WITH_NODES in watch.key:
                await self._look_at(watch)

    async def _count(self, batch: list[Watch[EnvSnapshot]]) -> None:
        ids = list(dict.fromkeys(_id(watch) for watch in batch))
        try:
            answer = await self._api.acall(DescribeComputeEnvs(env_ids=ids, limit=len(ids)), attempts=1)
        except InvalidRequest as error:
            if not error.code.startswith("InvalidParameter"):
                raise
            # One malformed id spoils the whole call: find it, and let the others go on.
            if len(ids) == 1:
                await self._tell([(watch, self._failure(watch.key, error)) for watch in batch])
                return
            middle = len(batch) // 2
            await self._count(batch[:middle])
            await self._count(batch[middle:])
            return
        views = {view.env_id: view for view in answer.compute_env_set}
        await self._tell([(watch, _snapshot(watch, views[_id(watch)])) for watch in batch if _id(watch) in views])
        for watch in batch:
            if _id(watch) not in views:
                # DescribeComputeEnvs leaves out what it does not know; only DescribeComputeEnv says so.
                await self._look_at(watch)

    async def _look_at(self, watch: Watch[EnvSnapshot]) -> None:
        env_id = _id(watch)
        try:
            view = await self._api.acall(DescribeComputeEnv(env_id=env_id), attempts=1)
        except NotFound:
            known = watch.last is not None or watch.key.endswith(_KNOWN)
            if known or time.monotonic() - watch.born > self._timings.missing:
                await self._tell([(watch, EnvSnapshot(env_id, None, time.time()))])
            return
        except InvalidRequest as error:
            await self._tell([(watch, self._failure(watch.key, error))])
            return
        await self._tell([(watch, _snapshot(watch, view))])

    def _failure(self, key: str, error: TCBatchError) -> EnvSnapshot:
        return EnvSnapshot(key.split("+")[0], error=error)

    def _differs(self, before: EnvSnapshot, now: EnvSnapshot) -> bool:
        return before.now != now.now


def _snapshot(watch: Watch[EnvSnapshot], view: ComputeEnvView | DescribeComputeEnvResult) -> EnvSnapshot:
    return EnvSnapshot(_id(watch), env_now(view), time.time())


def _id(watch: Watch[EnvSnapshot]) -> str:
    return watch.key.split("+")[0]
