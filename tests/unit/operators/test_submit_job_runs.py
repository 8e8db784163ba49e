"""The operator in Airflow, with ``dag.test()``: triggers run inline, everything else is real."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.support.event_first import end_by_event

pytestmark = pytest.mark.oldest

DAG_FILE = """
import datetime
from airflow.sdk import DAG
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator


def job(command, instances=1):
    path = "cos://{bucket}.cos.{region}.myqcloud.com/logs/"
    return {{
        "job_name": "{name}-{{{{ ds_nodash }}}}",
        "tasks": [
            {{
                "task_name": "main",
                "task_instance_num": instances,
                "compute_env": {{"env_data": {{"instance_type": "S1.SMALL1"}}}},
                "application": {{"delivery_form": "LOCAL", "command": command}},
                "redirect_info": {{"stdout_redirect_path": path, "stderr_redirect_path": path}},
            }}
        ],
    }}


with DAG("{name}", schedule=None) as dag:
    TCBatchSubmitJobOperator(task_id="submit", job=job({command!r}), **{{"poll_interval": 1, **{options!r}}})
"""


class Run:
    """A finished run of a DAG with the one task ``submit``."""

    def __init__(self, dag_run: Any) -> None:
        [self.ti] = dag_run.get_task_instances()
        self.state = str(dag_run.state)

    def xcom(self, key: str = "return_value") -> Any:
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            query = XComModel.get_many(run_id=self.ti.run_id, dag_ids=self.ti.dag_id, key=key)
            rows = list(session.scalars(query))
            return XComModel.deserialize_value(rows[0]) if rows else None


@pytest.fixture
def run(airflow_home: Path, connection: str, emulator: Emulator) -> Iterator[Callable[..., Run]]:
    """Writes a DAG file, runs it to its end and returns the run."""
    written: list[Path] = []

    def go(name: str, command: str, **options: Any) -> Run:
        path = airflow_home / "dags" / f"{name}.py"
        info = emulator.info
        text = DAG_FILE.format(name=name, command=command, options=options, bucket=info.bucket, region=info.region)
        path.write_text(text)
        written.append(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return Run(module.dag.test())

    yield go
    for path in written:
        path.unlink()


def test_a_deferred_wait_ends_by_event(
    run: Callable[..., Run], emulator: Emulator, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"

    def queues() -> set[str]:
        return emulator.on_loop(
            lambda services: set(services.cmq.broker.topics[services.host.identity.topic].subscriptions)
        )

    before = queues()

    def open_gate() -> None:
        while not (listening := queues() - before):
            time.sleep(0.05)
        job_id = emulator.on_loop(lambda services: list(services.batch.jobs)[-1])
        end_by_event(emulator, listening.pop(), job_id, gate.touch)

    # The job ends when somebody listens, however long that took to begin.
    threading.Thread(target=open_gate, daemon=True).start()
    command = f"until [ -e {gate} ]; do sleep 0.05; done; echo said-by-{{{{ run_id }}}}"
    result = run("deferred", command, deferrable=True, logs="all", poll_interval=30)
    assert result.state == "success"
    job_id = result.xcom("job_id")
    assert result.xcom() == job_id
    assert emulator.wait_job(job_id) == "SUCCEED"
    timeline = result.xcom("tcbatch_timeline")
    order = [timeline[key] for key in ("submitted_at", "event_received_at", "confirmed_at", "resumed_at")]
    assert order == sorted(order)
    out = capfd.readouterr().out
    assert f"[main 0 stdout] said-by-{result.ti.run_id}" in out
    assert "heard by event" in out


def test_a_blocking_wait(run: Callable[..., Run]) -> None:
    result = run("blocking", "sleep 1", deferrable=False)
    assert result.state == "success"
    assert result.xcom() == result.xcom("job_id")


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])
def test_a_failure_shows_exit_code_and_stderr(
    run: Callable[..., Run], deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    # What it prints before is for a terminal: a title, a bell, a screen that is cleared.
    trick = r"printf '\033]0;owned\007\033[2J\000' >&2"
    result = run(
        f"failing_{deferrable}", f"{trick}; echo all is well; echo the disk is full >&2; exit 28", deferrable=deferrable
    )
    assert result.state == "failed"
    job_id = result.xcom("job_id")
    assert job_id, "the id is there although the task failed"
    out = capfd.readouterr().out
    assert f"Batch job {job_id}" in out
    assert out.count(f"Job {job_id} is FAILED") == 1
    assert "task 'main' instance 0, exit code 28, on ins-" in out, "and no reason that says the same"
    levels = {
        stream: [line for line in out.splitlines() if f"[main 0 {stream}]" in line] for stream in ("stdout", "stderr")
    }
    assert levels["stdout"], out
    assert levels["stderr"], out
    assert all("[info " in line for line in levels["stdout"])
    assert all("[error " in line for line in levels["stderr"])
    assert r"\x1b]0;owned\x07\x1b[2J\x00the disk is full" in out
    assert "\x1b]0;" not in out
    assert "\x1b[2J" not in out


def test_without_waiting_the_task_ends_at_once_whatever_deferrable_says(
    run: Callable[..., Run], emulator: Emulator
) -> None:
    result = run("fire_and_forget", "sleep 60", deferrable=True, wait_for_completion=False)
    assert result.state == "success"
    job_id = result.xcom("job_id")
    hook = TCBatchHook()
    assert not str(hook.describe_job(job_id).job_state).startswith(("SUCCEED", "FAILED"))
    for view in hook.wait(job_id, poll_interval=0.1):
        if str(view.job_state) == "RUNNING":
            break
    hook.terminate_job(job_id)


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])
def test_a_timeout_terminates_the_job(
    run: Callable[..., Run], emulator: Emulator, deferrable: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run(f"slow_{deferrable}", "sleep 120", deferrable=deferrable, timeout=3)
    assert result.state == "failed"
    assert emulator.wait_job(result.xcom("job_id")) == "FAILED"
    assert "did not end within timeout (3 s from its submission)" in capfd.readouterr().out


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])
def test_output_is_streamed_while_the_job_runs_each_line_once(
    run: Callable[..., Run],
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from airflow_provider_tcbatch.waits import job as job_wait

    monkeypatch.setattr(job_wait, "_STREAM_SECONDS", 0.5)
    seen: list[str] = []
    gate = tmp_path / "gate"
    real = job_wait.JobWait.run

    async def watched(self: job_wait.JobWait, *arguments: Any) -> job_wait.WaitEnd:
        say = self.log_line

        def note(text: str, *values: object) -> None:
            seen.append(text % values)
            say(text, *values)
            if "first part" in seen[-1]:
                gate.touch()  # the job goes on once its first line has been shown

        self.log_line = note
        return await real(self, *arguments)

    monkeypatch.setattr(job_wait.JobWait, "run", watched)
    command = f"echo first part; until [ -e {gate} ]; do sleep 0.1; done; echo second part; echo a word >&2; exit 4"
    result = run(f"streamed_{deferrable}", command, deferrable=deferrable, stream_logs=True)
    assert result.state == "failed"
    out = capfd.readouterr().out
    for line in ("[main 0 stdout] first part", "[main 0 stdout] second part", "[main 0 stderr] a word"):
        assert out.count(line) == 1, line
    end = f"Job {result.xcom('job_id')} is FAILED"
    assert out.count(end) == 1, "said once, with how it was heard"
    assert out.index("[main 0 stdout] first part") < out.index(f"{end} (heard by ")


def test_execution_timeout_of_a_blocking_wait_explains_itself(
    run: Callable[..., Run], emulator: Emulator, capfd: pytest.CaptureFixture[str]
) -> None:
    """Airflow interrupts the worker; ending the job takes longer than the interruption."""
    emulator.configure(terminate_seconds=2.0)
    result = run("late", "sleep 120", deferrable=False, execution_timeout=timedelta(seconds=4))
    assert result.state == "failed"
    assert emulator.wait_job(result.xcom("job_id")) == "FAILED"
    out = capfd.readouterr().out
    assert "did not end within execution_timeout (0:00:04 from the start of this try)" in out
    assert "Never ended: task 'main' instance 0 (RUNNING)" in out


@pytest.mark.parametrize(("size", "shown"), [(None, False), (200_000, True)])
def test_as_much_of_the_output_as_is_asked_for(
    run: Callable[..., Run], size: int | None, shown: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    # No more than 5,000 lines are shown, whatever the bytes.
    command = "echo the very first line; seq -f %030.0f 1000000 1004000"
    options = {} if size is None else {"log_bytes": size}
    assert run(f"much_{shown}", command, logs="all", **options).state == "success"
    out = capfd.readouterr().out
    assert ("[main 0 stdout] the very first line" in out) is shown
    assert f"[main 0 stdout] {1004000:030}" in out
