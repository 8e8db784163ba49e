"""Noticing that an API which was away can be asked again: one question for all who wait for that."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.background import Alarm, spawn
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.models.actions import DescribeJobs
from airflow_provider_tcbatch.policies.outage import can_not_be_asked, outage_pause

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient

__all__ = ["Probe"]

log = logging.getLogger(__name__)

#: How many of those who wait are told in a second: each then asks the API on a worker.
_TOLD_A_SECOND = 100


class Probe:
    """Asks the API now and then, with growing pauses, as long as somebody waits for an answer.

    It must be used from one event loop.

    :param api: client to ask.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._waiting: dict[Alarm, bool] = {}
        self._task: asyncio.Task[None] | None = None

    async def answered(self, timeout: float) -> bool:
        """Wait until the API answers; whether it has within ``timeout`` seconds.

        Whoever waits has just asked in vain, so some seconds pass before the first question.
        """
        alarm = Alarm()
        self._waiting[alarm] = False
        if self._task is None or self._task.done():
            self._task = spawn(self._ask(), "tcbatch-probe")
        try:
            await alarm.sleep(timeout)
            return self._waiting[alarm]
        finally:
            del self._waiting[alarm]

    async def aclose(self) -> None:
        """Ask no more; whoever waits is told nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _ask(self) -> None:
        failures = 1
        while self._waiting:
            await asyncio.sleep(outage_pause(failures, random.random()))
            try:
                await self._api.acall(DescribeJobs(limit=1), attempts=1)
            except TCBatchError as error:
                if can_not_be_asked(error):
                    failures += 1
                    log.info("The API of Batch can't be asked yet, %d tasks wait for it: %s", len(self._waiting), error)
                    continue
                # What else is wrong is for a worker to find out.
            failures = 1
            await self._tell()

    async def _tell(self) -> None:
        """Tell all who wait, one after the other."""
        for alarm in list(self._waiting):
            if alarm in self._waiting:
                self._waiting[alarm] = True
                alarm.ring()
                await asyncio.sleep(1 / _TOLD_A_SECOND)
