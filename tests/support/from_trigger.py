"""Starting a sensor's trigger as Airflow does, scheduler and triggerer, without their processes."""

from __future__ import annotations

import asyncio
import importlib
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow.executors.workloads.task import TaskInstanceDTO
from airflow.jobs.triggerer_job_runner import TriggerRunner
from airflow.models.trigger import Trigger
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.serialization.serialized_objects import DagSerialization

__all__ = ["start_trigger"]

NOW = datetime(2026, 1, 31, tzinfo=timezone.utc)


def start_trigger(task: Any, conf: Mapping[str, Any] | None = None) -> Any:
    """The trigger that Airflow runs in the place of a task's beginning, rendered.

    :param task: the sensor, in a DAG.
    :param conf: configuration of the run.
    """
    # The scheduler reads the DAG from the database, and stores the trigger there.
    stored = json.loads(json.dumps(DagSerialization.to_dict(task.dag)))
    known = DagSerialization.from_dict(stored).get_task(task.task_id)
    assert known.start_from_trigger is True
    start: Any = known.start_trigger_args
    row = Trigger.encrypt_kwargs(start.trigger_kwargs)
    limits = [limit for limit in (start.timeout, known.execution_timeout) if limit is not None]
    timeout_after = datetime.now(timezone.utc) + min(limits)

    # The triggerer makes it, and renders it with the DAG at hand.
    decode: Any = smart_decode_trigger_kwargs
    kwargs = {name: decode(value) for name, value in Trigger._decrypt_kwargs(row).items()}
    module, _, name = start.trigger_cls.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**kwargs)
    dag_id = task.dag.dag_id
    ti = TaskInstanceDTO(
        id=uuid.uuid4(),
        task_id=task.task_id,
        dag_id=dag_id,
        run_id="manual__2026-01-31",
        try_number=1,
        map_index=-1,
        dag_version_id=uuid.uuid4(),
        pool_slots=1,
        queue="default",
        priority_weight=1,
    )
    run = {
        "dag_id": dag_id,
        "run_id": ti.run_id,
        "logical_date": NOW,
        "data_interval_start": NOW,
        "data_interval_end": NOW,
        "run_after": NOW,
        "start_date": NOW,
        "end_date": None,
        "run_type": "manual",
        "state": "running",
        "conf": dict(conf or {}),
        "consumed_asset_events": [],
        "partition_key": None,
    }
    runtime_ti = TriggerRunner.create_runtime_ti(ti, stored, run)
    trigger.task_instance = runtime_ti
    trigger.timeout_after = timeout_after
    context = runtime_ti.get_template_context()

    async def in_the_triggerers_loop() -> None:
        trigger.render_template_fields(context=context)

    asyncio.run(in_the_triggerers_loop())
    return trigger
