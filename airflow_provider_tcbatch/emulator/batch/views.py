"""Entities as the API shows them."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator.batch.entities import STATES, Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.execution import redirect_info
from airflow_provider_tcbatch.emulator.ids import iso
from airflow_provider_tcbatch.emulator.settings import Settings

LOG_BYTES = 2048
_COUNT_NAMES = {state: "".join(part.title() for part in state.split("_")) + "Count" for state in STATES}


def metrics(counts: Counter[str]) -> dict[str, int]:
    """TaskMetrics or TaskInstanceMetrics: always all eight counters."""
    return {name: counts[state] for state, name in _COUNT_NAMES.items()}


def counts_of_instances(job: Job) -> Counter[str]:
    """Instances of a job by state."""
    total: Counter[str] = Counter()
    for task in job.tasks.values():
        total.update(task.counts)
    return total


def job_detail(job: Job) -> dict[str, Any]:
    """DescribeJob."""
    return {
        "JobId": job.job_id,
        "JobName": job.name,
        "Zone": job.request["Placement"]["Zone"],
        "Priority": job.spec.get("Priority", 0),
        "JobState": job.state,
        "CreateTime": iso(job.created_at),
        "EndTime": iso(job.ended_at),
        "TaskSet": [
            {
                "TaskName": task.name,
                "TaskState": task.state,
                "CreateTime": iso(task.created_at),
                "EndTime": iso(task.ended_at),
            }
            for task in job.tasks.values()
        ],
        "DependenceSet": job.spec.get("Dependences", []),
        "TaskMetrics": metrics(job.counts),
        "TaskInstanceMetrics": metrics(counts_of_instances(job)),
        "StateReason": job.state_reason,
        "Tags": job.spec.get("Tags", []),
        "NextAction": job.next_action,
    }


def job_row(job: Job) -> dict[str, Any]:
    """One JobView of DescribeJobs."""
    return {
        "JobId": job.job_id,
        "JobName": job.name,
        "JobState": job.state,
        "Priority": job.spec.get("Priority", 0),
        "Placement": {"ProjectId": 0, **job.request["Placement"]},
        "CreateTime": iso(job.created_at),
        "EndTime": iso(job.ended_at),
        "TaskMetrics": metrics(job.counts),
        "Tags": job.spec.get("Tags", []),
    }


def task_detail(task: Task, instances: list[Instance], total: int) -> dict[str, Any]:
    """DescribeTask, with one page of instances."""
    return {
        "JobId": task.job.job_id,
        "TaskName": task.name,
        "TaskState": task.state,
        "CreateTime": iso(task.created_at),
        "EndTime": iso(task.ended_at),
        "TaskInstanceTotalCount": total,
        "TaskInstanceSet": [instance_row(instance) for instance in instances],
        "TaskInstanceMetrics": metrics(task.counts),
    }


def instance_row(instance: Instance) -> dict[str, Any]:
    """One TaskInstanceView."""
    return {
        "TaskInstanceIndex": instance.index,
        "TaskInstanceState": instance.state,
        "ExitCode": instance.exit_code,
        "StateReason": instance.state_reason,
        "ComputeNodeInstanceId": instance.node,
        "CreateTime": iso(instance.created_at),
        "LaunchTime": iso(instance.launched_at),
        "RunningTime": iso(instance.running_at),
        "EndTime": iso(instance.ended_at),
        "RedirectInfo": redirect_info(instance),
        "StateDetailedReason": instance.detailed_reason,
    }


def instance_log(instance: Instance, settings: Settings) -> dict[str, Any]:
    """One TaskInstanceLog: the newest attempt's last bytes, also while it runs."""
    return {
        "TaskInstanceIndex": instance.index,
        "StdoutLog": _excerpt(instance.folder, "stdout", settings),
        "StderrLog": _excerpt(instance.folder, "stderr", settings),
        **redirect_info(instance),
    }


def _excerpt(folder: Path | None, name: str, settings: Settings) -> str:
    data = b""
    if folder is not None:
        try:
            with open(folder / name, "rb") as file:
                if settings.log_excerpt == "tail":
                    file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                data = file.read(LOG_BYTES)
        except OSError:
            # The instance's next attempt may be about to make its files.
            data = b""
    prefix = "data:text/plain;charset=utf-8;base64," if settings.log_data_uri_prefix else ""
    return prefix + base64.b64encode(data).decode()
