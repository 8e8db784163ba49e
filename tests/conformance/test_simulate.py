"""Jobs that follow a script."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS
from airflow_provider_tcbatch.emulator.schema import schema
from airflow_provider_tcbatch.emulator.services import Services
from tests.conformance.conftest import Call, states, submission, task
from tests.conformance.test_wire import error_of, send

CN_TIME = "%Y-%m-%dT%H:%M:%SZ"


@pytest.fixture(autouse=True)
def simulated(emulator: Emulator) -> Iterator[None]:
    emulator.configure(mode="simulate", speed=1000, simulated_seconds=60, job_quota=100_000, capacity=100_000)
    yield
    # Its clock has run ahead; jobs of other tests are not to be older than theirs.
    emulator.reset()


def script(seconds: str = "60", exit_code: str = "0", **members: Any) -> dict[str, Any]:
    env = [{"Name": "EMULATOR_SECONDS", "Value": seconds}, {"Name": "EMULATOR_EXIT_CODE", "Value": exit_code}]
    return task("this is not run", EnvVars=env, **members)


def run(emulator: Emulator, batch: Call, *tasks: dict[str, Any], **job: Any) -> tuple[str, str]:
    job_id = batch("SubmitJob", **submission(*tasks, **job)).JobId
    return job_id, emulator.wait_job(job_id)


def seconds_between(start: str, end: str) -> float:
    return (datetime.strptime(end, CN_TIME) - datetime.strptime(start, CN_TIME)).total_seconds()


def test_an_hour_is_played_in_seconds(emulator: Emulator, batch: Call) -> None:
    started = time.monotonic()
    job_id, state = run(emulator, batch, script("3600"))
    assert time.monotonic() - started < 150
    assert state == "SUCCEED"
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert instance.ExitCode == 0
    assert 3599 <= seconds_between(instance.RunningTime, instance.EndTime) < 3600 + 5000
    assert not (Path(emulator.info.data_dir) / "jobs" / job_id).exists()
    logs = batch("DescribeTaskLogs", JobId=job_id, TaskName="main").TaskInstanceLogSet[0]
    assert (logs.StdoutLog, logs.StderrLog) == ("", "")


def test_exit_codes_by_attempt(emulator: Emulator, batch: Call) -> None:
    job_id, state = run(emulator, batch, script("1,5", "3,4,0", MaxRetryCount=2))
    assert state == "SUCCEED"
    assert states(emulator, job_id, "instance").count("RUNNING") == 3
    job_id, state = run(emulator, batch, script(exit_code="7", FailedAction="INTERRUPT"))
    assert state == "FAILED_INTERRUPTED"
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert (instance.ExitCode, instance.StateReason) == (7, "The command ended with exit code 7")


def test_timeout(emulator: Emulator, batch: Call) -> None:
    job_id, state = run(emulator, batch, script("90", Timeout=30))
    assert state == "FAILED"
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert "Timeout" in instance.StateReason


@pytest.mark.parametrize("env", [("soon", "0"), ("-1", "0"), ("nan", "0"), ("1", "256"), ("1", "x")])
def test_a_script_that_makes_no_sense(emulator: Emulator, batch: Call, env: tuple[str, str]) -> None:
    job_id, state = run(emulator, batch, script(*env))
    assert state == "FAILED"
    (instance,) = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    assert "cannot be followed" in instance.StateReason


def test_dependencies_and_terminations(emulator: Emulator, batch: Call) -> None:
    emulator.configure(speed=100)
    tasks = [script("10", name="first"), script("1000000", name="second")]
    edges = [{"StartTask": "first", "EndTask": "second"}]
    job_id = batch("SubmitJob", **submission(*tasks, Dependences=edges)).JobId
    while batch("DescribeTask", JobId=job_id, TaskName="second").TaskState != "RUNNING":
        time.sleep(0.01)
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) == "FAILED"
    assert batch("DescribeTask", JobId=job_id, TaskName="first").TaskState == "SUCCEED"


@pytest.mark.timeout(1800)
def test_a_hundred_thousand_jobs(emulator: Emulator, batch: Call) -> None:
    """They cost neither processes nor files."""
    count, at_once = 100_000, 1000
    emulator.configure(job_quota=count, capacity=count)
    # In the emulator's own process: as many signed requests would take minutes (see benchmarks).
    request = submission(script("1800"))
    checked = schema("batch").check("SubmitJobRequest", json.loads(json.dumps(request)))

    def submit(services: Services) -> None:
        for _ in range(at_once):
            HANDLERS["SubmitJob"](services.batch, checked)

    def unfinished(services: Services) -> list[str]:
        return [job.job_id for job in services.batch.jobs.values() if not job.final]

    # Nothing of all this is garbage.
    gc.disable()
    try:
        started = time.monotonic()
        for _ in range(count // at_once):
            emulator.on_loop(submit)
        while left := emulator.on_loop(unfinished):
            emulator.wait_job(left[-1], 600)
        # Half an hour each; one after the other they would take more than five years.
        assert time.monotonic() - started < 1800
    finally:
        gc.enable()
    succeeded = [{"Name": "job-state", "Values": ["SUCCEED"]}]
    answer = batch("DescribeJobs", Filters=succeeded, Offset=count - 1)
    assert answer.TotalCount == count
    assert batch("DescribeJob", JobId=answer.JobSet[0].JobId).JobState == "SUCCEED"


def test_the_benchmark() -> None:
    """Jobs by signed requests to an emulator in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.emulator_100k", "--jobs", "50"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=True)
    result = json.loads(ended.stdout)
    assert result["jobs"] == 50
    assert result["jobs_per_second"] > 0
    assert result["cpu_seconds"] > 0
    assert result["max_rss_mb"] > 10


