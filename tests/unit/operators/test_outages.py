"""The API is away while tasks run: nothing healthy is failed or ended for it. Against the emulator, with its faults."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Context

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.compute_env import creation as env_creation
from airflow_provider_tcbatch.execution.job import submission
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators._base import operator as base
from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout
from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchModifyComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import (
    TCBatchDeleteJobOperator,
    TCBatchRetryJobsOperator,
    TCBatchTerminateJobOperator,
)
from airflow_provider_tcbatch.operators.task_instance import TCBatchTerminateTaskInstanceOperator
from airflow_provider_tcbatch.operators.task_template import TCBatchCreateTaskTemplateOperator
from airflow_provider_tcbatch.policies.job import submission as submission_policy
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from tests.support.outages import Outage
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job

pytestmark = pytest.mark.usefixtures("quick_pauses")

both = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])

AWAY = "can't be asked since"
BACK = "can be asked again"

#: How many requests fail in an outage; before, five looks in a row were the end of a wait, and five of a worker's own.
LONG = 25


class Log:
    """What a task's log shows."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _write(self, form: str, *arguments: object, **_: object) -> None:
        self.lines.append(form % arguments if arguments else form)

    info = warning = error = exception = debug = _write

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)


class Run:
    """An operator, run as Airflow does, deferrals included, in a thread of its own.

    :param operator: the operator.
    :param context: of the try; default is the first of a task without retries.
    """

    def __init__(self, operator: Any, context: Context | None = None) -> None:
        self.operator = operator
        self.context = context or Task().next_try()
        self.log = Log()
        operator._cached_logger = self.log
        #: Names of the triggers, one after the other.
        self.deferred: list[str] = []
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, seconds: float = 90.0) -> Any:
        """What it returns, or raises."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the task does not end"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            try:
                self._result = self.operator.execute(self.context)
            except TaskDeferred as deferred:
                self._follow(deferred)
        except BaseException as error:
            self._error = error

    def _follow(self, deferred: TaskDeferred) -> None:
        while True:
            again = type(deferred.trigger)(**json.loads(json.dumps(deferred.trigger.serialize()[1])))
            self.deferred.append(type(again).__name__)
            again._log = self.log
            event = asyncio.run(self._event(again))
            try:
                method = getattr(self.operator, deferred.method_name)
                self._result = method(self.context, json.loads(json.dumps(event)))
                return
            except TaskDeferred as more:
                deferred = more

    @staticmethod
    async def _event(trigger: Any) -> Any:
        [event] = [event.payload async for event in trigger.run()]
        return event


@pytest.fixture
def hook(connection: str, own_emulator: Emulator) -> TCBatchHook:
    own_emulator.configure(node_submitted_seconds=0.02, node_pending_seconds=0.02, node_creating_seconds=0.05)
    return TCBatchHook(connection)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs end when this file is there, at the latest when the test does."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def held(gate: Path, then: str = "true") -> str:
    return f"until [ -e {gate} ]; do sleep 0.02; done; {then}"


def submit(gate: Path, then: str = "true", **options: Any) -> TCBatchSubmitJobOperator:
    return TCBatchSubmitJobOperator(task_id="submit", job=job(held(gate, then)), poll_interval=0.2, **options)


def calls(emulator: Emulator) -> Mapping[str, int]:
    """How often each action was called."""
    counts: Mapping[str, int] = emulator.on_loop(lambda services: services.host.calls.as_json()["counts"])
    return counts


def running_job(run: Run, hook: TCBatchHook) -> str:
    """The job of a task, as soon as it runs and is waited for."""
    return str(wait_until(lambda: _running(instance_in(run.context).xcoms.get("job_id"), hook)))


def _running(job_id: str | None, hook: TCBatchHook) -> str | None:
    return job_id if job_id is not None and hook.describe_job(job_id).job_state == "RUNNING" else None


def wait_until(holds: Callable[[], Any]) -> Any:
    end = time.monotonic() + 60
    while not (seen := holds()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)
    return seen


# -- one job ---------------------------------------------------------------------------------------------


@both
def test_an_outage_neither_fails_a_task_nor_ends_its_job(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    run = Run(submit(gate, deferrable=deferrable))
    job_id = running_job(run, hook)
    api_outage.begin()
    api_outage.wait(LONG)
    gate.touch()  # it ends while nobody can ask
    api_outage.end()
    assert run.result() == job_id
    assert "batch.TerminateJob" not in calls(own_emulator)
    assert (run.log.count(AWAY), run.log.count(BACK)) == (1, 1), run.log.lines


@both
def test_the_job_of_a_task_still_runs_after_the_outage(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    run = Run(submit(gate, deferrable=deferrable))
    job_id = running_job(run, hook)
    api_outage.begin()
    api_outage.wait(LONG)
    api_outage.end()
    wait_until(lambda: run.log.count(BACK))
    assert hook.describe_job(job_id).job_state == "RUNNING"
    gate.touch()
    assert run.result() == job_id
    assert "batch.TerminateJob" not in calls(own_emulator)
    assert (run.log.count(AWAY), run.log.count(BACK)) == (1, 1), run.log.lines


@pytest.mark.parametrize("kind", ["http_error", "drop", "error", "throttle"])
def test_whatever_kind_of_outage(hook: TCBatchHook, api_outage: Outage, gate: Path, kind: str) -> None:
    run = Run(submit(gate, deferrable=True))
    job_id = running_job(run, hook)
    api_outage.begin(kind=kind, **({"code": "InternalError"} if kind == "error" else {}))
    api_outage.wait(10)
    gate.touch()
    api_outage.end()
    assert run.result() == job_id


@both
def test_the_patience_is_over(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    gate: Path,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "1")
    run = Run(submit(gate, deferrable=deferrable))
    job_id = running_job(run, hook)
    api_outage.begin()
    with pytest.raises(e.ApiUnavailable, match=r"api_patience, which is 1 s.*was not ended for that"):
        run.result()
    api_outage.end()
    assert hook.describe_job(job_id).job_state == "RUNNING"
    assert not hook.describe_job(job_id).next_action
    assert "batch.TerminateJob" not in calls(own_emulator)


@both
def test_a_limit_of_the_tasks_own_decides_instead_of_the_patience(
    hook: TCBatchHook, api_outage: Outage, gate: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0.1")
    run = Run(submit(gate, deferrable=deferrable, timeout=600))
    job_id = running_job(run, hook)
    api_outage.begin()
    api_outage.wait(LONG)
    gate.touch()
    api_outage.end()
    assert run.result() == job_id


@both
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "running"])
def test_a_timeout_in_an_outage_ends_only_what_still_runs_after_it(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool, ended: bool
) -> None:
    run = Run(submit(gate, deferrable=deferrable, timeout=12))
    submitted = time.monotonic()
    job_id = running_job(run, hook)
    api_outage.begin()
    if ended:
        gate.touch()
        own_emulator.wait_job(job_id)
    wait_until(lambda: time.monotonic() >= submitted + 12.5)
    api_outage.wait(api_outage.failures + 10)
    api_outage.end()
    if ended:
        assert run.result() == job_id
        assert "batch.TerminateJob" not in calls(own_emulator)
    else:
        with pytest.raises(e.JobTimeout, match=r"timeout \(12 s.*it was terminated"):
            run.result()


@both
def test_a_timeout_in_an_outage_that_does_not_end(
    hook: TCBatchHook, api_outage: Outage, gate: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "1")
    run = Run(submit(gate, deferrable=deferrable, timeout=12))
    running_job(run, hook)
    api_outage.begin(action="DescribeJobs")
    api_outage.begin(action="DescribeJob")
    with pytest.raises(e.ApiUnavailable, match=r"timeout is over, but .*[iI]ts termination was asked for"):
        run.result()


def test_a_try_that_is_over_does_not_wait_for_an_hour(
    hook: TCBatchHook, api_outage: Outage, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_LAST_SECONDS", 0.5)
    job_id = hook.submit_job(job(held(gate)))
    api_outage.begin()
    event = {"status": "timeout", "limit": "execution_timeout", "job_id": job_id, "state": "RUNNING"}
    operator = submit(gate, deferrable=True)
    context = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute_complete(context, event)
    trigger = deferred.value.trigger
    assert trigger.until == pytest.approx(time.time() + 0.5, abs=600)
    later = {**trigger.event, "outage": {"since": trigger.since, "until": None}}
    wait_until(lambda: time.time() > trigger.until)
    with pytest.raises(e.ApiUnavailable, match="execution_timeout is over"):
        operator.execute_complete(context, later)


@both
def test_a_job_that_started_in_an_outage_does_not_miss_its_queue_timeout(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    own_emulator.configure(submitted_seconds=3.0)
    run = Run(submit(gate, deferrable=deferrable, queue_timeout=10))
    began = time.monotonic()
    job_id = wait_until(lambda: instance_in(run.context).xcoms.get("job_id"))
    api_outage.begin()
    wait_until(lambda: own_emulator.services.batch.jobs[job_id].state == "RUNNING")
    wait_until(lambda: time.monotonic() >= began + 11)
    api_outage.wait(api_outage.failures + 5)
    api_outage.end()
    gate.touch()
    assert run.result() == job_id


@both
def test_the_service_is_away_when_a_job_is_to_be_submitted(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    gate.touch()
    api_outage.begin()
    run = Run(submit(gate, deferrable=deferrable))
    api_outage.wait(LONG)
    assert ("TCBatchApiTrigger" in run.deferred) is deferrable
    api_outage.end()
    assert run.result() in [view.job_id for view in hook.describe_jobs()]
    assert len(list(hook.describe_jobs())) == 1
    assert (run.log.count(AWAY), run.log.count(BACK)) == (1, 1), run.log.lines


def test_the_patience_before_there_is_a_job(
    hook: TCBatchHook, api_outage: Outage, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0.5")
    api_outage.begin()
    for deferrable in (False, True):
        with pytest.raises(e.ApiUnavailable, match="api_patience"):
            Run(submit(gate, deferrable=deferrable)).result()
    api_outage.end()
    assert not list(hook.describe_jobs())


@both
def test_a_retry_that_begins_in_an_outage_goes_on_with_its_job(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    task = Task(retries=1)
    first = Run(submit(gate, wait_for_completion=False, deferrable=deferrable), task.next_try())
    job_id = first.result()
    [key] = task.store.data
    task.store.data[key]["done"] = False  # as if it had been waited for
    api_outage.begin()
    second = Run(submit(gate, deferrable=deferrable), task.next_try())
    api_outage.wait(LONG)
    gate.touch()
    api_outage.end()
    assert second.result() == job_id
    assert calls(own_emulator)["batch.SubmitJob"] == 1


@both
def test_a_wrong_request_is_no_outage(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    run = Run(submit(gate, deferrable=deferrable))
    job_id = running_job(run, hook)
    api_outage.begin(kind="error", code="UnauthorizedOperation")
    with pytest.raises(e.PermissionDenied, match=r"UnauthorizedOperation.*was not ended for that"):
        run.result()
    api_outage.end()
    assert hook.describe_job(job_id).job_state == "RUNNING"
    assert "batch.TerminateJob" not in calls(own_emulator)


# -- several jobs, instances -----------------------------------------------------------------------------


@both
def test_several_jobs(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    job_ids = [hook.submit_job(job(held(gate))) for _ in range(3)]
    for job_id in job_ids:
        wait_until(partial(_running, job_id, hook))
    operator = TCBatchRetryJobsOperator(
        task_id="again", job_ids=job_ids, deferrable=deferrable, poll_interval=0.2, cancel_on_failure=True
    )
    run = Run(operator)
    wait_until(lambda: run.log.count("Waiting for 3 jobs"))
    api_outage.begin()
    api_outage.wait(LONG)
    gate.touch()
    api_outage.end()
    assert run.result() == job_ids
    assert "batch.TerminateJob" not in calls(own_emulator)
    assert (run.log.count(AWAY), run.log.count(BACK)) == (1, 1), run.log.lines


@both
def test_the_end_of_a_job_is_waited_for(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    own_emulator.configure(terminate_seconds=3.0)
    job_id = hook.submit_job(job(held(gate)))
    wait_until(lambda: _running(job_id, hook))
    api_outage.begin()
    run = Run(TCBatchTerminateJobOperator(task_id="end", job_ids=job_id, deferrable=deferrable, poll_interval=0.2))
    api_outage.wait(LONG)
    api_outage.end()
    wait_until(lambda: calls(own_emulator).get("batch.TerminateJob"))
    api_outage.begin()
    api_outage.wait(LONG)
    api_outage.end()
    assert run.result() == [job_id]
    assert instance_in(run.context).xcoms["tcbatch_states"] == {job_id: "FAILED"}


@both
def test_instances(hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool) -> None:
    own_emulator.configure(terminate_seconds=2.0)
    job_id = hook.submit_job(job(held(gate), instances=2))
    wait_until(lambda: _running(job_id, hook))
    operator = TCBatchTerminateTaskInstanceOperator(
        task_id="end", job_id=job_id, task_name="main", indexes=[1], deferrable=deferrable, poll_interval=0.2
    )
    run = Run(operator)
    wait_until(lambda: calls(own_emulator).get("batch.TerminateTaskInstance"))
    api_outage.begin()
    api_outage.wait(LONG)
    api_outage.end()
    assert run.result() == [1]


# -- environments, templates -----------------------------------------------------------------------------

ENV = {
    "EnvName": "outage",
    "DesiredComputeNodeCount": 2,
    "EnvType": "MANAGED",
    "EnvData": {"InstanceTypes": ["S1.SMALL1"]},
}


@both
def test_an_environment_is_neither_failed_nor_removed(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(env_creation, "UNKNOWN_SECONDS", 1.0)
    own_emulator.configure(node_creating_seconds=3.0)
    run = Run(
        TCBatchCreateComputeEnvOperator(task_id="make", compute_env=ENV, deferrable=deferrable, poll_interval=0.2)
    )
    env_id = wait_until(lambda: instance_in(run.context).xcoms.get("env_id"))
    api_outage.begin()
    api_outage.wait(LONG)
    api_outage.end()
    assert run.result() == env_id
    told = calls(own_emulator)
    assert "batch.DeleteComputeEnv" not in told
    assert "batch.ModifyComputeEnv" not in told
    assert told["batch.CreateComputeEnv"] == 1

    api_outage.begin()
    scale = TCBatchModifyComputeEnvOperator(
        task_id="scale", env_id=env_id, desired_compute_node_count=1, deferrable=deferrable, poll_interval=0.2
    )
    run = Run(scale)
    api_outage.wait(LONG)
    api_outage.end()
    assert run.result() == env_id


@both
def test_the_patience_is_over_and_the_environment_is_left_as_it_is(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "1")
    own_emulator.configure(node_creating_seconds=30.0)
    env = {**ENV, "EnvName": f"patience-{deferrable}"}
    run = Run(
        TCBatchCreateComputeEnvOperator(task_id="make", compute_env=env, deferrable=deferrable, poll_interval=0.2)
    )
    env_id = wait_until(lambda: instance_in(run.context).xcoms.get("env_id"))
    api_outage.begin()
    with pytest.raises(e.ApiUnavailable, match="is left as it is"):
        run.result()
    api_outage.end()
    assert hook.describe_compute_env(env_id).desired_compute_node_count == 2
    assert "batch.DeleteComputeEnv" not in calls(own_emulator)


def test_a_template(hook: TCBatchHook, api_outage: Outage) -> None:
    task = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "ComputeEnv": {"EnvData": {}}}
    api_outage.begin()
    run = Run(TCBatchCreateTaskTemplateOperator(task_id="make", name="outage", task=task))
    api_outage.wait(LONG)
    api_outage.end()
    assert run.result() in [view.task_template_id for view in hook.describe_task_templates()]


def test_a_user_who_ends_the_task_in_an_outage_ends_the_job(hook: TCBatchHook, api_outage: Outage, gate: Path) -> None:
    job_id = hook.submit_job(job(held(gate)))
    api_outage.begin()
    event = {"status": "timeout", "limit": "timeout", "job_id": job_id, "state": "RUNNING"}
    for cancel in (True, False):
        with pytest.raises(TaskDeferred) as deferred:
            submit(gate, deferrable=True, timeout=1, cancel_on_kill=cancel).execute_complete(Task().next_try(), event)
        trigger = deferred.value.trigger
        assert isinstance(trigger, TCBatchApiTrigger)
        assert list(trigger.job_ids) == ([job_id] if cancel else [])


# -- a user ends the task while it is away ---------------------------------------------------------------


def unfinished(task: Task) -> None:
    """The record is as if the first try had died while it waited."""
    [key] = task.store.data
    task.store.data[key]["done"] = False


@pytest.mark.parametrize("cancel", [True, False], ids=["goes with it", "stays"])
def test_a_user_who_ends_a_retry_that_could_not_look_ends_its_job(
    hook: TCBatchHook, api_outage: Outage, gate: Path, monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0.0)
    task = Task(retries=1)
    job_id = submit(gate, wait_for_completion=False, deferrable=True).execute(task.next_try())
    unfinished(task)
    api_outage.begin()
    with pytest.raises(TaskDeferred) as deferred:
        submit(gate, deferrable=True, cancel_on_kill=cancel).execute(task.next_try())
    assert isinstance(deferred.value.trigger, TCBatchApiTrigger)
    assert list(deferred.value.trigger.job_ids) == ([job_id] if cancel else [])


def test_a_user_who_ends_a_task_that_has_no_job_yet_ends_nothing(
    hook: TCBatchHook, api_outage: Outage, gate: Path
) -> None:
    api_outage.begin()
    with pytest.raises(TaskDeferred) as deferred:
        submit(gate, deferrable=True).execute(Task().next_try())
    assert (list(deferred.value.trigger.job_ids), deferred.value.trigger.env_id) == ([], None)


@pytest.mark.parametrize("cancel", [True, False], ids=["goes with it", "stays"])
def test_a_user_who_ends_a_retry_that_could_not_look_ends_its_environment(
    hook: TCBatchHook, api_outage: Outage, cancel: bool
) -> None:
    task = Task(retries=1)
    options: dict[str, Any] = {"compute_env": {**ENV, "EnvName": f"ended-{cancel}"}, "deferrable": True}
    first = TCBatchCreateComputeEnvOperator(task_id="make", wait_for_completion=False, **options)
    env_id = first.execute(task.next_try())
    unfinished(task)
    api_outage.begin()
    second = TCBatchCreateComputeEnvOperator(task_id="make", cancel_on_kill=cancel, **options)
    with pytest.raises(TaskDeferred) as deferred:
        second.execute(task.next_try())
    assert isinstance(deferred.value.trigger, TCBatchApiTrigger)
    assert deferred.value.trigger.env_id == (env_id if cancel else None)
    # The same, killed on the worker before it could look.
    api_outage.end()
    second.on_kill()
    assert hook.describe_compute_env(str(env_id)).desired_compute_node_count == (0 if cancel else 2)


@pytest.mark.parametrize("cancel", [True, False], ids=["go with it", "stay"])
def test_a_user_who_ends_a_task_that_could_not_begin_ends_the_jobs_that_it_is_to_take_along(
    hook: TCBatchHook, api_outage: Outage, gate: Path, cancel: bool
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    wait_until(lambda: _running(job_id, hook))
    api_outage.begin()
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=True, cancel_on_kill=cancel)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(Task(durable=False).next_try())
    assert list(deferred.value.trigger.job_ids) == ([job_id] if cancel else [])
    # The same, killed on the worker before it could begin.
    api_outage.end()
    operator.on_kill()
    view = hook.describe_job(job_id)
    assert bool(view.next_action or view.job_state == "FAILED") is cancel


def test_an_environment_that_somebody_else_made_is_not_ended_with_a_retry(
    hook: TCBatchHook, own_emulator: Emulator
) -> None:
    task = Task(retries=1)
    options: dict[str, Any] = {"compute_env": {**ENV, "EnvName": "twice"}, "deferrable": True}
    own = TCBatchCreateComputeEnvOperator(task_id="make", wait_for_completion=False, **options).execute(task.next_try())
    unfinished(task)
    assert hook.remove_compute_env(str(own), patience=30) is None
    own_emulator.configure(node_creating_seconds=60.0)
    other = hook.create_compute_env({**ENV, "EnvName": "twice"})
    operator = TCBatchCreateComputeEnvOperator(task_id="make", **options)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.next_try())
    assert (deferred.value.trigger.env_id, deferred.value.trigger.cancel_on_kill) == (other, False)
    operator.on_kill()
    assert hook.describe_compute_env(other).desired_compute_node_count == 2


# -- once is once ----------------------------------------------------------------------------------------


def failing(hook: TCBatchHook, runs: Path) -> str:
    """A FAILED job that fails again, at another second, when it runs again."""
    job_id = hook.submit_job(job(f"echo >> {runs}; sleep 1.1; exit 1"))
    wait_until(lambda: hook.describe_job(job_id).job_state == "FAILED")
    return job_id


def ran(runs: Path, times: int, own_emulator: Emulator, job_id: str) -> Callable[[], bool]:
    """Whether the job has run so often, and has ended."""
    return lambda: (
        len(runs.read_text().splitlines()) == times
        and own_emulator.on_loop(lambda services: services.batch.jobs[job_id].state) == "FAILED"
    )


@pytest.fixture
def away_after(monkeypatch: pytest.MonkeyPatch, api_outage: Outage) -> Callable[[str], None]:
    """The API is away from the end of the first request of an action on, whatever came of it."""

    def after(name: str) -> None:
        real = ApiClient.call
        began: list[Any] = []

        def call(self: ApiClient, action: Any, **options: Any) -> Any:
            try:
                return real(self, action, **options)
            finally:
                if action.name() == name and not began:
                    began.append(True)
                    api_outage.begin()

        monkeypatch.setattr(ApiClient, "call", call)

    return after


@both
def test_jobs_run_again_once_though_an_outage_hid_that_they_did(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    away_after: Callable[[str], None],
    tmp_path: Path,
    deferrable: bool,
) -> None:
    job_id = failing(hook, tmp_path / "runs")
    away_after("RetryJobs")
    run = Run(TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=deferrable, poll_interval=0.2))
    wait_until(ran(tmp_path / "runs", 2, own_emulator, job_id))
    api_outage.wait(LONG)
    api_outage.end()
    with pytest.raises(e.JobFailed):
        run.result()
    assert calls(own_emulator)["batch.RetryJobs"] == 1


@both
def test_a_try_repairs_its_job_once_though_an_outage_hid_that_it_did(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    away_after: Callable[[str], None],
    tmp_path: Path,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submission, "LOOK_SECONDS", 0.0)
    runs, task = tmp_path / "runs", Task(retries=2)

    def operator() -> TCBatchSubmitJobOperator:
        command = f"echo >> {runs}; sleep 1.1; exit 1"
        return TCBatchSubmitJobOperator(
            task_id="submit", job=job(command), on_retry="repair", deferrable=deferrable, poll_interval=0.2
        )

    with pytest.raises(e.JobFailed):
        Run(operator(), task.next_try()).result()
    away_after("RetryJobs")
    run = Run(operator(), task.next_try())
    wait_until(ran(runs, 2, own_emulator, task.record["job_id"]))
    api_outage.wait(LONG)
    api_outage.end()
    with pytest.raises(e.JobFailed):
        run.result()
    assert calls(own_emulator)["batch.RetryJobs"] == 1
    assert [repair["accepted"] for repair in task.record["repairs"]] == [True]
    with pytest.raises(e.JobFailed):
        Run(operator(), task.next_try()).result()
    assert calls(own_emulator)["batch.RetryJobs"] == 2


@both
def test_an_instance_is_ended_once_though_an_outage_kept_the_task_from_the_next(
    hook: TCBatchHook, api_outage: Outage, gate: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ended = TCBatchHook.terminate_task_instance, list[int]()

    def terminate(self: TCBatchHook, job_id: str, task_name: str, index: int) -> None:
        real(self, job_id, task_name, index)
        ended.append(index)

    monkeypatch.setattr(TCBatchHook, "terminate_task_instance", terminate)
    job_id = hook.submit_job(job(held(gate), instances=2))
    wait_until(lambda: _running(job_id, hook))
    api_outage.begin(action="TerminateTaskInstance", skip=1)
    operator = TCBatchTerminateTaskInstanceOperator(
        task_id="end", job_id=job_id, task_name="main", indexes=[0, 1], deferrable=deferrable, poll_interval=0.2
    )
    run = Run(operator)
    api_outage.wait(10)
    api_outage.end()
    assert run.result() == [0, 1]
    assert ended == [0, 1]


@pytest.mark.parametrize("lost", [True, False], ids=["lost answer", "answer"])
def test_a_template_that_an_outage_hid_is_no_other_ones(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, away_after: Callable[[str], None], lost: bool
) -> None:
    task = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "ComputeEnv": {"EnvData": {}}}
    if lost:
        own_emulator.faults.add("lose_answer", action="CreateTaskTemplate", count=1)
    away_after("CreateTaskTemplate")
    run = Run(TCBatchCreateTaskTemplateOperator(task_id="make", name="mine", task=task, if_exists="fail"))
    api_outage.wait(LONG)
    api_outage.end()
    assert [run.result()] == [view.task_template_id for view in hook.describe_task_templates()]
    assert calls(own_emulator)["batch.CreateTaskTemplate"] == 1
    assert {change["before"] for change in instance_in(run.context).xcoms["tcbatch_changes"]} == {None}, "it was made"


def test_a_deletion_that_is_put_off_again_and_again_is_no_wait_that_fails(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    wait_until(lambda: _running(job_id, hook))
    api_outage.begin(action="DeleteJob")
    run = Run(TCBatchDeleteJobOperator(task_id="delete", job_ids=job_id, wait_for_completion=False, deferrable=True))
    wait_until(lambda: len(run.deferred) > 5)
    gate.touch()
    own_emulator.wait_job(job_id)
    api_outage.end()
    assert run.result() == [job_id]
    with pytest.raises(e.NotFound):
        hook.describe_job(job_id)


@pytest.mark.parametrize("thing", ["job", "environment"])
def test_no_request_waits_for_its_turn_under_a_token_that_may_be_forgotten(
    hook: TCBatchHook, own_emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch, thing: str
) -> None:
    """The answer to the first one was lost, and the others are refused for their rate for as long as the task lives."""
    monkeypatch.setattr(submission_policy, "TOKEN_WINDOW", 1.0)
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "7200")
    gate.touch()
    action = "SubmitJob" if thing == "job" else "CreateComputeEnv"
    own_emulator.faults.add("lose_answer", action=action, count=1)
    own_emulator.faults.add("throttle", action=action)
    env = {**ENV, "EnvName": "forgotten"}
    run = Run(
        submit(gate, deferrable=False)
        if thing == "job"
        else TCBatchCreateComputeEnvOperator(task_id="make", compute_env=env, deferrable=False, poll_interval=0.2)
    )
    made = run.result()
    if thing == "job":
        assert [made] == [view.job_id for view in hook.describe_jobs()]
    else:
        assert [made] == [view.env_id for view in hook.find_compute_envs("forgotten")]
    own_emulator.faults.clear()


# -- execution_timeout strikes on the worker ---------------------------------------------------------------


@pytest.fixture
def strike() -> Iterator[Callable[[], None]]:
    """Makes Airflow's timer strike, in the main thread, wherever it is."""

    ended = False

    def raises(*_: Any) -> None:
        if not ended:
            raise AirflowTaskTimeout("Timeout")

    before = signal.signal(signal.SIGALRM, raises)
    main = threading.main_thread().ident
    assert main is not None
    yield lambda: signal.pthread_kill(main, signal.SIGALRM)
    ended = True
    signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


