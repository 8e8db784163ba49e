from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.server import FaultControl
from airflow_provider_tcbatch.exceptions import (
    ConfigurationError,
    InfrastructureError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ResourceBusy,
)
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.models.actions import DescribeJobs, SubmitJob
from airflow_provider_tcbatch.policies.job.notifications import FAIL_FAST_EVENTS, FINAL_JOB_EVENTS
from tests.support.in_process import QUICK
from tests.support.outages import Outage
from tests.unit.conftest import job


@pytest.fixture
def hook(connection: str) -> TCBatchHook:
    return TCBatchHook(connection)


def end_of(hook: TCBatchHook, job_id: str) -> str:
    return next(str(v.job_state) for v in hook.wait(job_id, poll_interval=0.1) if str(v.job_state) in FINAL)


FINAL = ("SUCCEED", "FAILED", "FAILED_INTERRUPTED")


def test_a_job_is_submitted_once_for_a_token(hook: TCBatchHook) -> None:
    ids = {hook.submit_job(job("true"), client_token="hook-token-1") for _ in range(3)}
    assert len(ids) == 1
    assert end_of(hook, ids.pop()) == "SUCCEED"


def test_jobs_are_listed_by_id_and_by_filter(hook: TCBatchHook) -> None:
    mine = [hook.submit_job({**job("true"), "JobName": "listed"}) for _ in range(3)]
    assert {view.job_id for view in hook.describe_jobs([*mine, "job-00000000"])} == set(mine)
    assert {view.job_id for view in hook.describe_jobs(filters={"job-name": ["listed"]})} == set(mine)


def test_a_failure_is_explained(hook: TCBatchHook, emulator: Emulator) -> None:
    path = f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/logs/"
    command = 'if [ "$BATCH_TASK_INSTANCE_INDEX" = 1 ]; then echo "no such table" >&2; exit 4; fi'
    redirect = {"StdoutRedirectPath": path, "StderrRedirectPath": path}
    job_id = hook.submit_job(job(command, instances=3, RedirectInfo=redirect))
    assert end_of(hook, job_id) == "FAILED"
    view = hook.describe_job(job_id)
    [failed] = list(hook.instance_outputs(view))
    assert (failed.view.task_instance_index, failed.view.exit_code) == (1, 4)
    text = hook.explain_failure(view, [failed])
    for part in (job_id, "1 of 3 instances failed", "instance 1, exit code 4", "no such table", "console"):
        assert part in text


def test_long_output_is_read_from_cos_from_its_end(hook: TCBatchHook, emulator: Emulator) -> None:
    path = f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/long/"
    redirect = {"StdoutRedirectPath": path, "StderrRedirectPath": path}
    job_id = hook.submit_job(job("seq 1 20000", RedirectInfo=redirect))
    assert end_of(hook, job_id) == "SUCCEED"
    [output] = list(hook.instance_outputs(hook.describe_job(job_id), failed_only=False))
    lines = output.stdout.splitlines()
    assert lines[-1] == "20000"
    assert 2000 < len(lines) < 20000, "more than the preview, less than all"
    assert lines[0].startswith("[... earlier output is in cos://")


def test_without_redirection_the_preview_serves(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("echo short"))
    end_of(hook, job_id)
    [output] = list(hook.instance_outputs(hook.describe_job(job_id), failed_only=False))
    assert output.stdout == "short\n"


