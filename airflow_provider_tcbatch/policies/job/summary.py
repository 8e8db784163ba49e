"""What a task leaves in XCom about its job: small, plain, and bounded however large the job is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.models.states import State

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.actions import DescribeJobResult, DescribeTaskResult
    from airflow_provider_tcbatch.models.views import InstanceMetrics

__all__ = ["TASKS", "summarise"]

#: Most tasks that a summary names, and most output paths of each.
TASKS = 50
PATHS = 5


def summarise(
    view: DescribeJobResult, requested: Mapping[str, Any], details: Mapping[str, DescribeTaskResult]
) -> dict[str, Any]:
    """Sum a job up.

    :param view: the job as DescribeJob shows it.
    :param requested: the job in wire JSON, for its output paths and numbers of instances.
    :param details: tasks that did not succeed as a whole, as DescribeTask shows them, by name.
    :returns: ``job_id``, ``job_name``, ``state``, ``duration`` (s), ``instances`` (numbers by state), and ``tasks`` by
        name: ``state``, ``duration`` (s), ``instances`` (numbers by state), ``exit_codes`` (numbers by code, of the
        instances that were looked at), ``outputs`` (paths). What is not known is left out. At most 50 tasks, see
        ``more_tasks``.
    """
    wanted = {task.get("TaskName"): task for task in requested.get("Tasks") or ()}
    tasks = {}
    shown = (view.task_set or [])[:TASKS]
    for task in shown:
        given = wanted.get(task.task_name)
        entry: dict[str, Any] = {"state": str(task.task_state), "duration": _seconds(task.create_time, task.end_time)}
        detail = details.get(str(task.task_name))
        if detail is not None:
            instances = detail.task_instance_set or ()
            codes = Counter(str(instance.exit_code) for instance in instances if instance.exit_code is not None)
            entry |= {"instances": _numbers(detail.task_instance_metrics), "exit_codes": dict(codes.most_common(20))}
        elif task.task_state == State.SUCCEED and given is not None:
            number = given.get("TaskInstanceNum") or 1
            entry |= {"instances": {"SUCCEED": number}, "exit_codes": {"0": number}}
        if outputs := [mapping["DestinationPath"] for mapping in (given or {}).get("OutputMappings") or ()][:PATHS]:
            entry["outputs"] = outputs
        tasks[str(task.task_name)] = entry
    summary = {
        "job_id": view.job_id,
        "job_name": view.job_name,
        "state": str(view.job_state),
        "duration": _seconds(view.create_time, view.end_time),
        "instances": _numbers(view.task_instance_metrics),
        "tasks": tasks,
    }
    if (more := len(view.task_set or ()) - len(shown)) > 0:
        summary["more_tasks"] = more
    return summary


def _numbers(metrics: InstanceMetrics | None) -> dict[str, int]:
    """Numbers by state, without the states that nothing is in."""
    if metrics is None:
        return {}
    return {
        state.value: number for state in State if (number := getattr(metrics, f"{state.value.lower()}_count", 0)) > 0
    }


def _seconds(begin: str | None, end: str | None) -> float | None:
    """Seconds between two of the API's times; ``None`` if one is missing or can't be read."""
    try:
        return (_time(end or "") - _time(begin or "")).total_seconds()
    except (ValueError, TypeError):  # TypeError: one of them names its zone, the other does not
        return None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
