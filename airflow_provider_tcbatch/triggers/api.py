"""Waiting, without holding a worker, until the API can be asked again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger

__all__ = ["TCBatchApiTrigger"]

#: Seconds until a worker tries again where the trigger itself can't.
_BLIND_SECONDS = 60.0


class TCBatchApiTrigger(BaseOneEventTrigger):
    """Wait until the API can be asked again; all triggers of a triggerer that use one account ask it together.

    What was refused for its rate waits its turn instead: the triggerer lets so many through a second as its share of
    the account's rate allows.

    It yields exactly one event: the one that it was given, with ``outage``: ``since`` and ``until``, unix seconds;
    the second is ``None`` if the API is still away; and ``rounds`` and ``asked``, as they were given.

    :param event: the event, which says to a worker where to go on.
    :param since: unix seconds since when the API can't be asked.
    :param until: unix seconds at which to give up.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param action: API action that was refused for its rate; ``None`` if the API is away.
    :param job_ids: jobs to terminate when the user marks the waiting task as failed, succeeded or skipped (Airflow 3.3
        and later tell the trigger).
    :param env_id: a compute environment whose nodes are to go when the task is marked as failed or skipped.
    :param rounds: how often in a row the same step has been deferred for this: the more, the longer is the pause.
    :param asked: API action that failed.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
    """

    def __init__(
        self,
        *,
        event: Mapping[str, Any],
        since: float,
        until: float,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        action: str | None = None,
        job_ids: Sequence[str] = (),
        env_id: str | None = None,
        rounds: int = 1,
        asked: str | None = None,
        deferral: str | None = None,
    ) -> None:
        super().__init__(deferral)
        self.event = event
        self.since = since
        self.until = until
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.action = action
        self.job_ids: Sequence[str] = list(job_ids) or ()
        self.env_id = env_id
        self.rounds = rounds
        self.asked = asked

    def owned(self) -> tuple[Sequence[str], str | None]:
        """What is to go with the task."""
        return self.job_ids, self.env_id

    async def wait(self) -> dict[str, Any]:
        """Wait; the event with what became of the outage."""
        back = False
        try:
            await self._pause()
            back = await self._answered()
        except Exception as error:
            # The connection can't be read, say. A worker tries again, and fails if that does not help in time.
            self.log.warning(
                "Whether the API can be asked again can't be told here: %s: %s", type(error).__name__, error
            )
            await asyncio.sleep(max(0.0, min(_BLIND_SECONDS, self.until - time.time())))
        until = time.time() if back else None
        outage = {"since": self.since, "until": until, "rounds": self.rounds, "asked": self.asked}
        return {**self.event, "outage": outage}

    async def _pause(self) -> None:
        """Where the API has answered before, and a worker has still asked in vain, that is not tried at once again."""
        from airflow_provider_tcbatch.policies.outage import outage_pause

        if self.rounds > 1:
            pause = outage_pause(self.rounds - 1, random.random())
            await asyncio.sleep(max(0.0, min(pause, self.until - time.time())))

    async def _answered(self) -> bool:
        async with self.session() as (_, watcher):
            timeout = max(0.0, self.until - time.time())
            if self.action is not None:
                return await watcher.release.let_through(self.action, timeout)
            return await watcher.probe.answered(timeout)
