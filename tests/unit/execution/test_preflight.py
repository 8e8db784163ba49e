"""Whether machines can be had is asked before a job is submitted, if that is wanted, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators._base.operator import AirflowFailException
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from tests.support.processes import wait_for
from tests.support.task_context import Task, TaskDeferred
from tests.unit.conftest import job

LISTING = "DescribeCvmZoneInstanceConfigInfos"


def asking(*data: dict[str, Any] | None, preflight: bool = True, **options: Any) -> TCBatchSubmitJobOperator:
    """A job with one task for each EnvData; ``None`` for a task on a compute environment."""
    [task] = job("true")["Tasks"]
    tasks = []
    for number, one in enumerate(data):
        place = {"EnvId": "env-12345678"} if one is None else {"ComputeEnv": {"EnvData": one}}
        rest = {name: value for name, value in task.items() if name != "ComputeEnv"}
        tasks.append({**rest, **place, "TaskName": f"t{number}"})
    options = {"poll_interval": 0.2, "deferrable": False, **options}
    return TCBatchSubmitJobOperator(task_id="submit", job={"Tasks": tasks}, preflight=preflight, **options)


@pytest.fixture(autouse=True)
def _stock(emulator: Emulator, connection: str) -> None:
    emulator.configure(sold_out_types=["S5.MEDIUM4", "S5.LARGE8"])


def test_what_is_sold_out_is_not_submitted_and_may_be_tried_again(emulator: Emulator) -> None:
    data = {"InstanceTypes": ["S5.LARGE8", "S5.MEDIUM4"]}
    task, operator = Task(retries=1), asking(data)
    with pytest.raises(e.ComputeEnvFailed) as raised:
        operator.execute(task.next_try())
    message = str(raised.value)
    assert "Job.Tasks[0] (t0): S5.LARGE8" in message
    assert "S5.MEDIUM4 (2 CPU, 4 GB, 0.42 CNY/hour) is sold out in " in message
    assert "Instead: SA2.MEDIUM4" in message
    assert not isinstance(raised.value, AirflowFailException)
    assert "SubmitJob" not in operator.hook.api.sent
    assert task.store.data == {}, "nothing is recorded of what was not sent"
    emulator.configure(sold_out_types=[])
    assert asking(data).execute(task.next_try()) is not None


def test_what_nobody_offers_is_wrong_for_good() -> None:
    operator = asking({"InstanceType": "S5.MEDIUM4"}, {"InstanceTypes": ["S99.LARGE8"]})
    with pytest.raises(e.InvalidRequest, match=r"Job.Tasks\[1\] \(t1\): S99.LARGE8 is unknown in ") as raised:
        operator.execute(Task().next_try())
    assert isinstance(raised.value, AirflowFailException)
    assert "Job.Tasks[0] (t0)" in str(raised.value), "all that is wrong is told at once"


@pytest.mark.parametrize(
    "data",
    [
        {"InstanceTypes": ["S5.MEDIUM4", "SA2.MEDIUM4"]},
        {"InstanceTypeOptions": {"CPU": 2, "Memory": 4}},
    ],
    ids=["one of several will do", "no type is asked for"],
)
def test_what_can_be_had_is_submitted(data: dict[str, Any]) -> None:
    assert asking(data).execute(Task().next_try()) is not None


def test_each_offer_is_asked_for_once() -> None:
    data: dict[str, Any] = {"InstanceType": "SA2.MEDIUM4"}
    operator = asking(data, {**data, "InstanceChargeType": "SPOTPAID"}, data)
    operator.execute(Task().next_try())
    assert operator.hook.api.sent[LISTING] == 2


def test_a_task_on_an_environment_has_its_machines() -> None:
    operator = asking(None, wait_for_completion=False)
    with pytest.raises(e.TCBatchError, match="env-12345678"):
        operator.execute(Task().next_try())
    assert LISTING not in operator.hook.api.sent


def test_what_a_template_asks_for_is_checked_too() -> None:
    [content] = job("true", ComputeEnv={"EnvData": {"InstanceType": "S5.MEDIUM4"}})["Tasks"]
    hook = TCBatchHook()
    template_id = hook.create_task_template("preflight", content)
    try:
        given = {"Tasks": [{"TaskTemplateId": template_id}]}
        operator = TCBatchSubmitJobOperator(task_id="submit", job=given, preflight=True, deferrable=False)
        with pytest.raises(e.ComputeEnvFailed, match=r"Job.Tasks\[0\] \(main\): S5.MEDIUM4"):
            operator.execute(Task().next_try())
    finally:
        hook.delete_task_templates([template_id])


def test_nobody_asks_unless_it_is_wanted() -> None:
    operator = asking({"InstanceType": "SA2.MEDIUM4"}, preflight=False)
    operator.execute(Task().next_try())
    assert LISTING not in operator.hook.api.sent


def test_a_job_that_is_there_is_gone_on_with(emulator: Emulator, tmp_path: Path) -> None:
    """It has its machines: what can be had now is no matter."""
    gate, begun, task = tmp_path / "gate", tmp_path / "begun", Task(retries=1)
    body = job(
        f"touch {begun}; until [ -e {gate} ]; do sleep 0.05; done",
        ComputeEnv={"EnvData": {"InstanceType": "SA2.MEDIUM4"}},
    )
    options: dict[str, Any] = {"task_id": "submit", "job": body, "preflight": True, "deferrable": True}
    ids = []
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            TCBatchSubmitJobOperator(**options).execute(task.next_try())
        ids.append(deferred.value.trigger.job_id)
        wait_for("the job has its machine", begun.exists, timeout=30)
        emulator.configure(sold_out_types=["SA2.MEDIUM4"])
    gate.touch()
    assert ids[0] == ids[1]
