"""What the events of jobs, tasks, instances and their rented machines tell."""

from __future__ import annotations

from typing import Any

from airflow_provider_tcbatch.emulator.batch.jobs.entities import FINAL, RUNNING, Instance, Job, Task
from airflow_provider_tcbatch.emulator.ids import iso

#: States that have an event.
NOTABLE = FINAL | {RUNNING}


def job_members(job: Job) -> dict[str, Any]:
    """``Batch`` object of a JOB_ event."""
    return {
        "JobId": job.job_id,
        "JobName": job.name,
        "JobState": job.state,
        "Priority": job.spec.get("Priority", 0),
        "CreateTime": iso(job.created_at),
        "EndTime": iso(job.ended_at),
        "StateReason": job.state_reason,
    }


def task_members(task: Task) -> dict[str, Any]:
    """``Batch`` object of a TASK_ event."""
    return {
        "JobId": task.job.job_id,
        "JobName": task.job.name,
        "TaskName": task.name,
        "TaskState": task.state,
        "CreateTime": iso(task.created_at),
        "EndTime": iso(task.ended_at),
    }


def instance_members(instance: Instance) -> dict[str, Any]:
    """``Batch`` object of a TASK_INSTANCE_ event."""
    return {
        "JobId": instance.task.job.job_id,
        "JobName": instance.task.job.name,
        "TaskName": instance.task.name,
        "TaskInstanceIndex": instance.index,
        "TaskInstanceState": instance.state,
        "ExitCode": instance.exit_code,
        "StateReason": instance.state_reason,
        "ComputeNodeInstanceId": instance.node,
        "CreateTime": iso(instance.created_at),
        "LaunchTime": iso(instance.launched_at),
        "RunningTime": iso(instance.running_at),
        "EndTime": iso(instance.ended_at),
    }


def machine_members(instance: Instance, state: str) -> dict[str, Any]:
    """``Batch`` object of a COMPUTE_NODE_ event of a machine without an environment."""
    return {
        "ComputeNodeId": instance.machine_id,
        "EnvId": "",
        "ComputeNodeState": state,
        "Mem": instance.machine.mem if instance.machine else 0,
        "ResourceCreatedTime": iso(instance.launched_at),
        "EnvName": "",
        "ComputeNodeInstanceId": instance.node or "",
        "Cpu": instance.machine.cpu if instance.machine else 0,
    }
