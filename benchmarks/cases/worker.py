"""What a deferrable task costs a worker: from its DAG file to its deferral, and from there to its end."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from benchmarks.meters import settle


def main(parameters: dict[str, Any]) -> dict[str, Any]:
    """Run the case, once: only a process that has run no task yet pays what a task's process pays.

    :param parameters: ``side``: ``ours`` or ``peer``; ``job_id`` of a job that has ended, whose task resumes; without
        one a job is submitted.
    """
    from airflow.sdk.exceptions import TaskDeferred

    _any_task()
    side, job_id = parameters["side"], parameters.get("job_id")
    before = set(sys.modules)
    settle()
    begun = time.process_time()
    operator = _in_a_dag({"ours": _ours, "peer": _peer}[side])
    built = time.process_time()
    context = _context(operator)
    operator.render_template_fields(context)
    rendered = time.process_time()
    if job_id is None:
        try:
            operator.execute(context)
            raise RuntimeError(f"The task of {side} did not defer")
        except TaskDeferred as deferral:
            deferral.trigger.serialize()
    else:
        operator.execute_complete(context, {"job_id": job_id, **_event(side)})
    ended = time.process_time()
    return {
        "build_ms": round(1000 * (built - begun), 2),
        "render_ms": round(1000 * (rendered - built), 2),
        "run_ms": round(1000 * (ended - rendered), 2),
        "cpu_ms": round(1000 * (ended - begun), 2),
        "modules": len(set(sys.modules) - before),
        "xcoms": sorted(context["ti"].xcoms),
    }


def _any_task() -> None:
    """What the process of any task does, whatever its operator is: it is not counted.

    A worker's process is forked from Airflow's supervisor, has read a connection and made a DAG with a template in it.
    """
    import airflow.configuration
    import airflow.sdk.execution_time.supervisor
    import airflow.sdk.execution_time.task_runner  # noqa: F401
    from airflow.sdk import BaseHook, BaseOperator

    class Idle(BaseOperator):
        template_fields = ("text",)

        def __init__(self, text: str = "{{ ds }}", **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.text = text

    operator = _in_a_dag(lambda: Idle(task_id="idle"))
    operator.render_template_fields(_context(operator))
    BaseHook.get_connection("benchmark_idle")


def _in_a_dag(make: Callable[[], Any]) -> Any:
    from airflow.sdk import DAG

    with DAG("worker", schedule=None, start_date=datetime(2025, 1, 1, tzinfo=timezone.utc)):
        return make()


class _Store:
    """A task state store, as Airflow 3.3 gives one to a task; what it costs Airflow is not counted."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._values.get(key, default)

    def set(self, key: str, value: Any, **_: Any) -> None:
        self._values[key] = value


class _Instance:
    """A task instance, as far as operators use it."""

    dag_id = "worker"
    run_id = "manual__2025-01-01T00:00:00+00:00"
    map_index = -1
    try_number = 1
    max_tries = 0

    def __init__(self, operator: Any) -> None:
        self.task = operator
        self.task_id = operator.task_id
        self.id = uuid.uuid4()
        self.start_date = datetime.now(timezone.utc)
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def _context(operator: Any) -> dict[str, Any]:
    from airflow.sdk.bases.operator import ExecutorSafeguard

    # As the task runner does: else Airflow warns of a call by hand.
    ExecutorSafeguard.tracker.set(operator)
    ti = _Instance(operator)
    return {
        "ti": ti,
        "task_instance": ti,
        "task": operator,
        "dag_run": None,
        "ds": "2025-01-01",
        "task_state_store": _Store(),
    }


def _event(side: str) -> dict[str, Any]:
    """What a trigger yields of a job that has succeeded."""
    if side == "peer":
        return {"status": "success"}
    now = time.time()
    return {
        "status": "ended",
        "state": "SUCCEED",
        "submitted_at": now,
        "observed_at": now,
        "event_received_at": now,
        "source": "event",
        "errors": 0,
    }


def _ours() -> Any:
    from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

    job = {
        "job_name": "step",
        "tasks": [
            {
                "task_name": "main",
                "task_instance_num": 4,
                "application": {"delivery_form": "LOCAL", "command": "python3 step.py {{ ds }}"},
                "compute_env": {"env_data": {"instance_type": "S5.MEDIUM4", "image_id": "img-12345678"}},
                "env_vars": [{"name": "STEP", "value": "1"}],
                "redirect_info": {"stdout_redirect_path": "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/a/"},
            }
        ],
    }
    return TCBatchSubmitJobOperator(task_id="task", job=job, deferrable=True)


def _peer() -> Any:
    from airflow.providers.amazon.aws.operators.batch import BatchOperator

    return BatchOperator(
        task_id="task",
        job_name="step",
        job_queue="queue",
        job_definition="definition",
        container_overrides={
            "command": ["python3", "step.py", "{{ ds }}"],
            "environment": [{"name": "STEP", "value": "1"}],
        },
        deferrable=True,
    )
