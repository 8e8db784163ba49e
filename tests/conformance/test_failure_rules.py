"""How failed instances make a failed task and a failed job, in each of the ways that the documentation allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, states, submission, task
from tests.support.in_process import STRICT

UNENDING = "touch up; sleep 600"
#: Fails as soon as the file of somebody who runs the above is there.
FAILING = "until [ -e {} ]; do sleep 0.02; done; exit 3"


@pytest.fixture(autouse=True)
def room(emulator: Emulator) -> Iterator[None]:
    emulator.configure(capacity=16)
    yield
    emulator.reset()


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call()
    return str(caught.value.get_code())


def submit(batch: Call, *tasks: dict[str, Any], **job: Any) -> str:
    job_id: str = batch("SubmitJob", **submission(*tasks, **job)).JobId
    return job_id


def instances(batch: Call, job_id: str, name: str = "main") -> list[str]:
    found = batch("DescribeTask", JobId=job_id, TaskName=name).TaskInstanceSet
    return [instance.TaskInstanceState for instance in found]


def pair(**members: Any) -> dict[str, Any]:
    """A task of which one instance fails while the other runs."""
    failing = FAILING.format('"$HOME/../../../1/1/work/up"')
    command = f"if [ $BATCH_TASK_INSTANCE_INDEX = 1 ]; then {UNENDING}; else {failing}; fi"
    return task(command, TaskInstanceNum=2, **members)


def two_tasks(**members: Any) -> list[dict[str, Any]]:
    """Two tasks, of which one fails while the other runs."""
    # In a retried job the folders of both have the next number.
    failing = FAILING.format('"$HOME/../../../../good/0/$(basename $(dirname $HOME))/work/up"')
    return [task(failing, "bad", **members), task(UNENDING, "good")]


def test_a_task_goes_on_until_all_its_instances_have_ended(emulator: Emulator, batch: Call) -> None:
    job_id = submit(batch, pair())
    until(lambda: instances(batch, job_id) == ["FAILED", "RUNNING"])
    assert batch("DescribeTask", JobId=job_id, TaskName="main").TaskState == "RUNNING"
    assert batch("DescribeJob", JobId=job_id).JobState == "RUNNING"
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=1)
    assert emulator.wait_job(job_id) == "FAILED"


def test_a_task_fails_with_its_first_instance(emulator: Emulator, batch: Call) -> None:
    emulator.configure(task_failure="at_once")
    follower = task("true", "after")
    edges = [{"StartTask": "main", "EndTask": "after"}]
    job_id = submit(batch, pair(), follower, Dependences=edges, TaskExecutionDependOn="PRE_TASK_FINISHED")
    until(lambda: batch("DescribeTask", JobId=job_id, TaskName="main").TaskState == "FAILED")
    assert instances(batch, job_id) == ["FAILED", "RUNNING"]
    # What comes after a task comes after all of it.
    assert instances(batch, job_id, "after") == ["PENDING"]
    batch("TerminateTaskInstance", JobId=job_id, TaskName="main", TaskInstanceIndex=1)
    assert emulator.wait_job(job_id) == "FAILED"
    assert instances(batch, job_id) == ["FAILED", "FAILED"]
    assert instances(batch, job_id, "after") == ["SUCCEED"]
    assert states(emulator, job_id, "task", task="main").count("FAILED") == 1


def test_a_failed_instance_stops_the_others(emulator: Emulator, batch: Call) -> None:
    emulator.configure(task_failure="stop_others")
    job_id = submit(batch, pair(MaxConcurrentNum=2, FailedAction="INTERRUPT"))
    assert emulator.wait_job(job_id) == "FAILED_INTERRUPTED"
    assert instances(batch, job_id) == ["FAILED_INTERRUPTED", "FAILED"]
    other = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet[1]
    assert other.StateReason == "Instance 0 of the task failed"


def test_a_job_fails_with_its_first_task(emulator: Emulator, batch: Call) -> None:
    emulator.configure(job_failure="at_once")
    job_id = submit(batch, *two_tasks())
    assert emulator.wait_job(job_id) == "FAILED"
    assert batch("DescribeTask", JobId=job_id, TaskName="good").TaskState == "RUNNING"
    assert batch("DescribeJob", JobId=job_id).StateReason == "Task bad failed"
    # Finished are a job and all its instances.
    assert code(lambda: batch("DeleteJob", JobId=job_id)) == "ResourceInUse.Job"
    assert code(lambda: batch("RetryJobs", JobIds=[job_id])) == "UnsupportedOperation"
    batch("TerminateJob", JobId=job_id)
    assert batch("DescribeJob", JobId=job_id).NextAction == "TERMINATING"
    until(lambda: batch("DescribeJob", JobId=job_id).NextAction == "")
    assert instances(batch, job_id, "good") == ["FAILED"]
    assert states(emulator, job_id, "job").count("FAILED") == 1
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"
    batch("TerminateJob", JobId=job_id)
    until(lambda: batch("DescribeJob", JobId=job_id).NextAction == "")
    batch("DeleteJob", JobId=job_id)


def test_a_failed_task_stops_the_others(emulator: Emulator, batch: Call) -> None:
    emulator.configure(job_failure="stop_others")
    job_id = submit(batch, *two_tasks())
    assert emulator.wait_job(job_id) == "FAILED"
    other = batch("DescribeTask", JobId=job_id, TaskName="good").TaskInstanceSet[0]
    assert (other.TaskInstanceState, other.StateReason) == ("FAILED", "The task bad failed")
    # A retry begins anew.
    batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"
    assert states(emulator, job_id, "instance", task="good").count("RUNNING") == 2


@pytest.mark.parametrize("state", ["FAILED", "FAILED_INTERRUPTED"])
def test_failed_and_interrupted(emulator: Emulator, batch: Call, state: str) -> None:
    emulator.configure(failed_and_interrupted=state)
    tasks = [task("false", "failed"), task("false", "kept", FailedAction="INTERRUPT")]
    job_id = submit(batch, *tasks)
    assert emulator.wait_job(job_id) == state
    # The machine is kept in either case.
    assert code(lambda: batch("DeleteJob", JobId=job_id)) == "ResourceInUse.Job"
    if state == "FAILED":
        batch("RetryJobs", JobIds=[job_id])
        assert emulator.wait_job(job_id) == state
        assert states(emulator, job_id, "instance", task="kept").count("RUNNING") == 2
    batch("TerminateJob", JobId=job_id)
    until(lambda: instances(batch, job_id, "kept") == ["FAILED"])
    until(lambda: batch("DescribeJob", JobId=job_id).NextAction == "")
    batch("DeleteJob", JobId=job_id)


@pytest.mark.parametrize(("setting", "state"), [("fail", "FAILED"), ("stay", "PENDING")])
def test_tasks_that_can_never_begin(emulator: Emulator, batch: Call, setting: str, state: str) -> None:
    emulator.configure(unmet_tasks=setting)
    tasks = [
        task("false", "first"),
        task("true", "second", TaskInstanceNum=2),
        task("true", "third"),
        task("true", "x"),
    ]
    edges = [{"StartTask": "first", "EndTask": "second"}, {"StartTask": "second", "EndTask": "third"}]
    job_id = submit(batch, *tasks, Dependences=edges)
    for _ in range(2):
        assert emulator.wait_job(job_id) == "FAILED"
        shown = {item.TaskName: item.TaskState for item in batch("DescribeJob", JobId=job_id).TaskSet}
        assert shown == {"first": "FAILED", "second": state, "third": state, "x": "SUCCEED"}
        batch("RetryJobs", JobIds=[job_id])
    assert emulator.wait_job(job_id) == "FAILED"
    if setting == "stay":
        assert code(lambda: batch("DeleteJob", JobId=job_id)) == "ResourceInUse.Job"
        batch("TerminateJob", JobId=job_id)
        until(lambda: batch("DescribeJob", JobId=job_id).NextAction == "")
        assert instances(batch, job_id, "second") == ["FAILED", "FAILED"]
        assert states(emulator, job_id, "job").count("FAILED") == 3
    batch("DeleteJob", JobId=job_id)


@pytest.mark.parametrize(
    ("setting", "attempts", "other"),
    [("same", 2, "RUNNING"), ("no_retry", 1, "RUNNING"), ("whole_task", 2, "FAILED_INTERRUPTED")],
)
@pytest.mark.parametrize("action", ["INTERRUPT", "FAST_INTERRUPT"])
def test_interrupting_fast(
    emulator: Emulator, batch: Call, setting: str, attempts: int, other: str, action: str
) -> None:
    if action == "INTERRUPT":
        attempts, other = 2, "RUNNING"
    emulator.configure(fast_interrupt=setting)
    job_id = submit(batch, pair(MaxRetryCount=1, FailedAction=action))
    until(lambda: instances(batch, job_id)[0] == "FAILED_INTERRUPTED")
    assert states(emulator, job_id, "instance", 0).count("RUNNING") == attempts
    until(lambda: instances(batch, job_id)[1] == other)
    if other == "RUNNING":
        assert (
            emulator.on_loop(lambda services: services.batch.jobs[job_id].tasks["main"].instances[1].stop_reason)
            is None
        )
    batch("TerminateJob", JobId=job_id)
    assert emulator.wait_job(job_id) in ("FAILED", "FAILED_INTERRUPTED")
    until(lambda: instances(batch, job_id) == ["FAILED", "FAILED"])
    assert emulator.on_loop(lambda services: services.batch.capacity.used) == 0


def test_names_of_tasks(emulator: Emulator, batch: Call) -> None:
    for pattern, name, accepted in (
        (None, "my.task", True),
        (None, "..", True),
        (None, "a/b", True),
        (None, "x" * 300, True),
        (None, "a\nb", True),
        (None, "", True),
        (None, "a\0b", False),
        (STRICT["task_name_pattern"], "my.task", False),
        (STRICT["task_name_pattern"], "_task", False),
        (STRICT["task_name_pattern"], "1-Task_2", True),
        (r"[\w.]+", "_my.Täsk", True),
        (r"[\w.]+", "my-task", False),
        ("task.*", "a task", False),
        (".*", "a task", True),
        (".+", "", False),
    ):
        if pattern is not None:
            emulator.configure(task_name_pattern=pattern)
        if accepted:
            assert emulator.wait_job(submit(batch, task("true", name))) == "SUCCEED"
        else:
            assert code(lambda name=name: submit(batch, task("true", name))) == "InvalidParameter.TaskName"  # type: ignore[misc]
