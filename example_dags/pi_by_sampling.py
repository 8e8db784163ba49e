"""π by throwing darts: one Batch job per batch of darts, each with many instances, and most of them must succeed.

It shows what a long-running job needs besides its command: limits, what counts as success, what a retry does. Change
``darts`` or ``jobs`` when you trigger it. ``report`` reads what the jobs left in XCom.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

INSTANCES = 4

#: The program of every instance: its seed is its number, so that a repaired instance throws the same darts again.
PROGRAM = """
import os, random
seed = f"{os.environ['SEED']}-{os.environ['BATCH_TASK_INSTANCE_INDEX']}"
darts = int(os.environ["DARTS"])
print("throwing", darts, "darts for", os.environ["AIRFLOW_CTX_DAG_RUN_ID"], flush=True)
chance = random.Random(seed)
hits = sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(darts))
print("pi is about", 4 * hits / darts)
"""


def job(seed: int, darts: int) -> dict[str, Any]:
    """One job; its name is made from the task's, so that the console shows whose it is."""
    return {
        "Tasks": [
            {
                "TaskName": "throw",
                "TaskInstanceNum": INSTANCES,
                "Application": {"DeliveryForm": "LOCAL", "Command": 'python3 -c "$PROGRAM"'},
                "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
                "EnvVars": [
                    {"Name": "PROGRAM", "Value": PROGRAM},
                    {"Name": "SEED", "Value": str(seed)},
                    {"Name": "DARTS", "Value": str(darts)},
                ],
            }
        ]
    }


@dag(
    schedule=None,
    params={"darts": Param(200_000, type="integer", minimum=1), "jobs": Param(3, type="integer", minimum=1)},
    tags=["tencent batch", "example"],
)
def pi_by_sampling() -> None:
    @task
    def plan(params: dict[str, Any]) -> list[dict[str, Any]]:
        """One job per seed."""
        return [job(seed, params["darts"]) for seed in range(params["jobs"])]

    throw = TCBatchSubmitJobOperator.partial(
        task_id="throw",
        deferrable=True,
        # A retry runs only the instances that failed, on the same job. A crash never makes a second job.
        retries=2,
        retry_delay=timedelta(minutes=1),
        on_retry="repair",
        # Three of four instances will do.
        min_success=0.75,
        # Machines must be there within an hour, all must be over after three; the job is ended otherwise.
        queue_timeout=timedelta(hours=1),
        timeout=timedelta(hours=3),
        # Their output is in the task log while they run.
        stream_logs=True,
    ).expand(job=plan())

    @task
    def report(summaries: list[dict[str, Any]]) -> None:
        """Say how it went: this is what a task leaves in XCom about its job."""
        for summary in summaries:
            print(summary["job_name"], summary["state"], summary["instances"], f"{summary['duration']} s")

    report(throw.output["tcbatch_summary"])


DAG = pi_by_sampling()
