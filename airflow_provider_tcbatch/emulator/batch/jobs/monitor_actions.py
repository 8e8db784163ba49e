"""DescribeJobMonitorData: measurements of one task instance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.jobs.entities import Instance, Job
from airflow_provider_tcbatch.emulator.batch.machine.monitor import METRICS, Series
from airflow_provider_tcbatch.emulator.batch.rules import check_choice
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.host import Host

Params = dict[str, Any]

#: A longer time is shown with coarser points.
_MOST_POINTS = 1440
#: Most empty points between two attempts, as documented.
_MOST_EMPTY = 10


def describe_job_monitor_data(host: Host, job: Job, params: Params) -> Params:
    """The answer for a job that exists. It documents no code for an unknown task or instance but that of the job."""
    task = job.tasks.get(params["TaskName"])
    index = params["TaskInstanceIndex"]
    if task is None or not 0 <= index < len(task.instances):
        raise ApiError("ResourceNotFound.Job", f"The job {job.job_id} has no such task instance.")
    if "EnvId" in task.spec:
        raise ApiError("UnsupportedOperation", "Tasks of a compute environment have no monitoring data.")
    check_choice(params, "MetricName", METRICS, "MetricName")
    for dimension in params.get("Dimensions", ()):
        if params["MetricName"] != "TargetDiskUsage" or dimension["Name"] != "diskname":
            raise ApiError(
                "InvalidParameterValue", "`Dimensions` takes diskname only, and that for TargetDiskUsage only."
            )
    instance = task.instances[index]
    start, end = _range(host, instance, params)
    period = max(1, math.ceil(host.settings.monitor_period_seconds), math.ceil((end - start) / _MOST_POINTS))
    return {
        "Period": period,
        "DataPoints": _points(instance.series or (), METRICS.index(params["MetricName"]), start, end, period),
    }


def _range(host: Host, instance: Instance, params: Params) -> tuple[float, float]:
    """The time that is shown: what is asked for, as far as the instance lived."""
    first = instance.created_at if instance.created_at is not None else host.now()
    last = instance.ended_at if instance.ended_at is not None else host.now()
    wanted = [_time(params[name], name) if name in params else None for name in ("StartTime", "EndTime")]
    start = first if wanted[0] is None else max(first, wanted[0])
    # Times are given in whole seconds; the second in which the instance ended belongs to it.
    end = last if wanted[1] is None else min(last, wanted[1] + 1)
    if wanted[0] is not None and wanted[1] is not None and wanted[1] < wanted[0]:
        raise ApiError("InvalidParameterValue", "`EndTime` is before `StartTime`.")
    return start, max(start, end)


def _time(text: str, name: str) -> float:
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=timezone.utc).timestamp()
        except ValueError:
            continue
    raise ApiError(
        "InvalidParameterValue",
        f"The parameter `{name}` must be like 2026-01-31T12:00:00Z, not {printable(text, 60)!r}.",
    )


def _points(all_series: Sequence[Series], metric: int, start: float, end: float, period: int) -> Params:
    timestamps: list[int] = []
    values: list[float | None] = []
    for series in all_series:
        buckets: dict[int, list[float]] = {}
        for sample in list(series.samples):
            if start - period <= sample.time <= end:
                buckets.setdefault(int(sample.time) // period * period, []).append(sample.values[metric])
        for position, (time, measured) in enumerate(sorted(buckets.items())):
            if timestamps and time <= timestamps[-1]:
                continue
            if position == 0 and timestamps:
                # Between two attempts there was no machine.
                gap = range(timestamps[-1] + period, time, period)[:_MOST_EMPTY]
                timestamps.extend(gap)
                values.extend(None for _ in gap)
            timestamps.append(time)
            values.append(round(sum(measured) / len(measured), 2))
    return {"Timestamps": timestamps, "Values": values}
