from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from tests.support.task_context import AirflowFailException, AirflowSkipException, Task, TaskDeferred
from tests.unit.conftest import job
from tests.unit.sensors.sensing import both, run


@pytest.fixture
def hook(connection: str) -> TCBatchHook:
    return TCBatchHook(connection)


@pytest.fixture
def long_job(hook: TCBatchHook, emulator: Emulator) -> Iterator[str]:
    job_id = hook.submit_job(job("sleep 600"))
    yield job_id
    hook.end_job(job_id)


def sensor(**options: Any) -> TCBatchJobSensor:
    return TCBatchJobSensor(**{"task_id": "sense", "poke_interval": 0.2, "timeout": 120, **options})


@both
def test_all_of_several_jobs(hook: TCBatchHook, deferrable: bool) -> None:
    quick, slow = hook.submit_job(job("true")), hook.submit_job(job("sleep 1.5"))
    result, xcoms = run(sensor(job_ids=[quick, slow], summary=True, deferrable=deferrable))
    assert result == {quick: "SUCCEED", slow: "SUCCEED"}
    assert {job_id: summary["state"] for job_id, summary in xcoms["tcbatch_summaries"].items()} == result


@both
def test_a_job_that_fails_is_explained_and_not_looked_at_again(hook: TCBatchHook, deferrable: bool) -> None:
    job_id = hook.submit_job(job("echo no such file >&2; sleep 1; exit 3"))
    with pytest.raises(e.JobFailed, match="exit code 3") as caught:
        run(sensor(job_ids=job_id, deferrable=deferrable))
    assert "no such file" in str(caught.value)
    assert isinstance(caught.value, AirflowFailException)
    assert (caught.value.job_id, caught.value.exit_codes) == (job_id, (3,))


@both
@pytest.mark.parametrize("choice", ["soft_fail", "never_fail"])
@pytest.mark.parametrize("late", [False, True], ids=["ended already", "ends later"])
def test_a_failed_job_skips_a_soft_sensor(
    hook: TCBatchHook, emulator: Emulator, deferrable: bool, choice: str, late: bool
) -> None:
    job_id = hook.submit_job(job("sleep 1; exit 1" if late else "exit 1"))
    if not late:
        emulator.wait_job(job_id)
    with pytest.raises(AirflowSkipException):
        run(sensor(job_ids=job_id, deferrable=deferrable, **{choice: True}))


@both
def test_one_failure_is_enough(hook: TCBatchHook, long_job: str, deferrable: bool) -> None:
    with pytest.raises(e.JobFailed):
        run(sensor(job_ids=[long_job, hook.submit_job(job("exit 1"))], deferrable=deferrable))


@both
def test_other_states_than_the_end(hook: TCBatchHook, long_job: str, deferrable: bool) -> None:
    result, _ = run(sensor(job_ids=long_job, target_states="RUNNING", deferrable=deferrable))
    assert result == {long_job: "RUNNING"}


@both
def test_what_has_succeeded_has_been_running(hook: TCBatchHook, emulator: Emulator, deferrable: bool) -> None:
    job_id = hook.submit_job(job("true"))
    emulator.wait_job(job_id)
    result, _ = run(sensor(job_ids=job_id, target_states=["RUNNING"], deferrable=deferrable))
    assert result == {job_id: "SUCCEED"}


@both
def test_a_failure_that_is_wanted(hook: TCBatchHook, deferrable: bool) -> None:
    failed, fine = hook.submit_job(job("sleep 1; exit 1")), hook.submit_job(job("sleep 1"))
    assert run(sensor(job_ids=failed, target_states="FAILED", deferrable=deferrable))[0] == {failed: "FAILED"}
    with pytest.raises(e.JobError, match=f"{fine} is SUCCEED, and not FAILED"):
        run(sensor(job_ids=fine, target_states="FAILED", deferrable=deferrable))


@both
def test_an_interrupted_job(hook: TCBatchHook, deferrable: bool) -> None:
    job_id = hook.submit_job(job("sleep 1; exit 1", FailedAction="INTERRUPT"))
    with pytest.raises(e.JobFailed, match="FAILED_INTERRUPTED"):
        run(sensor(job_ids=job_id, deferrable=deferrable))
    result, _ = run(sensor(job_ids=job_id, target_states=["SUCCEED", "FAILED_INTERRUPTED"], deferrable=deferrable))
    assert result == {job_id: "FAILED_INTERRUPTED"}
    hook.end_job(job_id)


