"""What the process of a task imports, which is most of what a task costs a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import DescribeJob, SubmitJob
from tests.unit.conftest import job

#: Does one part of a task, in a process of its own, as ``benchmarks/cases/worker.py`` does; prints what it imported.
PROGRAM = """
import json, sys, types, uuid
from datetime import datetime, timezone
import airflow.configuration, airflow.sdk, airflow.sdk.execution_time.task_runner
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.exceptions import TaskDeferred

given = json.load(sys.stdin)
before = set(sys.modules)
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator

operator = TCBatchSubmitJobOperator(task_id="task", job=given["job"], deferrable=True)
ExecutorSafeguard.tracker.set(operator)
values, xcoms = {}, {}
store = types.SimpleNamespace(get=values.get, set=lambda key, value, **_: values.update({key: value}))
ti = types.SimpleNamespace(
    dag_id="dag", run_id="run", task_id="task", map_index=-1, try_number=1, max_tries=0, id=uuid.uuid4(),
    start_date=datetime.now(timezone.utc), xcom_push=lambda key, value: xcoms.update({key: value}),
)
context = {"ti": ti, "task_state_store": store}
try:
    if given["event"] is None:
        operator.execute(context)
    else:
        operator.execute_complete(context, given["event"])
    ended = "done"
except TaskDeferred as deferral:
    ended = deferral.trigger.serialize()[0]
print(json.dumps({"ended": ended, "xcoms": sorted(xcoms), "modules": sorted(set(sys.modules) - before)}))
"""

OURS = "airflow_provider_tcbatch."

#: Clients that do more than a task needs: httpx, which Airflow has imported, is enough.
CLIENTS = {"requests", "urllib3", "charset_normalizer", "boto3", "botocore", "aiohttp", "qcloud_cos", "moto"}

#: What has to do with environments, templates and machines, or with finding jobs without an owner.
OTHERS = {
    "client.auth.sources",
    "client.auth.roles",
    "watching.jobs",
    "waits.job",
    "execution.orphans.sweep",
    "waits.sessions",
    "models.env_actions",
    "models.env_views",
    "models.machine_actions",
    "models.named_env",
    "models.template_actions",
    "execution.preflight",
    "policies.compute_env.nodes",
    "policies.compute_env.failure_report",
    "policies.compute_env.instance_types",
    "policies.orphans",
    "policies.job.failure_report",
    "policies.compute_env.sharing",
}


def run(emulator: Emulator, event: dict[str, Any] | None) -> tuple[dict[str, Any], set[str], set[str]]:
    """A part of a task: how it ended, our modules that it imported, and all libraries."""
    environment = {**os.environ, "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT": emulator.info.airflow_conn_json}
    given = json.dumps({"job": job("true"), "event": event})
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, input=given, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    modules = set(result["modules"])
    ours = {name.removeprefix(OURS) for name in modules if name.startswith(OURS)}
    return result, ours, {name.partition(".")[0] for name in modules}


def sdk(result: dict[str, Any]) -> set[str]:
    return {name for name in result["modules"] if name.startswith("tencentcloud.common.")}


SIGNS = {
    "tencentcloud.common.exception",
    "tencentcloud.common.exception.tencent_cloud_sdk_exception",
    "tencentcloud.common.sign",
}


def test_a_submission_imports_what_it_sends_and_no_more(emulator: Emulator) -> None:
    result, ours, libraries = run(emulator, None)
    assert result["ended"] == "airflow_provider_tcbatch.triggers.job.TCBatchJobTrigger"
    assert "job_id" in result["xcoms"]
    assert {"models.job_writing", "execution.job.submission", "triggers.job"} <= ours, "the check must see it"
    assert sdk(result) == SIGNS
    assert not libraries & CLIENTS
    assert not ours & OTHERS
    assert not ours & {"client.logs.reader", "models.job_reading", "models.views", "policies.job.summary"}


@pytest.mark.parametrize("status", ["ended", "error"])
def test_a_resumed_task_imports_what_it_reads_and_no_more(emulator: Emulator, api: ApiClient, status: str) -> None:
    request = SubmitJob.parse({"Placement": {"Zone": emulator.info.zone}, "Job": job("true")})
    job_id = api.call(request).job_id
    until = time.monotonic() + 60
    while api.call(DescribeJob(job_id=job_id)).job_state != "SUCCEED":
        assert time.monotonic() < until
    event = {"status": status, "state": "SUCCEED", "job_id": job_id, "submitted_at": time.time(), "source": "event"}
    result, ours, libraries = run(emulator, event)
    assert result["ended"] == "done"
    assert result["xcoms"] == ["tcbatch_summary", "tcbatch_timeline"]
    assert {"models.job_reading", "models.views", "policies.job.summary"} <= ours, "the check must see it"
    assert sdk(result) == SIGNS
    assert not libraries & CLIENTS
    assert not ours & OTHERS
    assert not any(name.startswith("triggers.") for name in ours)
    assert not ours & {"client.logs.reader", "execution.job.submission"}
