"""Every method of the hooks is called by some test against the emulator: those that the hooks' own tests leave out."""

from __future__ import annotations

import ast
import inspect
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.hooks.cos import CosHook
from airflow_provider_tcbatch.models.actions import DescribeJobs
from tests.unit.conftest import job

TESTS = Path(__file__).parents[1]


def public_methods(hook: type[Any]) -> set[str]:
    """What a hook offers besides what it has from Airflow."""
    # Not isroutine(): cached properties are routines, too, and from Python 3.13 on they know their module.
    methods = inspect.getmembers(hook, lambda member: inspect.isfunction(member) or inspect.ismethod(member))
    return {
        name
        for name, member in methods
        if not name.startswith("_") and member.__module__.startswith("airflow_provider_tcbatch.")
    }


def called() -> set[str]:
    """Names of all methods that tests of hooks and clients call where they have a hook."""
    found: set[str] = set()
    for folder in ("hooks", "client"):
        for path in (TESTS / folder).glob("test_*.py"):
            text = path.read_text()
            if "airflow_provider_tcbatch.hooks." in text:
                nodes = ast.walk(ast.parse(text))
                calls = [node.func for node in nodes if isinstance(node, ast.Call)]
                found |= {call.attr for call in calls if isinstance(call, ast.Attribute)}
    return found


@pytest.mark.parametrize("hook", [TCBatchHook, CmqHook, CosHook])
def test_every_method_is_called(hook: type[Any]) -> None:
    methods = public_methods(hook)
    assert len(methods) > 5
    assert methods - called() == set()


@pytest.fixture
def hook(connection: str) -> TCBatchHook:
    return TCBatchHook(connection)


def test_every_hook_gives_the_client(connection: str) -> None:
    for hook in (TCBatchHook(connection), CmqHook(connection), CosHook(connection)):
        assert hook.get_conn().call(DescribeJobs(limit=1)).total_count is not None


def test_a_hook_apart_has_a_client_of_its_own(connection: str) -> None:
    for hook in (TCBatchHook(connection, region="ap-guangzhou"), CmqHook(connection), CosHook(connection)):
        twin = hook.apart()
        assert (type(twin), twin.tencentcloud_conn_id, twin.region) == (type(hook), connection, hook.region)
        assert twin.api is not hook.api
        assert twin.settings.credentials is twin.api.credentials
        assert twin.get_conn().call(DescribeJobs(limit=1)).total_count is not None


def test_a_request_is_made_and_not_sent(hook: TCBatchHook, emulator: Emulator) -> None:
    before = emulator.on_loop(lambda services: len(services.batch.jobs))
    request = hook.submission(job("true"), client_token="made-not-sent")
    assert emulator.on_loop(lambda services: len(services.batch.jobs)) == before
    assert request.placement == hook.placement()
    assert hook.placement().zone == emulator.info.zone
    assert hook.placement("ap-guangzhou-4").zone == "ap-guangzhou-4"
    assert hook.submit_job(job("true"), client_token="made-not-sent") == hook.api.call(request).job_id


def test_a_job_is_ended(hook: TCBatchHook, emulator: Emulator) -> None:
    # SUBMITTED jobs cannot be terminated: it asks until it can.
    emulator.configure(submitted_seconds=0.5)
    ended = hook.end_job(hook.submit_job(job("sleep 600")))
    assert ended is not None
    assert str(ended.job_state) == "FAILED"
    assert hook.end_job("job-00000000", patience=0) is None


def test_instances_are_told_apart_by_how_they_end(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(capacity=8)
    command = "if [ $BATCH_TASK_INSTANCE_INDEX = 1 ]; then exit 3; fi; while [ ! -e ../../../go ]; do sleep 0.02; done"
    job_id = hook.submit_job(job(command, instances=3))
    until = time.monotonic() + 60
    while len(left := hook.unfinished_instances(hook.describe_job(job_id))) != 2 or not _all_running(left):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert [text.split(" (")[0] for text in left] == ["task 'main' instance 0", "task 'main' instance 2"]
    (Path(emulator.info.data_dir) / "jobs" / job_id / "main" / "go").touch()
    assert emulator.wait_job(job_id) == "FAILED"
    view = hook.describe_job(job_id)
    assert [instance.task_instance_index for instance in hook.failed_instances(view)] == [1]
    for which, indexes in (("failed", [1]), ("unfinished", []), ("all", [0, 1, 2])):
        found = hook.instances_of(view, which)
        assert [(task, instance.task_instance_index) for task, instance in found] == [("main", i) for i in indexes]
    assert hook.unfinished_instances(view) == []


def _all_running(texts: list[str]) -> bool:
    return all("RUNNING" in text for text in texts)
