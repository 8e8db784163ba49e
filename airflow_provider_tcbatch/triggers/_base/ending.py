"""Ending what a trigger waits for, when the user has put an end to its task."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger

from airflow_provider_tcbatch.policies.ownership.on_kill import SWEEP, state_of, terminates

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["end_all", "put_to_an_end"]


#: Seconds that on_kill goes on asking for a job's end: a SUBMITTED job can't be ended yet.
KILL_SECONDS = 20.0

#: Seconds of on_kill for Airflow to say what has become of the task. Airflow gives 30 for all of it, and a busy one
#: takes its time.
GUARD_SECONDS = 20.0

#: Seconds for all of on_kill.
_KILLED_SECONDS = 27.0

#: Jobs that are being ended; the loop itself keeps only weak references.
_endings: set[asyncio.Task[str | None]] = set()

log = logging.getLogger(__name__)


async def put_to_an_end(trigger: BaseTrigger, what: str, spared: Collection[str] = ()) -> bool:
    """Whether the user has put an end to the task that waits, so that what it waits for is to be ended too.

    Airflow 3.3.0 to 3.3.2 call ``on_kill`` also when a trigger is merely handed to another triggerer, so what has
    become of the task decides, see :mod:`~airflow_provider_tcbatch.policies.ownership.on_kill`.

    :param what: what would be ended, for the log.
    :param spared: states of the task in which it is left alone although the task is over.
    """
    ti = trigger.task_instance
    if ti is None:  # under dag.test() there is none
        return False
    import anyio
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    question = sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id]
    )
    try:
        with anyio.fail_after(GUARD_SECONDS):
            states = await question
    except Exception as error:
        problem = "does not answer" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        trigger.log.warning(
            "%s%s is left alone: Airflow does not say what has become of its task (%s); %s",
            what[:1].upper(),
            what[1:],
            problem,
            SWEEP,
        )
        return False
    state = state_of(states, ti.run_id, ti.task_id, ti.map_index)
    ended = terminates(state, worker=False) and state not in spared
    trigger.log.info("The task is %s: %s is %s", state or "cleared", what, "to end" if ended else "left alone")
    return ended


async def end_all(
    trigger: BaseTrigger, settings: ConnectionSettings, job_ids: Sequence[str], env_id: str | None, begun: float
) -> None:
    """End jobs, and let the nodes of a compute environment go, for a trigger that is killed; log what can't be done.

    :param begun: ``time.monotonic()`` when on_kill began.
    """
    from airflow_provider_tcbatch.waits.sessions import scale_to_zero

    endings = [(f"Job {job_id}", _end_job(trigger, settings, job_id, begun)) for job_id in job_ids]
    if env_id is not None:
        emptying = scale_to_zero(settings, env_id, patience=_patience(begun))
        endings.append((f"Compute environment {env_id}", emptying))
    results = await asyncio.gather(*(ending for _, ending in endings), return_exceptions=True)
    for (name, _), error in zip(endings, results, strict=True):
        if error is not None:
            trigger.log.warning("%s could not be ended; %s. %s", name, SWEEP, error)


def _patience(begun: float) -> float:
    """Seconds that are left to go on asking for an end.

    :param begun: ``time.monotonic()`` when on_kill began.
    """
    return min(KILL_SECONDS, max(1.0, begun + _KILLED_SECONDS - time.monotonic()))


async def _end_job(trigger: BaseTrigger, settings: ConnectionSettings, job_id: str, begun: float) -> None:
    """End a job, and log what has become of it.

    Where a thousand tasks are put to an end at once, the account's rate does not let all of these requests through in
    the time that Airflow gives. Those that are left go on waiting for their turn as long as the process lives.

    :param begun: ``time.monotonic()`` when on_kill began.
    """
    from airflow_provider_tcbatch.client.background import spawn
    from airflow_provider_tcbatch.waits.jobs import has_ended
    from airflow_provider_tcbatch.waits.sessions import terminate

    ending = spawn(terminate(settings, job_id, patience=_patience(begun)), f"tcbatch-end-{job_id}")
    _endings.add(ending)
    ending.add_done_callback(_endings.discard)
    done, _ = await asyncio.wait({ending}, timeout=max(1.0, begun + _KILLED_SECONDS - time.monotonic()))
    if not done:
        ending.add_done_callback(partial(_tell_failure, job_id))
        trigger.log.warning(
            "Job %s: the request to end it waits for its turn, as more is asked of Batch than the account may ask in a "
            "second. This triggerer goes on with it, and its own log tells if that fails. %s",
            job_id,
            settings.job_url(job_id),
        )
        return
    state = ending.result()
    if state is None:
        trigger.log.info("Job %s does not exist any more", job_id)
    elif has_ended(state, interrupted=False):
        trigger.log.info("Job %s has ended: %s", job_id, state)
    else:
        trigger.log.warning(
            "Job %s is still %s, although its end was asked for. %s", job_id, state, settings.job_url(job_id)
        )


def _tell_failure(job_id: str, ending: asyncio.Task[str | None]) -> None:
    if ending.cancelled():
        log.warning("Job %s was not ended before this process ended; %s", job_id, SWEEP)
    elif (error := ending.exception()) is not None:
        log.warning("Job %s could not be ended; %s. %s", job_id, SWEEP, error)
