"""Maintenance: every hour, look for jobs and compute environments that nobody owns any more.

Read the log of ``look`` for some days. If it lists nothing that you miss, trigger the DAG with ``end`` set, or make
that its default. Set ``[tcbatch] deployment_id`` in Airflow's configuration first: it tells your jobs from those of
other Airflows on the account, and nothing is ended without it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.sdk import Param, dag, task

from airflow_provider_tcbatch.operators.orphans import TCBatchOrphansOperator


@dag(
    schedule=timedelta(hours=1),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    params={"end": Param(False, type="boolean", description="End what is found")},
    tags=["tencent batch", "example", "maintenance"],
)
def orphans() -> None:
    @task.short_circuit
    def is_told_to_end(params: dict[str, bool]) -> bool:
        return params["end"]

    look = TCBatchOrphansOperator(task_id="look", grace=timedelta(hours=1))
    end = TCBatchOrphansOperator(
        task_id="end", grace=timedelta(hours=1), end=True, retries=1, retry_delay=timedelta(minutes=5)
    )
    look >> is_told_to_end() >> end


DAG = orphans()
