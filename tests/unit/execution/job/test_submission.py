"""One generation of a task, one job: the operator over several tries, against the emulator."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Context

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest, PermanentPermissionDenied
from airflow_provider_tcbatch.execution.job import lookup as finding
from airflow_provider_tcbatch.execution.job import repair
from airflow_provider_tcbatch.execution.job import submission as module
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.actions import DescribeJobs
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.policies import contention
from airflow_provider_tcbatch.policies.job.submission import TOKEN_WINDOW
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from airflow_provider_tcbatch.triggers.job import TCBatchQuotaTrigger
from tests.support.task_context import AirflowSkipException, Replaced, Task, TaskDeferred, instance_in
from tests.unit.conftest import job


class Crash(BaseException):
    """The worker is killed here."""


@pytest.fixture
def task(connection: str) -> Task:
    return Task(retries=3)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs that wait for it end when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def until(gate: Path) -> str:
    return f"until [ -e {gate} ]; do sleep 0.05; done"


def submit(command: str = "true", instances: int = 1, **options: Any) -> TCBatchSubmitJobOperator:
    members = {name: options.pop(name) for name in list(options) if name[0].isupper()}
    given = job(command, instances=instances, **members)
    if "name" in options:
        given["JobName"] = options.pop("name")
    options = {"poll_interval": 0.2, "deferrable": True, **options}
    return TCBatchSubmitJobOperator(task_id="submit", job=given, **options)


def deferred(operator: TCBatchSubmitJobOperator, context: Context) -> str:
    """Run until it defers; the job's id."""
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context)
    return str(raised.value.trigger.job_id)


def finish(operator: TCBatchSubmitJobOperator, context: Context, emulator: Emulator, job_id: str) -> Any:
    state = emulator.wait_job(job_id)
    event = {"status": "ended", "job_id": job_id, "state": state, "source": "poll", "submitted_at": time.time()}
    return operator.execute_complete(context, event)


