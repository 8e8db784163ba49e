"""Entities as the API shows them."""

from __future__ import annotations

import base64
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator import files
from airflow_provider_tcbatch.emulator.batch.jobs.entities import FINISHED, STATES, Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.jobs.execution import redirect_info
from airflow_provider_tcbatch.emulator.batch.machine.capacity import waiting_reason
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


def _reason(text: str, settings: Settings) -> str:
    return text if settings.state_reasons == "words" else ""


def job_detail(job: Job, settings: Settings) -> dict[str, Any]:
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
        "StateReason": _reason(waiting_reason(settings.capacity) if job.waits else job.state_reason, settings),
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


def task_detail(task: Task, instances: list[Instance], total: int, settings: Settings) -> dict[str, Any]:
    """DescribeTask, with one page of instances."""
    return {
        "JobId": task.job.job_id,
        "TaskName": task.name,
        "TaskState": task.state,
        "CreateTime": iso(task.created_at),
        "EndTime": iso(task.ended_at),
        "TaskInstanceTotalCount": total,
        "TaskInstanceSet": [instance_row(instance, settings) for instance in instances],
        "TaskInstanceMetrics": metrics(task.counts),
    }


def instance_row(instance: Instance, settings: Settings) -> dict[str, Any]:
    """One TaskInstanceView."""
    return {
        "TaskInstanceIndex": instance.index,
        "TaskInstanceState": instance.state,
        "ExitCode": instance.exit_code,
        "StateReason": _reason(
            waiting_reason(settings.capacity) if instance.queued else instance.state_reason, settings
        ),
        "ComputeNodeInstanceId": instance.node,
        "CreateTime": iso(instance.created_at),
        "LaunchTime": iso(instance.launched_at),
        "RunningTime": iso(instance.running_at),
        "EndTime": iso(instance.ended_at),
        "RedirectInfo": redirect_info(instance, settings),
        "StateDetailedReason": _reason(instance.detailed_reason, settings),
    }


def has_logs(instance: Instance, settings: Settings) -> bool:
    """Whether DescribeTaskLogs can know anything of an instance."""
    began = instance.folder is not None or instance.running_at is not None
    return began and (settings.logs_after_end or instance.state not in FINISHED)


def instance_log(instance: Instance, settings: Settings) -> dict[str, Any]:
    """One TaskInstanceLog: the newest attempt's last bytes, also while it runs."""
    folder = instance.folder if has_logs(instance, settings) else None
    return {
        "TaskInstanceIndex": instance.index,
        "StdoutLog": _excerpt(folder, "stdout", settings),
        "StderrLog": _excerpt(folder, "stderr", settings),
        **redirect_info(instance, settings),
    }


def _excerpt(folder: Path | None, name: str, settings: Settings) -> str:
    data = b""
    if folder is not None:
        try:
            with files.open_to_read(folder / name) as file:
                if settings.log_excerpt == "tail":
                    file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
                data = file.read(LOG_BYTES)
        except OSError:
            # The instance's next attempt may be about to make its files.
            data = b""
    prefix = "data:text/plain;charset=utf-8;base64," if settings.log_data_uri_prefix else ""
    text = base64.b64encode(data).decode()
    return prefix + (text if settings.log_base64_padding else text.rstrip("="))
