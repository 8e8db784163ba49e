"""The command, as a process of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from airflow.models import Connection
from tencentcloud.batch.v20170312 import batch_client
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from airflow_provider_tcbatch.emulator import Settings
from airflow_provider_tcbatch.emulator.cli import main
from tests.conformance.conftest import alive, request_of, submission, task

COMMAND = [sys.executable, "-m", "airflow_provider_tcbatch.emulator.cli", "serve", "--port", "0", "--cos-port", "0"]


@contextmanager
def serving(*options: str, tmp: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [*COMMAND, "--set", "submitted_seconds=0", "--set", "starting_seconds=0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp)},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start_sleeper(info: dict[str, Any]) -> int:
    """Submit a job whose command ignores SIGTERM and has a child; return the child's process id."""
    profile = ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=urlsplit(info["endpoint"]).netloc))
    client = batch_client.BatchClient(Credential(info["secret_id"], info["secret_key"]), info["region"], profile)
    command = "trap '' TERM; sleep 600 & echo $!; wait"
    job_id = client.SubmitJob(request_of(batch_models, "SubmitJob", submission(task(command)))).JobId
    while True:
        logs = client.DescribeTaskLogs(
            request_of(batch_models, "DescribeTaskLogs", {"JobId": job_id, "TaskName": "main"})
        )
        text = base64.b64decode(logs.TaskInstanceLogSet[0].StdoutLog).decode()
        if text.endswith("\n"):
            return int(text)


def test_ready_line_and_airflow_connection(tmp_path: Path) -> None:
    with serving("--topic", "my-topic", "--bucket", "my-1250000001", tmp=tmp_path) as (process, info):
        assert info["pid"] == process.pid
        assert (info["region"], info["zone"]) == ("ap-guangzhou", "ap-guangzhou-3")
        assert (info["topic"], info["bucket"]) == ("my-topic", "my-1250000001")
        assert info["secret_id"].startswith("AKID")
        for endpoint in ("endpoint", "cmq_endpoint", "cos_endpoint"):
            assert info[endpoint].startswith("http://127.0.0.1:")
        assert Path(info["data_dir"]).parent == tmp_path
        pages, _, key = info["console"].partition("?")
        assert pages == f"{info['endpoint']}/console"
        extra = {
            "console_url": f"{pages}/jobs/{{job_id}}?{key}",
            "console_env_url": f"{pages}/envs/{{env_id}}?{key}",
            "console_template_url": f"{pages}/templates/{{task_template_id}}?{key}",
            "console_cos_url": f"{pages}/cos?bucket={{bucket}}&path={{path}}&{key}",
            "region": info["region"],
            "zone": info["zone"],
            "endpoint": info["endpoint"],
            "cmq_endpoint": info["cmq_endpoint"],
            "cos_endpoint": info["cos_endpoint"],
            "event_topic": "my-topic",
        }
        for connection in (
            Connection(conn_id="uri", uri=info["airflow_conn_uri"]),
            Connection.from_json(info["airflow_conn_json"], conn_id="json"),
        ):
            assert connection.conn_type == "tencentcloud"
            assert (connection.login, connection.password) == (info["secret_id"], info["secret_key"])
            assert connection.extra_dejson == extra
        listening = {item.laddr.ip for item in psutil.Process(process.pid).net_connections() if item.status == "LISTEN"}
        assert listening == {"127.0.0.1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_cleanly_with_its_children(tmp_path: Path, number: signal.Signals) -> None:
    with serving("--set", "kill_grace_seconds=0.2", tmp=tmp_path) as (process, info):
        child = start_sleeper(info)
        helpers = [item.pid for item in psutil.Process(process.pid).children(recursive=True)]
        assert alive(child)
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert not alive(child)
        assert not any(alive(pid) for pid in helpers)
        assert list(tmp_path.iterdir()) == []


def test_sigkill_leaves_nothing_behind(tmp_path: Path) -> None:
    with serving(tmp=tmp_path) as (process, info):
        child = start_sleeper(info)
        watched = psutil.Process(child)
        helpers = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        _, left = psutil.wait_procs([item for item in [watched, *helpers] if alive(item.pid)], timeout=10)
        assert not [item.pid for item in left if alive(item.pid)]
        assert list(tmp_path.iterdir()) == []


def test_own_data_dir_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving("--data-dir", str(data), tmp=tmp_path) as (process, info):
        assert info["data_dir"] == str(data)
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert data.is_dir()
    assert [item.name for item in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--host", "0.0.0.0"], "loopback"),
        (["--host", "example.com"], "loopback"),
        (["--set", "nonsense=1"], "nonsense"),
        (["--set", "capacity=none"], "capacity"),
        (["--set", "capacity"], "NAME=VALUE"),
        (["--bucket", "no-appid"], "bucket"),
    ],
)
def test_bad_options(options: list[str], text: str) -> None:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_settings_are_listed_as_they_are_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    listed = dict(line.split(" = ", 1) for line in lines)
    assert listed["sold_out_types"] == '["GN10X.2XLARGE40"]'
    assert Settings.model_validate(listed) == Settings()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("nonsense=1", "nonsense: there is no such setting; 'tcbatch-emulator settings' lists them"),
        (
            "capactiy=1",
            "capactiy: there is no such setting, did you mean 'capacity'? 'tcbatch-emulator settings' lists them",
        ),
        ("max_tasks=none", "max_tasks: Input should be a valid integer, unable to parse string as an integer"),
    ],
)
def test_a_wrong_setting_is_the_only_one_named(capsys: pytest.CaptureFixture[str], wrong: str, message: str) -> None:
    assert main(["serve", "--set", wrong]) == 2
    assert capsys.readouterr().err == f"tcbatch-emulator: {message}\n"


def test_taken_port(tmp_path: Path) -> None:
    with serving(tmp=tmp_path) as (_, info):
        port = str(urlsplit(info["endpoint"]).port)
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
        assert requests.get(info["endpoint"] + "/_emulator/health", timeout=5).json()["status"] == "ok"
