"""Ending a job when its task is killed on a worker, in the five seconds that Airflow gives for it."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.policies.job.outcome import judge
from airflow_provider_tcbatch.policies.ownership.marks import Owner
from airflow_provider_tcbatch.policies.ownership.on_kill import SWEEP, state_of, terminates
from airflow_provider_tcbatch.policies.ownership.record import Ending

if TYPE_CHECKING:
    from airflow_provider_tcbatch.execution.ownership.state_store import Records
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["KillSwitch", "pull_all"]

log = logging.getLogger(__name__)

#: Seconds for all of it: Airflow kills the process 5 s after it asked it to end.
_SECONDS = 4.5

#: Seconds of these that are kept for the request that ends the job. All before is for Airflow to say what has become of
#: the task: a busy one takes seconds for that.
_RESERVE = 0.5

#: Seconds to wait for Airflow's answer if this thread holds the lock for it: then none can come.
_LOCKED_SECONDS = 1.0

#: Seconds to wait for a look at the job that was begun together with the question to Airflow.
_LOOK_SECONDS = 0.5


class _Guard:
    """What Airflow says of the task; each part is there when its event is set."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.may = False
        self.why = "Airflow does not answer"
        #: Whether that is what has become of the task; ``False`` if it can't be found out.
        self.sure = False
        #: Set when the job's record says that it is to end, as far as it can be written.
        self.noted = threading.Event()

    def answer(self, may: bool, why: str, *, sure: bool = True) -> None:
        self.may, self.why, self.sure = may, why, sure
        self.answered.set()


