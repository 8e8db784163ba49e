"""DAGs whose tasks, workers and triggerers are killed by the tests: each is one job that ends when the test says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

GATE = {"gate": Param("/nonexistent", type="string")}


def job(command: str, instances: int = 1, **env: str) -> dict[str, Any]:
    """A job of one task; without a name, so that its name tells the DAG."""
    return {
        "Tasks": [
            {
                "TaskName": "only",
                "TaskInstanceNum": instances,
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
                "EnvVars": [{"Name": name, "Value": value} for name, value in env.items()],
            }
        ]
    }


def gated() -> dict[str, Any]:
    """A job that runs until its file is there."""
    return job('until [ -e "$GATE" ]; do sleep 0.1; done', GATE="{{ params.gate }}")


RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=1), "poll_interval": 1}

for deferrable in (False, True):
    with DAG("deferred" if deferrable else "sync", schedule=None, params=GATE):
        TCBatchSubmitJobOperator(task_id="job", job=gated(), deferrable=deferrable, **RETRIES)

with DAG("timed", schedule=None, params=GATE):
    TCBatchSubmitJobOperator(
        task_id="job", job=gated(), deferrable=True, poll_interval=1, execution_timeout=timedelta(seconds=10)
    )

with DAG("doomed", schedule=None):
    TCBatchSubmitJobOperator(task_id="job", job=job("sleep 4; exit 1"), deferrable=True, poll_interval=1)

# Instance 1 fails until the file is there; every instance writes down that it ran.
with DAG("repaired", schedule=None, params={**GATE, "runs": Param("/nonexistent", type="string")}):
    TCBatchSubmitJobOperator(
        task_id="job",
        job=job(
            'sleep 4; echo $BATCH_TASK_INSTANCE_INDEX >> "$RUNS";[ $BATCH_TASK_INSTANCE_INDEX != 1 ] || [ -e "$GATE" ]',
            instances=3,
            GATE="{{ params.gate }}",
            RUNS="{{ params.runs }}",
        ),
        deferrable=True,
        poll_interval=1,
        retries=5,
        retry_delay=timedelta(seconds=1),
        on_retry="repair",
    )
