"""A task is killed on its worker: what becomes of its job."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from airflow_provider_tcbatch.client import places
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.execution.airflow_context import owner_of
from airflow_provider_tcbatch.execution.ownership import kill_switch as killed
from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
from airflow_provider_tcbatch.execution.ownership.state_store import Records, records_for
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchRetryJobsOperator
from airflow_provider_tcbatch.policies.ownership.record import Record, ThisTry
from tests.support.processes import wait_for
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job

#: What the switch gives itself; Airflow kills the process five seconds after it asked it to end.
BUDGET = killed._SECONDS

#: Seconds that it may take longer than that on a machine that has much else to do.
BUSY = 15.0

#: Seconds for which hangs what hangs: whoever waits for it is found out.
FOR_EVER = 120.0

STATES = [
    None, "scheduled", "queued", "running", "success", "restarting", "failed", "up_for_retry", "up_for_reschedule",
    "upstream_failed", "skipped", "deferred", "removed",
]  # fmt: skip

#: Nobody comes back for the job, whoever asks.
OVER = {"failed", "success", "skipped", "upstream_failed", "removed", "restarting"}


@pytest.fixture(autouse=True)
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time enough for what is to happen, however busy this machine is."""
    monkeypatch.setattr(killed, "_SECONDS", 30.0)


