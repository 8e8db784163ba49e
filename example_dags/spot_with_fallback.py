"""Spot machines, and machines at the full price where there are none: what can be had is tried in order.

``machines`` makes a compute environment. The service itself tries the instance types in their order; where none of
them is to be had on the spot market, the task removes what it has tried and goes on to its alternative, the same
machines paid by the hour. ``decision`` shows what it has come to. The jobs do not care: they name the environment.

Change ``max_price`` when you trigger it: too low a bid is another way not to get spot machines.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchDeleteComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_ensure import TCBatchEnsureComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator


@dag(
    schedule=None,
    params={
        "nodes": Param(2, type="integer", minimum=1),
        "max_price": Param("0.20", type="string", description="Yuan an hour for each machine"),
    },
    tags=["tencent batch", "example"],
)
def spot_with_fallback() -> None:
    machines = TCBatchEnsureComputeEnvOperator(
        task_id="machines",
        compute_env={
            # One for each run: what a run has made, it takes away.
            "EnvName": "spot-{{ dag_run.run_after.strftime('%Y%m%d-%H%M%S') }}",
            "DesiredComputeNodeCount": "{{ params.nodes }}",
            "EnvData": {
                "InstanceTypes": ["S5.MEDIUM4", "SA2.MEDIUM4"],
                "ImageId": "img-m4q71qnf",
                "InstanceChargeType": "SPOTPAID",
                "InstanceMarketOptions": {"SpotOptions": {"MaxPrice": "{{ params.max_price }}"}},
            },
            # Do not try for hours to get what is not there.
            "ResourceMaxRetryCount": 0,
        },
        alternatives=[{"EnvData": {"InstanceChargeType": "POSTPAID_BY_HOUR", "InstanceMarketOptions": None}}],
        deferrable=True,
        # For each of them: spot machines that are not there by then, will not come.
        timeout=timedelta(minutes=20),
    )

    @task
    def decision(choice: dict[str, Any]) -> None:
        """Say what the work runs on, and what was tried before."""
        for failed in choice["failed"]:
            print(f"{failed['instance_charge_type']} {failed['instance_types']}: {failed['why']}")
        print(f"{choice['instance_charge_type']} {choice['instance_types']}: environment {choice['env_id']}")

    work = TCBatchSubmitJobOperator(
        task_id="work",
        job={
            "Tasks": [
                {
                    "TaskName": "count",
                    "TaskInstanceNum": "{{ params.nodes }}",
                    "EnvId": machines.output,
                    "Application": {"DeliveryForm": "LOCAL", "Command": "seq 1000000 | wc -l"},
                    # The market may take a machine back: its instance runs again on another one.
                    "MaxRetryCount": 3,
                }
            ]
        },
        deferrable=True,
        logs="all",
    )
    no_machines = TCBatchDeleteComputeEnvOperator(task_id="no_machines", env_id=machines.output, deferrable=True)

    decision(machines.output["tcbatch_choice"])
    machines >> work >> no_machines.as_teardown(setups=machines)


DAG = spot_with_fallback()