def test_a_job_of_ten_thousand_tasks(emulator: Emulator, batch: Call) -> None:
    """The most that Tencent documents; one more is refused."""
    tasks = [task("this is not run", f"task-{number}") for number in range(10_001)]
    # The processor's time of client and emulator together: a busy machine takes longer, but not more.
    started = time.process_time()
    job_id = batch("SubmitJob", **submission(*tasks[:-1])).JobId
    # Not by the SDK, which takes as long to build a request as the emulator to refuse it.
    error = error_of(send(emulator, "SubmitJob", json.dumps(submission(*tasks)).encode()))
    assert error["Code"] == "InvalidParameterValue.LimitExceeded"
    assert error["Message"] == "A job has at most 10000 tasks."
    assert emulator.wait_job(job_id, timeout=60) == "SUCCEED"
    job = batch("DescribeJob", JobId=job_id)
    assert (len(job.TaskSet), job.TaskMetrics.SucceedCount) == (10_000, 10_000)
    assert time.process_time() - started < 10


def test_a_simulated_job_may_name_file_servers(emulator: Emulator, batch: Call) -> None:
    """Nothing is mounted, so any storage will do; a job that runs is refused, since there is no such server."""
    paths: dict[str, Any] = {
        "InputMappings": [{"SourcePath": "cfs://10.0.0.7:/data/", "DestinationPath": "/data/"}],
        "OutputMappings": [{"SourcePath": "out/", "DestinationPath": "nfs://10.0.0.8:/results/"}],
        "RedirectInfo": {"StdoutRedirectPath": "cfs://10.0.0.7:/logs/", "StderrRedirectPath": "cfs://10.0.0.7:/logs/"},
    }
    assert run(emulator, batch, script(**paths))[1] == "SUCCEED"
    emulator.configure(mode="process")
    for name, value in paths.items():
        error = error_of(send(emulator, "SubmitJob", json.dumps(submission(task("true", **{name: value}))).encode()))
        assert error["Code"] == "InvalidParameterValue.RemoteStorageSchemeType", name
