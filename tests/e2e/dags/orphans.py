"""A run whose environment and job are left behind, and a task that looks for such things."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchDeleteComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.orphans import TCBatchOrphansOperator

WAIT = {
    "TaskName": "only",
    "Application": {"DeliveryForm": "LOCAL", "Command": 'until [ -e "$GATE" ]; do sleep 0.1; done'},
    "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
    "EnvVars": [{"Name": "GATE", "Value": "{{ params.gate }}"}],
}

with DAG("left_behind", schedule=None, params={"gate": Param("/nonexistent", type="string")}):
    machines = TCBatchCreateComputeEnvOperator(
        task_id="machines",
        compute_env={
            "EnvName": "left-behind-{{ params.gate | length }}",
            "DesiredComputeNodeCount": 1,
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"},
        },
        poll_interval=1,
    )
    job = TCBatchSubmitJobOperator(task_id="job", job={"Tasks": [WAIT]}, poll_interval=1)
    no_machines = TCBatchDeleteComputeEnvOperator(
        task_id="no_machines", env_id="{{ ti.xcom_pull('machines') }}", trigger_rule="all_done", poll_interval=1
    )
    machines >> job >> no_machines

with DAG("sweep", schedule=None):
    TCBatchOrphansOperator(task_id="sweep", grace=0)
