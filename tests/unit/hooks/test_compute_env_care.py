"""What takes more than one call about compute environments, answered by the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvActivities
from tests.unit.conftest import job

ENV = {"EnvName": "pool", "DesiredComputeNodeCount": 2, "EnvData": {"InstanceType": "S5.MEDIUM4"}}


@pytest.fixture
def hook(connection: str, emulator: Emulator) -> Iterator[TCBatchHook]:
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    yield TCBatchHook(connection)
    emulator.on_loop(lambda services: services.batch.envs.clear())


def test_instance_types_are_checked_with_their_prices(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(sold_out_types=["S5.MEDIUM4"])
    fine, sold_out, unknown = hook.check_instance_types("ap-guangzhou-3", ["SA2.MEDIUM4", "S5.MEDIUM4", "S99.LARGE8"])
    assert fine.available
    assert fine.offer is not None
    assert fine.offer.price == pytest.approx(0.36)
    assert (sold_out.availability.value, unknown.availability.value) == ("sold_out", "unknown")
    assert [offer.instance_type for offer in sold_out.alternatives][:2] == ["SA2.MEDIUM4", "SA3.MEDIUM4"]
    assert all(offer.cpu >= 4 and offer.memory >= 8 for offer in unknown.alternatives)
    assert len(unknown.alternatives) == 3


def test_spot_prices_are_others(hook: TCBatchHook) -> None:
    [spot] = hook.check_instance_types(None, ["SA2.MEDIUM4"], charge_type="SPOTPAID")
    assert spot.offer is not None
    assert spot.offer.price == pytest.approx(0.072)
    assert spot.zone == hook.settings.zone, "the connection's zone is the default"


def test_a_failure_is_explained_although_the_activities_can_not_be_read(
    hook: TCBatchHook, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    env_id = hook.create_compute_env({**ENV, "ResourceMaxRetryCount": 0})
    while hook.describe_compute_env(env_id).compute_node_metrics.creation_failed_count < 2:  # type: ignore[union-attr]
        pass
    text = hook.explain_compute_env(env_id)
    assert text.count("InternalError.CallCvm:ResourcesSoldOut.SpecifiedInstanceType") == 2
    assert "Stock: S5.MEDIUM4 (2 CPU, 4 GB, 0.42 CNY/hour) is available in" in text
    assert "Console: http://" in text
    real = hook.api.call

    def call(action: Any, **options: Any) -> Any:
        if isinstance(action, DescribeComputeEnvActivities):
            raise e.PermissionDenied("not allowed")
        return real(action, **options)

    monkeypatch.setattr(hook.api, "call", call)
    assert hook.explain_compute_env(env_id).count("is CREATION_FAILED") == 2


def test_what_does_not_exist_is_explained(hook: TCBatchHook) -> None:
    assert "env-00000000: it does not exist." in hook.explain_compute_env("env-00000000")


def test_removal_is_bounded(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(node_creating_seconds=60)
    env_id = hook.create_compute_env(ENV)
    left = hook.remove_compute_env(env_id, patience=0.5)
    assert left is not None
    assert left.present == 2
    assert hook.remove_compute_env("env-00000000", patience=0) is None


@pytest.mark.parametrize("terminate", ["shrink", "replace"])
def test_removal_whatever_the_service_does_about_destroyed_nodes(
    hook: TCBatchHook, emulator: Emulator, terminate: str
) -> None:
    emulator.configure(terminate_node=terminate)
    env_id = hook.create_compute_env(ENV)
    assert hook.remove_compute_env(env_id, patience=60, force=True) is None


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def running(hook: TCBatchHook, env_id: str) -> int:
    return hook.describe_compute_env(env_id).compute_node_metrics.running_count  # type: ignore[union-attr]


def busy_with(hook: TCBatchHook, env_id: str) -> str:
    """A job that runs on a node until it is terminated."""
    body = job("sleep 600")
    del body["Tasks"][0]["ComputeEnv"]
    body["Tasks"][0]["EnvId"] = env_id
    job_id = hook.submit_job(body)
    eventually(lambda: str(hook.describe_job(job_id).job_state) == "RUNNING")
    return job_id


def state(hook: TCBatchHook, job_id: str) -> str:
    return str(hook.describe_job(job_id).job_state)


@pytest.mark.parametrize("terminate", ["shrink", "replace"])
@pytest.mark.parametrize("takes_busy", [False, True], ids=["refuses busy", "takes busy"])
def test_removal_takes_idle_nodes_and_leaves_busy_ones_whatever_the_service_would_do(
    hook: TCBatchHook, emulator: Emulator, takes_busy: bool, terminate: str
) -> None:
    emulator.configure(shrink_busy_nodes=takes_busy, terminate_node=terminate)
    env_id = hook.create_compute_env(ENV)
    eventually(lambda: running(hook, env_id) == 2)
    job_id = busy_with(hook, env_id)
    before = {node.compute_node_id for node in hook.describe_compute_env(env_id).compute_node_set or ()}
    left = hook.remove_compute_env(env_id, patience=1.2)
    assert left is not None
    assert state(hook, job_id) == "RUNNING"

    def kept() -> set[str]:
        after = {node.compute_node_id for node in hook.describe_compute_env(env_id).compute_node_set or ()}
        return before & after

    eventually(lambda: len(kept()) == 1)  # the idle one goes
    assert state(hook, job_id) == "RUNNING"
    hook.terminate_job(job_id, patience=60)
    assert hook.remove_compute_env(env_id, patience=60) is None


@pytest.mark.parametrize("takes_busy", [False, True], ids=["refuses busy", "takes busy"])
def test_removal_by_force_takes_busy_nodes(hook: TCBatchHook, emulator: Emulator, takes_busy: bool) -> None:
    emulator.configure(shrink_busy_nodes=takes_busy)
    env_id = hook.create_compute_env({**ENV, "DesiredComputeNodeCount": 1})
    job_id = busy_with(hook, env_id)
    assert hook.remove_compute_env(env_id, patience=60, force=True) is None
    eventually(lambda: state(hook, job_id) == "FAILED")


def test_an_environment_is_emptied_step_by_step(hook: TCBatchHook) -> None:
    env_id = hook.create_compute_env(
        {"EnvName": "emptied", "DesiredComputeNodeCount": 2, "EnvData": {"InstanceType": "S5.MEDIUM4"}}
    )
    eventually(lambda: running(hook, env_id) == 2)
    job_id = busy_with(hook, env_id)
    assert hook.empty_step(env_id) is False, "something runs on one of its nodes"
    hook.end_job(job_id)
    eventually(lambda: hook.empty_step(env_id))
    eventually(lambda: not hook.describe_compute_env(env_id).compute_node_set)
    hook.delete_compute_env(env_id)
    eventually(lambda: hook.empty_step(env_id) and not hook.find_compute_envs("emptied"))


def attached(hook: TCBatchHook) -> str:
    """An environment with one instance of the user's own, which runs, and no others."""
    env_id = hook.create_compute_env({**ENV, "DesiredComputeNodeCount": 0})
    hook.attach_instances(env_id, [{"InstanceId": "ins-12345678", "ImageId": "img-pyqx34y1"}])
    eventually(lambda: running(hook, env_id) == 1)
    return env_id


