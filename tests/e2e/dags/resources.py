"""DAGs with a part that runs on a compute environment: made before it, taken away after it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.resources import compute_environment

GATE = {"gate": Param("/nonexistent", type="string")}

ENV = {
    "EnvName": "{{ dag.dag_id }}",
    "DesiredComputeNodeCount": 2,
    "EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"},
}

QUICK: dict[str, Any] = {"deferrable": False, "poll_interval": 1}


def gated(env_id: Any) -> dict[str, Any]:
    """A job that runs on the environment until its file is there."""
    command = 'until [ -e "$GATE" ]; do sleep 0.1; done'
    return {
        "Tasks": [
            {
                "TaskName": "only",
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "EnvId": env_id,
                "EnvVars": [{"Name": "GATE", "Value": "{{ params.gate }}"}],
            }
        ]
    }


with (
    DAG("broken", schedule=None),
    compute_environment("machines", compute_env=ENV, teardown_args={"deferrable": True}, **QUICK) as env,
):

    @task
    def breaks() -> None:
        """Something is wrong."""
        raise RuntimeError("this task fails")

    @task
    def last() -> None:
        """Never runs."""

    breaks() >> last()

with DAG("only_mapped", schedule=None, params=GATE), compute_environment("machines", compute_env=ENV, **QUICK) as env:
    # As text: what stands in a list of expand() may hold templates, but no other task's output.
    TCBatchSubmitJobOperator.partial(task_id="job", deferrable=True, poll_interval=1).expand(
        job=[gated(f"{env.env_id}"), gated(f"{env.env_id}")]
    )

with (
    DAG("shared", schedule=None, params=GATE),
    compute_environment("machines", compute_env=ENV, shared_by=True, **QUICK) as env,
):
    TCBatchSubmitJobOperator(task_id="job", job=gated(env.env_id), deferrable=True, poll_interval=1)
