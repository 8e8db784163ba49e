"""A compute environment over its life; nothing that waits holds a worker."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG

from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchModifyComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_ensure import TCBatchEnsureComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

DEFERRED: dict[str, Any] = {"deferrable": True, "poll_interval": 1}

with DAG("environment", schedule=None):
    empty = TCBatchEnsureComputeEnvOperator(
        task_id="empty",
        compute_env={
            "EnvName": "e2e-{{ run_id | length }}",
            "DesiredComputeNodeCount": 0,
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"},
        },
        **DEFERRED,
    )
    up = TCBatchModifyComputeEnvOperator(task_id="up", env_id=empty.output, desired_compute_node_count=2, **DEFERRED)
    work = TCBatchSubmitJobOperator(
        task_id="work",
        job={
            "Tasks": [
                {
                    "TaskName": "only",
                    "TaskInstanceNum": 2,
                    "Application": {"DeliveryForm": "LOCAL", "Command": "sleep 4; hostname"},
                    "EnvId": up.output,
                }
            ]
        },
        **DEFERRED,
    )
    zero = TCBatchModifyComputeEnvOperator(
        task_id="zero", env_id=empty.output, desired_compute_node_count=0, **DEFERRED
    )
    up >> work >> zero
