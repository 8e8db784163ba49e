"""Environments, templates and machines through the hook, answered by the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.unit.conftest import job

ENV = {
    "EnvName": "pool",
    "DesiredComputeNodeCount": 1,
    "EnvType": "MANAGED",
    "EnvData": {"InstanceType": "S5.MEDIUM4", "ImageId": "img-pyqx34y1"},
}


@pytest.fixture
def hook(connection: str) -> TCBatchHook:
    return TCBatchHook(connection)


def eventually(look: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    """Look until it is as wanted: what the service does, it does in its own time."""
    until = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < until, f"still {found!r}"
        time.sleep(0.05)
    return found


def test_an_environment_lives_and_dies(hook: TCBatchHook) -> None:
    env_id = hook.create_compute_env(ENV, client_token="env-once")
    assert hook.create_compute_env(ENV, client_token="env-once") == env_id

    def running(view: Any) -> bool:
        return bool(view.compute_node_metrics.running_count == view.desired_compute_node_count)

    eventually(lambda: hook.describe_compute_env(env_id), running)
    assert [env.env_id for env in hook.describe_compute_envs(filters={"env-name": ["pool"]})] == [env_id]
    assert [env.env_id for env in hook.describe_compute_envs([env_id])] == [env_id]
    assert hook.describe_compute_env_create_info(env_id).env_name == "pool"
    assert [info.env_id for info in hook.describe_compute_env_create_infos([env_id])] == [env_id]
    assert list(hook.describe_compute_env_activities(env_id))

    body = job("true")
    del body["Tasks"][0]["ComputeEnv"]
    body["Tasks"][0]["EnvId"] = env_id
    job_id = hook.submit_job(body)
    for view in hook.wait(job_id, poll_interval=0.1):
        if str(view.job_state) in ("SUCCEED", "FAILED"):
            break
    assert str(view.job_state) == "SUCCEED"

    with pytest.raises(e.ResourceBusy):
        hook.delete_compute_env(env_id)
    hook.modify_compute_env(env_id, desired_compute_node_count=2, env_name="pool-2")
    grown = eventually(lambda: hook.describe_compute_env(env_id), running)
    assert (grown.env_name, grown.desired_compute_node_count) == ("pool-2", 2)
    hook.modify_compute_env(env_id, desired_compute_node_count=0)
    eventually(lambda: hook.describe_compute_env(env_id), lambda view: not view.compute_node_set)
    hook.delete_compute_env(env_id)
    eventually(lambda: list(hook.describe_compute_envs([env_id])), lambda found: not found)
    with pytest.raises(e.NotFound):
        hook.describe_compute_env(env_id)


def test_nodes_are_terminated_and_instances_come_and_go(hook: TCBatchHook) -> None:
    env_id = hook.create_compute_env({**ENV, "EnvName": "nodes", "DesiredComputeNodeCount": 2})
    view = eventually(lambda: hook.describe_compute_env(env_id), lambda v: v.compute_node_metrics.running_count == 2)
    first = view.compute_node_set[0].compute_node_id
    hook.terminate_compute_nodes(env_id, [first])

    def gone(now: Any) -> bool:
        return first not in [node.compute_node_id for node in now.compute_node_set or ()]

    eventually(lambda: hook.describe_compute_env(env_id), gone)
    assert list(hook.describe_compute_env_activities(env_id, first))

    hook.attach_instances(env_id, [{"InstanceId": "ins-12345678", "ImageId": "img-pyqx34y1"}])
    eventually(lambda: hook.describe_compute_env(env_id), lambda v: v.attached_compute_node_count == 1)
    hook.detach_instances(env_id, ["ins-12345678"])
    eventually(lambda: hook.describe_compute_env(env_id), lambda v: v.attached_compute_node_count == 0)
    hook.modify_compute_env(env_id, desired_compute_node_count=0)
    eventually(lambda: hook.describe_compute_env(env_id), lambda now: not now.compute_node_set)
    hook.delete_compute_env(env_id)


def test_a_template_lives_and_dies(hook: TCBatchHook) -> None:
    task = job("true")["Tasks"][0]
    template_id = hook.create_task_template("nightly", task, description="for tests", tags={"team": "data"})
    [template] = hook.describe_task_templates(filters={"task-template-name": ["nightly"]})
    assert template.task_template_id == template_id
    hook.modify_task_template(template_id, name="weekly", task={**task, "TaskInstanceNum": 3})
    [template] = hook.describe_task_templates([template_id])
    assert template.task_template_name == "weekly"
    assert template.task_template_info is not None
    with pytest.raises(e.InvalidRequest, match="at least one"):
        hook.modify_task_template(template_id)
    hook.delete_task_templates([template_id])
    assert list(hook.describe_task_templates([template_id])) == []


def test_machines_are_listed_with_prices(hook: TCBatchHook) -> None:
    types = {entry.instance_type for entry in hook.available_instance_types()}
    offers = hook.instance_type_offers({"zone": [hook.settings.zone or ""]})
    assert types & {offer.instance_type for offer in offers}
    assert any(offer.price is not None for offer in offers)
    assert hook.instance_categories()


def test_the_rest_of_the_job_actions(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("echo out; exit 1", instances=2))
    end = ("SUCCEED", "FAILED")
    eventually(lambda: hook.describe_job(job_id), lambda view: str(view.job_state) in end)
    assert hook.describe_job_submit_info(job_id).job_name == "test"
    assert hook.task_log_previews(job_id, "main", [0, 1]) == {0: ("out\n", ""), 1: ("out\n", "")}
    hook.retry_jobs([job_id])
    eventually(lambda: hook.describe_job(job_id), lambda view: str(view.job_state) in end)
    hook.terminate_task_instance(job_id, "main", 0)
    hook.job_monitor_data(job_id, "main", 0, "CpuUsage")
    eventually(lambda: hook.describe_job(job_id), lambda view: str(view.job_state) in end)
    hook.delete_job(job_id)
    with pytest.raises(e.NotFound):
        hook.describe_job(job_id)
