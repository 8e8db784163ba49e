"""Ready-made retry policies: what Airflow decides with them."""

from __future__ import annotations

import importlib.util
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from airflow import sdk

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.retry_policies import infrastructure_only

RETRY, FAIL, DEFAULT = "retry", "fail", "default"


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (e.JobMachinesFailed("no stock", job_id="job-1"), RETRY),
        (e.QueueTimeout("never started", job_id="job-1"), RETRY),
        (e.QuotaExceeded("too many jobs"), RETRY),
        (e.Throttled("too fast"), RETRY),
        (e.InfrastructureError("down"), RETRY),
        (e.JobFailed("exit code 3", job_id="job-1"), FAIL),
        (e.JobTimeout("too slow", job_id="job-1"), FAIL),
        (e.ExecutionTimeout("too slow", job_id="job-1"), FAIL),
        (e.JobError("out of sight", job_id="job-1"), DEFAULT),
        (e.ConfigurationError("no region"), DEFAULT),
        (PermanentInvalidRequest("wrong"), DEFAULT),
        (ValueError("a bug"), DEFAULT),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_what_is_decided(error: Exception, action: str) -> None:
    given = infrastructure_only(retry_delay=timedelta(seconds=90))
    # As written, and after its way through JSON.
    for policy in (given, sdk.ExceptionRetryPolicy.deserialize(given.serialize())):
        decision = policy.evaluate(error, try_number=1, max_tries=3)
        assert decision.action.value == action
        assert decision.retry_delay == (timedelta(seconds=90) if action == RETRY else None)


def test_what_an_airflow_without_policies_would_say(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        """``airflow.sdk`` as it was."""

    monkeypatch.setitem(sys.modules, "airflow.sdk", Old())
    with pytest.raises(e.ConfigurationError, match=r"needs Airflow 3\.3 or later, this is 3\."):
        infrastructure_only()


DAG_FILE = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.retry_policies import infrastructure_only


def job(command, machine):
    env = {"env_data": {"instance_type": machine}}
    application = {"delivery_form": "LOCAL", "command": command}
    task = {"task_name": "main", "compute_env": env, "application": application, "resource_max_retry_count": 0}
    return {"tasks": [task]}


with DAG("policies", schedule=None) as dag:
    options = {
        "poll_interval": 1,
        "deferrable": False,
        "retries": 2,
        "retry_policy": infrastructure_only(retry_delay=timedelta(milliseconds=10)),
    }
    TCBatchSubmitJobOperator(task_id="machines", job=job("true", "S2.SMALL1"), **options)
    TCBatchSubmitJobOperator(task_id="program", job=job("exit 3", "S1.SMALL1"), **options)
"""


def test_a_failure_of_machines_is_retried_and_one_of_a_program_is_not(
    airflow_home: Path, connection: str, emulator: Emulator
) -> None:
    emulator.configure(cvm_failures={"S2.SMALL1": "no_stock*1"})
    path = airflow_home / "dags" / "policies.py"
    path.write_text(DAG_FILE)
    spec = importlib.util.spec_from_file_location("policies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run = module.dag.test()
    path.unlink()
    tries = {ti.task_id: (str(ti.state), ti.try_number) for ti in run.get_task_instances()}
    assert tries == {"machines": ("success", 2), "program": ("failed", 1)}


def test_a_dag_with_a_policy_is_stored_and_read_again() -> None:
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
    from tests.unit.conftest import job

    with DAG("with_policy", schedule=None) as dag:
        TCBatchSubmitJobOperator(task_id="submit", job=job("true"), retry_policy=infrastructure_only())
        TCBatchSubmitJobOperator(task_id="plain", job=job("true"))
    stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    assert stored.get_task("submit").has_retry_policy is True
    assert stored.get_task("plain").has_retry_policy is False
