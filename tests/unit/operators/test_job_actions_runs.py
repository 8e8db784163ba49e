"""The operators on jobs in Airflow, with ``dag.test()``: ids come from other tasks, waits are deferred."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook

DAG_FILE = """
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchDeleteJobOperator, TCBatchTerminateJobOperator
from airflow_provider_tcbatch.operators.task_instance import TCBatchTerminateTaskInstanceOperator

task = {{
    "task_name": "main",
    "task_instance_num": 2,
    "compute_env": {{"env_data": {{"instance_type": "S1.SMALL1"}}}},
    "application": {{"delivery_form": "LOCAL", "command": "touch {begun}; sleep 60"}},
}}
quick = {{"deferrable": True, "poll_interval": 0.5}}

with DAG("actions", schedule=None) as dag:
    submit = TCBatchSubmitJobOperator(task_id="submit", job={{"tasks": [task]}}, wait_for_completion=False)
    one = TCBatchTerminateTaskInstanceOperator(
        task_id="one", job_id=submit.output, task_name="main", indexes="{{{{ 1 }}}}", **quick
    )
    stop = TCBatchTerminateJobOperator(task_id="stop", job_ids="{{{{ ti.xcom_pull('submit') }}}}", **quick)
    delete = TCBatchDeleteJobOperator.partial(task_id="delete", **quick).expand(job_ids=[submit.output])
    one >> stop >> delete
"""


def test_a_job_is_ended_and_deleted_by_the_tasks_after_it(
    airflow_home: Path, connection: str, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.configure(terminate_seconds=0.5)
    before = {view.job_id for view in TCBatchHook().describe_jobs()}
    path = airflow_home / "dags" / "actions.py"
    path.write_text(DAG_FILE.format(begun=tmp_path / "begun"))
    spec = importlib.util.spec_from_file_location("actions", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test()
    path.unlink()
    assert {ti.task_id: str(ti.state) for ti in run.get_task_instances()} == dict.fromkeys(
        ("submit", "one", "stop", "delete"), "success"
    )
    assert {view.job_id for view in TCBatchHook().describe_jobs()} == before
