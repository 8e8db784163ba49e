"""Whether a killed task takes its job with it: a positive list, because sparing a job is repaired by the next try
and killing a healthy one is not.

Airflow calls ``on_kill`` more often than a user kills a task. A trigger's fires in 3.3.0 to 3.3.2 when the trigger is
merely handed to another triggerer; a worker's fires when a stale worker ends after its successor has attached to the
same job. So the state of the task instance decides, as Airflow tells it at that moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SWEEP", "state_of", "terminates"]

#: What to do about something that may run on.
SWEEP = (
    "if no other try of its task goes on with it, it runs on and costs money: `airflow tcbatch orphans --end` ends it "
    "once its run is over"
)

#: States in which nobody will come back for the job.
_ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})


def terminates(state: str | None, *, worker: bool, owner: bool = False) -> bool:
    """Whether to terminate the job of a killed task.

    Cleared tasks (``None``, ``scheduled``, ``queued`` ...) are spared: their next try ends the old job itself.

    :param state: state of the task instance now.
    :param worker: asked by a worker; ``False`` for a trigger.
    :param owner: whether the job's record names this very try.
    """
    if state in _ENDED:
        return True
    if worker:
        return state == "restarting" or (state == "running" and owner)
    return False


def state_of(states: Mapping[str, Mapping[str, Any]], run_id: str, task_id: str, map_index: int) -> str | None:
    """Find a task instance in what Airflow's ``get_task_states`` returned.

    States are keyed ``task_id``, or ``task_id_<map_index>`` for mapped tasks.
    """
    key = task_id if map_index < 0 else f"{task_id}_{map_index}"
    state = states.get(run_id, {}).get(key)
    return None if state is None else str(state)
