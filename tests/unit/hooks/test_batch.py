from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError, InvalidRequest, NotFound
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.models.actions import DescribeJobs
from tests.support.in_process import QUICK
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


def test_a_job_is_terminated(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("sleep 60"))
    for view in hook.wait(job_id, poll_interval=0.05):
        if str(view.job_state) == "RUNNING":
            hook.terminate_job(job_id)
            break
    assert end_of(hook, job_id) == "FAILED"


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