def test_attached_instances_leave_when_nothing_runs_on_them(hook: TCBatchHook) -> None:
    env_id = attached(hook)
    job_id = busy_with(hook, env_id)
    hook.modify_compute_env(env_id, desired_compute_node_count=1)
    eventually(lambda: running(hook, env_id) == 2)
    left = hook.remove_compute_env(env_id, patience=4)
    assert left is not None
    assert (left.desired, left.attached, left.present) == (0, 1, 1), "the service's own node went"
    assert state(hook, job_id) == "RUNNING"
    assert hook.remove_compute_env(env_id, patience=60, force=True) is None
    eventually(lambda: state(hook, job_id) == "FAILED")


def test_an_instance_that_may_not_leave_keeps_no_others(hook: TCBatchHook, monkeypatch: pytest.MonkeyPatch) -> None:
    env_id = attached(hook)
    hook.modify_compute_env(env_id, desired_compute_node_count=1)
    eventually(lambda: running(hook, env_id) == 2)

    def refuses(env_id: str, instance_ids: object) -> None:
        raise e.ResourceBusy("not now", code="UnsupportedOperation")

    with monkeypatch.context() as patch:
        patch.setattr(hook, "detach_instances", refuses)
        left = hook.remove_compute_env(env_id, patience=4)
    assert left is not None
    assert (left.desired, left.attached, left.present) == (0, 1, 1)
    assert hook.remove_compute_env(env_id, patience=60) is None


def test_environments_are_found_by_their_whole_name_and_taken_down_step_by_step(
    hook: TCBatchHook, emulator: Emulator
) -> None:
    """Whether the service's filter wants the whole name is not documented."""
    emulator.configure(name_filter="contains")
    env_id = hook.create_compute_env(ENV)
    hook.create_compute_env({**ENV, "EnvName": "pool-2"})
    assert [view.env_id for view in hook.find_compute_envs("pool")] == [env_id]
    assert hook.find_compute_envs("poo") == []
    while hook.remove_step(env_id) is not None:
        pass
    assert hook.find_compute_envs("pool") == []


def test_templates_are_found_by_their_whole_name(hook: TCBatchHook, emulator: Emulator) -> None:
    emulator.configure(name_filter="contains")
    info = {
        "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
        "ComputeEnv": {"EnvData": {"InstanceType": "S1.SMALL1"}},
    }
    ids = {name: hook.create_task_template(name, info) for name in ("shape", "shapely")}
    found = hook.task_templates_named(["shape", "no such template"])
    assert {name: [view.task_template_id for view in views] for name, views in found.items()} == {
        "shape": [ids["shape"]]
    }
    hook.delete_task_templates(list(ids.values()))
