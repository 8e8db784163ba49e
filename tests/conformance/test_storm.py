"""Processes that know nothing of each other send more than they may: none fails, and few requests are refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client import places
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.waits.sessions import terminate
from tests.conformance.conftest import task

ROOT = Path(__file__).resolve().parents[2]

#: What the account may send in the emulator's international site.
RATE = 7


@pytest.fixture
def own_rates(emulator: Emulator) -> Emulator:
    """The emulator, with the limits of the international site."""
    emulator.reset()
    emulator.configure(rate_limits="intl")
    return emulator


def connection(emulator: Emulator, **extra: Any) -> str:
    value = json.loads(emulator.info.airflow_conn_json)
    del value["extra"]["event_topic"]
    value["extra"] |= {"api_limits": json.dumps({"SubmitJob": RATE, "TerminateJob": 2}), **extra}
    return json.dumps(value)


@pytest.mark.parametrize("apart", [False, True], ids=["one machine", "a machine each"])
def test_a_storm_of_submissions_loses_none(own_rates: Emulator, tmp_path: Path, apart: bool) -> None:
    processes, jobs = 32, 2
    ended = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "cases" / "storm.py")],
        input=json.dumps({"processes": processes, "jobs": jobs, "apart": apart}),
        env={
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path),
            "PYTHONPATH": str(ROOT),
            "AIRFLOW_CONN_TENCENTCLOUD_DEFAULT": connection(own_rates),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    result = json.loads(ended.stdout.splitlines()[-1].partition(": ")[2])
    assert (result["submitted"], result["failed"]) == (processes * jobs, 0), result["errors"]
    calls = [call for call in own_rates.services.host.calls.as_json()["calls"] if call["action"] == "SubmitJob"]
    codes = Counter(call["code"] for call in calls)
    assert codes["OK"] == processes * jobs
    # Each process of a machine of its own has to be refused to learn that there are others.
    assert len(calls) <= (2.2 if apart else 1.5) * processes * jobs, codes


async def test_a_triggerer_that_ends_many_jobs_at_once_keeps_to_the_rate(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a user marks a whole run as failed: each trigger ends its own job, with a client of its own."""
    emulator.reset()
    places.forget()
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.info.airflow_conn_json)
    hook = TCBatchHook()
    job_ids = [hook.submit_job({"JobName": "long", "Tasks": [task("sleep 600")]}) for _ in range(25)]
    emulator.configure(rate_limits="cn")
    states = await asyncio.gather(*(terminate(hook.settings, job_id, patience=60) for job_id in job_ids))
    assert set(states) == {"FAILED"}
    calls = [call for call in emulator.services.host.calls.as_json()["calls"] if call["action"] == "TerminateJob"]
    assert sum(call["code"] == "OK" for call in calls) == len(job_ids)
    assert len(calls) <= 1.3 * len(job_ids), Counter(call["code"] for call in calls)
