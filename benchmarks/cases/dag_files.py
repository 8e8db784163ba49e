"""A DAG file with many tasks: what building each costs, and putting it into the serialized DAG."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from benchmarks.meters import percentile, settle

_ROUNDS = 5


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case.

    :param parameters: ``operator``: ``empty``, ``ours`` or ``peer``; ``tasks``: how many.
    """
    make = {"empty": _empty, "ours": _ours, "peer": _peer}[parameters["operator"]]()
    tasks = parameters["tasks"]
    # What a process builds once, as the models of this provider, is paid by the first task of it.
    first, _ = _once(make, 1)
    built, serialized = zip(*(_once(make, tasks) for _ in range(_ROUNDS)), strict=True)
    return {
        "tasks": tasks,
        "first_ms": round(1000 * first, 2),
        "build_ms_per_task": round(1000 * percentile(built, 0.5) / tasks, 4),
        "serialize_ms_per_task": round(1000 * percentile(serialized, 0.5) / tasks, 4),
    }


def _once(make: Callable[[int], object], tasks: int) -> tuple[float, float]:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    settle()
    begun = time.process_time()
    with DAG("many", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)) as dag:
        for number in range(tasks):
            make(number)
    built = time.process_time()
    DagSerialization.to_dict(dag)
    return built - begun, time.process_time() - built


def _empty() -> Callable[[int], object]:
    from airflow.providers.standard.operators.empty import EmptyOperator

    return lambda number: EmptyOperator(task_id=f"task-{number}")


def _ours() -> Callable[[int], object]:
    from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

    def make(number: int) -> object:
        job = {
            "job_name": f"step-{number}",
            "tasks": [
                {
                    "task_name": "main",
                    "task_instance_num": 4,
                    "application": {"delivery_form": "LOCAL", "command": "python3 step.py {{ ds }}"},
                    "compute_env": {"env_data": {"instance_type": "S5.MEDIUM4", "image_id": "img-12345678"}},
                    "env_vars": [{"name": "STEP", "value": str(number)}],
                    "redirect_info": {"stdout_redirect_path": "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/a/"},
                }
            ],
        }
        return TCBatchSubmitJobOperator(task_id=f"task-{number}", job=job, deferrable=True)

    return make


def _peer() -> Callable[[int], object]:
    from airflow.providers.amazon.aws.operators.batch import BatchOperator

    def make(number: int) -> object:
        return BatchOperator(
            task_id=f"task-{number}",
            job_name=f"step-{number}",
            job_queue="queue",
            job_definition="definition",
            container_overrides={
                "command": ["python3", "step.py", "{{ ds }}"],
                "environment": [{"name": "STEP", "value": str(number)}],
            },
            deferrable=True,
        )

    return make
