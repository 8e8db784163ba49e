"""Keeping a compute environment as it is wished, against the emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.compute_env_ensure import TCBatchEnsureComputeEnvOperator
from tests.support.task_context import Task, instance_in
from tests.unit.operators.test_compute_env import (
    Crash,
    Ran,
    a_day_passes,
    both,
    env_ids,
    made,
    now,
    quick,
    submit_to,
    wait_for,
    wish,
)

__all__ = ["quick"]

#: What spot machines, and nothing else, are refused for: the market wants more.
SPOT = {"InstanceChargeType": "SPOTPAID", "InstanceMarketOptions": {"SpotOptions": {"MaxPrice": "0.001"}}}
PAID = {"EnvData": {"InstanceChargeType": "POSTPAID_BY_HOUR", "InstanceMarketOptions": None}}


def ensure(env: dict[str, Any] | None = None, **options: Any) -> TCBatchEnsureComputeEnvOperator:
    options = {"deferrable": False, "poll_interval": 0.2, **options}
    return TCBatchEnsureComputeEnvOperator(task_id="ensure", compute_env=env or wish(), **options)


def spot(nodes: int = 1, **options: Any) -> TCBatchEnsureComputeEnvOperator:
    """Spot machines, which can't be had, and as an alternative others."""
    env = wish(nodes, EnvData=SPOT, ResourceMaxRetryCount=0)
    return ensure(env, **{"alternatives": [PAID], **options})


def paths(ran: Ran) -> list[str]:
    return [change["path"] for change in ran.xcoms["tcbatch_changes"]]


