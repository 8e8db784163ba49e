"""However a wait ends, its error explains it as well as that of a failed job does, and in the time there is for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.operators.job_actions import TCBatchRetryJobsOperator
from airflow_provider_tcbatch.policies.deadlines import Limit
from airflow_provider_tcbatch.sensors.job import TCBatchJobSensor
from airflow_provider_tcbatch.sensors.task import TCBatchTaskSensor
from airflow_provider_tcbatch.waits import sessions as watching
from airflow_provider_tcbatch.waits.job import WaitEnd
from tests.support.processes import wait_for
from tests.support.task_context import Task, TaskDeferred, instance_in
from tests.unit.conftest import job

#: Instance 0 succeeds, 1 fails where it is told to, all others run on.
PROGRAM = (
    "i=$BATCH_TASK_INSTANCE_INDEX; echo out-of-$i; echo err-of-$i >&2; touch {folder}/$i; "
    '[ $i = 0 ] && exit 0; [ $i = 1 ] && [ -n "{fails}" ] && exit 3; exec sleep 60'
)


@pytest.fixture
def hook(connection: str, emulator: Emulator) -> Iterator[TCBatchHook]:
    emulator.configure(capacity=8)
    yield TCBatchHook(connection)
    emulator.faults.clear()


@pytest.fixture
def redirect(emulator: Emulator) -> dict[str, Any]:
    """Output goes to COS."""
    path = f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/explained/"
    return {"RedirectInfo": {"StdoutRedirectPath": path, "StderrRedirectPath": path}}


class Waiting:
    """An operator whose job has begun, in either mode, and whose wait then ends as the test says."""

    def __init__(
        self,
        folder: Path,
        hook: TCBatchHook,
        monkeypatch: pytest.MonkeyPatch,
        *,
        deferrable: bool,
        instances: int = 3,
        fails: bool = False,
        task: Any = None,
        **options: Any,
    ) -> None:
        self.folder, self.hook, self.monkeypatch = folder, hook, monkeypatch
        self.deferrable, self.instances, self.fails = deferrable, instances, fails
        program = PROGRAM.format(folder=folder, fails="yes" if fails else "")
        self.body = job(program, instances=instances, **(task or {}))
        self.options = options
        self.context: Any = Task().next_try()

    def _operator(self) -> TCBatchSubmitJobOperator:
        options = {"poll_interval": 0.2, "deferrable": self.deferrable, **self.options}
        return TCBatchSubmitJobOperator(task_id="submit", job=self.body, **options)

    def _begun(self) -> None:
        wait_for("all have begun", lambda: len(list(self.folder.iterdir())) == self.instances, timeout=60)
        job_id = instance_in(self.context).xcoms["job_id"]

        def ended() -> int:
            metrics = self.hook.describe_job(job_id).task_instance_metrics
            assert metrics is not None
            return metrics.succeed_count + metrics.failed

        wait_for("some have ended", lambda: ended() == 1 + self.fails, timeout=60)

    def end(self, status: str, limit: Limit | None = None) -> Any:
        """Let the wait end; what the operator comes to."""
        if not self.deferrable:

            def wait_here(settings: Any, wait: Any) -> WaitEnd:
                self._begun()
                return WaitEnd(status, "RUNNING", limit=limit)

            self.monkeypatch.setattr(watching, "wait_here", wait_here)
            return self._operator().execute(self.context)
        with pytest.raises(TaskDeferred) as deferred:
            self._operator().execute(self.context)
        self._begun()
        event = {
            **{"status": status, "state": "RUNNING", "limit": limit and limit.value, "errors": 0},
            **{"job_id": deferred.value.trigger.job_id, "submitted_at": time.time()},
        }
        return self._operator().execute_complete(self.context, event)


@pytest.fixture
def waiting(tmp_path: Path, hook: TCBatchHook, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Waiting]:
    def make(**options: Any) -> Waiting:
        return Waiting(tmp_path, hook, monkeypatch, **options)

    return make


MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["on the worker", "deferred"])


@MODES
@pytest.mark.parametrize("logs", ["failed", "all", "none"])
def test_a_limit_shows_what_the_job_printed(
    waiting: Callable[..., Waiting], deferrable: bool, logs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wait = waiting(deferrable=deferrable, logs=logs, timeout=1000)
    with pytest.raises(e.JobTimeout) as caught:
        wait.end("timeout", Limit.TIMEOUT)
    text = str(caught.value)
    assert "did not end within timeout (1000 s from its submission); its last state was RUNNING" in text
    assert "and it was terminated" in text
    assert "1 of 3 succeeded" in text
    assert "Never ended: task 'main' instance 1 (RUNNING), task 'main' instance 2 (RUNNING)" in text
    assert "    err-of-1" in text
    assert "What to do: raise timeout" in text
    assert "Console: http" in text
    log = capsys.readouterr().out
    shown = {index for index in range(3) if f"[main {index} stdout] out-of-{index}" in log}
    assert shown == {"failed": {1, 2}, "all": {0, 1, 2}, "none": set()}[logs]
    assert "tcbatch_summary" in instance_in(wait.context).xcoms


@MODES
def test_a_limit_tells_those_that_failed_from_those_that_it_ended(
    waiting: Callable[..., Waiting], deferrable: bool
) -> None:
    wait = waiting(deferrable=deferrable, fails=True, timeout=1000, task={"MaxRetryCount": 0})
    with pytest.raises((e.JobTimeout, e.JobFailed)) as caught:
        wait.end("timeout", Limit.TIMEOUT)
    text = str(caught.value)
    assert "task 'main' instance 1, exit code 3" in text
    assert "    err-of-1" in text
    assert "by its user" not in text


@MODES
def test_fail_fast_names_the_culprit_and_itself(
    waiting: Callable[..., Waiting], deferrable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    wait = waiting(deferrable=deferrable, fails=True, fail_fast=True)
    with pytest.raises(e.JobFailed) as caught:
        wait.end("failing")
    text = str(caught.value)
    assert "was ended by its task (fail_fast): 1 of 3 instances failed" in text
    assert "task 'main' instance 1, exit code 3" in text
    assert "err-of-1" in text
    assert "instance 2" not in text, "it was ended with it"
    assert "user" not in text
    assert "somebody" not in text
    assert caught.value.exit_codes == (3,)
    log = capsys.readouterr().out
    assert "[main 1 stderr] err-of-1" in log
    assert "[main 2 stderr]" not in log


def test_what_never_began_is_told_what_to_do_about(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(starting_seconds=60)
    operator = TCBatchSubmitJobOperator(
        task_id="submit", job=job("true"), deferrable=False, poll_interval=0.2, queue_timeout=2
    )
    with pytest.raises(e.QueueTimeout) as caught:
        operator.execute(Task().next_try())
    text = str(caught.value)
    assert "Never started: task 'main' instance 0" in text
    assert "What to do: its machines could not be had in time: raise queue_timeout" in text
    assert "Console: http" in text


@pytest.mark.parametrize("status", ["error", "timeout"])
def test_a_record_that_was_deleted_is_told_of(hook: TCBatchHook, emulator: Emulator, status: str) -> None:
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("true"), deferrable=True, timeout=1000)
    context: Any = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    job_id = deferred.value.trigger.job_id
    assert emulator.wait_job(job_id) == "SUCCEED"
    hook.delete_job(job_id)
    event = {"status": status, "job_id": job_id, "state": "RUNNING", "limit": "timeout", "errors": 0}
    again = TCBatchSubmitJobOperator(task_id="submit", job=job("true"), deferrable=True, timeout=1000)
    with pytest.raises(e.NotFound) as caught:
        again.execute_complete(context, {**event, "message": "ResourceNotFound.Job"})
    text = str(caught.value)
    assert f"Job {job_id} does not exist any more: somebody has deleted its record" in text
    assert "It was RUNNING when it was looked at last" in text
    assert "may still be running" not in text
    assert "terminated" not in text
    assert "What to do" in text
    assert "Console: http" in text


def test_the_next_try_says_who_ended_the_job_before(
    hook: TCBatchHook, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    task = Task(retries=2)
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("sleep 60"), deferrable=True)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.next_try())
    first = deferred.value.trigger.job_id
    [name] = task.store.data
    task.store.data[name] = {**task.record, "ending": {"reason": "killed", "requested_at": time.time()}}
    hook.end_job(first)
    operator = TCBatchSubmitJobOperator(task_id="submit", job=job("sleep 60"), deferrable=True)
    with caplog.at_level(logging.INFO), pytest.raises(TaskDeferred) as deferred:
        operator.execute(task.next_try())
    assert f"Batch job {first} (test) was ended because its task was killed: 1 of 1 instances failed" in caplog.text
    hook.terminate_job(deferred.value.trigger.job_id, patience=20)


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_retry_of_jobs_that_takes_too_long_says_how_far_they_are(
    hook: TCBatchHook, tmp_path: Path, deferrable: bool, emulator: Emulator
) -> None:
    program = f"[ -e {tmp_path}/once ] && echo still-at-it >&2 && touch {tmp_path}/twice && exec sleep 60; "
    job_id = hook.submit_job(job(program + f"touch {tmp_path}/once; exit 1"))
    assert emulator.wait_job(job_id) == "FAILED"
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=[job_id], deferrable=True, timeout=1000)
    context: Any = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    wait_for("it runs again", (tmp_path / "twice").exists, timeout=60)
    carried = deferred.value.trigger.carried
    event = {"status": "timeout", "limit": "timeout", "states": {job_id: "RUNNING"}, "message": None, **carried}
    with pytest.raises(e.JobTimeout) as caught:
        operator.execute_complete(context, event)
    assert "still-at-it" in str(caught.value)
    assert "instance 0" in str(caught.value)
    hook.terminate_job(job_id, patience=20)


def test_a_sensor_that_gives_up_says_what_it_saw(hook: TCBatchHook, emulator: Emulator) -> None:
    job_id = hook.submit_job(job("sleep 60"))
    sensor = TCBatchJobSensor(task_id="sense", job_ids=job_id, deferrable=True, timeout=5)
    event = {"status": "timeout", "errors": 0, "give_up_at": time.time()}
    with pytest.raises(Exception, match=rf"Last seen: {job_id} \([A-Z]+\)\. Console: http"):
        sensor.execute_complete(Task().next_try(), event)
    hook.terminate_job(job_id, patience=20)


# -- in time -------------------------------------------------------------------------------------------------

LATE = 90.0

#: What answers late.
SLOW = pytest.mark.parametrize(
    "slow", [{"service": "cos"}, {"action": "DescribeTask"}, {"action": "DescribeTaskLogs"}], ids=str
)


@pytest.fixture
def failed(hook: TCBatchHook, emulator: Emulator, redirect: dict[str, Any]) -> str:
    """A job of one failed instance whose output is in COS."""
    job_id = hook.submit_job(job("echo why-it-failed >&2; exit 3", **redirect))
    assert emulator.wait_job(job_id) == "FAILED"
    return job_id


def explained(emulator: Emulator, slow: dict[str, str], call: Callable[[], Any]) -> str:
    """The error of a call while something answers late; it must not wait for that."""
    emulator.faults.add("slow", seconds=LATE, **slow)
    begun = time.monotonic()
    with pytest.raises(e.TCBatchError) as caught:
        call()
    assert time.monotonic() - begun < LATE / 2
    text = str(caught.value)
    assert "What could be read in 3 s ([tcbatch] explain_timeout) is shown" in text
    assert "Console: http" in text
    if slow == {"service": "cos"}:
        assert "exit code 3" in text
        assert "why-it-failed" in text, "the preview will do"
    elif slow["action"] == "DescribeTaskLogs":
        assert "exit code 3" in text
    return text


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__EXPLAIN_TIMEOUT", "3")


@SLOW
def test_a_failed_task_does_not_wait_for_what_explains_it(
    hook: TCBatchHook, emulator: Emulator, redirect: dict[str, Any], hurried: None, slow: dict[str, str]
) -> None:
    body = job("echo why-it-failed >&2; exit 3", **redirect)
    operator = TCBatchSubmitJobOperator(task_id="submit", job=body, deferrable=True)
    context: Any = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    job_id = deferred.value.trigger.job_id
    assert emulator.wait_job(job_id) == "FAILED"
    event = {"status": "ended", "job_id": job_id, "state": "FAILED", "errors": 0}
    again = TCBatchSubmitJobOperator(task_id="submit", job=body, deferrable=True)
    explained(emulator, slow, lambda: again.execute_complete(context, event))
    assert instance_in(context).xcoms["tcbatch_summary"]["state"] == "FAILED"


@SLOW
@pytest.mark.parametrize("kind", ["job", "task"])
def test_nor_does_a_sensor(
    hook: TCBatchHook, emulator: Emulator, failed: str, hurried: None, slow: dict[str, str], kind: str
) -> None:
    sensor: Any = (
        TCBatchJobSensor(task_id="sense", job_ids=failed)
        if kind == "job"
        else TCBatchTaskSensor(task_id="sense", job_id=failed, task_name="main")
    )
    context: Any = Task().next_try()
    explained(emulator, slow, lambda: sensor.poke(context))


@SLOW
def test_nor_does_what_runs_jobs_again(
    hook: TCBatchHook,
    emulator: Emulator,
    redirect: dict[str, Any],
    tmp_path: Path,
    hurried: None,
    slow: dict[str, str],
) -> None:
    # Its second run goes on until the task has deferred: else a busy machine would find it ended before.
    again = f"[ -e {tmp_path}/ran ] && until [ -e {tmp_path}/deferred ]; do sleep 0.1; done; touch {tmp_path}/ran"
    failed = hook.submit_job(job(f"{again}; echo why-it-failed >&2; exit 3", **redirect))
    assert emulator.wait_job(failed) == "FAILED"
    operator = TCBatchRetryJobsOperator(task_id="again", job_ids=[failed], deferrable=True)
    context: Any = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    (tmp_path / "deferred").touch()
    event = asyncio.run(_only(deferred.value.trigger))
    explained(emulator, slow, lambda: operator.execute_complete(context, event))


async def _only(trigger: Any) -> Any:
    [event] = [event.payload async for event in trigger.run()]
    return event


@MODES
def test_nor_does_a_task_that_a_limit_ends(
    waiting: Callable[..., Waiting],
    emulator: Emulator,
    redirect: dict[str, Any],
    hurried: None,
    deferrable: bool,
) -> None:
    wait = waiting(deferrable=deferrable, timeout=1000, task=redirect)
    emulator.faults.add("slow", seconds=LATE, service="cos", action="HEAD")
    begun: list[float] = []
    real = wait._begun

    def began() -> None:
        real()
        begun.append(time.monotonic())

    wait._begun = began  # type: ignore[method-assign]
    with pytest.raises(e.JobTimeout) as caught:
        wait.end("timeout", Limit.TIMEOUT)
    assert time.monotonic() - begun[0] < LATE / 2
    assert "err-of-1" in str(caught.value)
    assert "[tcbatch] explain_timeout" in str(caught.value)