def state(job_id: str) -> str:
    return str(TCBatchHook().describe_job(job_id).job_state)


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Kill the worker before, or after, the next SubmitJob reaches the service."""
    real = ApiClient.call

    def at(place: str) -> None:
        def call(self: ApiClient, action: Any, **options: Any) -> Any:
            if action.name() != "SubmitJob":
                return real(self, action, **options)
            monkeypatch.setattr(ApiClient, "call", real)
            if place == "after":
                real(self, action, **options)
            raise Crash

        monkeypatch.setattr(ApiClient, "call", call)

    return at


def count() -> int:
    """How many jobs there are."""
    return TCBatchHook().api.call(DescribeJobs(limit=1)).total_count or 0


# -- crashes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("repeat", ["same_job", "error"])
def test_a_retry_after_a_crash_at_submission_never_submits_twice(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None], place: str, repeat: str
) -> None:
    """Whatever the service does about a token that it knows: its documentation does not say."""
    emulator.configure(client_token_repeat=repeat)
    before = count()
    crash(place)
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    job_id = deferred(submit(until(gate)), task.next_try())
    assert count() == before + 1
    assert task.record["job_id"] == job_id


def test_a_token_that_the_service_has_forgotten_makes_no_second_job(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None]
) -> None:
    """How long the service remembers a token is not documented: here, not at all."""
    emulator.configure(client_token_window_seconds=0)
    before = count()
    crash("after")
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    deferred(submit(until(gate)), task.next_try())
    assert count() == before + 1


def test_a_changed_job_is_looked_for_and_not_sent_again(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None]
) -> None:
    """What the service does about another body under the same token is not documented."""
    before = count()
    crash("after")
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    job_id = deferred(submit(until(gate) + " # edited"), task.next_try())
    assert count() == before + 1
    assert task.record["job_id"] == job_id


def test_an_old_token_is_not_sent_again(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = count()
    crash("after")
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    deferred(submit(until(gate)), task.next_try())
    assert count() == before + 1


def test_a_token_that_becomes_old_while_its_job_is_looked_for_is_not_sent_again(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "UNKNOWN_SECONDS", 0.0)
    crash("before")
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    [record] = task.store.data.values()
    token, record["token_sent_at"] = record["token"], time.time() - TOKEN_WINDOW + 1.0
    real, old = TCBatchHook.describe_jobs, record["token_sent_at"] + TOKEN_WINDOW

    def describe_jobs(self: TCBatchHook, **options: Any) -> Any:
        while time.time() < old:
            time.sleep(0.01)
        return real(self, **options)

    monkeypatch.setattr(TCBatchHook, "describe_jobs", describe_jobs)
    deferred(submit(until(gate)), task.next_try())
    assert task.record["token"] != token


@pytest.mark.parametrize("mark", ["tag", "name", "none"])
@pytest.mark.parametrize("name", ["test", None])
def test_a_lost_job_is_found_by_what_it_carries(
    task: Task,
    emulator: Emulator,
    gate: Path,
    crash: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    mark: str,
    name: str | None,
) -> None:
    import json

    conn = json.loads(emulator.info.airflow_conn_json)
    conn["extra"]["ownership_mark"] = mark
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(conn))
    # Others of the same name are not it.
    TCBatchHook().submit_job({**job(until(gate)), "JobName": "test"})
    before = count()
    crash("after")
    with pytest.raises(Crash):
        submit(until(gate), name=name).execute(task.next_try())
    later = time.time() + 2 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    deferred(submit(until(gate), name=name), task.next_try())
    assert count() == before + 1


def test_a_retry_goes_on_with_a_running_job(task: Task, emulator: Emulator, gate: Path) -> None:
    first = deferred(submit(until(gate)), task.next_try())
    context = task.next_try()
    assert deferred(submit(until(gate)), context) == first
    assert instance_in(context).xcoms["job_id"] == first


def test_a_retry_finds_the_work_done(task: Task, emulator: Emulator) -> None:
    first = deferred(submit(), task.next_try())
    emulator.wait_job(first)
    context = task.next_try()
    assert submit().execute(context) == first
    assert instance_in(context).xcoms["tcbatch_summary"]["state"] == "SUCCEED"
    # And once it has been said to be done, it need not even exist any more.
    TCBatchHook().delete_job(first)
    assert submit().execute(task.next_try()) == first


def test_a_failed_job_is_submitted_again_and_its_failure_is_told(
    task: Task, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    first = deferred(submit("echo no space >&2; exit 3"), task.next_try())
    emulator.wait_job(first)
    second = deferred(submit("echo no space >&2; exit 3"), task.next_try())
    assert second != first
    assert f"The job of an earlier try failed. Batch job {first}" in caplog.text
    assert "no space" in caplog.text


def test_a_job_that_was_deleted_is_submitted_again(task: Task, emulator: Emulator, monkeypatch: Any) -> None:
    first = deferred(submit(), task.next_try())
    emulator.wait_job(first)
    TCBatchHook().delete_job(first)
    monkeypatch.setattr(module, "UNKNOWN_SECONDS", 0.0)
    monkeypatch.setattr(finding, "UNKNOWN_SECONDS", 0.0)
    assert deferred(submit(), task.next_try()) != first


def test_a_job_that_is_ending_is_not_gone_on_with(task: Task, emulator: Emulator, gate: Path) -> None:
    emulator.configure(terminate_seconds=1.0)
    first = deferred(submit(until(gate)), task.next_try())
    TCBatchHook().terminate_job(first, patience=60)
    assert state(first) != "FAILED"
    assert deferred(submit(until(gate)), task.next_try()) != first
    assert state(first) == "FAILED"


@pytest.mark.parametrize("refusal", [e.QuotaExceeded, e.Throttled, e.PermissionDenied, e.InvalidRequest])
def test_an_answer_that_was_lost_before_a_refusal_is_no_second_job(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch, refusal: type[e.ApiError]
) -> None:
    """The client repeats a call by itself; the job that nobody heard of may fill the quota for its own repetition."""
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() != "SubmitJob":
            return real(self, action, **options)
        monkeypatch.setattr(ApiClient, "call", real)
        real(self, action, **options)
        error = refusal("refused the second time", code="X")
        error.maybe_done = True
        raise error

    before = count()
    monkeypatch.setattr(ApiClient, "call", call)
    try:
        deferred(submit(until(gate), wait_for_quota=False), task.next_try())
    except (e.QuotaExceeded, e.Throttled):
        deferred(submit(until(gate)), task.next_try())
    assert count() == before + 1


def test_a_task_that_is_killed_while_its_job_is_on_the_way_ends_it(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow calls on_kill in a signal handler and lets the program go on for five seconds."""
    real = ApiClient.call
    operator = submit(until(gate))

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob":
            first = options["before_send"]

            def killed() -> None:
                first()
                operator.on_kill()

            options["before_send"] = killed
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    before = {view.job_id for view in TCBatchHook().describe_jobs()}
    with pytest.raises(e.TCBatchError, match="was killed"):
        operator.execute(task.next_try())
    [job_id] = {view.job_id for view in TCBatchHook().describe_jobs()} - before
    assert emulator.wait_job(job_id) == "FAILED"


