"""Waits and jobs, once for each kind of event queue: the connection says of which kind it is."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor

#: An hour: a wait that ends soon after its job was not ended by the clock.
SELDOM = 3600


def job(priority: int) -> dict[str, Any]:
    """A job that ends at once when it may begin; the test lets those of a higher priority begin first."""
    task = {
        "TaskName": "only",
        "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
        "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
    }
    return {"Priority": priority, "Tasks": [task]}


for conn_id in ("own_queue", "shared_queue"):
    # Neither the beginning nor the end of these waits takes a worker. Few in a DAG, and many runs: with each of them
    # Airflow hands the triggerer the whole DAG.
    with DAG(f"{conn_id}_waits", schedule=None, max_active_runs=100):
        for number in range(10):
            TCBatchJobSensor(
                task_id=f"wait_{number}",
                job_ids=f'{{{{ dag_run.conf["ids"][{number}] }}}}',
                tencentcloud_conn_id=conn_id,
                start_from_trigger=True,
                end_from_trigger=True,
                poke_interval=SELDOM,
            )

    # These go the whole way, by two workers each.
    with DAG(f"{conn_id}_jobs", schedule=None):
        for number in range(3):
            TCBatchSubmitJobOperator(
                task_id=f"job_{number}",
                job=job((90, 70, 50)[number]),
                tencentcloud_conn_id=conn_id,
                deferrable=True,
                poll_interval=SELDOM,
            )
