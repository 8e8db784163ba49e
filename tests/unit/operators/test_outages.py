"""The API is away while tasks run: nothing healthy is failed or ended for it. Against the emulator, with its faults."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators import base, env_creation
from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_actions import TCBatchModifyComputeEnvOperator
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchRetryJobsOperator, TCBatchTerminateJobOperator
from airflow_provider_tcbatch.operators.task_instances import TCBatchTerminateTaskInstanceOperator
from airflow_provider_tcbatch.operators.task_template import TCBatchCreateTaskTemplateOperator
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from tests.support.outages import Outage
from tests.support.task_context import Task, TaskDeferred
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

    def __init__(self, operator: Any, context: dict[str, Any] | None = None) -> None:
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
    counts: Mapping[str, int] = emulator.on_loop(lambda core: core.calls.as_json()["counts"])
    return counts


def running_job(run: Run, hook: TCBatchHook) -> str:
    """The job of a task, as soon as it runs and is waited for."""
    return wait_until(lambda: _running(run.context["ti"].xcoms.get("job_id"), hook))


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
    run = Run(submit(gate, deferrable=deferrable, timeout=5))
    submitted = time.monotonic()
    job_id = running_job(run, hook)
    api_outage.begin()
    if ended:
        gate.touch()
        own_emulator.wait_job(job_id)
    wait_until(lambda: time.monotonic() >= submitted + 5.5)
    api_outage.wait(api_outage.failures + 10)
    api_outage.end()
    if ended:
        assert run.result() == job_id
        assert "batch.TerminateJob" not in calls(own_emulator)
    else:
        with pytest.raises(e.JobTimeout, match=r"timeout \(5 s.*it was terminated"):
            run.result()


@both
def test_a_timeout_in_an_outage_that_does_not_end(
    hook: TCBatchHook, api_outage: Outage, gate: Path, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "1")
    run = Run(submit(gate, deferrable=deferrable, timeout=4))
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
    assert trigger.until == pytest.approx(time.time() + 0.5, abs=5)
    later = {**trigger.event, "outage": {"since": trigger.since, "until": None}}
    wait_until(lambda: time.time() > trigger.until)
    with pytest.raises(e.ApiUnavailable, match="execution_timeout is over"):
        operator.execute_complete(context, later)


@both
def test_a_job_that_started_in_an_outage_does_not_miss_its_queue_timeout(
    hook: TCBatchHook, own_emulator: Emulator, api_outage: Outage, gate: Path, deferrable: bool
) -> None:
    own_emulator.configure(submitted_seconds=3.0)
    run = Run(submit(gate, deferrable=deferrable, queue_timeout=5))
    began = time.monotonic()
    job_id = wait_until(lambda: run.context["ti"].xcoms.get("job_id"))
    api_outage.begin()
    wait_until(lambda: own_emulator.core.jobs[job_id].state == "RUNNING")
    wait_until(lambda: time.monotonic() >= began + 6)
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
        wait_until(lambda job_id=job_id: _running(job_id, hook))
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
    assert run.context["ti"].xcoms["tcbatch_states"] == {job_id: "FAILED"}


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
    env_id = wait_until(lambda: run.context["ti"].xcoms.get("env_id"))
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
    env_id = wait_until(lambda: run.context["ti"].xcoms.get("env_id"))
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
        assert trigger.job_ids == ([job_id] if cancel else [])