def test_a_missing_zone_names_field_and_argument(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(emulator.info.airflow_conn_json)
    del connection["extra"]["zone"]
    monkeypatch.setenv("AIRFLOW_CONN_ZONELESS", json.dumps(connection))
    hook = TCBatchHook("zoneless")
    with pytest.raises(ConfigurationError, match=r"field zone of connection 'zoneless'.*argument zone"):
        hook.submit_job(job("true"))
    assert hook.submit_job(job("true"), zone="ap-guangzhou-3")


def test_an_unknown_topic_names_the_field(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(emulator.info.airflow_conn_json)
    connection["extra"]["event_topic"] = "no-such-topic"
    monkeypatch.setenv("AIRFLOW_CONN_TOPICLESS", json.dumps(connection))
    with pytest.raises(InvalidRequest, match="event_topic of connection 'topicless'"):
        TCBatchHook("topicless").submit_job(job("true"))


async def test_a_service_with_its_own_authority_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(QUICK, tls=True) as emulator:
        assert emulator.info.endpoint.startswith("https://")
        monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.info.airflow_conn_json)
        hook = TCBatchHook()
        assert list(hook.describe_jobs()) == []
        assert (await hook.api.acall(DescribeJobs())).job_set == []
        await hook.api.aclose()
        cmq = CmqHook()
        assert cmq.receive(f"{emulator.info.topic}-base", wait=0) == []
        assert await cmq.cmq.areceive(f"{emulator.info.topic}-base", wait=0) == []
        await cmq.cmq.aclose()


def test_a_task_is_described_with_its_instances(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("true", instances=3))
    end_of(hook, job_id)
    task = hook.describe_task(job_id, "main", limit=2)
    assert task.task_instance_total_count == 3
    assert [view.task_instance_index for view in task.task_instance_set or ()] == [0, 1]


def test_the_newest_job_of_a_name_is_found(hook: TCBatchHook) -> None:
    assert hook.newest_job("not-yet") is None
    named = {**job("true"), "JobName": "not-yet"}
    first = hook.submit_job(named)
    hook.submit_job({**named, "JobName": "not-yet-either"})
    newest = hook.newest_job("not-yet")
    assert newest is not None
    assert newest.job_id == first


def test_a_job_is_terminated(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("sleep 60"))
    for view in hook.wait(job_id, poll_interval=0.05):
        if str(view.job_state) == "RUNNING":
            hook.terminate_job(job_id)
            break
    assert end_of(hook, job_id) == "FAILED"


@pytest.mark.usefixtures("quick_pauses")
def test_a_wait_goes_on_while_the_api_is_away(
    hook: TCBatchHook, api_outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_tcbatch.hooks.batch.outage_pause", lambda failures, spread: 0.01)
    job_id = hook.submit_job(job("sleep 0.5"))
    looks = hook.wait(job_id, poll_interval=0.05)
    next(looks)
    api_outage.begin(count=60)
    assert next(str(view.job_state) for view in looks if str(view.job_state) in FINAL) == "SUCCEED"
    assert api_outage.failures == 60
    api_outage.begin()
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0.1")
    with pytest.raises(InfrastructureError):
        next(hook.wait(job_id))


# -- a request that is not sent yet ----------------------------------------------------------------------


def names_of_events(request: SubmitJob) -> list[str]:
    [notification] = request.job.to_wire()["Notifications"]
    return [config["EventName"] for config in notification["EventConfigs"]]


def test_a_submission_is_checked_and_not_sent(hook: TCBatchHook, emulator: Emulator) -> None:
    before = {view.job_id for view in hook.describe_jobs()}
    request = hook.submission(job("true"), client_token="a-token", zone="ap-guangzhou-4")
    assert {view.job_id for view in hook.describe_jobs()} == before
    assert request.client_token == "a-token"
    assert request.placement.to_wire() == {"Zone": "ap-guangzhou-4"}
    assert names_of_events(request) == list(FINAL_JOB_EVENTS)
    assert request.job.to_wire()["Notifications"][0]["TopicName"] == emulator.info.topic
    with pytest.raises(InvalidRequest, match="Tasks"):
        hook.submission({"JobName": "empty", "Tasks": []})


def test_a_submission_publishes_what_is_asked_for_beside_what_the_user_wants(hook: TCBatchHook) -> None:
    events = (*FINAL_JOB_EVENTS, *FAIL_FAST_EVENTS)
    assert names_of_events(hook.submission(job("true"), events=events)) == list(events)
    assert hook.submission(job("true"), notify=False).job.notifications is None
    topic = hook.settings.event_topic
    own = {"TopicName": topic, "EventConfigs": [{"EventName": "JOB_RUNNING", "EventVars": []}]}
    given = {**job("true"), "Notifications": [own], "NotificationTarget": "TDMQ_CMQ"}
    assert names_of_events(hook.submission(given)) == ["JOB_RUNNING", *FINAL_JOB_EVENTS]


def test_the_same_submission_twice_is_the_same_request(hook: TCBatchHook) -> None:
    """Under one token the body must not differ."""
    first, second = (hook.submission(job("true"), client_token="t") for _ in range(2))
    assert first.to_wire() == second.to_wire()
    assert hook.api.call(first).job_id == hook.api.call(second).job_id


# -- ending a job ----------------------------------------------------------------------------------------


def active(hook: TCBatchHook, command: str = "sleep 60", **task: Any) -> str:
    """A job that is not SUBMITTED any more."""
    job_id = hook.submit_job(job(command, **task))
    next(view for view in hook.wait(job_id, poll_interval=0.05) if str(view.job_state) != "SUBMITTED")
    return job_id


@pytest.fixture
def faults(emulator: Emulator) -> Iterator[FaultControl]:
    yield emulator.faults
    emulator.faults.clear()


def test_a_job_has_ended_when_its_end_was_waited_for(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(terminate_seconds=1.0)
    view = hook.end_job(active(hook), patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


@pytest.mark.parametrize("command", ["true", "false"])
def test_a_job_that_has_ended_is_left_as_it_is(hook: TCBatchHook, emulator: Emulator, command: str) -> None:
    job_id = hook.submit_job(job(command))
    state = emulator.wait_job(job_id)
    before = hook.api.sent.get("TerminateJob", 0)
    view = hook.end_job(job_id, patience=60)
    assert view is not None
    assert view.job_state == state
    assert hook.api.sent.get("TerminateJob", 0) == before


@pytest.mark.parametrize("code", ["UnsupportedOperation", "ResourceInUse.Job"])
def test_a_job_that_is_still_submitted_is_ended_as_soon_as_that_is_possible(
    hook: TCBatchHook, emulator: Emulator, code: str
) -> None:
    emulator.configure(submitted_seconds=1.5, terminate_submitted_error=code)
    job_id = hook.submit_job(job("sleep 60"))
    view = hook.end_job(job_id, patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


def test_a_job_that_can_not_be_ended_in_time_is_an_error(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(submitted_seconds=600)
    job_id = hook.submit_job(job("true"))
    with pytest.raises(ResourceBusy):
        hook.end_job(job_id, patience=0.5)
    view = hook.describe_job(job_id)
    assert (view.job_state, view.next_action or "") == ("SUBMITTED", "")


def test_a_job_that_takes_its_time_to_end_is_shown_as_it_is(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(terminate_seconds=600)
    begun = time.monotonic()
    view = hook.end_job(active(hook), patience=1)
    assert time.monotonic() - begun < 300
    assert view is not None
    assert view.next_action == "TERMINATING"


def test_without_patience_a_jobs_end_is_asked_for_all_the_same(hook: TCBatchHook, emulator: Emulator) -> None:
    job_id = active(hook)
    hook.end_job(job_id, patience=0)
    assert emulator.wait_job(job_id) == "FAILED"


def test_an_interrupted_job_gives_its_machines_back(hook: TCBatchHook, emulator: Emulator) -> None:
    job_id = hook.submit_job(job("false", FailedAction="INTERRUPT"))
    assert end_of(hook, job_id) == "FAILED_INTERRUPTED"
    view = hook.end_job(job_id, patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


def test_a_job_that_does_not_exist_has_ended(hook: TCBatchHook) -> None:
    begun = time.monotonic()
    assert hook.end_job("job-00000000", patience=60) is None
    assert time.monotonic() - begun < 50


def test_a_job_that_is_deleted_while_it_ends_has_ended(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(job_retention_seconds=0.01, terminate_seconds=0.3)
    assert hook.end_job(active(hook), patience=20) is None


def test_a_new_job_that_is_not_known_yet_is_ended_all_the_same(hook: TCBatchHook, faults: FaultControl) -> None:
    job_id = active(hook)
    faults.add("error", action="DescribeJob", code="ResourceNotFound.Job", count=2)
    view = hook.end_job(job_id, patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


@pytest.mark.parametrize("action", ["DescribeJob", "TerminateJob"])
def test_a_passing_failure_does_not_keep_a_job_alive(hook: TCBatchHook, faults: FaultControl, action: str) -> None:
    job_id = active(hook)
    faults.add("error", action=action, code="InternalError", count=2)
    view = hook.end_job(job_id, patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


def test_a_lost_answer_to_an_end_is_no_error(hook: TCBatchHook, faults: FaultControl) -> None:
    job_id = active(hook)
    faults.add("lose_answer", action="TerminateJob", count=1)
    view = hook.end_job(job_id, patience=20)
    assert view is not None
    assert view.job_state == "FAILED"


def test_keys_without_the_right_to_terminate_are_told_of_at_once(
    hook: TCBatchHook, emulator: Emulator, faults: FaultControl
) -> None:
    job_id = active(hook)
    refusal = faults.add("error", action="TerminateJob", code="UnauthorizedOperation")
    begun = time.monotonic()
    with pytest.raises(PermissionDenied):
        hook.end_job(job_id, patience=60)
    assert time.monotonic() - begun < 50
    faults.remove(refusal)
    hook.end_job(job_id, patience=20)


# -- instances -------------------------------------------------------------------------------------------


def two_tasks(first: str, second: str, *, instances: int = 3, dependence: bool = False) -> dict[str, Any]:
    one, other = job(first, instances=instances)["Tasks"][0], job(second, instances=instances)["Tasks"][0]
    members = {"Dependences": [{"StartTask": "one", "EndTask": "other"}]} if dependence else {}
    return {"JobName": "two", "Tasks": [{**one, "TaskName": "one"}, {**other, "TaskName": "other"}], **members}


def test_the_failed_instances_of_all_tasks_are_found(hook: TCBatchHook) -> None:
    odd = "[ $BATCH_TASK_INSTANCE_INDEX != 1 ] || exit 3"
    job_id = hook.submit_job(two_tasks(odd, "exit 4", instances=2))
    assert end_of(hook, job_id) == "FAILED"
    failed = [(view.task_instance_index, view.exit_code) for view in hook.failed_instances(hook.describe_job(job_id))]
    assert failed == [(1, 3), (0, 4), (1, 4)]


def test_a_success_has_no_failed_instances(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("true", instances=2))
    assert end_of(hook, job_id) == "SUCCEED"
    assert list(hook.failed_instances(hook.describe_job(job_id))) == []


def test_all_failed_instances_are_found_however_many(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(mode="simulate", simulated_seconds=0, simulated_exit_code=9)
    job_id = hook.submit_job(job("x", instances=2300))
    assert end_of(hook, job_id) == "FAILED"
    before = hook.api.sent.get("DescribeTask", 0)
    codes = [view.exit_code for view in hook.failed_instances(hook.describe_job(job_id))]
    assert codes == [9] * 2300
    assert hook.api.sent["DescribeTask"] - before == 3


def test_a_failed_instance_is_found_while_its_task_goes_on(hook: TCBatchHook) -> None:
    """A job that can't succeed any more is explained, although the service calls it RUNNING."""
    job_id = hook.submit_job(job("[ $BATCH_TASK_INSTANCE_INDEX != 1 ] && sleep 60; exit 5", instances=2))
    view = next(
        view
        for view in hook.wait(job_id, poll_interval=0.1)
        if view.task_instance_metrics is not None and view.task_instance_metrics.failed
    )
    assert view.job_state == "RUNNING"
    assert [(found.task_instance_index, found.exit_code) for found in hook.failed_instances(view)] == [(1, 5)]
    [output] = hook.instance_outputs(view)
    assert (output.view.task_instance_index, output.view.exit_code) == (1, 5)
    hook.end_job(job_id, patience=20)


def test_what_has_not_ended_is_named(hook: TCBatchHook) -> None:
    command = "[ $BATCH_TASK_INSTANCE_INDEX = 0 ] || sleep 60"
    job_id = hook.submit_job(two_tasks(command, "true", instances=2, dependence=True))
    view = next(
        view
        for view in hook.wait(job_id, poll_interval=0.1)
        if view.task_instance_metrics is not None and view.task_instance_metrics.succeed_count
    )
    others = [f"task 'other' instance {index} (PENDING)" for index in (0, 1)]
    assert hook.unfinished_instances(view) == ["task 'one' instance 1 (RUNNING)", *others]
    assert hook.unfinished_instances(view, limit=2) == ["task 'one' instance 1 (RUNNING)", others[0]]
    assert hook.unfinished_instances(view, limit=0) == []
    ended = hook.end_job(job_id, patience=20)
    assert ended is not None
    assert hook.unfinished_instances(ended) == []


def test_objects_are_written_read_and_listed(connection: str, emulator: Emulator, tmp_path: Path) -> None:
    cos, bucket = CosHook(connection), emulator.info.bucket
    cos.ensure_bucket(bucket)
    cos.ensure_bucket("another-1250000000")
    for number in range(3):
        cos.put(bucket, f"objects/{number} ü.txt", f"text {number}")
    assert list(cos.list(bucket, "objects/")) == [f"objects/{number} ü.txt" for number in range(3)]
    assert cos.get(bucket, "objects/2 ü.txt") == b"text 2"
    assert cos.exists(bucket, "objects/0 ü.txt")
    assert not cos.exists(bucket, "objects/9.txt")
    assert cos.cos.tail(bucket, "objects/1 ü.txt", 1) == (b"1", False)
    assert cos.tail(bucket, "objects/1 ü.txt", 3) == b"t 1"
    assert httpx.get(cos.presigned_url(bucket, "objects/2 ü.txt")).content == b"text 2"
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    cos.put_file(bucket, "objects/file", str(tmp_path / "file"))
    assert len(cos.get(bucket, "objects/file")) == 3_000_000
    with pytest.raises(NotFound, match=r"objects/9\.txt"):
        cos.get(bucket, "objects/9.txt")
