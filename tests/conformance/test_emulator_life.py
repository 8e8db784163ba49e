"""The emulator beside the services: its control API, its clock, what jobs put in its way, and what is left of it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
import requests
from tencentcloud.batch.v20170312 import batch_client
from tencentcloud.batch.v20170312 import models as batch_models

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.faults import FaultError
from airflow_provider_tcbatch.emulator.services import Services
from tests.conformance.conftest import Call, credential, profile, request_of, submission, task
from tests.support.processes import wait_for


def send(emulator: Emulator, method: str, path: str, token: str | None, **arguments: object) -> requests.Response:
    headers = {} if token is None else {"X-Emulator-Token": token}
    url = f"{emulator.info.endpoint}/_emulator/{path}"
    return requests.request(method, url, headers=headers, timeout=10, **arguments)  # type: ignore[arg-type]


# -- who may change it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "guessed"])
@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "settings"), ("POST", "faults"), ("DELETE", "faults"), ("POST", "reset")]
)
def test_changes_need_the_token(emulator: Emulator, token: str | None, method: str, path: str) -> None:
    before = send(emulator, "GET", "settings", None).json()
    refused = send(emulator, method, path, token, json={"capacity": 1, "kind": "drop"})
    assert refused.status_code == 401
    assert "X-Emulator-Token" in refused.json()["error"]
    assert "control_token" in refused.json()["error"]
    assert send(emulator, "GET", "settings", None).json() == before
    assert send(emulator, "GET", "faults", None).json() == {"faults": []}


def test_who_has_the_token_changes_it(emulator: Emulator) -> None:
    answer = send(emulator, "PATCH", "settings", emulator.info.control_token, json={"capacity": 3})
    assert (answer.status_code, answer.json()["capacity"]) == (200, 3)


def test_what_runs_a_program_is_set_at_the_start_only(emulator: Emulator, tmp_path: Path) -> None:
    wanted = {"docker_command": f"touch {tmp_path}/made", "capacity": 2}
    refused = send(emulator, "PATCH", "settings", emulator.info.control_token, json=wanted)
    assert refused.status_code == 400
    assert "docker_command is set at the start only" in refused.json()["error"]
    shown = send(emulator, "GET", "settings", None).json()
    assert (shown["docker_command"], shown["capacity"] == 2) == ("docker", False)


def test_a_misspelt_setting_of_a_running_emulator_gives_one_sentence(emulator: Emulator) -> None:
    told = "capactiy: there is no such setting, did you mean 'capacity'? 'tcbatch-emulator settings' lists them"
    with pytest.raises(ValueError, match="capactiy") as caught:
        emulator.configure(capactiy=3)
    assert str(caught.value) == told
    answer = send(emulator, "PATCH", "settings", emulator.info.control_token, json={"capactiy": 3})
    assert (answer.status_code, answer.json()["error"]) == (400, f"invalid settings: {told}")


# -- faults ----------------------------------------------------------------------------------------------


def test_a_misspelt_fault_gives_one_sentence(emulator: Emulator) -> None:
    with pytest.raises(FaultError) as caught:
        emulator.faults.add("trottle")
    assert str(caught.value) == "there is no fault 'trottle', did you mean 'throttle'?"
    with pytest.raises(FaultError) as caught:
        emulator.faults.add("throttle", acton="SubmitJob")
    assert str(caught.value) == "a fault has no 'acton', did you mean 'action'?"
    answer = send(emulator, "POST", "faults", emulator.info.control_token, json={"kind": "trottle"})
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "invalid fault: there is no fault 'trottle', did you mean 'throttle'?",
    )


# -- time ------------------------------------------------------------------------------------------------


def test_a_faster_clock_wakes_what_sleeps_already() -> None:
    """An hour that has begun passes at the new speed, and so does a message's time to be invisible."""
    with Emulator(Settings(mode="simulate", simulated_seconds=3600, submitted_seconds=0, starting_seconds=0)) as own:
        client = batch_client.BatchClient(credential(own), own.info.region, profile(own))
        job_id = client.SubmitJob(request_of(batch_models, "SubmitJob", submission(task("x")))).JobId
        wait_for(
            "it runs", lambda: own.on_loop(lambda services: services.batch.jobs[job_id].state) == "RUNNING", timeout=60
        )
        own.configure(speed=100_000)
        assert own.wait_job(job_id, 60) == "SUCCEED"

        def send(services: Services) -> object:
            queue = services.cmq.broker.queues[f"{services.host.identity.topic}-base"]
            services.cmq.broker.send(queue, "later")
            (taken,) = services.cmq.broker.take(queue, 1)
            return taken

        own.on_loop(send)

        def ready() -> bool:
            return bool(
                own.on_loop(
                    lambda services: len(services.cmq.broker.queues[f"{services.host.identity.topic}-base"].ready)
                )
            )

        assert not ready()
        own.configure(cmq_speed=100_000)
        wait_for("the message is there again", ready, timeout=60)


def test_a_script_goes_on_after_a_retry_of_the_job(emulator: Emulator, batch: Call) -> None:
    emulator.configure(mode="simulate", simulated_seconds=0)
    script = [{"Name": "EMULATOR_EXIT_CODE", "Value": "1,0"}]
    job_id = batch("SubmitJob", **submission(task("x", EnvVars=script))).JobId
    assert emulator.wait_job(job_id) == "FAILED"
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "SUCCEED"


