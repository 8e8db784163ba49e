"""What the operator does when the service, or Airflow, is in a bad mood: run against the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.ownership import kill_switch as killed
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job


@pytest.fixture
def context(connection: str) -> Any:
    return Task().next_try()


def submit(command: str = "true", **options: Any) -> TCBatchSubmitJobOperator:
    return TCBatchSubmitJobOperator(task_id="submit", job=job(command), poll_interval=1, **options)


def event(job_id: str, status: str = "ended", **members: Any) -> dict[str, Any]:
    return {"status": status, "job_id": job_id, "state": None, "source": None, **members}


def refusing(monkeypatch: pytest.MonkeyPatch, *actions: str, error: Exception, times: int = 10**6) -> list[str]:
    """Let the first calls of some actions fail; returns the names of all calls."""
    from airflow_provider_tcbatch.client.api import ApiClient

    calls: list[str] = []
    real: Callable[..., Any] = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        calls.append(action.name())
        if action.name() in actions and sum(name in actions for name in calls) <= times:
            raise error
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    return calls


def test_a_wrong_console_template_is_found_before_there_is_a_job(
    context: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    wrong = json.loads(emulator.info.airflow_conn_json)
    wrong["extra"]["console_url"] = "https://x/{job}"
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(wrong))
    calls = refusing(monkeypatch, error=RuntimeError())
    with pytest.raises(e.ConfigurationError, match="console_url"):
        submit().execute(context)
    assert calls == []


def ended(command: str) -> str:
    hook = TCBatchHook()
    job_id = hook.submit_job(job(command))
    for view in hook.wait(job_id, poll_interval=0.1):
        if str(view.job_state) in ("SUCCEED", "FAILED"):
            break
    return job_id


DENIED = e.PermissionDenied("no right to read logs", code="UnauthorizedOperation")


def test_a_success_stays_one_when_its_output_can_not_be_read(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = ended("echo hello")
    refusing(monkeypatch, "DescribeTaskLogs", error=DENIED)
    assert submit(logs="all").execute_complete(context, event(job_id, state="SUCCEED")) == job_id


@pytest.mark.parametrize("action", ["DescribeTaskLogs", "DescribeTask"])
def test_a_failure_is_reported_when_output_can_not_be_read(
    context: Any, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    job_id = ended("exit 9")
    refusing(monkeypatch, action, error=DENIED)
    with pytest.raises(e.JobFailed, match="1 of 1 instances failed"):
        submit().execute_complete(context, event(job_id, state="FAILED"))


def test_a_failure_names_exit_code_and_stderr_even_without_logs(context: Any) -> None:
    job_id = ended("echo disk full >&2; exit 9")
    with pytest.raises(e.JobFailed, match=r"exit code 9[\s\S]*disk full") as failed:
        submit(logs="none").execute_complete(context, event(job_id, state="FAILED"))
    assert failed.value.exit_codes == (9,)


@pytest.mark.parametrize("status", ["timeout", "error"])
def test_a_job_that_ended_while_nobody_looked_counts(context: Any, status: str) -> None:
    job_id = ended("true")
    operator = submit(timeout=1)
    seen = event(job_id, status, limit="timeout", submitted_at=time.time() - 5)
    assert operator.execute_complete(context, seen) == job_id


def test_a_wait_that_failed_goes_on_if_the_service_answers(context: Any) -> None:
    job_id = TCBatchHook().submit_job(job("sleep 600"))
    with pytest.raises(TaskDeferred) as deferred:
        submit(deferrable=True).execute_complete(
            context, event(job_id, "error", message="five looks failed", submitted_at=5.0)
        )
    assert (deferred.value.trigger.submitted_at, deferred.value.trigger.errors) == (5.0, 1)
    with pytest.raises(e.TCBatchError, match=r"five looks failed.*it was not ended for that.*orphans --end"):
        submit().execute_complete(context, event(job_id, "error", message="five looks failed", errors=3))
    view = TCBatchHook().describe_job(job_id)
    assert view.job_state in ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
    assert not view.next_action


def test_a_wait_that_failed_says_where_to_look_if_the_service_does_not_answer(
    context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    calls = refusing(monkeypatch, "DescribeJob", error=e.InfrastructureError("still down", retryable=True))
    with pytest.raises(e.ApiUnavailable, match=r"job-12345678.*still down.*[iI]t was not ended for that.*console"):
        submit().execute_complete(context, event("job-12345678", "error", message="five looks failed"))
    assert "TerminateJob" not in calls


def test_a_timeout_terminates_a_job_that_is_still_submitted(context: Any, emulator: Emulator) -> None:
    emulator.configure(submitted_seconds=3.0)
    job_id = TCBatchHook().submit_job(job("sleep 60"))
    with pytest.raises(e.JobTimeout, match=r"timeout \(1 s.*it was terminated"):
        submit(timeout=1).execute_complete(
            context, event(job_id, "timeout", limit="timeout", submitted_at=time.time() - 2)
        )
    assert emulator.wait_job(job_id) == "FAILED"


def test_execution_timeout_is_a_deadline_of_the_deferred_wait(context: Any) -> None:
    with pytest.raises(TaskDeferred) as deferred:
        submit("sleep 60", deferrable=True, execution_timeout=timedelta(seconds=90), timeout=3600).execute(context)
    started = instance_in(context).start_date.timestamp()
    assert deferred.value.trigger.deadlines["execution_timeout"] == pytest.approx(started + 90)
    job_id = instance_in(context).xcoms["job_id"]
    with pytest.raises(e.ExecutionTimeout, match="execution_timeout"):
        submit(execution_timeout=timedelta(seconds=90)).execute_complete(
            context, event(job_id, "timeout", limit="execution_timeout", submitted_at=time.time())
        )


@pytest.mark.parametrize("cancel", [True, False])
def test_a_kill_takes_the_job_along_unless_told_not_to(
    context: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    monkeypatch.setattr(killed, "_SECONDS", 60.0)  # it is not this machine that is to be found too slow
    emulator.configure(submitted_seconds=1.0)
    operator = submit("sleep 60", deferrable=True, cancel_on_kill=cancel)
    with pytest.raises(TaskDeferred):
        operator.execute(context)
    operator.on_kill()
    job_id = instance_in(context).xcoms["job_id"]
    if cancel:
        assert emulator.wait_job(job_id) == "FAILED"
    else:
        view = TCBatchHook().describe_job(job_id)
        assert not str(view.job_state).startswith("FAILED")
        assert not view.next_action


def test_a_kill_before_there_is_a_job_does_nothing(context: Any) -> None:
    submit().on_kill()
