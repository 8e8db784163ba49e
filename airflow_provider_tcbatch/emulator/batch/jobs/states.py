"""Moving instances, and with them tasks and jobs, from state to state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.jobs import accidents, events
from airflow_provider_tcbatch.emulator.batch.jobs.entities import (
    FAILED,
    FAILED_INTERRUPTED,
    FINAL,
    PENDING,
    RUNNABLE,
    RUNNING,
    STARTING,
    SUBMITTED,
    SUCCEED,
    Instance,
    Job,
    Task,
    aggregate,
)
from airflow_provider_tcbatch.emulator.batch.publication import publish

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService

#: What an instance seems to be instead of being in a state that is never shown.
_BEFORE = {STARTING: RUNNABLE, RUNNABLE: PENDING, PENDING: SUBMITTED}


def set_instance(batch: BatchService, instance: Instance, state: str) -> None:
    """Move an instance, and with it its task and job, to a new state, or to what is shown in its place."""
    host = batch.host
    now = host.now()
    if state == STARTING and instance.state != STARTING:
        instance.launched_at = now
    while state in host.settings.skipped_states:
        state = _BEFORE[state]
    if instance.state == state:
        return
    task = instance.task
    _move(task.counts, instance.state, state)
    instance.state = state
    if state == RUNNING:
        instance.running_at = now
        if host.faults.any:
            accidents.may_happen(batch, instance)
    elif state in FINAL:
        instance.ended_at = now
    host.ledger.touch(instance)
    task.job.timeline.state(now, "instance", task.name, instance.index, state)
    _emit(batch, task.job, f"TASK_INSTANCE_{state}", state, lambda: events.instance_members(instance))
    settle(batch, task)


def _move(counts: Counter[str], old: str, new: str) -> None:
    """Count a part elsewhere. States without parts go, so that there is less to look through."""
    if counts[old] > 1:
        counts[old] -= 1
    else:
        del counts[old]
    counts[new] += 1


def settle(batch: BatchService, task: Task) -> None:
    """Bring task and job up to date with their parts."""
    host = batch.host
    now = host.now()
    job = task.job
    settings = host.settings
    worst = settings.failed_and_interrupted
    state = aggregate(task.counts, task.state, at_end=settings.task_failure != "at_once", worst=worst)
    if state != task.state:
        if task.stranded:
            task.stranded = False
            job.stranded[task.state] -= 1
        _move(job.counts, task.state, state)
        task.state = state
        task.ended_at = now if task.final else None
        host.ledger.touch(task)
        job.timeline.state(now, "task", task.name, None, state)
        _emit(batch, job, f"TASK_{state}", state, lambda: events.task_members(task))
    if not task.ended.is_set() and task.final and task.over:
        task.ended.set()
    parts = job.counts - job.stranded if job.stranded else job.counts
    state = aggregate(parts, job.state, at_end=settings.job_failure != "at_once", worst=worst)
    if state != job.state:
        _set_job(batch, job, state)


def _set_job(batch: BatchService, job: Job, state: str) -> None:
    now = batch.host.now()
    job.state = state
    if job.final:
        job.ended_at = now
        job.next_action = ""
        if state == SUCCEED:
            job.state_reason = ""
        else:
            failed = [task.name for task in job.tasks.values() if task.state in (FAILED, FAILED_INTERRUPTED)]
            job.state_reason = job.state_reason or f"Task {', '.join(failed[:5])} failed"
    batch.host.ledger.touch(job)
    job.timeline.state(now, "job", None, None, state)
    _emit(batch, job, f"JOB_{state}", state, lambda: events.job_members(job))
    if job.final:
        job.ended.set()


def _emit(batch: BatchService, job: Job, name: str, state: str, members: Callable[[], dict[str, Any]]) -> None:
    if job.notifications and state in events.NOTABLE and (batch.host.settings.terminate_events or not job.terminated):
        tell(batch, job, name, members)


def tell(batch: BatchService, job: Job, name: str, members: Callable[[], dict[str, Any]]) -> None:
    """Publish an event to the topics of a job."""
    for event in publish(batch, job.notifications, name, job.job_id, members):
        job.timeline.event(event.time, name, event.topic, event.msg_id, event.body)
