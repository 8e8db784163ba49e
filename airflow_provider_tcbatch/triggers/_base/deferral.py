"""Holding a quick end back until the worker that deferred the task has surely wound up."""

from __future__ import annotations

import asyncio
import time

from airflow.triggers.base import BaseTrigger

from airflow_provider_tcbatch.policies.backoff import LONGEST
from airflow_provider_tcbatch.policies.deferral import Deferral, hold_until

__all__ = ["Hold"]

#: Seconds between two looks whether the worker's process is still there. No more of them wind up at a time than the
#: executor runs on this machine.
_LOOK = 0.25

#: Seconds after which a process is no longer waited for, and after how many the task's log says that it is.
_LONGEST = 600.0
_QUIET = 10.0


class Hold:
    """Holds back the end of one run of a trigger. Made when the run begins.

    :param trigger: the trigger.
    :param deferral: what it knows of the worker.
    """

    __slots__ = ("_deferral", "_gone", "_seen", "_started", "_timer", "_trigger")

    def __init__(self, trigger: BaseTrigger, deferral: str | None) -> None:
        self._trigger = trigger
        self._deferral = Deferral.from_text(deferral)
        self._started = time.monotonic()
        self._gone: float | None = None
        self._seen = False
        self._timer: asyncio.TimerHandle | None = None
        if trigger.task_instance is not None and self._deferral.process:
            self._look()

    async def over(self) -> None:
        """Return as soon as the task may be resumed."""
        if self._trigger.task_instance is None:  # there is none, and no scheduler, under dag.test()
            return
        least, said, waited = self._least(), False, time.monotonic()
        while True:
            now = time.monotonic()
            until = hold_until(self._deferral, started=self._started, least=least, gone=self._gone, seen=self._seen)
            if until is not None:
                if until <= now:
                    return
                await asyncio.sleep(until - now)
            elif now - waited > _LONGEST:
                self._trigger.log.warning(
                    "The worker that deferred this task has not ended for %.0f s; not waiting for it any longer",
                    now - waited,
                )
                self._seen = False
            else:
                if not said and now - waited > _QUIET:
                    said = True
                    self._trigger.log.info(
                        "The wait is over, but the worker that deferred this task has not ended yet: waiting for it"
                    )
                await asyncio.sleep(_LOOK)

    def _look(self) -> None:
        """Look whether the process is there, now and again until it is gone."""
        from airflow_provider_tcbatch.connection.worker_process import is_there

        there = is_there(self._deferral.process)
        self._seen = there is not None
        if there:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)
            return
        self._timer = None
        if there is False:
            self._gone = time.monotonic()

    def _least(self) -> float:
        """``[tcbatch] deferral_hold``, in seconds."""
        from airflow_provider_tcbatch.connection.deployment import seconds_of

        try:
            least = seconds_of("tcbatch", "deferral_hold", 0.0, self._trigger.log.warning)
        except Exception as error:  # a trigger that raises fails its task
            self._trigger.log.warning("[tcbatch] deferral_hold of Airflow's configuration can't be read: %s", error)
            return 0.0
        return least if least < LONGEST else 0.0  # or no task would ever go on
