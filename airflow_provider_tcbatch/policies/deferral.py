"""How long a deferred task stays deferred although its wait is over: until the worker that deferred it has wound up.

A deferred task and the same task resumed are one to Airflow's executors: same key, same try. A worker that defers a
task ends after that, and its end is reported to the scheduler as a success. Reported while the task is deferred, it is
let go by; once the task has been queued again, or runs, the scheduler of Airflow up to 3.3.2 takes it for the end of a
process that was killed, and fails a task whose job has succeeded (apache/airflow#72716).
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["HEARTBEAT", "Deferral", "hold_until"]

#: Airflow's default of ``[workers] min_heartbeat_interval``, in seconds.
HEARTBEAT = 5.0

#: Seconds from the end of the worker's process until the scheduler has heard of it, on a machine that has nothing else
#: to do: its loop sleeps for a second (``[scheduler] scheduler_idle_sleep_time``) and then works for a while.
_ROUND = 1.5

#: Seconds of the CPU that it works for, at most: a run of two thousand mapped tasks.
_WORK = 0.5

#: Seconds that a worker takes to wind up, on such a machine.
_WIND_UP = 1.0

#: How much slower than on an idle machine anything is believed to be at most.
_SLOWEST = 60.0


class Deferral(NamedTuple):
    """What a trigger knows of the worker that deferred its task.

    :param slowest_call: seconds that the slowest call to Airflow took which this provider made in the try.
    :param slowdown: how many times as long as its work takes the process took for it, because others had the CPU: 1 on
        an idle machine.
    :param heartbeat: the worker's ``[workers] min_heartbeat_interval`` in seconds. Where a process ends a moment after
        its supervisor has looked, the supervisor sleeps for that long before it looks again.
    :param process: names the worker's process, see :mod:`~airflow_provider_tcbatch.connection.worker_process`; empty if
        it can't be named.
    """

    slowest_call: float = 0.0
    slowdown: float = 1.0
    heartbeat: float = HEARTBEAT
    process: str = ""

    def to_text(self) -> str:
        """The short text that travels with a trigger: with ten thousand waits each byte of it counts."""
        return f"{self.slowest_call:.2f} {self.slowdown:.1f} {self.heartbeat:g} {self.process}".rstrip()

    @classmethod
    def from_text(cls, text: str | None) -> Deferral:
        """What :meth:`to_text` wrote; of something else, what is true of any worker."""
        try:
            slowest_call, slowdown, heartbeat, *process = (text or "").split(" ")
            numbers = float(slowest_call), float(slowdown), float(heartbeat)
        except ValueError:
            return cls()
        return cls(*numbers, *process[:1]) if all(0 <= number < math.inf for number in numbers) else cls()


def hold_until(
    deferral: Deferral, *, started: float, least: float = 0.0, gone: float | None = None, seen: bool = False
) -> float | None:
    """When the task may be resumed, in seconds of the clock of ``started``.

    Where the process can be seen, its end is the evidence, and the scheduler needs a round to hear of it: it first
    queues what can be queued, and then asks its executor what has ended. A round is longer where others have the CPU;
    the API server has no part in it, but in storing the task's log before. Where the process can't be seen, because it
    runs on another machine or in another container, so much time has to pass as a worker may take to wind up.

    :param deferral: the worker.
    :param started: when the trigger started, which is after the task was deferred.
    :param least: seconds from then on that the task stays deferred in any case.
    :param gone: when the process was first seen to be gone.
    :param seen: whether its end can be seen from here.
    :return: ``None`` while the process lives: there is no saying when.
    """
    busy = _WORK * (min(max(deferral.slowdown, 1.0), _SLOWEST) - 1)
    if seen:
        if gone is None:
            return None
        return max(started + least, gone + _ROUND + busy + deferral.slowest_call)
    return started + max(least, deferral.heartbeat + _WIND_UP + busy + 2 * deferral.slowest_call)
