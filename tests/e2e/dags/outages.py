"""A DAG whose tasks wait while the API is away; none of them has a second try."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchRetryJobsOperator
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor

#: The job ends when the test makes the file GATE.
JOB: dict[str, Any] = {
    "Tasks": [
        {
            "TaskName": "only",
            "Application": {"DeliveryForm": "LOCAL", "Command": 'until [ -e "$GATE" ]; do sleep 0.1; done'},
            "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
            "EnvVars": [{"Name": "GATE", "Value": "{{ params.gate }}"}],
        }
    ]
}

with DAG(
    "through_an_outage",
    schedule=None,
    params={"gate": Param("/nonexistent", type="string")},
    default_args={"retries": 0, "poll_interval": 5, "deferrable": True},
):
    TCBatchSubmitJobOperator(task_id="deferred", job=JOB)
    TCBatchSubmitJobOperator(task_id="limited", job=JOB, timeout=1800)
    TCBatchSubmitJobOperator(task_id="blocking", job=JOB, deferrable=False)
    watched = TCBatchSubmitJobOperator(task_id="watched", job=JOB, wait_for_completion=False)
    TCBatchRetryJobsOperator(task_id="several", job_ids=watched.output)
    TCBatchJobSensor(task_id="job_sensor", job_ids=watched.output, poke_interval=5)
    TCBatchTaskSensor(task_id="task_sensor", job_id=watched.output, task_name="only", poke_interval=5, deferrable=False)
