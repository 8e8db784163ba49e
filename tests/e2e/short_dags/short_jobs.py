"""Mapped jobs that are over before the worker that has deferred them: they end at once."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

#: As in the test.
JOBS = 4

JOB = {
    "Tasks": [
        {
            "TaskName": "only",
            "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
            "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
        }
    ]
}

with DAG("short_jobs", schedule=None):
    TCBatchSubmitJobOperator.partial(task_id="job", deferrable=True, retries=0, poll_interval=2).expand(
        job=[JOB] * JOBS
    )