def test_a_task_that_is_killed_while_its_job_waits_for_its_turn_makes_none(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ApiClient.call
    operator = submit(until(gate))

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob":
            operator.on_kill()
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    before = count()
    with pytest.raises(e.TCBatchError, match="was killed"):
        operator.execute(task.next_try())
    assert count() == before


def test_a_job_can_be_ended_from_before_it_is_looked_at(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the API is away the look takes long, and the task may be killed meanwhile."""
    with pytest.raises(TaskDeferred) as deferred:
        submit(until(gate), deferrable=True).execute(task.next_try())
    operator = submit(until(gate), deferrable=True)
    armed: list[bool] = []
    real = TCBatchHook.describe_job

    def describe_job(self: TCBatchHook, job_id: str) -> Any:
        armed.append(operator._kill_switch is not None)
        return real(self, job_id)

    monkeypatch.setattr(TCBatchHook, "describe_job", describe_job)
    with pytest.raises(TaskDeferred) as again:
        operator.execute(task.next_try())
    assert again.value.trigger.job_id == deferred.value.trigger.job_id
    assert armed[0]
    gate.touch()


def test_a_job_is_no_older_than_its_last_request(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limits count from there: it may have waited long for its turn."""
    real = ApiClient.call
    operator = submit(until(gate), deferrable=True)
    sent: list[float] = []

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob":
            time.sleep(1.5)  # in its place: what waits for its turn
            sent.append(time.time())
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.next_try())
    assert deferred.value.trigger.submitted_at >= sent[0]
    gate.touch()


def test_a_task_that_is_killed_before_its_job_makes_none(task: Task, emulator: Emulator, gate: Path) -> None:
    operator = submit(until(gate))
    operator.on_kill()
    before = count()
    with pytest.raises(e.TCBatchError, match="was killed"):
        operator.execute(task.next_try())
    assert count() == before


def test_a_job_that_became_invalid_does_not_leave_the_old_one_behind(
    task: Task, emulator: Emulator, gate: Path
) -> None:
    """No retry follows: nobody would come back for it."""
    first = deferred(submit(until(gate)), task.next_try())
    operator = submit(until(gate))
    operator.job["Tasks"][0]["TaskName"] = 7
    with pytest.raises(PermanentInvalidRequest):
        operator.execute(task.next_try())
    assert state(first) == "FAILED"


@pytest.mark.parametrize("more_tries", [True, False])
def test_trouble_before_the_job_is_known_ends_the_old_one_only_if_nobody_comes_back(
    connection: str, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch, more_tries: bool
) -> None:
    task = Task(retries=5 if more_tries else 1)
    first = deferred(submit(until(gate)), task.next_try())
    operator = submit(until(gate))

    def unreachable() -> Any:
        raise e.InfrastructureError("the task's template can't be read now", retryable=True)

    monkeypatch.setattr(operator, "final_job", unreachable)
    with pytest.raises(e.InfrastructureError):
        operator.execute(task.next_try())
    assert (state(first) == "FAILED") is not more_tries
    if more_tries:
        assert deferred(submit(until(gate)), task.next_try()) == first


# -- clears ----------------------------------------------------------------------------------------------


def test_a_clear_ends_the_running_job_and_submits_another(task: Task, emulator: Emulator, gate: Path) -> None:
    first = deferred(submit(until(gate)), task.next_try())
    second = deferred(submit(until(gate)), task.clear())
    assert second != first
    assert state(first) == "FAILED"
    assert state(second) != "FAILED"


def test_a_clear_leaves_the_old_job_alone_on_request(task: Task, emulator: Emulator, gate: Path) -> None:
    first = deferred(submit(until(gate), cancel_on_kill=False), task.next_try())
    second = deferred(submit(until(gate), cancel_on_kill=False), task.clear())
    assert second != first
    assert state(first) != "FAILED"


@pytest.mark.parametrize("command", ["true", "false"])
def test_a_clear_after_the_end_runs_the_work_again(task: Task, emulator: Emulator, command: str) -> None:
    context = task.next_try()
    operator = submit(command)
    first = deferred(operator, context)
    if command == "true":
        assert finish(operator, context, emulator, first) == first
    else:
        with pytest.raises(e.JobFailed):
            finish(operator, context, emulator, first)
    assert deferred(submit(command), task.clear()) != first


def test_a_clear_after_a_crash_ends_the_job_that_nobody_knows(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None]
) -> None:
    crash("after")
    before = {view.job_id for view in TCBatchHook().describe_jobs()}
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    second = deferred(submit(until(gate)), task.clear())
    [lost] = {view.job_id for view in TCBatchHook().describe_jobs()} - before - {second}
    assert state(lost) == "FAILED"
    assert state(second) != "FAILED"


