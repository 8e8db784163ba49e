"""An environment as large as a run needs, for as long as it needs it.

``size`` looks how much there is to do, ``machines`` makes that many nodes, one job per part runs on them, ``shrink``
gives all but one back, and the last job runs on what is left. Whatever fails, ``machines_teardown`` deletes the
environment. Change ``parts`` when you trigger it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchModifyComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.resources import compute_environment

#: One node does so many parts.
PARTS_PER_NODE = 2
MOST_NODES = 10


def job(env_id: str, command: str) -> dict[str, Any]:
    """A job of one task that runs on the environment: it has no machines of its own."""
    return {
        "Tasks": [
            {
                "TaskName": "main",
                "EnvId": env_id,
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "MaxRetryCount": 1,
                "Timeout": 600,
            }
        ]
    }


@dag(
    schedule=None,
    doc_md=__doc__,
    params={"parts": Param(4, type="integer", minimum=1)},
    tags=["tencent batch", "example"],
)
def elastic_environment() -> None:
    @task
    def size(params: dict[str, Any]) -> int:
        """How many nodes to make."""
        return min(MOST_NODES, -(-params["parts"] // PARTS_PER_NODE))

    with compute_environment(
        "machines",
        compute_env={
            "EnvName": "elastic",
            "DesiredComputeNodeCount": size(),
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4", "SA2.MEDIUM4"], "ImageId": "img-m4q71qnf"},
        },
        deferrable=True,
        timeout=3600,
    ) as env:

        @task
        def plan(env_id: str, params: dict[str, Any]) -> list[dict[str, Any]]:
            """One job for each part."""
            return [job(env_id, f"echo computed part {part}") for part in range(params["parts"])]

        compute = TCBatchSubmitJobOperator.partial(task_id="compute", deferrable=True, logs="all").expand(
            job=plan(env.env_id)
        )
        shrink = TCBatchModifyComputeEnvOperator(
            task_id="shrink", env_id=env.env_id, desired_compute_node_count=1, deferrable=True
        )
        merge = TCBatchSubmitJobOperator(
            task_id="merge", job=job(env.env_id, "echo merged"), deferrable=True, logs="all"
        )
        compute >> shrink >> merge


DAG = elastic_environment()
