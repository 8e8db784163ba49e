from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.connection.worker_process import is_there
from airflow_provider_tcbatch.policies import deferral as policy
from airflow_provider_tcbatch.policies.deferral import Deferral
from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger
from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger
from airflow_provider_tcbatch.triggers.compute_env import TCBatchComputeEnvTrigger
from airflow_provider_tcbatch.triggers.event_wait import TCBatchEventWaitTrigger
from airflow_provider_tcbatch.triggers.job import TCBatchJobTrigger, TCBatchQuotaTrigger
from airflow_provider_tcbatch.triggers.jobs import TCBatchJobsTrigger, TCBatchTaskInstancesTrigger
from airflow_provider_tcbatch.triggers.states import (
    TCBatchJobStatesTrigger,
    TCBatchQuorumTrigger,
    TCBatchTaskStateTrigger,
)

#: Every trigger that a task is deferred to; each ends at once, as there is no such connection.
TRIGGERS: dict[type[BaseOneEventTrigger], dict[str, Any]] = {
    TCBatchApiTrigger: {"event": {"status": "again"}, "since": 0.0, "until": 0.0},
    TCBatchJobTrigger: {"job_id": "job-1"},
    TCBatchQuotaTrigger: {"until": 0.0, "waiting_since": 0.0, "attempts": 1},
    TCBatchJobsTrigger: {"job_ids": ["job-1"]},
    TCBatchTaskInstancesTrigger: {"job_id": "job-1", "task_name": "t", "indexes": [0]},
    TCBatchComputeEnvTrigger: {"env_id": "env-1", "until": "empty"},
    TCBatchEventWaitTrigger: {"event_names": "JOB_SUCCEED", "job_id": "job-1"},
    TCBatchJobStatesTrigger: {"job_ids": ["job-1"]},
    TCBatchTaskStateTrigger: {"job_id": "job-1", "task_name": "t"},
    TCBatchQuorumTrigger: {"job_id": "job-1", "task_name": "t"},
}

#: A worker that has deferred its task, and winds up until its input ends.
WORKER = """
import sys
from airflow_provider_tcbatch.connection.worker_process import this_process
print(this_process(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def make(kind: type[BaseOneEventTrigger], deferral: Deferral | None) -> BaseOneEventTrigger:
    """A trigger as a triggerer has it, for a task that a worker has deferred."""
    where = {} if kind is TCBatchQuotaTrigger else {"tencentcloud_conn_id": "no_such_connection"}
    trigger = kind(**TRIGGERS[kind], **where, deferral=None if deferral is None else deferral.to_text())
    trigger.task_instance = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)  # type: ignore[assignment]
    return trigger


async def end(trigger: BaseOneEventTrigger) -> None:
    assert len([event async for event in trigger.run()]) == 1


def subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


def test_no_trigger_is_forgotten() -> None:
    names = {
        kind.__name__ for kind in subclasses(BaseOneEventTrigger) if kind.__module__.startswith("airflow_provider_")
    }
    assert names - {"BaseSensorTrigger"} == {kind.__name__ for kind in TRIGGERS}


@pytest.mark.parametrize("kind", TRIGGERS)
def test_what_is_known_of_the_worker_travels_with_the_trigger(kind: type[BaseOneEventTrigger]) -> None:
    trigger = make(kind, Deferral(1.5, 2.0, 3.0, "here.1.2"))
    _, arguments = trigger.serialize()
    assert arguments["deferral"] == "1.50 2.0 3 here.1.2"
    assert kind(**arguments).serialize() == trigger.serialize()
    assert "deferral" not in make(kind, None).serialize()[1], "the scheduler starts it: there is no worker"


@pytest.mark.parametrize("kind", TRIGGERS)
async def test_nothing_ends_while_the_worker_winds_up(
    kind: type[BaseOneEventTrigger], worker: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "_ROUND", 0.1)
    assert worker.stdout is not None
    name = worker.stdout.readline().strip()
    running = asyncio.create_task(end(make(kind, Deferral(heartbeat=0.0, process=name))))
    done, _ = await asyncio.wait([running], timeout=1.0)
    assert not done, "the worker is still there"
    worker.kill()
    worker.wait()
    await asyncio.wait_for(running, 60)
    assert is_there(name) is False


async def test_a_worker_that_has_gone_long_ago_holds_nothing(worker: subprocess.Popen[str]) -> None:
    assert worker.stdout is not None
    name = worker.stdout.readline().strip()
    worker.kill()
    worker.wait()
    started = time.monotonic()
    await end(make(TCBatchQuotaTrigger, Deferral(heartbeat=30.0, process=name)))
    assert 1.5 <= time.monotonic() - started < 30, "one round of the scheduler, not a heartbeat of the worker"


async def test_of_a_worker_elsewhere_it_is_reckoned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "_WIND_UP", 0.25)
    started = time.monotonic()
    await end(make(TCBatchQuotaTrigger, Deferral(0.5, 1.0, 0.25, "elsewhere.1.2")))
    assert time.monotonic() - started >= 1.5


@pytest.mark.parametrize(("option", "seconds"), [("3", 3.0), ("0", 0.0), ("soon", 0.0)])
async def test_the_option_is_the_least(option: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__DEFERRAL_HOLD", option)
    monkeypatch.setattr(policy, "_WIND_UP", 0.0)
    started = time.monotonic()
    await end(make(TCBatchQuotaTrigger, Deferral(heartbeat=0.0)))
    assert time.monotonic() - started >= seconds


async def test_without_a_scheduler_there_is_nothing_to_hold() -> None:
    trigger = make(TCBatchQuotaTrigger, Deferral(heartbeat=10_000.0))
    trigger.task_instance = None
    await asyncio.wait_for(end(trigger), 60)


@pytest.mark.parametrize("wrong", ["abc", "-3"])
async def test_a_misspelt_hold_is_told_and_is_none(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__DEFERRAL_HOLD", wrong)
    trigger = make(TCBatchQuotaTrigger, Deferral(heartbeat=0.0))
    lines: list[str] = []
    trigger._log = SimpleNamespace(warning=lambda form, *words: lines.append(form % words), info=lambda *_: None)
    await end(trigger)
    assert [line for line in lines if f"[tcbatch] deferral_hold of Airflow's configuration is {wrong!r}; write" in line]


async def test_a_hold_without_an_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__DEFERRAL_HOLD", "inf")
    await asyncio.wait_for(end(make(TCBatchQuotaTrigger, Deferral(heartbeat=0.0))), 60)
