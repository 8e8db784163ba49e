"""What takes more than one call about compute environments, answered by the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvActivities

ENV = {"EnvName": "pool", "DesiredComputeNodeCount": 2, "EnvData": {"InstanceType": "S5.MEDIUM4"}}


@pytest.fixture
def hook(connection: str, emulator: Emulator) -> Iterator[TCBatchHook]:
    emulator.configure(node_creating_seconds=0.1, node_deleting_seconds=0.1, env_deleting_seconds=0.1)
    yield TCBatchHook(connection)
    emulator.on_loop(lambda core: core.batch.envs.clear())


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
    assert "Console: https://" in text
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
    assert hook.remove_compute_env(env_id, patience=30, force=True) is None


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