def test_a_clear_after_a_crash_before_the_call_leaves_nothing_running(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNKNOWN_SECONDS", 0.0)
    monkeypatch.setattr(finding, "UNKNOWN_SECONDS", 0.0)
    crash("before")
    before = {view.job_id for view in TCBatchHook().describe_jobs()}
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    second = deferred(submit(until(gate)), task.clear())
    others = {view.job_id for view in TCBatchHook().describe_jobs()} - before - {second}
    assert {state(job_id) for job_id in others} <= {"FAILED"}
    assert state(second) != "FAILED"


def test_a_lost_answer_is_no_second_job(task: Task, emulator: Emulator, gate: Path) -> None:
    for repeat in ("same_job", "error"):
        emulator.configure(client_token_repeat=repeat)
        before = count()
        emulator.faults.add("lose_answer", action="SubmitJob", count=1)
        deferred(submit(until(gate)), Task().next_try())
        assert count() == before + 1, repeat


# -- who may write ---------------------------------------------------------------------------------------


def test_a_try_that_has_been_replaced_can_not_submit(task: Task, emulator: Emulator, gate: Path) -> None:
    stale = task.next_try()
    successor = task.next_try()
    before = count()
    with pytest.raises(Replaced):
        submit(until(gate)).execute(stale)
    assert count() == before
    deferred(submit(until(gate)), successor)


@pytest.mark.oldest
def test_without_a_store_every_try_has_its_own_job_and_a_warning_says_so(
    connection: str, emulator: Emulator, gate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for old, options in ((Task(durable=False), {}), (Task(), {"durable": False})):
        context = old.next_try()
        first = deferred(submit(until(gate), **options), context)
        # The same try, whose answer was lost, comes to the same job.
        assert deferred(submit(until(gate), **options), context) == first
        assert deferred(submit(until(gate), **options), old.next_try()) != first
    assert "the task state store needs Airflow 3.3" in caplog.text
    assert "durable=False" in caplog.text


@pytest.mark.parametrize("why", ["rate", "quota"])
@pytest.mark.parametrize("kept", ["no store", "durable=False"])
@pytest.mark.parametrize("later", [0.0, 2 * TOKEN_WINDOW])
def test_without_a_store_a_lost_job_is_looked_for_after_a_deferral(
    connection: str, own_emulator: Emulator, gate: Path, monkeypatch: Any, why: str, kept: str, later: float
) -> None:
    """What the service has forgotten by then: its token. So what is known of the job travels with the task."""
    monkeypatch.setattr("airflow_provider_tcbatch.operators.job._TURN_SECONDS", 0.1)
    context = Task(durable=kept != "no store").next_try()
    options = {"durable": False} if kept == "durable=False" else {}
    own_emulator.configure(client_token_window_seconds=0, **({"job_quota": 1} if why == "quota" else {}))
    own_emulator.faults.add("lose_answer", action="SubmitJob", count=1)
    if why == "rate":
        own_emulator.faults.add("throttle", action="SubmitJob")
    with pytest.raises(TaskDeferred) as waiting:
        submit(until(gate), **options).execute(context)
    own_emulator.faults.clear()
    own_emulator.configure(job_quota=1000)
    _, arguments = json.loads(json.dumps(waiting.value.trigger.serialize()))
    if why == "rate":
        event = {**arguments["event"], "outage": {"since": time.time(), "until": time.time()}}
    else:
        event = event_of(TCBatchQuotaTrigger(**{**arguments, "until": 0.0}))
    if "record" in event:
        event["record"]["token_sent_at"] -= later
    with pytest.raises(TaskDeferred) as waiting:
        submit(until(gate), **options).execute_complete(context, event)
    assert [view.job_id for view in TCBatchHook().describe_jobs()] == [waiting.value.trigger.job_id]


def event_of(trigger: TCBatchQuotaTrigger) -> dict[str, Any]:
    """What it tells."""

    async def told() -> dict[str, Any]:
        [event] = [event async for event in trigger.run()]
        return dict(event.payload)

    return asyncio.run(told())


def test_the_warning_comes_once_for_each_try(
    connection: str, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    TCBatchHook().submit_job(job("true"))
    emulator.configure(job_quota=1)
    context = Task(durable=False).next_try()
    with pytest.raises(TaskDeferred) as raised:
        submit("true").execute(context)
    emulator.configure(job_quota=1000)
    trigger = raised.value.trigger
    event = {"status": "quota", "attempts": trigger.attempts, "waiting_since": trigger.waiting_since}
    with pytest.raises(TaskDeferred) as raised:
        submit("true").execute_complete(context, event)
    job_id = raised.value.trigger.job_id
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert submit("true").execute_complete(context, {"status": "ended", "job_id": job_id, "errors": 0}) == job_id
    assert caplog.text.count("Nothing is kept about this task's job") == 1


# -- repair ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_a_repair_runs_only_the_failed_instances_again(
    task: Task, emulator: Emulator, tmp_path: Path, delay: float
) -> None:
    """RetryJobs is asynchronous: the job may read FAILED for a while, which must not be taken for its end."""
    emulator.configure(retry_jobs_seconds=delay)
    runs = tmp_path / "runs"
    flag = tmp_path / "flag"
    command = f"echo $BATCH_TASK_INSTANCE_INDEX >> {runs}; [ $BATCH_TASK_INSTANCE_INDEX != 1 ] || [ -e {flag} ]"
    context = task.next_try()
    operator = submit(command, instances=3, on_retry="repair")
    first = deferred(operator, context)
    with pytest.raises(e.JobFailed):
        finish(operator, context, emulator, first)
    flag.touch()
    context = task.next_try()
    operator = submit(command, instances=3, on_retry="repair")
    assert deferred(operator, context) == first
    assert finish(operator, context, emulator, first) == first
    assert sorted(runs.read_text().split()) == ["0", "1", "1", "2"]
    assert len(task.record["repairs"]) == 1


def test_a_failed_job_whose_instances_go_on_is_ended(task: Task, emulator: Emulator, gate: Path) -> None:
    """Whether a job is FAILED at its first failed instance, or when all have ended, is not documented."""
    emulator.configure(task_failure="at_once", job_failure="at_once")
    context = task.next_try()
    operator = submit(f"[ $BATCH_TASK_INSTANCE_INDEX != 1 ] || exit 5; {until(gate)}", instances=3)
    job_id = deferred(operator, context)
    with pytest.raises(e.JobFailed, match="exit code 5"):
        finish(operator, context, emulator, job_id)
    metrics = TCBatchHook().describe_job(job_id).task_instance_metrics
    assert metrics is not None
    assert (metrics.running_count, metrics.failed_count) == (0, 3)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_job_that_runs_again_is_not_taken_for_one_that_is_to_end(
    task: Task, own_emulator: Emulator, tmp_path: Path, gate: Path, monkeypatch: Any, accepted: bool
) -> None:
    """Instances may run, before and after RetryJobs, while the job reads FAILED, and the API may go away in between."""
    own_emulator.configure(retry_jobs_seconds=2.0)
    once = tmp_path / "once"
    command = f"[ -e {once} ] || exec rm /none; {until(gate)}"
    first = deferred(submit(command, on_retry="repair"), task.next_try())
    assert own_emulator.wait_job(first) == "FAILED"
    once.touch()
    monkeypatch.setattr(module, "has_machines", lambda view: str(view.job_state) == "FAILED")
    real = repair.run_again

    def away(hook: Any, jobs: Any, *, on_accepted: Any, **options: Any) -> None:
        monkeypatch.setattr(module, "run_again", real)
        if accepted:
            hook.retry_jobs([view.job_id for view in jobs])
            on_accepted([view.job_id for view in jobs])
        raise e.InfrastructureError("the API is away", code="ServerNetworkError", retryable=True)

    monkeypatch.setattr(module, "run_again", away)
    context = task.next_try()
    with pytest.raises(TaskDeferred) as waiting:
        submit(command, on_retry="repair").execute(context)
    assert [repair["accepted"] for repair in task.record["repairs"]] == [accepted]
    ended = actions(own_emulator).count("TerminateJob")
    event = {**waiting.value.trigger.event, "outage": {"since": time.time(), "until": time.time()}}
    with pytest.raises(TaskDeferred) as waiting:
        submit(command, on_retry="repair").execute_complete(context, event)
    assert waiting.value.trigger.job_id == first
    assert task.record["ending"] is None
    if accepted:
        assert actions(own_emulator).count("TerminateJob") == ended, "what was asked for just now is not to end"
    assert state(first) != "FAILED"
    assert deferred(submit(command, on_retry="repair"), task.next_try()) == first, "it is healthy"
    assert state(first) != "FAILED"
    assert actions(own_emulator).count("RetryJobs") == 1


def test_a_job_that_was_edited_is_not_repaired(task: Task, emulator: Emulator) -> None:
    first = deferred(submit("false", on_retry="repair"), task.next_try())
    emulator.wait_job(first)
    assert deferred(submit("true", on_retry="repair"), task.next_try()) != first


# -- quota -----------------------------------------------------------------------------------------------


def test_a_quota_is_waited_for(task: Task, emulator: Emulator, gate: Path) -> None:
    TCBatchHook().submit_job(job("true"))
    emulator.configure(job_quota=1)
    context = task.next_try()
    with pytest.raises(TaskDeferred) as raised:
        submit(until(gate)).execute(context)
    trigger = raised.value.trigger
    assert isinstance(trigger, TCBatchQuotaTrigger)
    assert 0 < trigger.until - time.time() <= 15
    event = {"status": "quota", "attempts": trigger.attempts, "waiting_since": trigger.waiting_since}
    with pytest.raises(TaskDeferred) as raised:
        submit(until(gate)).execute_complete(context, event)
    assert raised.value.trigger.attempts == 2
    assert raised.value.trigger.waiting_since == trigger.waiting_since
    emulator.configure(job_quota=1000)
    with pytest.raises(TaskDeferred) as raised:
        submit(until(gate)).execute_complete(context, event)
    assert raised.value.trigger.job_id == task.record["job_id"]


@pytest.mark.parametrize("option", [False, 5.0])
def test_a_quota_is_not_waited_for_longer_than_wished(task: Task, emulator: Emulator, option: Any) -> None:
    TCBatchHook().submit_job(job("true"))
    emulator.configure(job_quota=1)
    event = {"status": "quota", "attempts": 1, "waiting_since": time.time() - 6}
    with pytest.raises(e.QuotaExceeded):
        submit(wait_for_quota=option).execute_complete(task.next_try(), event)


def test_many_tasks_queue_up_for_a_small_quota(connection: str, emulator: Emulator, tmp_path: Path) -> None:
    """A backfill of many runs: each has one job in the end, and no try is used up by waiting."""
    gate = tmp_path / "gate"
    emulator.configure(job_quota=3, job_quota_counts_ended=False)
    before = count()
    waiting: dict[int, tuple[Task, Context, dict[str, Any] | None]] = {}
    for number in range(20):
        task = Task()
        waiting[number] = (task, task.next_try(), None)
    refused = 0
    while waiting:
        running = []
        for number, (_, context, event) in list(waiting.items()):
            operator = submit(until(gate))
            with pytest.raises(TaskDeferred) as raised:
                operator.execute(context) if event is None else operator.execute_complete(context, event)
            trigger = raised.value.trigger
            if isinstance(trigger, TCBatchQuotaTrigger):
                event = {"status": "quota", "attempts": trigger.attempts, "waiting_since": trigger.waiting_since}
                waiting[number] = (*waiting[number][:2], event)
                refused += 1
            else:
                running.append(trigger.job_id)
                del waiting[number]
        gate.touch()
        for job_id in running:
            assert emulator.wait_job(job_id) == "SUCCEED"
        gate.unlink()
    assert count() == before + 20
    assert refused > 0, "the quota was in the way"


# -- what is sent ----------------------------------------------------------------------------------------


def test_a_job_says_whose_it_is(task: Task, emulator: Emulator, gate: Path) -> None:
    job_id = deferred(submit(until(gate), name=None), task.next_try())
    info = TCBatchHook().describe_job_submit_info(job_id)
    generation = task.record["token"][:8]
    assert info.job_name == f"a_dag-submit-{generation}"
    [tag] = TCBatchHook().describe_job(job_id).tags or []
    assert (tag.key, tag.value) == (OWNER_TAG, f"airflow/a_dag/manual__2026-01-31/submit/-1/{generation}")
    assert info.tasks is not None
    variables = {variable.name: variable.value for variable in info.tasks[0].env_vars or ()}
    assert variables == {
        "AIRFLOW_CTX_DAG_ID": "a_dag",
        "AIRFLOW_CTX_DAG_RUN_ID": "manual__2026-01-31",
        "AIRFLOW_CTX_TASK_ID": "submit",
        "AIRFLOW_CTX_MAP_INDEX": "-1",
        "AIRFLOW_CTX_TRY_NUMBER": "1",
        "AIRFLOW_CTX_LOGICAL_DATE": "2026-01-31T00:00:00+00:00",
        "AIRFLOW_CTX_DATA_INTERVAL_START": "2026-01-30T00:00:00+00:00",
        "AIRFLOW_CTX_TCBATCH_GENERATION": generation,
    }


def test_where_tags_are_denied_the_name_says_it(task: Task, emulator: Emulator, gate: Path, monkeypatch: Any) -> None:
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob" and action.job.tags:
            raise e.PermissionDenied("no right to tag", code="UnauthorizedOperation")
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    job_id = deferred(submit(until(gate)), task.next_try())
    name = TCBatchHook().describe_job(job_id).job_name or ""
    assert name.startswith("af-")
    assert name.endswith(task.record["token"][:8])
    # A retry after a crash comes to the same request again.
    assert deferred(submit(until(gate)), task.next_try()) == job_id


def test_render_request_sends_nothing_and_hides_secrets(task: Task, emulator: Emulator) -> None:
    before = count()
    given = job("echo {{ ds }}", Authentications=[{"Scene": "COS", "SecretId": "AKIDx", "SecretKey": "hidden-key"}])
    operator = TCBatchSubmitJobOperator(task_id="submit", job=given)
    wire = operator.render_request(task.next_try())
    assert wire["Job"]["Tasks"][0]["Application"]["Command"] == "echo {{ ds }}"
    assert wire["ClientToken"] == "0" * 32
    assert "hidden-key" not in str(wire)
    assert count() == before


# -- errors that no retry mends --------------------------------------------------------------------------


def test_a_bad_request_is_not_retried(task: Task, emulator: Emulator) -> None:
    given = job("true")
    given["Tasks"][0]["ComputeEnv"]["EnvData"]["InstanceType"] = "NO.SUCH"
    with pytest.raises(PermanentInvalidRequest) as raised:
        TCBatchSubmitJobOperator(task_id="submit", job=given, zone="ap-nowhere-9").execute(task.next_try())
    assert raised.value.code
    assert task.record["token"] == "", "nothing is looked for: the service refused for certain"


def test_a_denied_request_is_not_retried(task: Task, emulator: Emulator, monkeypatch: Any) -> None:
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob":
            raise e.PermissionDenied("no", code="UnauthorizedOperation")
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    with pytest.raises(PermanentPermissionDenied):
        submit().execute(task.next_try())


# -- what counts as success ------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "fine"), [(2, True), (0.5, True), (0.67, False), (3, False), (None, False)])
def test_enough_instances_are_a_success(task: Task, emulator: Emulator, wanted: Any, fine: bool) -> None:
    command = "[ $BATCH_TASK_INSTANCE_INDEX != 1 ]"
    context = task.next_try()
    operator = submit(command, instances=3, min_success=wanted)
    job_id = deferred(operator, context)
    if fine:
        assert finish(operator, context, emulator, job_id) == job_id
        assert instance_in(context).xcoms["tcbatch_summary"]["tasks"]["main"]["exit_codes"] == {"0": 2, "1": 1}
    else:
        with pytest.raises(e.JobFailed):
            finish(operator, context, emulator, job_id)


def test_more_successes_than_instances_can_not_be_asked_for(task: Task, emulator: Emulator) -> None:
    before = count()
    with pytest.raises(PermanentInvalidRequest, match="min_success is 4, but the job has 3 instances"):
        submit(instances=3, min_success=4).execute(task.next_try())
    assert count() == before


@pytest.mark.parametrize(("codes", "skipped"), [(7, True), ([7, 8], True), (8, False)])
def test_an_exit_code_can_skip_the_task(task: Task, emulator: Emulator, codes: Any, skipped: bool) -> None:
    context = task.next_try()
    operator = submit("exit 7", instances=2, skip_on_exit_code=codes)
    job_id = deferred(operator, context)
    with pytest.raises(AirflowSkipException if skipped else e.JobFailed):
        finish(operator, context, emulator, job_id)


def test_a_skip_stays_one_when_its_try_dies(task: Task, emulator: Emulator) -> None:
    first = deferred(submit("exit 7", skip_on_exit_code=7), task.next_try())
    emulator.wait_job(first)
    with pytest.raises(AirflowSkipException):
        submit("exit 7", skip_on_exit_code=7).execute(task.next_try())
    assert task.record["done"]
    with pytest.raises(AirflowSkipException):
        submit("exit 7", skip_on_exit_code=7).execute(task.next_try())
    assert task.record["job_id"] == first


@pytest.mark.parametrize("options", [{"min_success": 0.5}, {"skip_on_exit_code": 7}])
def test_interrupted_instances_that_do_not_matter_give_their_machines_back(
    task: Task, emulator: Emulator, options: dict[str, Any]
) -> None:
    context = task.next_try()
    command = "exit 7" if "skip_on_exit_code" in options else "[ $BATCH_TASK_INSTANCE_INDEX = 0 ] || exit 7"
    operator = submit(command, instances=2, FailedAction="INTERRUPT", **options)
    job_id = deferred(operator, context)
    try:
        finish(operator, context, emulator, job_id)
    except AirflowSkipException:
        assert "skip_on_exit_code" in options
    assert state(job_id) == "FAILED"
    assert task.record["done"]


def test_a_failed_job_may_still_have_enough_successes(task: Task, emulator: Emulator, gate: Path) -> None:
    """Whether a job is FAILED at its first failed instance, or when all have ended, is not documented."""
    emulator.configure(task_failure="at_once", job_failure="at_once")
    context = task.next_try()
    command = f"[ $BATCH_TASK_INSTANCE_INDEX != 1 ] || exit 5; {until(gate)}"
    operator = submit(command, instances=4, min_success=0.75, deferrable=False)
    hook = TCBatchHook()

    def open_when_failed() -> None:
        while not instance_in(context).xcoms.get("job_id") or state(instance_in(context).xcoms["job_id"]) != "FAILED":
            time.sleep(0.05)
        gate.touch()

    helper = threading.Thread(target=open_when_failed)
    helper.start()
    assert operator.execute(context) == instance_in(context).xcoms["job_id"]
    helper.join()
    metrics = hook.describe_job(instance_in(context).xcoms["job_id"]).task_instance_metrics
    assert metrics is not None
    assert (metrics.succeed_count, metrics.failed_count) == (3, 1)


@pytest.mark.parametrize("deferrable", [False, True])
def test_fail_fast_ends_the_job_at_the_first_failed_instance(
    task: Task, emulator: Emulator, gate: Path, deferrable: bool
) -> None:
    command = f"[ $BATCH_TASK_INSTANCE_INDEX != 1 ] || exit 5; {until(gate)}"
    context = task.next_try()
    operator = submit(command, instances=3, fail_fast=True, deferrable=deferrable)
    if deferrable:
        import asyncio

        with pytest.raises(TaskDeferred) as raised:
            operator.execute(context)

        async def only_event() -> dict[str, Any]:
            [event] = [event.payload async for event in raised.value.trigger.run()]
            return dict(event)

        event = asyncio.run(only_event())
        assert event["status"] == "failing"
        with pytest.raises(e.JobFailed, match="exit code 5"):
            operator.execute_complete(context, event)
    else:
        with pytest.raises(e.JobFailed, match="exit code 5"):
            operator.execute(context)
    assert state(instance_in(context).xcoms["job_id"]) == "FAILED"
    assert task.record["ending"]["reason"] == "fail_fast"


# -- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancel", [True, False])
def test_a_job_that_never_starts_is_given_up(task: Task, emulator: Emulator, gate: Path, cancel: bool) -> None:
    emulator.configure(runnable_seconds=600.0)
    context = task.next_try()
    operator = submit(until(gate), instances=2, queue_timeout=0.5, deferrable=False, cancel_on_failure=cancel)
    with pytest.raises(e.QueueTimeout, match=r"no instance started within queue_timeout") as raised:
        operator.execute(context)
    assert "Never started: task 'main' instance 0" in str(raised.value)
    assert (state(instance_in(context).xcoms["job_id"]) == "FAILED") is cancel


def test_a_job_that_has_started_is_not_given_up_by_queue_timeout(task: Task, emulator: Emulator) -> None:
    operator = submit("sleep 8", queue_timeout=6.0, deferrable=False)
    assert operator.execute(task.next_try())


def test_a_job_that_starts_while_the_task_is_resumed_is_waited_for(task: Task, emulator: Emulator, gate: Path) -> None:
    """The triggerer saw it queued at its last look; the worker looks again some seconds later."""
    context = task.next_try()
    operator = submit(until(gate), queue_timeout=60.0, timeout=3600)
    job_id = deferred(operator, context)
    for view in TCBatchHook().wait(job_id, poll_interval=0.1):
        if str(view.job_state) == "RUNNING":
            break
    seen = {
        "status": "timeout",
        "limit": "queue_timeout",
        "job_id": job_id,
        "submitted_at": time.time() - 61,
        "errors": 2,
    }
    with pytest.raises(TaskDeferred) as raised:
        operator.execute_complete(context, seen)
    assert set(raised.value.trigger.deadlines) == {"timeout"}
    assert raised.value.trigger.errors == 2
    assert state(job_id) == "RUNNING"


def test_only_errors_in_a_row_end_a_wait(task: Task, emulator: Emulator, gate: Path) -> None:
    context = task.next_try()
    operator = submit(until(gate))
    job_id = deferred(operator, context)
    trouble = {"status": "error", "job_id": job_id, "message": "five looks failed", "errors": 3, "submitted_at": 5.0}
    with pytest.raises(TaskDeferred) as raised:
        # A look has succeeded since the last trouble.
        operator.execute_complete(context, {**trouble, "state": "RUNNING"})
    assert raised.value.trigger.errors == 1
    with pytest.raises(e.JobError, match="was not ended for that, and a retry goes on with it"):
        operator.execute_complete(context, {**trouble, "state": None})
    assert state(job_id) != "FAILED"


def test_a_limit_ends_a_job_that_can_not_be_looked_at(
    task: Task, emulator: Emulator, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = task.next_try()
    operator = submit(until(gate), timeout=60)
    job_id = deferred(operator, context)
    real = ApiClient.call
    looks: list[str] = []

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        looks.append(action.name())
        if looks == ["DescribeJob"]:
            raise e.InfrastructureError("down", code="InternalError", retryable=True)
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    seen = {"status": "timeout", "limit": "timeout", "job_id": job_id, "submitted_at": time.time() - 61}
    with pytest.raises(TaskDeferred) as raised:
        operator.execute_complete(context, seen)
    trigger = raised.value.trigger
    assert state(job_id) != "FAILED", "it may have ended in time: that is to be looked at first"
    back = {**trigger.event, "outage": {"since": trigger.since, "until": time.time()}}
    with pytest.raises(e.JobTimeout, match="it was terminated"):
        operator.execute_complete(context, back)
    assert state(job_id) == "FAILED"


# -- machines --------------------------------------------------------------------------------------------


def test_a_failure_of_machines_has_a_class_of_its_own(task: Task, emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    context = task.next_try()
    operator = submit("true", ResourceMaxRetryCount=0)
    job_id = deferred(operator, context)
    with pytest.raises(e.JobMachinesFailed, match="ended as FAILED") as raised:
        finish(operator, context, emulator, job_id)
    assert raised.value.exit_codes == (None,)


# -- a rate that is used up ---------------------------------------------------------------------------


def actions(emulator: Emulator) -> list[str]:
    """What was asked of Batch so far, in order."""
    return [call["action"] for call in emulator.services.host.calls.as_json()["calls"] if call["service"] == "batch"]


def test_a_submission_that_is_refused_for_its_rate_waits_its_turn(
    task: Task, own_emulator: Emulator, monkeypatch: Any
) -> None:
    """More often than any error is put up with."""
    monkeypatch.setattr(contention, "Pauses", partial(contention.Pauses, seek=0.01))
    own_emulator.faults.add("throttle", action="SubmitJob", count=8)
    assert submit(wait_for_completion=False, deferrable=False).execute(task.next_try())
    assert actions(own_emulator) == ["SubmitJob"] * 9


def test_a_deferrable_submission_waits_its_turn_in_the_triggerer(
    task: Task, own_emulator: Emulator, monkeypatch: Any
) -> None:
    monkeypatch.setattr("airflow_provider_tcbatch.operators.job._TURN_SECONDS", 0.1)
    own_emulator.faults.add("throttle", action="SubmitJob")
    operator, context = submit(wait_for_completion=False), task.next_try()
    with pytest.raises(TaskDeferred) as waiting:
        operator.execute(context)
    trigger = waiting.value.trigger
    assert isinstance(trigger, TCBatchApiTrigger)
    assert trigger.action == "SubmitJob"
    own_emulator.faults.clear()
    event = {**trigger.event, "outage": {"since": trigger.since, "until": time.time()}}
    assert submit(wait_for_completion=False).execute_complete(context, event)
    assert "DescribeJobs" not in actions(own_emulator), "nothing was made: there is nothing to look for"


def test_a_submission_whose_answer_was_lost_is_looked_for_after_its_turn(
    task: Task, own_emulator: Emulator, monkeypatch: Any
) -> None:
    monkeypatch.setattr("airflow_provider_tcbatch.operators.job._TURN_SECONDS", 0.1)
    own_emulator.faults.add("lose_answer", action="SubmitJob", count=1)
    own_emulator.faults.add("throttle", action="SubmitJob")
    operator, context = submit(wait_for_completion=False), task.next_try()
    with pytest.raises(TaskDeferred) as waiting:
        operator.execute(context)
    own_emulator.faults.clear()
    event = {**waiting.value.trigger.event, "outage": {"since": time.time(), "until": time.time()}}
    job_id = submit(wait_for_completion=False).execute_complete(context, event)
    assert job_id
    assert count() == 1


@pytest.mark.parametrize("refusal", ["rate", "quota", "request"])
def test_a_token_is_as_old_as_the_job_that_may_have_been_made_under_it(
    task: Task, own_emulator: Emulator, monkeypatch: Any, gate: Path, refusal: str
) -> None:
    """The answer to the first request is lost, and what is sent later, maybe for an hour, is refused."""
    monkeypatch.setattr("airflow_provider_tcbatch.operators.job._TURN_SECONDS", 0.1)
    monkeypatch.setattr(finding, "UNKNOWN_SECONDS", 0.0)
    sent: list[float] = []
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "SubmitJob":
            first = options["before_send"]

            def timed() -> None:
                sent.append(time.time())
                first()

            options["before_send"] = timed
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    own_emulator.faults.add("lose_answer", action="SubmitJob", count=1)
    if refusal == "rate":
        own_emulator.faults.add("throttle", action="SubmitJob")
    elif refusal == "quota":
        own_emulator.configure(client_token_window_seconds=0, job_quota=1)
    else:
        own_emulator.faults.add("error", action="SubmitJob", code="InvalidParameterValue", count=1)
    with pytest.raises((TaskDeferred, e.QuotaExceeded)):
        submit(until(gate), wait_for_quota=False).execute(task.next_try())
    assert len(sent) == 2
    assert sent[0] <= task.record["token_sent_at"] < sent[1]


def test_a_job_of_a_second_request_may_be_listed_late(
    task: Task, emulator: Emulator, gate: Path, crash: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token may have been sent again a moment before it has become old."""
    before = count()
    crash("after")
    with pytest.raises(Crash):
        submit(until(gate)).execute(task.next_try())
    [record] = task.store.data.values()
    record["token_sent_at"] -= TOKEN_WINDOW + 1
    real = TCBatchHook.describe_jobs
    looks: Iterator[list[Any]] = iter([[]])  # it is not in the first list
    monkeypatch.setattr(TCBatchHook, "describe_jobs", lambda self, **options: next(looks, real(self, **options)))
    deferred(submit(until(gate)), task.next_try())
    assert count() == before + 1