@both
def test_without_failure_states_somebody_may_repair_the_job(
    hook: TCBatchHook, emulator: Emulator, deferrable: bool, tmp_path: Any
) -> None:
    job_id = hook.submit_job(job(f"test -e {tmp_path}/repaired"))
    assert emulator.wait_job(job_id) == "FAILED"

    def repair() -> None:
        (tmp_path / "repaired").touch()
        hook.retry_jobs([job_id])

    timer = threading.Timer(1.0, repair)
    timer.start()
    assert run(sensor(job_ids=job_id, failure_states=[], deferrable=deferrable))[0] == {job_id: "SUCCEED"}
    timer.join()


@both
def test_the_newest_job_of_a_name(hook: TCBatchHook, emulator: Emulator, deferrable: bool) -> None:
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    submitted: list[str] = []

    def submit() -> None:
        submitted.append(hook.submit_job({**job("sleep 1"), "JobName": name}))

    other = hook.submit_job({**job("exit 1"), "JobName": f"{name}-other"})
    emulator.wait_job(other)
    timer = threading.Timer(3.0, submit)
    timer.start()
    result, xcoms = run(sensor(job_name=name, deferrable=deferrable))
    timer.join()
    assert result == {submitted[0]: "SUCCEED"}
    assert xcoms.keys() - {"tcbatch_wait"} == {"tcbatch_job_url"}
    assert ("tcbatch_wait" in xcoms) is deferrable


@both
def test_a_newer_job_takes_the_place_of_a_failed_one(hook: TCBatchHook, emulator: Emulator, deferrable: bool) -> None:
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    failed = hook.submit_job({**job("exit 1"), "JobName": name})
    emulator.wait_job(failed)
    with pytest.raises(e.JobFailed, match=failed):
        run(sensor(job_name=name, deferrable=deferrable))

    def age(services: Services) -> None:
        # The service tells times in seconds.
        services.batch.jobs[failed].created_at -= 5

    emulator.on_loop(age)
    again = hook.submit_job({**job("true"), "JobName": name})
    assert run(sensor(job_name=name, deferrable=deferrable))[0] == {again: "SUCCEED"}


@both
def test_it_gives_up(long_job: str, deferrable: bool) -> None:
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(job_ids=long_job, deferrable=deferrable, timeout=1))
    with pytest.raises(AirflowSkipException):
        run(sensor(job_ids=long_job, deferrable=deferrable, timeout=1, soft_fail=True))
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(job_name="nobody", deferrable=deferrable, timeout=1))


def test_reschedule_frees_the_worker(long_job: str) -> None:
    waiting = sensor(job_ids=long_job, mode="reschedule")
    assert waiting.reschedule
    assert waiting.poke(Task().next_try()) is False


def test_what_does_not_exist(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_tcbatch.execution.job.termination.time.sleep", lambda seconds: None)
    monkeypatch.setattr("airflow_provider_tcbatch.execution.job.termination.UNKNOWN_SECONDS", 0.0)
    with pytest.raises(e.NotFound, match="no job job-00000000"):
        run(sensor(job_ids="job-00000000"))


def test_no_jobs_are_nothing_to_wait_for(connection: str) -> None:
    assert run(sensor(job_ids="[]", deferrable=True))[0] == {}


def test_waiting_that_fails_again_and_again_ends(long_job: str) -> None:
    waiting = sensor(job_ids=long_job, deferrable=True)
    event = {"status": "error", "message": "no network", "states": {}, "errors": 3, "give_up_at": 0}
    with pytest.raises(e.JobError, match="failed 4 times, the last time with: no network"):
        waiting.execute_complete(Task().next_try(), event)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute_complete(Task().next_try(), {**event, "errors": 2})
    assert deferred.value.trigger.carried["errors"] == 3
    assert not hasattr(deferred.value.trigger, "cancel_on_kill"), "it only observes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "job_ids or job_name"),
        ({"job_ids": "job-1", "job_name": "nightly"}, "not both"),
        ({"job_ids": [1]}, "write an id"),
        ({"job_ids": "job-1", "target_states": "DONE"}, "target_states holds 'DONE'; write one or more of STARTING"),
        ({"job_ids": "job-1", "target_states": []}, "target_states is empty"),
        ({"job_ids": "job-1", "failure_states": ["PENDING"]}, "failure_states holds 'PENDING'"),
        ({"job_ids": "job-1", "target_states": "FAILED", "failure_states": ["FAILED"]}, "FAILED is in target_states"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        sensor(**options)
