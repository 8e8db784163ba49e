from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor
from tests.support.task_context import AirflowSkipException, Task
from tests.unit.conftest import job
from tests.unit.sensors.sensing import both, run


@pytest.fixture
def submit(connection: str) -> Iterator[Callable[..., str]]:
    """Submits a job of two tasks, ``a`` before ``b``, by their commands."""
    hook = TCBatchHook(connection)
    submitted: list[str] = []

    def submit(a: str, b: str) -> str:
        tasks = [{**job(command)["Tasks"][0], "TaskName": name} for name, command in (("a", a), ("b", b))]
        whole = {"JobName": "two", "Tasks": tasks, "Dependences": [{"StartTask": "a", "EndTask": "b"}]}
        submitted.append(hook.submit_job(whole))
        return submitted[-1]

    yield submit
    for job_id in submitted:
        hook.end_job(job_id)


def sensor(job_id: str, task_name: str, **options: Any) -> TCBatchTaskSensor:
    given = {"poke_interval": 0.2, "timeout": 120, **options}
    return TCBatchTaskSensor(task_id="sense", job_id=job_id, task_name=task_name, **given)


@both
def test_a_task_of_a_job_that_goes_on(submit: Callable[..., str], deferrable: bool) -> None:
    job_id = submit("sleep 1", "sleep 600")
    assert run(sensor(job_id, "a", deferrable=deferrable))[0] == "SUCCEED"
    result, xcoms = run(sensor(job_id, "b", target_states="RUNNING", deferrable=deferrable))
    assert result == "RUNNING"
    assert xcoms.keys() == {"tcbatch_job_url"}


@both
@pytest.mark.parametrize("soft", [False, True], ids=["fails", "skips"])
def test_a_task_that_fails(submit: Callable[..., str], deferrable: bool, soft: bool) -> None:
    job_id = submit("sleep 1; echo no such file >&2; exit 3", "true")
    waiting = sensor(job_id, "a", deferrable=deferrable, soft_fail=soft)
    if soft:
        with pytest.raises(AirflowSkipException):
            run(waiting)
        return
    with pytest.raises(e.JobFailed, match=r"'a' of job .* is FAILED, and not SUCCEED") as caught:
        run(waiting)
    assert "no such file" in str(caught.value)
    assert caught.value.exit_codes == (3,)


@both
def test_a_task_whose_turn_never_comes(submit: Callable[..., str], deferrable: bool) -> None:
    job_id = submit("sleep 1; exit 1", "true")
    with pytest.raises(e.JobError, match=r"'b' of job .* \(FAILED\) is .*, and not SUCCEED"):
        run(sensor(job_id, "b", deferrable=deferrable))


@both
def test_an_unfinished_task(submit: Callable[..., str], deferrable: bool) -> None:
    job_id = submit("sleep 600", "true")
    with pytest.raises(AirflowSensorTimeout):
        run(sensor(job_id, "b", deferrable=deferrable, timeout=1))
    with pytest.raises(e.NotFound, match="no task 'c'; it has 'a', 'b'"):
        run(sensor(job_id, "c", deferrable=deferrable))


def test_reschedule_frees_the_worker(submit: Callable[..., str]) -> None:
    waiting = sensor(submit("sleep 600", "true"), "a", mode="reschedule")
    assert waiting.reschedule
    assert waiting.poke(Task().next_try()) is False


def test_mistakes_are_found_when_the_dag_is_parsed() -> None:
    with pytest.raises(e.InvalidRequest, match="write one or more of STARTING"):
        sensor("job-1", "a", target_states="DONE")
