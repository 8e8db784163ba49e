from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.retry import ATTEMPTS
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.actions import DescribeJob
from airflow_provider_tcbatch.policies.job.quorum import Quorum, QuorumVerdict
from airflow_provider_tcbatch.sensors._base.sensor import AirflowSensorTimeout
from airflow_provider_tcbatch.sensors.task_instance import TCBatchTaskInstanceSensor
from airflow_provider_tcbatch.waits import job_parts as parts_wait
from airflow_provider_tcbatch.waits.job_parts import QuorumWait
from tests.support.task_context import AirflowSkipException, Task
from tests.unit.conftest import job
from tests.unit.sensors.sensing import both, run

#: Instance 0 fails, 1 and 2 succeed after a second, 3 goes on.
MIXED = "case $BATCH_TASK_INSTANCE_INDEX in 0) echo broken >&2; exit 3;; 1|2) sleep 1;; *) sleep 600;; esac"


@pytest.fixture
def submit(connection: str, emulator: Emulator) -> Iterator[Callable[..., str]]:
    hook = TCBatchHook(connection)
    submitted: list[str] = []

    def submit(command: str = MIXED, instances: int = 4) -> str:
        submitted.append(hook.submit_job(job(command, instances=instances)))
        return submitted[-1]

    yield submit
    for job_id in submitted:
        hook.end_job(job_id)


def sensor(job_id: str, **options: Any) -> TCBatchTaskInstanceSensor:
    given = {"task_name": "main", "poke_interval": 0.2, "timeout": 120, **options}
    return TCBatchTaskInstanceSensor(task_id="sense", job_id=job_id, **given)


@both
@pytest.mark.parametrize(
    ("options", "have", "needed", "total"),
    [
        ({"quorum": "50 %"}, 2, 2, 4),
        ({"quorum": 2}, 2, 2, 4),
        ({"indexes": [1, 2]}, 2, 2, 2),
        ({"indexes": "1-2, 0", "quorum": 0.6}, 2, 2, 3),
        ({"indexes": range(3), "states": ["SUCCEED", "FAILED"]}, 3, 3, 3),
        ({"states": "RUNNING"}, 4, 4, 4),
    ],
    ids=["share", "number", "list", "text", "range", "what ended has been running"],
)
def test_a_quorum_of_a_job_that_goes_on(
    submit: Callable[..., str], deferrable: bool, options: dict[str, Any], have: int, needed: int, total: int
) -> None:
    result, xcoms = run(sensor(submit(), deferrable=deferrable, **options))
    assert (result["have"], result["needed"], result["total"]) == (have, needed, total)
    assert xcoms.keys() - {"tcbatch_wait"} == {"tcbatch_job_url"}


@both
def test_it_fails_as_soon_as_the_quorum_is_out_of_reach(submit: Callable[..., str], deferrable: bool) -> None:
    with pytest.raises(
        e.JobFailed, match=r"can't be reached any more: . of 4 instances, 1 can't any more; 4"
    ) as caught:
        run(sensor(submit(), deferrable=deferrable))
    assert "broken" in str(caught.value)
    assert caught.value.exit_codes == (3,)


@both
def test_a_lost_quorum_skips_a_soft_sensor(submit: Callable[..., str], deferrable: bool) -> None:
    with pytest.raises(AirflowSkipException):
        run(sensor(submit(), indexes="0", deferrable=deferrable, soft_fail=True))


@both
def test_instances_that_are_not_there(submit: Callable[..., str], deferrable: bool) -> None:
    with pytest.raises(e.JobFailed, match="9 are needed"):
        run(sensor(submit(), quorum=9, deferrable=deferrable))
    with pytest.raises(e.JobFailed, match="0 of 1 instances, 1 can't"):
        run(sensor(submit("true", 1), indexes=7, deferrable=deferrable))


@both
def test_it_gives_up(submit: Callable[..., str], deferrable: bool) -> None:
    with pytest.raises(AirflowSensorTimeout, match="any SUCCEED of instances 3 of task 'main'" if deferrable else None):
        run(sensor(submit(), indexes="3", quorum="any", deferrable=deferrable, timeout=1))


@both
def test_an_interrupted_instance(connection: str, deferrable: bool) -> None:
    hook = TCBatchHook(connection)
    job_id = hook.submit_job(job("exit 1", FailedAction="INTERRUPT"))
    result, _ = run(sensor(job_id, states="FAILED_INTERRUPTED", deferrable=deferrable))
    assert result["have"] == 1
    with pytest.raises(e.JobFailed):
        run(sensor(job_id, deferrable=deferrable))
    hook.end_job(job_id)


def test_more_instances_than_one_page(submit: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_wait, "_PAGE", 2)
    job_id = submit("[ $BATCH_TASK_INSTANCE_INDEX != 0 ]", 5)
    assert run(sensor(job_id, indexes=[4]))[0]["have"] == 1
    assert run(sensor(job_id, states=["RUNNING", "SUCCEED"]))[0]["have"] == 5


async def test_a_job_that_ends_between_two_reads_is_read_again(
    api: ApiClient, emulator: Emulator, submit: Callable[..., str], tmp_path: Path
) -> None:
    """What was read of its instances before it had ended says nothing of how they ended."""
    job_id = submit(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done", 1)

    class Ending(ApiClient):
        async def acall(self, action: Any, *, attempts: int = ATTEMPTS, patience: float | None = None) -> Any:
            if isinstance(action, DescribeJob):
                (tmp_path / "go").touch()
                await asyncio.to_thread(emulator.wait_job, job_id)
            return await super().acall(action, attempts=attempts, patience=patience)

    ending = Ending(api.credentials, api.settings)
    counts = await QuorumWait(job_id, "main", frozenset({"SUCCEED"}), Quorum("all")).look(ending)
    await ending.aclose()
    assert (counts.verdict, counts.have, counts.never) == (QuorumVerdict.REACHED, 1, 0)


def test_reschedule_frees_the_worker(submit: Callable[..., str]) -> None:
    waiting = sensor(submit("sleep 600", 1), mode="reschedule")
    assert waiting.reschedule
    assert waiting.poke(Task().next_try()) is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": "DONE"}, "states holds 'DONE'"),
        ({"states": []}, "states is empty"),
        ({"quorum": "most"}, "the quorum is 'most'"),
        ({"quorum": 0}, "the quorum is 0"),
        ({"indexes": "9-1"}, "indexes is '9-1'"),
        ({"indexes": []}, "indexes is empty"),
        ({"indexes": [-1]}, "write an index from 0"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        sensor("job-1", **options)
