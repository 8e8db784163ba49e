"""Ending a job when its task is killed on a worker, in the five seconds that Airflow gives for it."""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.policies.killing import state_of, terminates
from airflow_provider_tcbatch.policies.marking import Owner
from airflow_provider_tcbatch.policies.submission import Ending

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.operators.records import Records

__all__ = ["KillSwitch"]

log = logging.getLogger(__name__)

#: Seconds for all of it: Airflow kills the process 5 s after it asked it to end.
_SECONDS = 4.0

#: Seconds to wait for Airflow's answer about the task.
_GUARD_SECONDS = 1.5


class KillSwitch:
    """Ends a job if its task is really over.

    It is made before the wait, with everything it needs: the signal handler that uses it runs on the thread that may
    hold Airflow's own lock, so it does nothing but start threads and wait for them. One asks Airflow what has become of
    the task; if the lock is held, that one hangs and costs nothing but the answer. The interrupted thread may hold a
    lock of the logging, too: what was done is logged when it has been done.

    :param hook: with its client and keys already there.
    :param job_id: the job.
    :param owner: the task instance.
    :param ti_id: id of this try's task instance.
    :param records: where the job's record is kept.
    """

    #: What is ended, and how, for the log.
    thing = "Job"
    ends = "is being terminated"
    cant_end = "could not be terminated"

    #: Whether only this try can know of it where records do not last: then there is nothing to ask.
    found_by_record = True

    def __init__(self, hook: TCBatchHook, job_id: str, owner: Owner, ti_id: str, records: Records) -> None:
        self._hook = hook
        self._job_id = job_id
        self._owner = owner
        self._ti_id = ti_id
        self._records = records
        #: EndTime of the job before its failed instances were to run again.
        self._failed_before: str | None = None

    def pull(self) -> None:
        """End the job, unless somebody else needs it; returns within about four seconds."""
        until = time.monotonic() + _SECONDS
        locked = _talks_to_airflow(sys._getframe())
        answers: queue.SimpleQueue[tuple[bool, str]] = queue.SimpleQueue()
        self._start(lambda: answers.put(self._may(until)), "tcbatch-guard")
        helper = self._start(lambda: self._end(answers, until, locked), "tcbatch-terminate")
        helper.join(_SECONDS)

    @staticmethod
    def _start(work: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread

    def _end(self, answers: queue.SimpleQueue[tuple[bool, str]], until: float, locked: bool) -> None:
        try:
            may, why = answers.get(timeout=_GUARD_SECONDS)
        except queue.Empty:
            # If this very thread holds the lock, no answer can come; the try was the job's owner when it began to wait.
            # Otherwise Airflow is out of reach: then this try may have been replaced long ago, and a job that is spared
            # is found again by the next one.
            may, why = locked, "Airflow can't be asked now" if locked else "Airflow does not answer"
        if not may:
            log.info("%s %s is left alone: %s", self.thing, self._job_id, why)
            return
        try:
            self._hook.terminate_job(self._job_id, patience=max(0.5, until - time.monotonic() - 0.5))
            while self._failed_before is not None and time.monotonic() < until - 0.5:
                # Its failed instances are to run again, and terminating it has no effect before that has begun.
                view = self._hook.describe_job(self._job_id)
                if view.next_action or view.end_time not in (None, "", self._failed_before):
                    break
                self._hook.terminate_job(self._job_id, patience=0.5)
                time.sleep(0.25)
        except TCBatchError as error:
            words = f"{self.thing} {self._job_id} {self.cant_end} ({why})"
            log.warning("%s, the next try of its task will see to it: %s", words, error)
        else:
            log.info("%s %s %s: %s", self.thing, self._job_id, self.ends, why)

    def _may(self, until: float) -> tuple[bool, str]:
        """Whether the job is to be ended, and why; notes in its record that it is."""
        from airflow.sdk.execution_time import task_runner

        alone = self.found_by_record and not self._records.durable
        if alone or getattr(task_runner, "SUPERVISOR_COMMS", None) is None:
            # No other try can have come to the same job; or there is no Airflow to ask (a task run by hand).
            return True, "nobody else can know of it"
        try:
            state = self._state()
        except Exception as error:
            # Airflow refuses to tell a try that has been replaced. Then the job is its successor's.
            return False, f"the state of its task can't be read: {type(error).__name__}: {error}"
        why = f"its task is {state or 'cleared'}"
        try:
            record = self._records.load()
            # A record of this process does not tell of a successor.
            mine = self._records.durable and record is not None and record.owner.ti_id == self._ti_id
            if not terminates(state, worker=True, owner=mine):
                return False, f"{why}{'' if mine else ' in another try'}"
            if record is not None and mine and record.job_id == self._job_id and record.repairs:
                self._failed_before = record.repairs[-1].end_time_before
            if record is not None and mine and record.job_id == self._job_id and time.monotonic() < until:
                # If the job can't be ended now (it is SUBMITTED), the next try knows that it is to end.
                self._records.save(replace(record, ending=Ending("killed", time.time())))
        except Exception as error:
            why = f"{why}, and its record can't be written: {type(error).__name__}: {error}"
            return terminates(state, worker=True), why
        return True, why

    def _state(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        owner = self._owner
        states = RuntimeTaskInstance.get_task_states(
            dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id]
        )
        return state_of(states, owner.run_id, owner.task_id, owner.map_index)


def _talks_to_airflow(frame: FrameType | None) -> bool:
    """Whether the signal came while this thread was talking to Airflow, and so holds the lock for that."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "airflow.sdk.execution_time.comms":
            return True
        frame = frame.f_back
    return False
