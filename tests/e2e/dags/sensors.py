"""DAGs of the end-to-end tests: waits for jobs that the test submits, named in the run's configuration."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor

# An hour: if the end is seen soon after it happened, polling has not done it.
WAIT: dict[str, Any] = {"poke_interval": 3600, "timeout": 600, "start_from_trigger": True}

with DAG("sensed", schedule=None):
    TCBatchJobSensor(task_id="no_worker", job_ids='{{ dag_run.conf["ids"][1] }}', end_from_trigger=True, **WAIT)
    TCBatchTaskSensor(task_id="one_worker", job_id='{{ dag_run.conf["ids"][1] }}', task_name="only", **WAIT)

    @task
    def find(dag_run: Any = None) -> list[str]:
        ids: list[str] = dag_run.conf["ids"]
        return ids

    pulled = TCBatchJobSensor(
        task_id="pulled",
        job_ids="{{ ti.xcom_pull(task_ids='find') }}",
        target_states=["SUCCEED", "FAILED"],
        end_from_trigger=True,
        **WAIT,
    )
    find() >> pulled

    # Whether there is such an XCom can't be told in the triggerer: a worker begins this wait.
    TCBatchJobSensor(
        task_id="begun_by_worker",
        job_ids="{{ ti.xcom_pull(task_ids='nobody') or '' }}{{ dag_run.conf.ids[1] }}",
        end_from_trigger=True,
        **WAIT,
    )

    TCBatchJobSensor(
        task_id="skipped", job_ids='{{ dag_run.conf["ids"][0] }}', end_from_trigger=True, soft_fail=True, **WAIT
    )
    TCBatchJobSensor(task_id="explained", job_ids='{{ dag_run.conf["ids"][0] }}', end_from_trigger=True, **WAIT)
    TCBatchJobSensor(
        task_id="late",
        job_ids='{{ dag_run.conf["ids"][1] }}',
        end_from_trigger=True,
        **{**WAIT, "timeout": 1},
    )