def charge(env_id: str) -> str:
    data = TCBatchHook().describe_compute_env_create_info(env_id).env_data
    return str(data.instance_charge_type if data else None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all actions that are called."""
    names: list[str] = []
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        names.append(action.name())
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    return names


# -- one wish ----------------------------------------------------------------------------------------------


@both
def test_it_is_made_and_then_left_alone(deferrable: bool, calls: list[str]) -> None:
    env = wish(2, EnvDescription="for tests", Tags=[{"Key": "team", "Value": "data"}])
    first = Ran(ensure(env, deferrable=deferrable))
    assert first.xcoms["tcbatch_env"]["running"] == 2
    assert first.xcoms["env_created"] is True
    assert "EnvData" in paths(first)
    assert len(first.triggers) == deferrable
    calls.clear()
    context = Task().next_try()
    instance_in(context).run_id = "the next run"
    again = Ran(ensure(env, deferrable=deferrable), context)
    assert (again.result, again.xcoms["env_created"], paths(again)) == (first.result, False, [])
    assert not {"ModifyComputeEnv", "CreateComputeEnv"} & set(calls)


@both
def test_exactly_what_differs_is_changed(deferrable: bool, capfd: pytest.CaptureFixture[str]) -> None:
    env_id = made(1)
    env = wish(2, EnvDescription="for tests", EnvData={"InstanceType": None, "InstanceTypes": ["SA2.MEDIUM4"]})
    ran = Ran(ensure(env, deferrable=deferrable))
    assert (ran.result, ran.xcoms["tcbatch_env"]["running"]) == (env_id, 2)
    assert ran.xcoms["tcbatch_changes"] == [
        {"path": "DesiredComputeNodeCount", "before": 1, "after": 2},
        {"path": "EnvDescription", "before": None, "after": "for tests"},
        {"path": "EnvData.InstanceTypes[0]", "before": "S5.MEDIUM4", "after": "SA2.MEDIUM4"},
    ]
    out = capfd.readouterr().out
    assert f"Compute environment 'pool' ({env_id}): 3 changes" in out
    assert "DesiredComputeNodeCount: 1 -> 2" in out
    info = TCBatchHook().describe_compute_env_create_info(env_id)
    assert info.env_data is not None
    assert (info.env_description, info.env_data.instance_types) == ("for tests", ["SA2.MEDIUM4"])


def test_an_old_environment_has_the_whole_timeout_for_more_nodes() -> None:
    task = Task()
    env_id = Ran(ensure(wish(1), timeout=60), task.next_try()).result
    a_day_passes(task.store)
    ran = Ran(ensure(wish(2), timeout=60), task.clear())
    assert (ran.result, ran.xcoms["tcbatch_env"]["running"]) == (env_id, 2)


def test_tags_can_not_be_changed_and_are_no_reason_to_fail(capfd: pytest.CaptureFixture[str]) -> None:
    env_id = made(1)
    ran = Ran(ensure(wish(Tags=[{"Key": "team", "Value": "data"}])))
    assert (ran.result, paths(ran)) == (env_id, [])
    assert "Batch can't change the tags" in capfd.readouterr().out


def test_the_owner_in_the_description_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keys may not use tags the description names the owner."""
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "CreateComputeEnv" and action.compute_env.tags:
            raise e.PermissionDenied("no tags", code="UnauthorizedOperation")
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    task = Task(retries=1)
    env_id = Ran(ensure(wish(EnvDescription="one")), task.next_try()).result
    ran = Ran(ensure(wish(EnvDescription="two")), task.clear())
    assert (ran.result, ran.xcoms["env_created"], paths(ran)) == (env_id, True, ["EnvDescription"])
    text = TCBatchHook().describe_compute_env_create_info(env_id).env_description or ""
    assert text.startswith("two [af-")


def test_a_dry_run_only_reports(calls: list[str]) -> None:
    new = Ran(ensure(wish(2), dry_run=True))
    assert new.result is None
    assert {"path": "DesiredComputeNodeCount", "before": None, "after": 2} in new.xcoms["tcbatch_changes"]
    env_id = made(1)
    calls.clear()
    task = Task()
    ran = Ran(ensure(wish(2, EnvData={"ImageId": "img-00000000"}), dry_run=True), task.next_try())
    assert (ran.result, paths(ran)) == (env_id, ["DesiredComputeNodeCount", "EnvData.ImageId"])
    assert all(name.startswith("Describe") for name in calls)
    assert task.store.data == {}


def test_what_can_not_be_changed_is_an_error_that_says_so() -> None:
    env_id = made(1)
    with pytest.raises(PermanentInvalidRequest) as raised:
        Ran(ensure(wish(2, EnvData={"ImageId": "img-00000000"}), zone="ap-guangzhou-4"))
    message = str(raised.value)
    assert 'EnvData.ImageId: "img-pyqx34y1" -> "img-00000000"' in message
    assert 'Placement.Zone: "ap-guangzhou-3" -> "ap-guangzhou-4"' in message
    assert "recreate=True" in message
    assert now(env_id).desired_compute_node_count == 1, "nothing of it is changed"


@both
def test_it_is_made_anew_only_if_asked_for(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_deleting_seconds=0.3)
    old = made(1)
    env = wish(1, EnvData={"ImageId": "img-00000000"})
    ran = Ran(ensure(env, recreate=True, deferrable=deferrable))
    assert env_ids() == [ran.result] != [old]
    assert ran.xcoms["env_created"] is True
    assert paths(ran) == ["EnvData.ImageId"]
    assert ran.xcoms["env_id"] == ran.result
    assert Ran(ensure(env, recreate=True)).result == ran.result


def test_made_anew_also_where_nobody_waits_for_nodes() -> None:
    old = made(1)
    ran = Ran(ensure(wish(EnvData={"ImageId": "img-00000000"}), recreate=True, wait_for_completion=False))
    assert env_ids() == [ran.result] != [old]


def test_what_runs_on_the_old_one_is_waited_for(emulator: Emulator, tmp_path: Path) -> None:
    gate, old = tmp_path / "gate", made(1)
    job_id = submit_to(old, f"until [ -e {gate} ]; do sleep 0.05; done")
    env = wish(EnvData={"ImageId": "img-00000000"})
    with pytest.raises(e.ComputeEnvTimeout, match=r"The deletion of compute environment .* its deletion has begun"):
        Ran(ensure(env, recreate=True, timeout=1))
    assert env_ids() == [old]
    ran = Ran(ensure(env, recreate=True, force=True))
    assert env_ids() == [ran.result]
    assert emulator.wait_job(job_id) == "FAILED"
    gate.touch()


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_worker_killed_at_its_creation_leaves_one_environment(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    task, real = Task(retries=1), ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() != "CreateComputeEnv":
            return real(self, action, **options)
        monkeypatch.setattr(ApiClient, "call", real)
        if place == "after":
            real(self, action, **options)
        raise Crash

    monkeypatch.setattr(ApiClient, "call", call)
    with pytest.raises(Crash):
        ensure().execute(task.next_try())
    ran = Ran(ensure(), task.next_try())
    assert env_ids() == [ran.result]
    assert ran.xcoms["env_created"] is True


def test_what_fails_is_explained_and_removed(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "image"})
    with pytest.raises(e.ComputeEnvFailed, match=r"it was deleted(.|\n)*InvalidImageId(.|\n)*EnvData\.ImageId"):
        Ran(ensure(wish(ResourceMaxRetryCount=0)))
    assert env_ids() == []


# -- alternatives ------------------------------------------------------------------------------------------


@both
def test_where_one_can_not_be_had_the_next_one_is_made(deferrable: bool, capfd: pytest.CaptureFixture[str]) -> None:
    ran = Ran(spot(2, deferrable=deferrable))
    assert env_ids() == [ran.result]
    assert charge(ran.result) == "POSTPAID_BY_HOUR"
    choice = ran.xcoms["tcbatch_choice"]
    [failure] = choice.pop("failed")
    common = {"instance_types": ["S5.MEDIUM4"]}
    assert choice == {
        "alternative": 1, "env_id": ran.result, "instance_charge_type": "POSTPAID_BY_HOUR", **common,
    }  # fmt: skip
    assert failure.pop("env_id") not in (None, ran.result)
    assert failure == {"alternative": 0, "why": "nodes failed", "instance_charge_type": "SPOTPAID", **common}
    assert ran.xcoms["tcbatch_env"]["running"] == 2
    assert ran.xcoms["env_id"] == ran.result
    out = capfd.readouterr().out
    assert "InsufficientPrice" in out
    assert "nodes failed. Going on to alternative 1" in out
    assert f"Compute environment {ran.result} is alternative 1: POSTPAID_BY_HOUR S5.MEDIUM4" in out
    # It is there now, and as it is wished.
    again = Ran(spot(2, deferrable=deferrable))
    assert (again.result, paths(again), again.xcoms["tcbatch_choice"]["alternative"]) == (ran.result, [], 1)


@both
def test_without_a_store_each_alternative_is_another_environment(deferrable: bool) -> None:
    """There the ClientToken is made from the try: the service would give back what was removed."""
    ran = Ran(spot(durable=False, deferrable=deferrable))
    assert env_ids() == [ran.result]
    assert ran.xcoms["tcbatch_choice"]["alternative"] == 1


@both
def test_one_whose_nodes_come_too_late_is_given_up(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, deferrable: bool
) -> None:
    emulator.configure(node_creating_seconds=10)
    real = TCBatchHook.remove_step

    def quick_from_now_on(self: TCBatchHook, env_id: str, **options: Any) -> Any:
        emulator.configure(node_creating_seconds=0.05)
        return real(self, env_id, **options)

    monkeypatch.setattr(TCBatchHook, "remove_step", quick_from_now_on)
    ran = Ran(ensure(alternatives=[{"EnvDescription": "second"}], timeout=3, deferrable=deferrable))
    choice = ran.xcoms["tcbatch_choice"]
    assert (choice["alternative"], [failure["why"] for failure in choice["failed"]]) == (1, ["timeout"])
    assert env_ids() == [ran.result]


def test_what_all_fails_names_everything(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    with pytest.raises(e.ComputeEnvFailed) as raised:
        Ran(spot())
    message = str(raised.value)
    assert "it was deleted; alternatives that failed before: env-" in message
    assert "(SPOTPAID: nodes failed)" in message
    assert "ResourcesSoldOut" in message
    assert env_ids() == []


def test_preflight_passes_over_what_can_not_be_had(emulator: Emulator, calls: list[str]) -> None:
    emulator.configure(sold_out_types=["S5.MEDIUM4"])
    other = {"EnvData": {"InstanceType": "SA2.MEDIUM4"}}
    ran = Ran(ensure(alternatives=[other], preflight=True))
    choice = ran.xcoms["tcbatch_choice"]
    assert (choice["alternative"], choice["instance_types"]) == (1, ["SA2.MEDIUM4"])
    assert [(failure["env_id"], failure["why"]) for failure in choice["failed"]] == [(None, "preflight")]
    assert calls.count("CreateComputeEnv") == 1
    calls.clear()
    assert Ran(ensure(alternatives=[other], preflight=True)).result == ran.result
    assert "DescribeCvmZoneInstanceConfigInfos" not in calls, "what is there is not asked for"
    with pytest.raises(e.ComputeEnvFailed, match="preflight"):
        Ran(ensure(wish(name="other"), preflight=True))


def test_a_retry_goes_on_with_the_alternative_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    task, operator = Task(retries=1), spot()

    def die(*args: Any) -> None:
        raise Crash

    monkeypatch.setattr(operator, "reached", die)
    with pytest.raises(Crash):
        operator.execute(task.next_try())
    [env_id] = env_ids()
    ran = Ran(spot(), task.next_try())
    assert (ran.result, ran.xcoms["env_created"]) == (env_id, True)
    assert ran.xcoms["tcbatch_choice"]["alternative"] == 1


def test_an_environment_of_others_is_not_replaced_by_an_alternative(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    env_id = TCBatchHook().create_compute_env(wish(ResourceMaxRetryCount=0))
    with pytest.raises(e.ComputeEnvFailed, match="this task did not make it"):
        Ran(ensure(wish(ResourceMaxRetryCount=0), alternatives=[{"EnvDescription": "other"}]))
    assert env_ids() == [env_id]


def test_a_killed_worker_lets_the_nodes_of_the_alternative_go() -> None:
    operator = spot()
    env_id = Ran(operator, Task().next_try()).result
    operator.on_kill()
    wait_for(lambda: now(env_id).desired_compute_node_count == 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alternatives": [{"EnvData": {"ImageIdd": "x"}}]}, r"alternatives\[0\].*ImageIdd"),
        ({"alternatives": [{"EnvData": {"InstanceTypes": []}}, "spot"]}, r"alternatives\[1\] is 'spot'"),
        ({"alternatives": [{"EnvData": {"LoginSettings": {"Password": "p"}}}]}, "holds a secret"),
        ({"if_exists": "reuse"}, "leave if_exists out"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        ensure(**options)


def test_alternatives_are_rendered() -> None:
    operator = ensure(alternatives=[{"env_data": {"instance_charge_type": "{{ charge }}"}}])
    operator.render_template_fields({"charge": "SPOTPAID"})  # type: ignore[typeddict-unknown-key]
    assert [str(each) for each in operator._wishes()] == ["POSTPAID_BY_HOUR S5.MEDIUM4", "SPOTPAID S5.MEDIUM4"]
    operator.alternatives = "{{ nothing }}"
    with pytest.raises(e.InvalidRequest, match="write a list of mappings"):
        operator._wishes()
