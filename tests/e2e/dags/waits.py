"""The DAGs of the end-to-end tests: each is one job and one way to wait for it."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator


def job(command: str, **env: str) -> dict[str, Any]:
    """A job of one task and one instance.

    No command here ends within four seconds: a task that is resumed before the worker that deferred it has wound up is
    failed by Airflow itself (apache/airflow#72716).
    """
    return {
        "Tasks": [
            {
                "TaskName": "only",
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
                "EnvVars": [{"Name": name, "Value": value} for name, value in env.items()],
            }
        ]
    }


# The job ends when the test makes the file GATE: not before the triggerer listens.
with DAG("by_event", schedule=None, params={"gate": Param("/nonexistent", type="string")}):
    TCBatchSubmitJobOperator(
        task_id="job",
        job=job('until [ -e "$GATE" ]; do sleep 0.1; done', GATE="{{ params.gate }}"),
        deferrable=True,
        # An hour: if the end is seen soon after it happened, polling has not done it.
        poll_interval=3600,
    )

# The jobs would run for an hour: their end is the user's doing.
with DAG("mapped", schedule=None):
    TCBatchSubmitJobOperator.partial(task_id="job", deferrable=True, poll_interval=5).expand(
        job=[job("sleep 3600"), job("sleep 3600")]
    )

with DAG("by_polling", schedule=None):
    TCBatchSubmitJobOperator(task_id="job", job=job("sleep 4"), deferrable=True, poll_interval=2)

with DAG("failing", schedule=None):
    TCBatchSubmitJobOperator(
        task_id="job",
        job=job("sleep 4; echo reading part 7; echo 'part 7: no such object' >&2; exit 3"),
        deferrable=True,
        poll_interval=2,
    )

with DAG("templated", schedule=None, params={"greeting": "hello", "names": ["ada", "grace"]}):
    TCBatchSubmitJobOperator(task_id="greeter", job="jobs/greetings.yaml", deferrable=True, poll_interval=2, logs="all")