@pytest.fixture
def real(ample: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As little time as there really is, for a test that uses it up."""
    monkeypatch.setattr(killed, "_SECONDS", BUDGET)


class Airflow:
    """What a task hears from its supervisor when it asks what has become of a task."""

    def __init__(self) -> None:
        self.state: str | None = "running"
        self.error: Exception | None = None
        self.asked: list[GetTaskStates] = []
        #: Set unless an answer is to be waited for.
        self.answers = threading.Event()
        self.answers.set()
        #: Seconds that each answer takes.
        self.seconds = 0.0

    def send(self, message: Any) -> TaskStatesResult | None:
        if not isinstance(message, GetTaskStates):
            return None  # secrets to be masked
        self.asked.append(message)
        self.answers.wait(FOR_EVER)
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        # A cleared task has no state; others of its run are not its business.
        states = {} if self.state is None else {"submit": self.state}
        return TaskStatesResult(task_states={"manual__2026-01-31": {**states, "other": "failed"}, "b": {"submit": "x"}})


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airflow]:
    supervisor = Airflow()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    yield supervisor
    supervisor.answers.set()


@pytest.fixture
def hook(connection: str, emulator: Emulator) -> Iterator[TCBatchHook]:
    yield TCBatchHook(connection)
    emulator.faults.clear()


@pytest.fixture
def job_id(hook: TCBatchHook, emulator: Emulator) -> Iterator[str]:
    """A job that can be terminated, and is when the test is over."""
    found = hook.submit_job(job("sleep 60"))
    while str(hook.describe_job(found).job_state) == "SUBMITTED":
        time.sleep(0.02)
    yield found
    emulator.faults.clear()
    hook.terminate_job(found, patience=60)
    emulator.wait_job(found)


class Killed:
    """A try whose job is there, with a record of it, and which is about to be killed.

    :param owner: whether the record is still this try's, or another try has come to the same job since.
    """

    def __init__(self, hook: TCBatchHook, job_id: str, *, owner: bool = True, durable: bool = True) -> None:
        self.task = Task(retries=3)
        context: Any = self.task.next_try()
        self.records: Records = records_for(context, durable=durable)
        self.records.save(self._record(context, job_id))
        if not owner:
            successor: Any = self.task.next_try()
            records_for(successor, durable=True).save(self._record(successor, job_id))
        self.switch = KillSwitch(hook, job_id, owner_of(context), str(instance_in(context).id), self.records)

    @staticmethod
    def _record(context: Any, job_id: str) -> Record:
        ti = instance_in(context)
        assert ti.max_tries is not None
        this = ThisTry(ti.try_number, str(ti.id), ti.max_tries, 3)
        return Record(this, "token", time.time(), job_id=job_id, submitted_at=time.time())

    def pull(self) -> None:
        """Pull it: it takes no longer than it may."""
        in_time(self.switch.pull)


def in_time(pull: Callable[[], None]) -> None:
    begun = time.monotonic()
    pull()
    assert time.monotonic() - begun < killed._SECONDS + BUSY


def test_all_of_it_is_over_before_airflow_kills_the_process() -> None:
    assert BUDGET < 4.9
    assert BUDGET - killed._RESERVE > 3.0, "a busy Airflow takes three seconds for an answer"


def ending(hook: TCBatchHook, job_id: str) -> bool:
    view = hook.describe_job(job_id)
    return bool(view.next_action) or str(view.job_state) == "FAILED"


# -- Airflow answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_the_job_ends_with_its_task_unless_somebody_else_needs_it(
    hook: TCBatchHook, job_id: str, airflow: Airflow, state: str | None, owner: bool
) -> None:
    airflow.state = state
    switch = Killed(hook, job_id, owner=owner)
    expected = state in OVER or (state == "running" and owner)
    switch.pull()
    assert ending(hook, job_id) is expected
    record = switch.task.record
    assert (record["ending"] is not None) is (expected and owner), "the next try is to know"
    if expected and owner:
        assert record["ending"]["reason"] == "killed"
        assert record["ending"]["requested_at"] == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("state", STATES)
def test_a_job_that_no_other_try_can_know_of_ends_with_its_worker(
    hook: TCBatchHook, job_id: str, airflow: Airflow, state: str | None
) -> None:
    airflow.state = state
    switch = Killed(hook, job_id, durable=False)
    switch.pull()
    assert ending(hook, job_id)
    assert airflow.asked == []


def test_airflow_is_asked_about_this_task_only(hook: TCBatchHook, job_id: str, airflow: Airflow) -> None:
    Killed(hook, job_id).pull()
    [question] = airflow.asked
    assert (question.dag_id, question.task_ids, question.run_ids) == ("a_dag", ["submit"], ["manual__2026-01-31"])


def test_a_task_that_is_run_by_hand_takes_its_job_with_it(
    hook: TCBatchHook, job_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    Killed(hook, job_id).pull()
    assert ending(hook, job_id)


# -- Airflow does not answer -----------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [True, False])
def test_a_try_that_airflow_does_not_answer_any_more_leaves_the_job_alone(
    hook: TCBatchHook, job_id: str, airflow: Airflow, owner: bool, caplog: pytest.LogCaptureFixture
) -> None:
    airflow.error = RuntimeError("404 task instance not found")
    switch = Killed(hook, job_id, owner=owner)
    with caplog.at_level(logging.INFO):
        switch.pull()
    assert not ending(hook, job_id)
    assert switch.task.record["ending"] is None
    assert "404 task instance not found" in caplog.text


def while_talking_to_airflow(pull: Callable[[], None]) -> None:
    """Call ``pull`` from a frame of Airflow's own, as a signal does that comes in the middle of a message."""
    exec("pull()", {"__name__": "airflow.sdk.execution_time.comms", "pull": pull})


@pytest.mark.parametrize("owner", [True, False])
def test_where_this_thread_holds_airflows_lock_the_job_ends_in_time(
    hook: TCBatchHook, job_id: str, airflow: Airflow, owner: bool
) -> None:
    """No answer can come: the thread that was interrupted has to go on first."""
    airflow.answers.clear()
    switch = Killed(hook, job_id, owner=owner)
    while_talking_to_airflow(switch.pull)
    assert ending(hook, job_id)


@pytest.mark.usefixtures("real")
def test_where_airflow_is_out_of_reach_the_job_is_spared(hook: TCBatchHook, job_id: str, airflow: Airflow) -> None:
    """A worker behind a partition is told to end by its own supervisor: its successor may have the job by then."""
    airflow.answers.clear()
    Killed(hook, job_id).pull()
    assert not ending(hook, job_id)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_a_busy_airflow_is_waited_for(hook: TCBatchHook, job_id: str, airflow: Airflow, state: str) -> None:
    """Three seconds for an answer, where many tasks are killed at once."""
    airflow.state, airflow.seconds = state, 3.0
    switch = Killed(hook, job_id)
    switch.pull()
    assert ending(hook, job_id)


@pytest.mark.usefixtures("real")
def test_a_busy_store_does_not_save_the_job_of_a_failed_task(hook: TCBatchHook, job_id: str, airflow: Airflow) -> None:
    """The record is read and written through the same Airflow: what is known of the task already decides."""
    airflow.state, airflow.seconds = "failed", 0.5
    switch = Killed(hook, job_id)
    switch.task.store.step = lambda name: time.sleep(FOR_EVER)
    switch.pull()
    # That is asked for at the last moment, by another thread.
    wait_for("it ends", lambda: ending(hook, job_id), timeout=30)


@pytest.mark.usefixtures("real")
def test_a_job_that_may_run_on_is_told_of(
    hook: TCBatchHook, job_id: str, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    airflow.answers.clear()
    with caplog.at_level(logging.INFO):
        Killed(hook, job_id).pull()
    [line] = [record for record in caplog.records if job_id in record.getMessage()]
    assert line.levelname == "WARNING"
    assert "airflow tcbatch orphans --end" in line.getMessage()


@pytest.mark.parametrize("how", ["answers", "locked", "silent", "cleared"])
def test_a_job_that_has_ended_is_said_to_have_ended(
    hook: TCBatchHook,
    emulator: Emulator,
    airflow: Airflow,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    job_id = hook.submit_job(job("true"))
    assert emulator.wait_job(job_id) == "SUCCEED"
    airflow.state = None if how == "cleared" else "failed"
    if how in ("locked", "silent"):
        airflow.answers.clear()
    if how == "silent":
        monkeypatch.setattr(killed, "_SECONDS", BUDGET)
    switch = Killed(hook, job_id)
    with caplog.at_level(logging.INFO):
        while_talking_to_airflow(switch.pull) if how == "locked" else switch.pull()
    lines = [record.getMessage() for record in caplog.records if job_id in record.getMessage()]
    assert lines == [f"Job {job_id} has ended: SUCCEED"]


class Hung(logging.Handler):
    """A handler in whose lock the interrupted thread stands."""

    def emit(self, record: logging.LogRecord) -> None:
        return None


@pytest.fixture
def held_log() -> Iterator[None]:
    logger = logging.getLogger("airflow_provider_tcbatch.execution.ownership.kill_switch")
    handler, level = Hung(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    handler.acquire()
    yield
    handler.release()
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.mark.parametrize(("hangs", "error", "expected"), [(True, None, True), (False, RuntimeError("404"), False)])
def test_a_log_that_is_held_changes_nothing(
    hook: TCBatchHook,
    job_id: str,
    airflow: Airflow,
    held_log: None,
    monkeypatch: pytest.MonkeyPatch,
    hangs: bool,
    error: Exception | None,
    expected: bool,
) -> None:
    """A signal may interrupt the thread while it writes a line."""
    # All of it is used up, for nothing is ever logged.
    monkeypatch.setattr(killed, "_SECONDS", 12.0 if expected else BUDGET)
    airflow.error = error
    if hangs:
        airflow.answers.clear()
    switch = Killed(hook, job_id)
    while_talking_to_airflow(switch.pull) if hangs else switch.pull()
    assert ending(hook, job_id) is expected


# -- the store, the service ------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["get", "set"])
@pytest.mark.parametrize(("state", "expected"), [("failed", True), ("running", False), ("queued", False)])
def test_a_record_that_is_out_of_reach_does_not_save_the_job_of_a_failed_task(
    hook: TCBatchHook,
    job_id: str,
    airflow: Airflow,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
    state: str,
    expected: bool,
) -> None:
    airflow.state = state
    switch = Killed(hook, job_id)

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("409 the task does not run any more")

    monkeypatch.setattr(switch.records._accessor, broken, refuse)  # type: ignore[attr-defined]
    switch.pull()
    assert ending(hook, job_id) is expected


def test_the_record_of_another_job_is_left_as_it_is(hook: TCBatchHook, job_id: str, airflow: Airflow) -> None:
    airflow.state = "failed"
    switch = Killed(hook, job_id)
    record = switch.records.load()
    assert record is not None
    switch.records.save(replace(record, job_id="job-another0"))
    switch.pull()
    assert ending(hook, job_id)
    assert switch.task.record["ending"] is None


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("seconds", [0.0, FOR_EVER])
def test_a_service_that_can_not_be_reached_costs_no_more_time(
    hook: TCBatchHook, job_id: str, airflow: Airflow, emulator: Emulator, seconds: float
) -> None:
    if seconds:
        emulator.faults.add("slow", action="TerminateJob", seconds=seconds, count=1)
    else:
        emulator.faults.add("drop", action="TerminateJob")
    switch = Killed(hook, job_id)
    switch.pull()
    assert switch.task.record["ending"]["reason"] == "killed", "the next try sees to it"


def test_a_passing_failure_is_tried_again(hook: TCBatchHook, job_id: str, airflow: Airflow, emulator: Emulator) -> None:
    emulator.faults.add("error", action="TerminateJob", code="InternalError", count=2)
    Killed(hook, job_id).pull()
    assert ending(hook, job_id)


def test_keys_without_the_right_to_terminate_are_told_of(
    hook: TCBatchHook, job_id: str, airflow: Airflow, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.faults.add("error", action="TerminateJob", code="UnauthorizedOperation", count=1)
    begun = time.monotonic()
    Killed(hook, job_id).pull()
    assert time.monotonic() - begun < BUSY, "trying again would be no use"
    assert f"Job {job_id} could not be terminated" in caplog.text
    assert "UnauthorizedOperation" in caplog.text


# -- in an operator --------------------------------------------------------------------------------------


def submit(command: str = "sleep 60", **options: Any) -> TCBatchSubmitJobOperator:
    options = {"poll_interval": 0.2, "deferrable": True, **options}
    return TCBatchSubmitJobOperator(task_id="submit", job=job(command), **options)


def deferred(operator: TCBatchSubmitJobOperator, context: Any) -> str:
    with pytest.raises(TaskDeferred) as raised:
        operator.execute(context)
    return str(raised.value.trigger.job_id)


@pytest.mark.usefixtures("real")
@pytest.mark.parametrize("terminate_submitted_error", ["UnsupportedOperation", "ResourceInUse.Job"])
def test_a_job_that_can_not_be_ended_yet_is_ended_by_the_next_try(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow, terminate_submitted_error: str
) -> None:
    """The service refuses to terminate a job that is SUBMITTED."""
    emulator.configure(submitted_seconds=15, terminate_submitted_error=terminate_submitted_error)
    task = Task(retries=3)
    operator = submit()
    first = deferred(operator, task.next_try())
    in_time(operator.on_kill)
    assert not ending(hook, first)
    assert task.record["ending"]["reason"] == "killed"
    emulator.configure(submitted_seconds=0.05)
    second = deferred(submit(), task.next_try())
    assert second != first
    assert str(hook.describe_job(first).job_state) == "FAILED"
    assert not ending(hook, second)
    assert (task.record["job_id"], task.record["ending"]) == (second, None)
    hook.terminate_job(second, patience=60)


@pytest.mark.parametrize("kind", ["one job", "several"])
def test_the_interrupted_thread_may_hold_the_locks_of_its_client(
    hook: TCBatchHook, job_id: str, airflow: Airflow, kind: str
) -> None:
    """The handler waits for its threads, and what the interrupted code holds is held as long."""
    airflow.state, context = "failed", Task().next_try()
    operator: Any = submit()
    if kind == "one job":
        operator.arm(context, job_id)
    else:
        operator = TCBatchRetryJobsOperator(task_id="submit", job_ids=[job_id], deferrable=True, cancel_on_kill=True)
        operator.arm(context, [job_id])
    api, looks = operator.hook.api, hook.apart()
    with api._lock, api.places._lock, api.limiter._lock, places._sharing:
        operator.on_kill()
        assert ending(looks, job_id)


def test_a_killed_operator_takes_its_job_with_it(hook: TCBatchHook, emulator: Emulator, airflow: Airflow) -> None:
    operator = submit()
    job_id = deferred(operator, Task().next_try())
    operator.on_kill()
    assert emulator.wait_job(job_id) == "FAILED"


def test_on_request_a_killed_operator_leaves_its_job_alone(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow
) -> None:
    operator = submit("sleep 1", cancel_on_kill=False)
    job_id = deferred(operator, Task().next_try())
    operator.on_kill()
    assert airflow.asked == []
    assert emulator.wait_job(job_id) == "SUCCEED"


def test_an_operator_that_has_no_job_yet_has_nothing_to_end(airflow: Airflow) -> None:
    submit().on_kill()
    assert airflow.asked == []


def test_a_worker_that_waits_itself_is_killed_in_the_middle(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow
) -> None:
    """on_kill is called while ``execute`` stands somewhere in its wait."""
    operator, context = submit(deferrable=False), Task().next_try()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            operator.execute(context)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while "job_id" not in instance_in(context).xcoms:
        time.sleep(0.02)
    job_id = instance_in(context).xcoms["job_id"]
    in_time(operator.on_kill)
    assert emulator.wait_job(job_id) == "FAILED"
    thread.join(60)
    assert not thread.is_alive()
    assert job_id in str(failures[0])


def test_a_job_whose_failed_instances_are_about_to_run_again_does_not_run_on(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow, tmp_path: Path
) -> None:
    """RetryJobs takes effect after the task was killed: until then TerminateJob has no effect on a job that failed."""
    emulator.configure(retry_jobs_seconds=1.5)
    task, once = Task(retries=3), tmp_path / "once"
    command = f"[ -e {once} ] && exec sleep 60; touch {once}; exit 1"
    job_id = deferred(submit(command, on_retry="repair"), task.next_try())
    assert emulator.wait_job(job_id) == "FAILED"
    before = hook.describe_job(job_id).end_time
    asked, operator = threading.Event(), submit(command, on_retry="repair")
    retry_jobs = operator.hook.retry_jobs

    def retry(job_ids: list[str]) -> None:
        retry_jobs(job_ids)
        asked.set()

    def work() -> None:
        with contextlib.suppress(BaseException):  # whatever a task says that has been killed
            operator.execute(task.next_try())

    operator.hook.retry_jobs = retry  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=work)
    thread.start()
    assert asked.wait(60)
    in_time(operator.on_kill)
    thread.join(60)
    assert emulator.wait_job(job_id) == "FAILED"
    assert hook.describe_job(job_id).end_time != before, "it was about to run again"


# -- several jobs ----------------------------------------------------------------------------------------


def run_again(*job_ids: str) -> TCBatchRetryJobsOperator:
    return TCBatchRetryJobsOperator(task_id="submit", job_ids=job_ids, deferrable=True, cancel_on_kill=True)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_kill_that_comes_before_the_jobs_can_be_ended_ends_them_then(
    hook: TCBatchHook, job_id: str, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, resumed: bool
) -> None:
    airflow.state = "failed"
    operator, apart = run_again(job_id), TCBatchHook.apart

    def killed_meanwhile(self: TCBatchHook) -> TCBatchHook:
        operator.on_kill()
        return apart(self)

    monkeypatch.setattr(TCBatchHook, "apart", killed_meanwhile)
    context: Any = Task().next_try()
    event = {"status": "ended", "job_ids": [job_id], "since": time.time(), "errors": 0, "states": {}}
    with pytest.raises(TCBatchError, match="was killed"):
        operator.execute_complete(context, event) if resumed else operator.execute(context)
    assert ending(hook, job_id)


def test_jobs_that_are_about_to_run_again_since_before_an_outage_do_not_run_on(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow, tmp_path: Path
) -> None:
    """They read FAILED, and while the API is away nobody looks: what was asked for is known from before."""
    airflow.state = "failed"
    emulator.configure(retry_jobs_seconds=1.5)
    once = tmp_path / "once"
    job_id = hook.submit_job(job(f"[ -e {once} ] && exec sleep 20; touch {once}; exit 1"))
    assert emulator.wait_job(job_id) == "FAILED"
    before = hook.describe_job(job_id).end_time
    time.sleep(1.1)  # EndTime counts whole seconds
    hook.retry_jobs([job_id])
    operator, context = run_again(job_id), Task().next_try()
    event = {"status": "again", "since": time.time(), "asked": {"before": {job_id: before}, "accepted": [job_id]}}

    def killed(context: Any, job_ids: Any) -> Any:
        in_time(operator.on_kill)
        raise TCBatchError("killed in the middle of the first look")

    operator.begin = killed  # type: ignore[method-assign]
    with pytest.raises(TCBatchError, match="first look"):
        operator.execute_complete(context, event)
    assert emulator.wait_job(job_id) == "FAILED"
    assert hook.describe_job(job_id).end_time != before, "it was about to run again"


@pytest.mark.parametrize("locked", [False, True])
def test_all_jobs_of_a_task_end_in_time(
    hook: TCBatchHook, emulator: Emulator, airflow: Airflow, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """Airflow is asked once for all of them; and that this thread holds its lock is seen for all of them."""
    airflow.state, airflow.seconds = "failed", 1.0
    if locked:
        airflow.answers.clear()
        # One after the other would take longer than all of them have.
        monkeypatch.setattr(killed, "_LOCKED_SECONDS", 5.0)
        monkeypatch.setattr(killed, "_SECONDS", 20.0)
    job_ids = [hook.submit_job(job("sleep 60")) for _ in range(6)]
    wait_for(
        "they run", lambda: not any(str(hook.describe_job(it).job_state) == "SUBMITTED" for it in job_ids), timeout=60
    )
    operator = TCBatchRetryJobsOperator(task_id="submit", job_ids=job_ids, deferrable=True, cancel_on_kill=True)
    context: Any = Task().next_try()
    operator.arm(context, job_ids)
    pull = partial(in_time, operator.on_kill)
    while_talking_to_airflow(pull) if locked else pull()
    assert all(ending(hook, job_id) for job_id in job_ids)
    assert len(airflow.asked) == 1
