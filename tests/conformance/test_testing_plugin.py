"""The pytest plugin, and the example of its documentation, in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    # Nothing of this run's own Airflow.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTEST"))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**env, "HOME": str(cwd)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_example_of_the_documentation(tmp_path: Path) -> None:
    files = re.findall(r"^`([\w/]+\.py)`.*?```python\n(.*?)```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["dags/greet.py", "tests/conftest.py", "tests/test_greet.py"]
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(
        """
import asyncio
import os
import pytest
from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS

JOB = {
    "Placement": {"Zone": "ap-guangzhou-3"},
    "Job": {
        "JobName": "plain",
        "Tasks": [
            {
                "TaskName": "main",
                "Application": {"DeliveryForm": "LOCAL", "Command": "sleep 60"},
                "ComputeEnv": {"EnvData": {"InstanceType": "S5.MEDIUM4"}},
            }
        ],
    },
}
SEEN = []


def submit(tencent_batch):
    emulator = tencent_batch._emulator
    return emulator.on_loop(lambda services: HANDLERS["SubmitJob"](services.batch, JOB)["JobId"])


@pytest.mark.tencent_batch(mode="simulate", simulated_seconds=0, events="off")
@pytest.mark.parametrize("number", [1, 2])
def test_fresh(tencent_batch, number):
    assert tencent_batch.job_ids() == []
    with pytest.raises(AssertionError, match="0 jobs"):
        tencent_batch.job_id()
    assert os.environ["AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"] == tencent_batch.info.airflow_conn_json
    assert tencent_batch.configure().events == "off"
    job_id = submit(tencent_batch)
    assert asyncio.run(tencent_batch.await_job(job_id)) == "SUCCEED"
    assert tencent_batch.request(job_id)["Job"]["JobName"] == "plain"
    tencent_batch.put_object("a", b"b")
    assert tencent_batch.get_object("a") == b"b"
    tencent_batch.faults.add("drop")
    tencent_batch.configure(log_excerpt="head")


def test_after_others(tencent_batch):
    assert tencent_batch.job_ids() == [] and tencent_batch.faults.all() == []
    assert tencent_batch.configure().log_excerpt == "tail"
    assert tencent_batch.configure().mode == "process"
    with pytest.raises(KeyError):
        tencent_batch.get_object("a")
    job_id = submit(tencent_batch)
    with pytest.raises(TimeoutError):
        tencent_batch.wait_job(job_id, 0.01)
    assert tencent_batch.calls("SubmitJob") == 0


def test_without_it():
    assert "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT" not in os.environ
"""
    )
    return tmp_path


def test_every_test_finds_it_fresh(project: Path) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_costs_nothing_until_it_is_used(tmp_path: Path) -> None:
    heavy = ("airflow", "moto", "pydantic", "starlette", "tencentcloud", "uvicorn")
    program = f"import sys, airflow_provider_tcbatch.testing; print([name for name in {heavy} if name in sys.modules])"
    assert run("-c", program, cwd=tmp_path).stdout.strip() == "[]"
