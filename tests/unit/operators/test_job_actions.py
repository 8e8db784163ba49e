"""Operators on jobs that are there already, against the emulator: on the worker, and deferred with their triggers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.execution.job import repair
from airflow_provider_tcbatch.execution.job import termination as ending
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators import task_instance as task_instances
from airflow_provider_tcbatch.operators.job_actions import (
    TCBatchDeleteJobOperator,
    TCBatchRetryJobsOperator,
    TCBatchTerminateJobOperator,
)
from airflow_provider_tcbatch.operators.task_instance import TCBatchTerminateTaskInstanceOperator
from tests.support.processes import wait_for
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job

both = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, connection: str) -> None:
    """A job that is not there need not be looked for long: the emulator knows jobs at once."""
    for module, name in ((ending, "UNKNOWN_SECONDS"), (task_instances, "_UNKNOWN_SECONDS")):
        monkeypatch.setattr(module, name, 1.0)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs that wait for it end when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def until(gate: Path) -> str:
    return f"until [ -e {gate} ]; do sleep 0.05; done"


def submit(command: str, **options: Any) -> str:
    return TCBatchHook().submit_job(job(command, **options))


def state(job_id: str) -> str:
    return str(TCBatchHook().describe_job(job_id).job_state)


def reach(job_id: str, *states: str) -> None:
    for view in TCBatchHook().wait(job_id, poll_interval=0.1):
        if str(view.job_state) in states:
            return


def interrupted(gate: Path) -> str:
    """A job that failed and keeps its machine."""
    job_id = submit("exit 1", FailedAction="INTERRUPT")
    reach(job_id, "FAILED_INTERRUPTED")
    return job_id


class Ran:
    """An operator at its end, deferrals included."""

    def __init__(self, operator: Any, while_deferred: Callable[[], None] | None = None) -> None:
        self.context = Task().next_try()
        self.triggers: list[Any] = []
        try:
            self.result = operator.execute(self.context)
            return
        except TaskDeferred as deferred:
            self.triggers.append(deferred.trigger)
        while True:
            try:
                self.result = operator.execute_complete(self.context, asyncio.run(self._event(while_deferred)))
                return
            except TaskDeferred as deferred:
                self.triggers.append(deferred.trigger)

    async def _event(self, meanwhile: Callable[[], None] | None) -> dict[str, Any]:
        path, arguments = self.triggers[-1].serialize()
        trigger = type(self.triggers[-1])(**json.loads(json.dumps(arguments)))
        assert trigger.serialize() == (path, arguments)
        if meanwhile is not None:
            meanwhile()
        [event] = [event.payload async for event in trigger.run()]
        return dict(json.loads(json.dumps(event)))

    @property
    def xcoms(self) -> dict[str, Any]:
        return instance_in(self.context).xcoms


# -- running again -----------------------------------------------------------------------------------------


def failing_once(tmp_path: Path, *, instances: int = 3) -> tuple[str, Path]:
    """A FAILED job whose instance 1 will succeed from now on, and the file where instances note that they run."""
    runs, flag = tmp_path / "runs", tmp_path / "flag"
    command = f"echo $BATCH_TASK_INSTANCE_INDEX >> {runs}; [ $BATCH_TASK_INSTANCE_INDEX != 1 ] || [ -e {flag} ]"
    job_id = submit(command, instances=instances)
    reach(job_id, "FAILED")
    flag.touch()
    return job_id, runs


@both
def test_retry_runs_only_the_failed_instances_again(emulator: Emulator, tmp_path: Path, deferrable: bool) -> None:
    emulator.configure(starting_seconds=1.0)
    job_id, runs = failing_once(tmp_path)
    ran = Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=deferrable, poll_interval=0.5))
    assert ran.result == [job_id]
    assert ran.xcoms["tcbatch_states"] == {job_id: "SUCCEED"}
    assert ran.xcoms["tcbatch_job_url"].startswith(f"{emulator.info.endpoint}/console/jobs/{job_id}?")
    assert sorted(runs.read_text().split()) == ["0", "1", "1", "2"]
    assert len(ran.triggers) == (1 if deferrable else 0)


@both
def test_retry_explains_all_that_failed(
    emulator: Emulator, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    jobs = [submit(f"sleep 1; echo disk {code} is full >&2; exit {code}") for code in (3, 4)]
    for job_id in jobs:
        reach(job_id, "FAILED")
    with pytest.raises(e.JobFailed) as raised:
        Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=jobs, deferrable=deferrable, poll_interval=0.5))
    assert raised.value.exit_codes == (3, 4)
    out = capfd.readouterr().out
    for job_id, code in zip(jobs, (3, 4), strict=True):
        assert f"Batch job {job_id}" in str(raised.value)
        assert f"exit code {code}" in str(raised.value)
        assert f"[{job_id} main 0 stderr] disk {code} is full" in out


def test_retry_of_machines_that_are_not_to_be_had(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    job_id = submit("true", ResourceMaxRetryCount=0)
    reach(job_id, "FAILED")
    time.sleep(1.1)  # EndTime counts whole seconds
    with pytest.raises(e.JobMachinesFailed):
        Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=False, poll_interval=0.5))


def test_retry_goes_on_with_what_runs_and_what_is_done(emulator: Emulator, tmp_path: Path, gate: Path) -> None:
    """The try before this one may have died after RetryJobs."""
    done, running = submit("true"), submit(until(gate))
    reach(done, "SUCCEED")
    failed, _ = failing_once(tmp_path)
    ids = [done, running, failed]
    ran = Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=ids, deferrable=True, poll_interval=0.5), gate.touch)
    assert ran.xcoms["tcbatch_states"] == dict.fromkeys(ids, "SUCCEED")
    assert "tcbatch_job_url" not in ran.xcoms


@both
def test_retry_does_not_take_the_old_end_for_the_new_one(emulator: Emulator, tmp_path: Path, deferrable: bool) -> None:
    """RetryJobs is asynchronous: the job reads FAILED for a while."""
    job_id, runs = failing_once(tmp_path)
    emulator.configure(retry_jobs_seconds=1.5)
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=deferrable, poll_interval=0.5)
    assert Ran(operator).xcoms["tcbatch_states"] == {job_id: "SUCCEED"}
    assert operator.hook.api.sent["RetryJobs"] == 1
    assert sorted(runs.read_text().split()) == ["0", "1", "1", "2"]


def test_retry_whose_answer_is_lost_runs_nothing_twice(emulator: Emulator, tmp_path: Path) -> None:
    job_id, runs = failing_once(tmp_path)
    emulator.configure(retry_jobs_seconds=1.5)
    emulator.faults.add("lose_answer", action="RetryJobs", count=1)
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=False, poll_interval=0.5)
    assert Ran(operator).xcoms["tcbatch_states"] == {job_id: "SUCCEED"}
    assert sorted(runs.read_text().split()) == ["0", "1", "1", "2"]


def test_retry_that_takes_no_effect_is_told(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, _ = failing_once(tmp_path)
    monkeypatch.setattr(TCBatchHook, "retry_jobs", lambda self, ids: None)
    with pytest.raises(e.JobError, match="still FAILED, 1 s after"):
        repair.run_again(TCBatchHook(), [TCBatchHook().describe_job(job_id)], patience=1.0)


def test_retry_of_many_with_one_that_is_refused(emulator: Emulator, tmp_path: Path, gate: Path) -> None:
    """All are refused for the sake of one: they are asked for one by one then."""
    failed, _ = failing_once(tmp_path)
    busy = submit(until(gate))
    reach(busy, "RUNNING")
    hook = TCBatchHook()
    views = [hook.describe_job(job_id) for job_id in (failed, busy)]
    with pytest.raises(e.ResourceBusy):
        repair.run_again(hook, views, patience=1.0)
    assert hook.api.sent["RetryJobs"] >= 3
    reach(failed, "SUCCEED")


def test_retry_does_not_wait_if_not_wished(emulator: Emulator, tmp_path: Path, gate: Path) -> None:
    again = tmp_path / "again"
    job_id = submit(f"[ ! -e {again} ] || {until(gate)}; exit 1")
    reach(job_id, "FAILED")
    again.touch()
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, deferrable=True, wait_for_completion=False)
    assert Ran(operator).triggers == []
    assert state(job_id) not in ("FAILED", "SUCCEED")


def test_retry_refuses_what_can_not_run_again(emulator: Emulator, gate: Path) -> None:
    with pytest.raises(e.JobError, match="has to be terminated before"):
        Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=interrupted(gate)))
    with pytest.raises(e.NotFound, match="There is no job job-00000000"):
        Ran(TCBatchRetryJobsOperator(task_id="again", job_ids="job-00000000"))


@both
@pytest.mark.parametrize("cancel", [False, True])
def test_retry_gives_up_at_its_timeout(emulator: Emulator, gate: Path, deferrable: bool, cancel: bool) -> None:
    job_id = submit(until(gate))
    reach(job_id, "RUNNING")
    options: dict[str, Any] = {
        "deferrable": deferrable,
        "poll_interval": 0.5,
        "timeout": 1.5,
        "cancel_on_failure": cancel,
    }
    with pytest.raises(e.JobTimeout, match=rf"{job_id} \(RUNNING\): did not end within timeout \(2 s"):
        Ran(TCBatchRetryJobsOperator(task_id="again", job_ids=job_id, **options))
    if cancel:
        reach(job_id, "FAILED")
    else:
        assert state(job_id) == "RUNNING"


def test_execution_timeout_ends_a_deferred_wait(emulator: Emulator, gate: Path) -> None:
    operator = TCBatchRetryJobsOperator(
        task_id="again",
        job_ids=submit(until(gate)),
        deferrable=True,
        poll_interval=0.5,
        execution_timeout=timedelta(seconds=1.5),
    )
    with pytest.raises(e.ExecutionTimeout, match="did not end within execution_timeout"):
        Ran(operator)


@pytest.mark.parametrize("cancel", [False, True])
def test_a_kill_ends_the_jobs_only_if_wished(emulator: Emulator, gate: Path, cancel: bool) -> None:
    jobs = [submit(until(gate)) for _ in range(2)]
    for job_id in jobs:
        reach(job_id, "RUNNING")
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=jobs, deferrable=True, cancel_on_kill=cancel)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(Task(durable=False).next_try())
    assert deferred.value.trigger.cancel_on_kill is cancel
    operator.on_kill()
    for job_id in jobs:
        if cancel:
            reach(job_id, "FAILED")
        else:
            assert state(job_id) == "RUNNING"


# -- ending ------------------------------------------------------------------------------------------------


@both
def test_terminate_waits_until_the_jobs_have_ended(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    emulator.configure(submitted_seconds=1.0, terminate_seconds=1.0)
    done = submit("true")
    reach(done, "SUCCEED")
    fresh, kept = submit(until(gate)), interrupted(gate)
    ids = [done, fresh, kept, "job-00000000"]
    ran = Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=ids, deferrable=deferrable, poll_interval=0.5))
    assert ran.result == ids
    assert ran.xcoms["tcbatch_states"] == {done: "SUCCEED", fresh: "FAILED", kept: "FAILED", "job-00000000": None}
    again = Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=ids, deferrable=deferrable))
    assert again.triggers == []


@pytest.mark.parametrize("code", ["UnsupportedOperation", "ResourceInUse.Job"])
def test_terminate_asks_again_while_the_job_is_submitted(emulator: Emulator, gate: Path, code: str) -> None:
    emulator.configure(submitted_seconds=2.5, terminate_submitted_error=code)
    job_id = submit(until(gate))
    Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=job_id, deferrable=False, poll_interval=0.2))
    assert state(job_id) == "FAILED"


@both
def test_terminate_ends_what_still_runs_of_a_failed_job(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    """When a job is FAILED, at its first failed instance or its last one, is not documented."""
    emulator.configure(task_failure="at_once", job_failure="at_once", terminate_seconds=1.0)
    job_id = submit(f"[ $BATCH_TASK_INSTANCE_INDEX != 0 ] || exit 1; {until(gate)}", instances=2)
    reach(job_id, "FAILED")
    wait_for("the other one runs", lambda: sorted(instance_states(job_id)) == ["FAILED", "RUNNING"], timeout=60)
    Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=job_id, deferrable=deferrable, poll_interval=0.5))
    assert instance_states(job_id) == ["FAILED", "FAILED"]


def test_terminate_without_waiting(emulator: Emulator, gate: Path) -> None:
    emulator.configure(terminate_seconds=600.0)
    job_id = submit(until(gate))
    reach(job_id, "RUNNING")
    operator = TCBatchTerminateJobOperator(task_id="end", job_ids=job_id, deferrable=True, wait_for_completion=False)
    assert Ran(operator).triggers == []
    view = TCBatchHook().describe_job(job_id)
    assert (str(view.job_state), view.next_action) == ("RUNNING", "TERMINATING")


def test_a_job_that_can_not_be_terminated_does_not_spare_the_others(emulator: Emulator, gate: Path) -> None:
    first, second = submit(until(gate)), submit(until(gate))
    for job_id in (first, second):
        reach(job_id, "RUNNING")
    emulator.faults.add("error", action="TerminateJob", code="UnauthorizedOperation", count=1)
    with pytest.raises(e.PermissionDenied):
        Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=[first, second], deferrable=False))
    reach(second, "FAILED")
    assert state(first) == "RUNNING"


def test_terminate_tells_of_a_missing_job_if_wished(emulator: Emulator) -> None:
    with pytest.raises(e.NotFound, match="missing_ok=False"):
        Ran(TCBatchTerminateJobOperator(task_id="end", job_ids="job-00000000", missing_ok=False))


def test_unknown_ids_may_be_refused_by_describe_jobs(emulator: Emulator, gate: Path) -> None:
    emulator.configure(describe_jobs_unknown="error")
    job_id = submit(until(gate))
    ran = Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=[job_id, "job-00000000"], deferrable=False))
    assert ran.xcoms["tcbatch_states"] == {job_id: "FAILED", "job-00000000": None}


def test_a_job_that_is_deleted_while_it_is_waited_for_has_ended(emulator: Emulator, gate: Path) -> None:
    emulator.configure(terminate_seconds=1.0)
    job_id = submit(until(gate))
    operator = TCBatchTerminateJobOperator(task_id="end", job_ids=job_id, deferrable=True, poll_interval=0.5)
    context = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    reach(job_id, "FAILED")
    TCBatchHook().delete_job(job_id)
    event = {"status": "error", "states": {}, "limit": None, "message": "gone", **deferred.value.trigger.carried}
    assert operator.execute_complete(context, event) == [job_id]
    assert instance_in(context).xcoms["tcbatch_states"] == {job_id: None}


def test_a_wait_that_fails_again_and_again_is_given_up(emulator: Emulator, gate: Path) -> None:
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=submit(until(gate)), deferrable=True)
    context = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    for _ in range(3):
        event = {"status": "error", "states": {}, "limit": None, "message": "no way", **deferred.value.trigger.carried}
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute_complete(context, event)
    event = {**event, **deferred.value.trigger.carried}
    with pytest.raises(e.JobError, match="failed 4 times, the last time with: no way"):
        operator.execute_complete(context, event)


# -- deleting ----------------------------------------------------------------------------------------------


@both
def test_delete_waits_for_the_end(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    done, running = submit("true"), submit("sleep 2")
    ids = [done, running, "job-00000000"]
    ran = Ran(TCBatchDeleteJobOperator(task_id="delete", job_ids=ids, deferrable=deferrable, poll_interval=0.5))
    assert ran.xcoms["tcbatch_states"] == {done: "SUCCEED", running: "SUCCEED", "job-00000000": None}
    assert list(TCBatchHook().describe_jobs([done, running])) == []
    assert Ran(TCBatchDeleteJobOperator(task_id="delete", job_ids=ids)).result == ids


@both
def test_delete_terminates_what_runs_if_wished(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    emulator.configure(terminate_seconds=1.0)
    ids = [submit(until(gate)), interrupted(gate)]
    operator = TCBatchDeleteJobOperator(
        task_id="delete", job_ids=ids, terminate=True, deferrable=deferrable, poll_interval=0.5
    )
    Ran(operator)
    assert list(TCBatchHook().describe_jobs(ids)) == []


def test_delete_does_not_end_what_keeps_its_machines_unasked(emulator: Emulator, gate: Path) -> None:
    done, kept = submit("true"), interrupted(gate)
    reach(done, "SUCCEED")
    with pytest.raises(e.JobError, match="terminate=True"):
        Ran(TCBatchDeleteJobOperator(task_id="delete", job_ids=[kept, done], deferrable=True))
    assert [view.job_id for view in TCBatchHook().describe_jobs([done, kept])] == [kept], "the other one is deleted"
    Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=kept, deferrable=False))


def test_delete_without_waiting_fails_if_it_is_too_early(emulator: Emulator, gate: Path) -> None:
    job_id = submit(until(gate))
    with pytest.raises(e.ResourceBusy):
        Ran(TCBatchDeleteJobOperator(task_id="delete", job_ids=job_id, wait_for_completion=False))


def test_delete_waits_for_the_last_instance_of_a_job_that_has_failed(emulator: Emulator, gate: Path) -> None:
    """A job may read FAILED while instances of it still run."""
    emulator.configure(task_failure="at_once", job_failure="at_once")
    job_id = submit(f"[ $BATCH_TASK_INSTANCE_INDEX != 0 ] || exit 1; {until(gate)}; sleep 1", instances=2)
    reach(job_id, "FAILED")
    gate.touch()
    Ran(TCBatchDeleteJobOperator(task_id="delete", job_ids=job_id, deferrable=False))
    assert list(TCBatchHook().describe_jobs([job_id])) == []


# -- single instances --------------------------------------------------------------------------------------


def instance_states(job_id: str) -> list[str]:
    instances = TCBatchHook().describe_task(job_id, "main").task_instance_set or []
    return [str(view.task_instance_state) for view in instances]


@both
def test_single_instances_are_ended_and_the_others_go_on(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    emulator.configure(terminate_seconds=1.0)
    job_id = submit(until(gate), instances=3)
    reach(job_id, "RUNNING")
    ran = Ran(
        TCBatchTerminateTaskInstanceOperator(
            task_id="end", job_id=job_id, task_name="main", indexes=[0, 2], deferrable=deferrable, poll_interval=0.2
        )
    )
    assert ran.result == [0, 2]
    states = instance_states(job_id)
    assert (states[0], states[2]) == ("FAILED", "FAILED")
    assert states[1] in ("RUNNABLE", "STARTING", "RUNNING")
    assert "tcbatch_job_url" in ran.xcoms
    assert len(ran.triggers) == (1 if deferrable else 0)


def test_an_instance_that_is_not_there(emulator: Emulator, gate: Path) -> None:
    job_id = submit(until(gate))
    with pytest.raises(e.NotFound, match="has no instance 7 of a task 'main'"):
        Ran(TCBatchTerminateTaskInstanceOperator(task_id="end", job_id=job_id, task_name="main", indexes=7))


@both
def test_instances_that_do_not_end_in_time(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    emulator.configure(kill_grace_seconds=30.0)
    job_id = submit(f"trap '' TERM; touch {gate}.begun; {until(gate)}")
    while not Path(f"{gate}.begun").exists():
        time.sleep(0.05)
    operator = TCBatchTerminateTaskInstanceOperator(
        task_id="end", job_id=job_id, task_name="main", indexes="0", timeout=1, deferrable=deferrable
    )
    with pytest.raises(e.JobTimeout, match=r"instance 0 of 'main' \(RUNNING\): did not end within timeout"):
        Ran(operator)


# -- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["", "None", None, [], "[]"])
def test_where_no_job_is_named_there_is_nothing_to_do(given: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=given)).result == []
    assert "nothing to do" in capfd.readouterr().out


def test_ids_may_be_text_that_jinja_made_of_a_list(emulator: Emulator) -> None:
    ids = [submit("true"), submit("true")]
    assert Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=f"['{ids[0]}', '{ids[1]}']")).result == ids
    assert Ran(TCBatchTerminateJobOperator(task_id="end", job_ids=(ids[0], ids[0]))).result == [ids[0]]


@pytest.mark.parametrize("wrong", [5, ["job-1", 5], ["job-1", None], [{"id": 1}], {"a": "job-1"}])
def test_wrong_ids_are_found_when_the_dag_is_parsed(wrong: Any) -> None:
    with pytest.raises(e.InvalidRequest, match="write an id or a list of ids"):
        TCBatchRetryJobsOperator(task_id="again", job_ids=wrong)


@pytest.mark.parametrize("wrong", [-1, [0, -1], True, 1.5, "first"])
def test_wrong_indexes_are_found_when_the_dag_is_parsed(wrong: Any) -> None:
    with pytest.raises(e.InvalidRequest, match="write an index from 0"):
        TCBatchTerminateTaskInstanceOperator(task_id="end", job_id="job-1", task_name="main", indexes=wrong)


def test_an_id_that_the_service_refuses_is_not_tried_again(emulator: Emulator) -> None:
    with pytest.raises(PermanentInvalidRequest, match="JobIdMalformed"):
        Ran(TCBatchTerminateJobOperator(task_id="end", job_ids="nonsense"))
