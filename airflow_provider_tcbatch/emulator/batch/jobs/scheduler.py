"""The life of a job: parsing, dependencies, instances, retries, terminations."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable

from airflow_provider_tcbatch.emulator.batch.jobs import placement
from airflow_provider_tcbatch.emulator.batch.jobs.entities import (
    FAILED,
    FAILED_INTERRUPTED,
    FINISHED,
    PENDING,
    RANK,
    RUNNABLE,
    RUNNING,
    STARTING,
    SUBMITTED,
    SUCCEED,
    Failure,
    Instance,
    Job,
    Task,
)
from airflow_provider_tcbatch.emulator.batch.jobs.execution import execute, upload_logs
from airflow_provider_tcbatch.emulator.batch.jobs.states import set_instance, settle
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.host import Host

log = logging.getLogger("tcbatch_emulator.jobs")


# -- the life of a job ---------------------------------------------------------------------------------------


def start_job(batch: BatchService, job: Job) -> None:
    """Begin with a job that was just accepted."""
    job.timeline.state(job.created_at, "job", None, None, SUBMITTED)
    job.counts[SUBMITTED] = len(job.tasks)
    for task in job.tasks.values():
        task.counts[SUBMITTED] = len(task.instances)
        job.timeline.state(job.created_at, "task", task.name, None, SUBMITTED)
    batch.host.ledger.touch(job)
    batch.host.spawn(_run_job(batch, job), f"job {job.job_id}")


async def _run_job(batch: BatchService, job: Job) -> None:
    host = batch.host
    await host.sleep(host.settings.submitted_seconds)
    now = host.now()
    for task in job.tasks.values():
        task.created_at = now
        for instance in task.instances:
            instance.created_at = now
            set_instance(batch, instance, PENDING)
    if len(job.tasks) == 1:
        await _run_task(batch, *job.tasks.values())
    else:
        _run_tasks(batch, job.tasks.values())


def _run_tasks(batch: BatchService, tasks: Iterable[Task]) -> None:
    for task in tasks:
        batch.host.spawn(_run_task(batch, task), f"task {task.job.job_id}/{task.name}")


async def _run_task(batch: BatchService, task: Task) -> None:
    host = batch.host
    for name in task.predecessors:
        await task.job.tasks[name].ended.wait()
    unmet = [name for name in task.predecessors if not _satisfied(task.job, task.job.tasks[name])]
    waiting = [instance for instance in task.instances if not instance.final]
    if unmet and waiting and host.settings.unmet_tasks == "stay":
        task.stranded = True
        host.ledger.touch(task)
        task.job.stranded[task.state] += 1
        task.ended.set()
        settle(batch, task)
        return
    if unmet:
        for instance in waiting:
            instance.state_reason = f"The task {unmet[0]} before this one ended {task.job.tasks[unmet[0]].state}"
            set_instance(batch, instance, FAILED)
        return
    # Even a pause of no length costs a turn of the loop.
    if host.settings.pending_seconds:
        await host.sleep(host.settings.pending_seconds)
    limit = task.spec.get("MaxConcurrentNum")
    task.concurrency = asyncio.Semaphore(limit) if limit else None
    for instance in waiting:
        # A termination may have come during the pause.
        if not instance.final:
            if instance.state not in (STARTING, RUNNING):
                set_instance(batch, instance, RUNNABLE)
            name = f"instance {task.job.job_id}/{task.name}/{instance.index}"
            instance.runner = host.spawn(_run_instance(batch, instance), name)


def _satisfied(job: Job, predecessor: Task) -> bool:
    """Whether an ended task lets its successors run."""
    rule = job.spec.get("TaskExecutionDependOn") or "PRE_TASK_SUCCEED"
    if rule == "PRE_TASK_FINISHED":
        return True
    if rule == "PRE_TASK_AT_LEAST_PARTLY_SUCCEED":
        return predecessor.counts[SUCCEED] > 0
    return predecessor.state == SUCCEED


async def _run_instance(batch: BatchService, instance: Instance) -> None:
    """All attempts of one instance."""
    host = batch.host
    task = instance.task
    spec = task.spec
    try:
        while True:
            if instance.state in (STARTING, RUNNING):
                failure: Failure | None = placement.lost_with_the_emulator(batch, instance)
            else:
                if host.settings.runnable_seconds:
                    await host.sleep(host.settings.runnable_seconds)
                failure = await _attempt(batch, instance)
            if failure is None:
                instance.state_reason, instance.detailed_reason = "", "successful"
                set_instance(batch, instance, SUCCEED)
                return
            instance.state_reason = instance.detailed_reason = failure.reason
            if not _may_retry(host, instance, failure):
                break
            set_instance(batch, instance, RUNNABLE)
        keep = spec.get("FailedAction", "TERMINATE") in ("INTERRUPT", "FAST_INTERRUPT") and failure.was_running
        set_instance(batch, instance, FAILED_INTERRUPTED if keep else FAILED)
    except asyncio.CancelledError:
        if instance.stop_reason is None:
            raise
        instance.state_reason = instance.detailed_reason = instance.stop_reason
        set_instance(batch, instance, FAILED_INTERRUPTED if instance.interrupted else FAILED)
    except Exception as error:
        # A full disk, say. The job must end all the same, and say why.
        log.exception("instance %s of %s/%s failed inside the emulator", instance.index, task.job.job_id, task.name)
        instance.state_reason = instance.detailed_reason = f"InternalError: {error}"
        set_instance(batch, instance, FAILED)
    finally:
        # An ended coroutine is not much, but a hundred thousand of them are.
        instance.runner = None
        placement.release_at_end(batch, instance)
        _stop_others(batch, instance)


def _may_retry(host: Host, instance: Instance, failure: Failure) -> bool:
    spec = instance.task.spec
    if host.settings.fast_interrupt == "no_retry" and spec.get("FailedAction") == "FAST_INTERRUPT":
        return False
    return not failure.hopeless and instance.attempts <= spec.get("MaxRetryCount", 0)


def _stop_others(batch: BatchService, instance: Instance) -> None:
    """Let a failure take others with it, where the settings say so."""
    host = batch.host
    task, job, settings = instance.task, instance.task.job, host.settings
    fast = settings.fast_interrupt == "whole_task" and task.spec.get("FailedAction") == "FAST_INTERRUPT"
    # What was stopped by somebody is no failure of its own.
    failed = instance.state in (FAILED, FAILED_INTERRUPTED) and instance.stop_reason is None
    if failed and not task.stopped and (fast or settings.task_failure == "stop_others"):
        task.stopped = True
        host.ledger.touch(task)
        for other in task.instances:
            if not other.final:
                other.interrupted = fast and other.state == RUNNING and other.stop_reason is None
                terminate_instance(batch, other, f"Instance {instance.index} of the task failed")
    if task.state in (FAILED, FAILED_INTERRUPTED) and not job.stopped and settings.job_failure == "stop_others":
        job.stopped = True
        host.ledger.touch(job)
        # Later tasks first, so that none starts because an earlier one just ended.
        for later in reversed(job.tasks.values()):
            for other in later.instances:
                if not other.final:
                    terminate_instance(batch, other, f"The task {task.name} failed")


async def _attempt(batch: BatchService, instance: Instance) -> Failure | None:
    task = instance.task
    if task.concurrency is not None:
        async with task.concurrency:
            return await _attempt_with_slot(batch, instance)
    return await _attempt_with_slot(batch, instance)


async def _attempt_with_slot(batch: BatchService, instance: Instance) -> Failure | None:
    instance.attempts += 1
    lost = False
    try:
        failure = await placement.take(batch, instance)
        if failure is None:
            try:
                failure = await execute(batch, instance, lambda: set_instance(batch, instance, RUNNING))
            except asyncio.CancelledError:
                # A terminated instance has logs too; an emulator that shuts down does not wait for them, and those of a
                # machine that is gone are gone.
                if instance.stop_reason is not None:
                    await _deliver_logs(batch, instance)
                raise
            await _deliver_logs(batch, instance)
    except asyncio.CancelledError:
        if instance.stop_reason is not None or instance.lost_reason is None:
            raise
        lost = True
    finally:
        instance.placed = False
    if lost or instance.lost_reason is not None:
        lost, failure = True, placement.recover(instance, asyncio.current_task())
    if lost or (failure is not None and _may_retry(batch.host, instance, failure)):
        # The machine of a failed attempt is gone; the next one queues again.
        placement.release(batch, instance, lost=lost)
    return failure


async def _deliver_logs(batch: BatchService, instance: Instance) -> None:
    if batch.host.settings.log_upload_lag_seconds > 0:
        batch.host.spawn(_upload_later(batch, instance), "log upload")
    else:
        await upload_logs(batch, instance)


async def _upload_later(batch: BatchService, instance: Instance) -> None:
    await batch.host.sleep(batch.host.settings.log_upload_lag_seconds)
    await upload_logs(batch, instance)


def resume_job(batch: BatchService, job: Job) -> None:
    """Go on with a job that an emulator before this one began."""
    if job.retrying:
        batch.host.spawn(_retry_later(batch, job), f"retry of {job.job_id}")
    if job.next_action:
        terminate_job(batch, job)
    if all(task.state == SUBMITTED for task in job.tasks.values()):
        batch.host.spawn(_run_job(batch, job), f"job {job.job_id}")
    else:
        _run_tasks(batch, [task for task in job.tasks.values() if not task.ended.is_set()])


# -- what clients do to jobs ---------------------------------------------------------------------------------


def terminate_instance(batch: BatchService, instance: Instance, reason: str) -> None:
    """Stop one instance; has no effect on one that is SUCCEED or FAILED."""
    if instance.state == FAILED_INTERRUPTED:
        instance.state_reason = instance.detailed_reason = reason
        set_instance(batch, instance, FAILED)
        instance.stop_reason = reason
        placement.release(batch, instance)
    elif RANK[instance.state] < RANK[STARTING]:
        if instance.runner is not None:
            instance.stop_reason = reason
            instance.runner.cancel()
        instance.state_reason = instance.detailed_reason = reason
        set_instance(batch, instance, FAILED)
    elif not instance.final and instance.runner is not None and instance.stop_reason is None:
        # Its coroutine stops the process group and then says FAILED.
        instance.stop_reason = reason
        batch.host.ledger.touch(instance)
        instance.runner.cancel()


def terminate_job(batch: BatchService, job: Job) -> None:
    """Begin to terminate a job that is past SUBMITTED; returns at once."""
    if job.finished or (job.terminator is not None and not job.terminator.done()):
        return
    job.next_action = "TERMINATING"
    batch.host.ledger.touch(job)
    job.terminator = batch.host.spawn(_terminate_job(batch, job), f"termination of {job.job_id}")


async def _terminate_job(batch: BatchService, job: Job) -> None:
    host = batch.host
    await host.sleep(host.settings.terminate_seconds)
    if job.finished:
        return
    job.terminated = True
    shown = job.state in FINISHED
    if not shown:
        job.state_reason = "TerminateJob: the job was terminated by its user"
    host.ledger.touch(job)
    # Later tasks first, so that none starts because an earlier one just ended.
    for task in reversed(job.tasks.values()):
        for instance in task.instances:
            terminate_instance(batch, instance, "TerminateJob: terminated by the user")
    # Where the job is FAILED before all of it has ended, its state does not tell when that is.
    if shown:
        for task in job.tasks.values():
            await task.ended.wait()
        job.next_action = ""
        host.ledger.touch(job)


def accept_retry(batch: BatchService, job: Job) -> None:
    """RetryJobs is asynchronous: with ``retry_jobs_seconds`` the job reads FAILED for a while."""
    host = batch.host
    if host.settings.retry_jobs_seconds > 0:
        job.retrying = True
        host.ledger.touch(job)
        host.spawn(_retry_later(batch, job), f"retry of {job.job_id}")
    else:
        retry_job(batch, job)


async def _retry_later(batch: BatchService, job: Job) -> None:
    await batch.host.sleep(batch.host.settings.retry_jobs_seconds)
    job.retrying = False
    if job.job_id in batch.jobs:
        retry_job(batch, job)


def retry_job(batch: BatchService, job: Job) -> None:
    """Run the failed instances of a FAILED job again, as if for the first time."""
    host = batch.host
    job.state_reason, job.next_action, job.ended_at = "", "", None
    job.ended.clear()
    job.stopped = job.terminated = False
    job.stranded.clear()
    host.ledger.touch(job)
    again = [task for task in job.tasks.values() if task.state != SUCCEED]
    for task in again:
        task.ended.clear()
        task.stopped = task.stranded = False
        host.ledger.touch(task)
    now = host.now()
    for task in again:
        for instance in task.instances:
            if instance.state == SUCCEED:
                continue
            # A failed job may still keep the machine of an interrupted instance.
            placement.release(batch, instance)
            fresh = Instance(task, instance.index, instance.state, created_at=now, folders=instance.folders)
            task.instances[instance.index] = fresh
            host.ledger.touch(fresh)
            set_instance(batch, fresh, PENDING)
    _run_tasks(batch, again)


def forget_old_jobs(batch: BatchService) -> None:
    """Remove jobs that ended longer ago than records are kept."""
    latest = batch.host.now() - batch.host.settings.job_retention_seconds
    for job in list(batch.jobs.values()):
        if job.ended_at is not None and job.ended_at < latest and job.finished:
            forget_job(batch, job)


def forget_job(batch: BatchService, job: Job) -> None:
    """Remove a finished job, and in the background what its instances wrote."""
    del batch.jobs[job.job_id]
    batch.host.ledger.touch(job)
    batch.host.spawn(asyncio.to_thread(shutil.rmtree, job.folder, ignore_errors=True), f"removal of {job.job_id}")