class KillSwitch:
    """Ends a job if its task is really over.

    It is made before the wait, with everything it needs: the signal handler that uses it runs on the thread that may
    hold Airflow's own lock, so it does nothing but start threads and wait for them. One asks Airflow what has become of
    the task; if the lock is held, that one hangs and costs nothing but the answer. The interrupted thread may hold a
    lock of its client, of its keys or of its places in a rate, too: those of the switch are its own. And it may hold
    one of the logging: what was done is logged when it has been done.

    :param hook: what the task's own hook has made by :meth:`~.hooks.tencent_cloud.TencentCloudHook.apart`.
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
        self.job_id = job_id
        self._owner = owner
        self._ti_id = ti_id
        self._records = records
        #: EndTime of the job before its failed instances were to run again.
        self.failed_before: str | None = None
        self._seen: DescribeJobResult | None = None

    def pull(self) -> None:
        """End the job, unless somebody else needs it; returns within less than five seconds."""
        pull_all([self])

    # -- three threads -------------------------------------------------------------------------------

    def guard(self, guard: _Guard, until: float) -> None:
        """Ask Airflow whether the job is to be ended; then note in its record that it is."""
        try:
            self._ask(guard, until)
        except Exception as error:
            guard.answer(False, f"{type(error).__name__}: {error}", sure=False)
        finally:
            guard.noted.set()

    def look(self, looked: threading.Event) -> None:
        """Look at the job, for the words: it may have ended by itself."""
        try:
            self._seen = self._read()
        except Exception as error:
            log.debug("%s %s can't be looked at: %s", self.thing, self.job_id, error)
        finally:
            looked.set()

    def end(self, guard: _Guard, looked: threading.Event, until: float, locked: bool) -> None:
        """End the job as soon as it is known that it is to be ended, and say what has become of it."""
        last = until - _RESERVE
        answered = guard.answered.wait(_LOCKED_SECONDS if locked else last - time.monotonic())
        if not answered and locked:
            # The try was the job's owner when it began to wait.
            guard.may, guard.why = True, "Airflow can't be asked now"
        elif not answered:
            # This try may have been replaced long ago, and a job that is spared is found again by the next one.
            guard.why = f"Airflow did not say in time what has become of its task; {SWEEP}"
        looked.wait(min(_LOOK_SECONDS, max(0.0, last - time.monotonic())))
        over = self._over()
        if over is not None and (over == "SUCCEED" or not guard.may):
            log.info("%s %s has ended: %s", self.thing, self.job_id, over)
            return
        if not guard.may:
            level = logging.INFO if guard.sure else logging.WARNING
            log.log(level, "%s %s is left alone: %s", self.thing, self.job_id, guard.why)
            return
        if answered:
            # If the job can't be ended now (it is SUBMITTED), the next try knows that it is to end.
            guard.noted.wait(max(0.0, last - time.monotonic()))
        try:
            self._hook.terminate_job(self.job_id, patience=max(0.5, until - time.monotonic() - 0.5))
            while self.failed_before is not None and time.monotonic() < until - 0.5:
                # Its failed instances are to run again, and terminating it has no effect before that has begun.
                view = self._hook.describe_job(self.job_id)
                if view.next_action or view.end_time not in (None, "", self.failed_before):
                    break
                self._hook.terminate_job(self.job_id, patience=0.5)
                time.sleep(0.25)
        except TCBatchError as error:
            words = f"{self.thing} {self.job_id} {self.cant_end} ({guard.why})"
            log.warning("%s; the next try of its task will see to it. If there is none, %s. %s", words, SWEEP, error)
        else:
            if over is not None and self.failed_before is None:
                log.info("%s %s has ended: %s", self.thing, self.job_id, over)
            else:
                log.info("%s %s %s: %s", self.thing, self.job_id, self.ends, guard.why)

    # -- what they ask -------------------------------------------------------------------------------

    def _read(self) -> DescribeJobResult | None:
        from airflow_provider_tcbatch.models.actions import DescribeJob

        return self._hook.api.call(DescribeJob(job_id=self.job_id), attempts=1)

    def _over(self) -> str | None:
        """The final state of the job, if it had one before anything was asked for and keeps no machine."""
        from airflow_provider_tcbatch.hooks.batch import has_machines

        view = self._seen
        if view is None or view.next_action or not judge(view.job_state).is_final or has_machines(view):
            return None
        return str(view.job_state)

    def _ask(self, guard: _Guard, until: float) -> None:
        from airflow.sdk.execution_time import task_runner

        alone = self.found_by_record and not self._records.durable
        if alone or getattr(task_runner, "SUPERVISOR_COMMS", None) is None:
            # No other try can have come to the same job; or there is no Airflow to ask (a task run by hand).
            guard.answer(True, "nobody else can know of it")
            return
        try:
            state = self._state()
        except Exception as error:
            # Airflow refuses to tell a try that has been replaced. Then the job is its successor's.
            why = f"the state of its task can't be read: {type(error).__name__}: {error}"
            guard.answer(False, f"{why}; {SWEEP}", sure=False)
            return
        why = f"its task is {state or 'cleared'}"
        over = terminates(state, worker=True)
        if over:
            # Whatever its record says. A busy Airflow takes its time for that, too.
            guard.answer(True, why)
        try:
            record = self._records.load()
            # A record of this process does not tell of a successor.
            mine = self._records.durable and record is not None and record.owner.ti_id == self._ti_id
            may = terminates(state, worker=True, owner=mine)
            if record is not None and mine and record.job_id == self.job_id and may and time.monotonic() < until:
                if record.repairs:
                    self.failed_before = record.repairs[-1].end_time_before
                self._records.save(replace(record, ending=Ending("killed", time.time())))
        except Exception as error:
            # A task that runs may have been replaced: its record can't be written then.
            guard.why = f"{why}, and its record can't be written: {type(error).__name__}: {error}"
            if not over:
                guard.answer(False, f"{guard.why}; {SWEEP}", sure=False)
        else:
            if not over:
                guard.answer(may, f"{why}{'' if mine else ' in another try'}")

    def _state(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        owner = self._owner
        states = RuntimeTaskInstance.get_task_states(
            dag_id=owner.dag_id, task_ids=[owner.task_id], run_ids=[owner.run_id]
        )
        return state_of(states, owner.run_id, owner.task_id, owner.map_index)


def pull_all(switches: Sequence[KillSwitch]) -> None:
    """End all jobs of one task, unless somebody else needs them; returns within less than five seconds.

    It must be called on the thread that was interrupted. Airflow is asked once for all of them.
    """
    if not switches:
        return
    until = time.monotonic() + _SECONDS
    locked = _talks_to_airflow(sys._getframe())
    guard = _Guard()
    _start(lambda: switches[0].guard(guard, until), "tcbatch-guard")
    helpers = []
    for switch in switches:
        looked = threading.Event()
        _start(partial(switch.look, looked), "tcbatch-look")
        helpers.append(_start(partial(switch.end, guard, looked, until, locked), "tcbatch-terminate"))
    for helper in helpers:
        helper.join(max(0.0, until - time.monotonic()))


def _start(work: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


def _talks_to_airflow(frame: FrameType | None) -> bool:
    """Whether the signal came while this thread was talking to Airflow, and so holds the lock for that."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "airflow.sdk.execution_time.comms":
            return True
        frame = frame.f_back
    return False
