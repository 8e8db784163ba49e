"""One environment for a day of ETL: runs that overlap share its machines, and the last one takes them away.

Trigger it several times in a row: the first run makes the environment, the others find it, so their jobs start at once.
The machines stay as long as any run of that day uses them, and no longer; the log of ``machines_teardown`` says whether
it left them to another run, or deleted them.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.resources import compute_environment


def job(env_id: str, name: str, command: str, **variables: str) -> dict[str, Any]:
    """A job of one task that runs on the environment: it has no machines of its own."""
    return {
        "Tasks": [
            {
                "TaskName": name,
                "EnvId": env_id,
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "EnvVars": [{"Name": key, "Value": value} for key, value in variables.items()],
                "MaxRetryCount": 1,
                "Timeout": 600,
            }
        ]
    }


@dag(
    schedule=None,
    doc_md=__doc__,
    params={"sources": Param(["orders", "returns", "stock"], type="array", items={"type": "string"})},
    tags=["tencent batch", "example"],
)
def shared_environment() -> None:
    with compute_environment(
        "machines",
        compute_env={
            # One for each day. What tells the DAG and the deployment is put after the name.
            "EnvName": "etl-{{ dag_run.run_after.strftime('%Y%m%d') }}",
            "DesiredComputeNodeCount": 2,
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"},
        },
        shared_by=True,
        deferrable=True,
        timeout=3600,
    ) as env:

        @task
        def plan(env_id: str, params: dict[str, Any]) -> list[dict[str, Any]]:
            """One job for each source."""
            return [job(env_id, "extract", 'echo "extracted $SOURCE"', SOURCE=name) for name in params["sources"]]

        extract = TCBatchSubmitJobOperator.partial(task_id="extract", deferrable=True, logs="all").expand(
            job=plan(env.env_id)
        )
        load = TCBatchSubmitJobOperator(
            task_id="load", job=job(env.env_id, "load", 'echo "loaded"'), deferrable=True, logs="all"
        )
        extract >> load


DAG = shared_environment()