STRUCK = "execution_timeout is over"
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("known", ["error", "ended"])
@pytest.mark.parametrize("ends", [True, False], ids=["ended", "running"])
def test_execution_timeout_strikes_while_a_look_is_put_off(
    hook: TCBatchHook,
    own_emulator: Emulator,
    api_outage: Outage,
    gate: Path,
    strike: Callable[[], None],
    ends: bool,
    known: str,
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    wait_until(lambda: _running(job_id, hook))
    operator: Any = submit(gate, deferrable=False, execution_timeout=MINUTE)
    operator._cached_logger = log = Log()
    api_outage.begin()

    def goes_on() -> None:
        api_outage.wait(LONG)
        strike()
        wait_until(lambda: log.count(STRUCK))
        if ends:
            gate.touch()
            own_emulator.wait_job(job_id)
        api_outage.end()

    helper = meanwhile(goes_on)
    event = {"status": known, "job_id": job_id, "state": "FAILED" if known == "ended" else "RUNNING"}
    if ends:
        assert operator.execute_complete(Task().next_try(), event) == job_id
        assert "batch.TerminateJob" not in calls(own_emulator)
    else:
        with pytest.raises(e.ExecutionTimeout, match="it was terminated"):
            operator.execute_complete(Task().next_try(), event)
    helper.join(60)


@pytest.mark.parametrize("away", [True, False], ids=["look put off", "waiting"])
@pytest.mark.parametrize("cancel", [True, False], ids=["terminated", "left"])
def test_execution_timeout_strikes_while_several_jobs_are_waited_for(
    hook: TCBatchHook, api_outage: Outage, gate: Path, strike: Callable[[], None], cancel: bool, away: bool
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    wait_until(lambda: _running(job_id, hook))
    operator: Any = TCBatchRetryJobsOperator(
        task_id="again", job_ids=job_id, poll_interval=0.2, cancel_on_failure=cancel, execution_timeout=MINUTE
    )
    operator._cached_logger = log = Log()

    def goes_on() -> None:
        if away:
            api_outage.wait(LONG)
        else:
            wait_until(lambda: log.count("Waiting for 1 jobs"))
        strike()
        if away:
            wait_until(lambda: log.count(STRUCK))
            api_outage.end()

    if away:
        api_outage.begin()
    helper = meanwhile(goes_on)
    context = Task().next_try()
    event = {"status": "error", "job_ids": [job_id], "since": time.time(), "errors": 0, "states": {}, "message": "no"}
    words = "their termination was asked for" if cancel else "they go on"
    with pytest.raises(e.ExecutionTimeout, match=words):
        _ = operator.execute_complete(context, event) if away else operator.execute(context)
    helper.join(60)
    view = hook.describe_job(job_id)
    assert bool(view.next_action or view.job_state == "FAILED") is cancel


def test_execution_timeout_strikes_while_instances_are_waited_for(
    hook: TCBatchHook, own_emulator: Emulator, gate: Path, strike: Callable[[], None]
) -> None:
    own_emulator.configure(kill_grace_seconds=60.0)
    job_id = hook.submit_job(job(f"trap '' TERM; touch {gate}.begun; {held(gate)}"))
    wait_until(Path(f"{gate}.begun").exists)
    operator = TCBatchTerminateTaskInstanceOperator(
        task_id="end", job_id=job_id, task_name="main", indexes=0, poll_interval=0.2, execution_timeout=MINUTE
    )

    def goes_on() -> None:
        wait_until(lambda: calls(own_emulator).get("batch.DescribeTask"))
        strike()

    helper = meanwhile(goes_on)
    with pytest.raises(e.ExecutionTimeout, match="did not end within execution_timeout"):
        operator.execute(Task().next_try())
    helper.join(60)