# -- room ------------------------------------------------------------------------------------------------


def test_a_job_that_waits_for_room_says_so(emulator: Emulator, batch: Call, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tcbatch_emulator.jobs")
    emulator.configure(mode="simulate", simulated_seconds=3600, capacity=1)
    first = batch("SubmitJob", **submission(task("x"))).JobId
    wait_for("it runs", lambda: batch("DescribeJob", JobId=first).JobState == "RUNNING", timeout=60)
    second = batch("SubmitJob", **submission(task("x"))).JobId
    reason = (
        "Waiting for capacity: at most 1 instances run on this computer at the same time (the emulator's setting "
        "capacity)"
    )
    wait_for("it waits", lambda: batch("DescribeJob", JobId=second).StateReason == reason, timeout=60)
    (instance,) = batch("DescribeTask", JobId=second, TaskName="main").TaskInstanceSet
    assert (instance.TaskInstanceState, instance.StateReason) == ("RUNNABLE", reason)
    assert f"{second}: {reason}" in caplog.messages
    assert batch("DescribeJob", JobId=first).StateReason == ""
    emulator.configure(capacity=2)
    wait_for("it runs", lambda: batch("DescribeJob", JobId=second).JobState == "RUNNING", timeout=60)
    assert batch("DescribeJob", JobId=second).StateReason == ""
    for job_id in (first, second):
        batch("TerminateJob", JobId=job_id)
        assert emulator.wait_job(job_id) == "FAILED"


# -- what a job puts in the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("trick", ["mkfifo ../stdout", "ln -s /dev/zero ../stdout", "ln -s /etc/hostname ../stdout"])
def test_what_stands_in_an_outputs_place_is_not_read(emulator: Emulator, batch: Call, trick: str) -> None:
    redirect = {"StdoutRedirectPath": f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/tricks/"}
    started = time.monotonic()
    jobs = [
        batch("SubmitJob", **submission(task(f"rm ../stdout; {trick}", RedirectInfo=redirect))).JobId for _ in range(3)
    ]
    for job_id in jobs:
        assert emulator.wait_job(job_id, 60) == "SUCCEED"
        log = batch("DescribeTaskLogs", JobId=job_id, TaskName="main").TaskInstanceLogSet[0]
        assert log.StdoutLog == ""
        from airflow_provider_tcbatch.emulator.errors import CosError

        with pytest.raises(CosError, match="does not exist"):
            emulator.services.cos.store.get(emulator.info.bucket, f"tricks/stdout.{job_id}.main.0.log")
    assert time.monotonic() - started < 100


def test_what_stands_in_the_place_of_a_copy_is_not_written(emulator: Emulator, batch: Call, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("untouched")
    name = {"StdoutLocalPath": "logs/", "StdoutLocalFileName": "out"}
    for trick in (f"ln -s {tmp_path}/mine logs/out", "mkfifo logs/out"):
        command = f"echo said; mkdir logs; {trick}"
        job_id = batch("SubmitJob", **submission(task(command, RedirectLocalInfo=name))).JobId
        assert emulator.wait_job(job_id, 60) == "SUCCEED"
    assert (tmp_path / "mine").read_text() == "untouched"


def test_an_error_file_that_is_a_pipe_holds_nobody(emulator: Emulator, batch: Call) -> None:
    job_id = batch("SubmitJob", **submission(task("mkfifo ../mount-error"))).JobId
    assert emulator.wait_job(job_id, 60) == "FAILED"
    assert "no regular file" in batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[0].StateReason


# -- what is left ------------------------------------------------------------------------------------------


def test_reset_leaves_no_files(tmp_path: Path) -> None:
    with Emulator(Settings(submitted_seconds=0, starting_seconds=0), data_dir=tmp_path) as own:
        client = batch_client.BatchClient(credential(own), own.info.region, profile(own))
        for command in ("true", "sleep 60"):
            client.SubmitJob(request_of(batch_models, "SubmitJob", submission(task(command))))
        own.wait_job(own.on_loop(lambda services: next(iter(services.batch.jobs))))
        assert list((tmp_path / "jobs").iterdir())
        own.reset()
        assert not (tmp_path / "jobs").exists()


def test_the_keys_of_a_data_folder_stay(tmp_path: Path) -> None:
    """The connection that was made for the first one works with the second."""
    kept = ("secret_id", "secret_key", "control_token")
    with Emulator(data_dir=tmp_path) as first:
        keys = {name: getattr(first.info, name) for name in kept}
    with Emulator(data_dir=tmp_path) as second:
        assert {name: getattr(second.info, name) for name in kept} == keys
    with Emulator(data_dir=tmp_path, secret_id="AKIDgiven") as third:
        assert (third.info.secret_id, third.info.secret_key) == ("AKIDgiven", keys["secret_key"])
    with Emulator(data_dir=tmp_path / "other") as other:
        assert other.info.secret_key != keys["secret_key"]
    assert oct((tmp_path / "identity.json").stat().st_mode & 0o777) == "0o600"
    (tmp_path / "identity.json").write_text("[")
    with Emulator(data_dir=tmp_path) as fourth:
        assert fourth.info.secret_id.startswith("AKID")
