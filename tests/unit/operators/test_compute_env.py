"""Operators on compute environments, against the emulator: on the worker, and deferred with their triggers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Context
from airflow.sdk.execution_time import context as airflow_context
from airflow.sdk.execution_time import task_runner

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.compute_env import creation as env_creation
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.execution.ownership import kill_switch as killed
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout
from airflow_provider_tcbatch.operators.compute_env import TCBatchCreateComputeEnvOperator
from airflow_provider_tcbatch.operators.compute_env_actions import (
    TCBatchAttachInstancesOperator,
    TCBatchDeleteComputeEnvOperator,
    TCBatchDetachInstancesOperator,
    TCBatchModifyComputeEnvOperator,
    TCBatchTerminateComputeNodesOperator,
)
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG
from airflow_provider_tcbatch.waits import sessions as watching
from airflow_provider_tcbatch.watching import poller
from airflow_provider_tcbatch.watching.subscription import WatcherTimings
from tests.support.task_context import Replaced, Store, Task, TaskDeferred, instance_in
from tests.unit.conftest import job

both = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])

#: Nothing takes longer than it must, and no environment of another test is in the way.
PACE = {
    "node_submitted_seconds": 0.02,
    "node_pending_seconds": 0.02,
    "node_creating_seconds": 0.05,
    "node_created_seconds": 0.05,
    "node_deleting_seconds": 0.05,
    "env_deleting_seconds": 0.05,
    "compute_env_quota": 1000,
}


class Crash(BaseException):
    """The worker is killed here."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, connection: str, emulator: Emulator) -> Iterator[None]:
    monkeypatch.setattr(env_creation, "UNKNOWN_SECONDS", 1.0)
    # The service takes two such calls a second; nobody wants to wait for that here.
    info = json.loads(emulator.info.airflow_conn_json)
    info["extra"] = {**_extra(info), "api_limits": json.dumps(FAST_LIMITS)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    emulator.configure(**PACE)
    yield
    emulator.on_loop(lambda services: services.batch.envs.clear())


#: Airflow 3.1 has no task state store.
HAS_STORE = hasattr(airflow_context, "NEVER_EXPIRE")

#: Limits that no test meets.
FAST_LIMITS = dict.fromkeys(
    (
        "CreateComputeEnv",
        "DeleteComputeEnv",
        "ModifyComputeEnv",
        "DescribeComputeEnv",
        "DescribeComputeEnvs",
        "DescribeComputeEnvActivities",
        "DescribeComputeEnvCreateInfo",
        "DescribeCvmZoneInstanceConfigInfos",
    ),
    1000,
)


def _extra(info: dict[str, Any]) -> dict[str, Any]:
    extra = info.get("extra") or {}
    return dict(json.loads(extra)) if isinstance(extra, str) else dict(extra)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Jobs that wait for it end when the test ends."""
    path = tmp_path / "gate"
    yield path
    path.touch()


def wish(nodes: int = 1, name: str = "pool", **members: Any) -> dict[str, Any]:
    data = {"InstanceType": "S5.MEDIUM4", "ImageId": "img-pyqx34y1", **members.pop("EnvData", {})}
    return {"EnvName": name, "DesiredComputeNodeCount": nodes, "EnvData": data, **members}


def create(nodes: int = 1, **options: Any) -> TCBatchCreateComputeEnvOperator:
    env = options.pop("env", None) or wish(nodes, **options.pop("members", {}))
    options = {"deferrable": False, "poll_interval": 0.2, **options}
    return TCBatchCreateComputeEnvOperator(task_id="create", compute_env=env, **options)


def made(nodes: int = 1, name: str = "pool", *, running: bool = True) -> str:
    """An environment that somebody else made."""
    env_id = TCBatchHook().create_compute_env(wish(nodes, name))
    if running:
        wait_for(lambda: now(env_id).compute_node_metrics.running_count == nodes)
    return env_id


def wait_for(true: Callable[[], Any], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


def now(env_id: str) -> Any:
    return TCBatchHook().describe_compute_env(env_id)


def env_ids(name: str = "pool") -> list[str]:
    return [view.env_id for view in TCBatchHook().find_compute_envs(name)]


class Ran:
    """An operator at its end, deferrals included."""

    def __init__(
        self, operator: Any, context: Context | None = None, meanwhile: Callable[[], None] | None = None
    ) -> None:
        self.context = context or Task(durable=HAS_STORE).next_try()
        self.triggers: list[Any] = []
        try:
            self.result = operator.execute(self.context)
            return
        except TaskDeferred as deferred:
            self.triggers.append(deferred.trigger)
        while True:
            if meanwhile is not None:
                meanwhile()
                meanwhile = None
            # Another process goes on: it has the operator as the DAG makes it, and the event.
            event = asyncio.run(event_of(self.triggers[-1]))
            try:
                self.result = operator.execute_complete(self.context, event)
                return
            except TaskDeferred as deferred:
                self.triggers.append(deferred.trigger)

    @property
    def xcoms(self) -> dict[str, Any]:
        return instance_in(self.context).xcoms


async def event_of(trigger: Any) -> dict[str, Any]:
    path, arguments = trigger.serialize()
    again = type(trigger)(**json.loads(json.dumps(arguments)))
    assert again.serialize() == (path, arguments)
    [event] = [event.payload async for event in again.run()]
    return dict(json.loads(json.dumps(event)))


# -- making ------------------------------------------------------------------------------------------------


@both
def test_an_environment_is_made_and_its_nodes_are_waited_for(deferrable: bool) -> None:
    ran = Ran(create(2, deferrable=deferrable))
    view = now(ran.result)
    assert view.compute_node_metrics.running_count == 2
    assert ran.xcoms["env_id"] == ran.result
    assert ran.xcoms["env_created"] is True
    assert ran.xcoms["tcbatch_env"] == {"desired": 2, "running": 2, "failed": 0, "present": 2, "attached": 0}
    assert "console" in ran.xcoms["tcbatch_env_url"]
    assert len(ran.triggers) == (1 if deferrable else 0)


def test_it_carries_its_owner() -> None:
    [tag] = [tag for tag in now(Ran(create()).result).tags if tag.key == OWNER_TAG]
    assert tag.value.startswith("airflow/a_dag/manual")


def test_fewer_nodes_may_do(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock*2"})
    ran = Ran(create(3, wait_for_nodes="1", members={"ResourceMaxRetryCount": 0}))
    assert ran.xcoms["tcbatch_env"]["running"] == 1
    assert ran.xcoms["tcbatch_env"]["desired"] == 3


def test_it_need_not_be_waited_for(emulator: Emulator) -> None:
    emulator.configure(node_creating_seconds=60)
    env_id = Ran(create(wait_for_completion=False, deferrable=True)).result
    assert now(env_id).compute_node_metrics.running_count == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": {"EnvName": "x"}}, "DesiredComputeNodeCount"),
        ({"env": {**wish(), "EnvNames": "x"}}, "did you mean EnvName"),
        ({"if_exists": "replace"}, "reuse, update, fail"),
        ({"wait_for_nodes": -1}, "wait_for_nodes"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        create(**options)


def test_more_nodes_than_there_shall_be_are_not_waited_for() -> None:
    with pytest.raises(PermanentInvalidRequest, match="DesiredComputeNodeCount is 1"):
        Ran(create(1, wait_for_nodes=2))
    assert env_ids() == []


def test_a_model_and_rendered_numbers_will_do() -> None:
    model = NamedComputeEnv.parse({**wish(name="{{ name }}"), "DesiredComputeNodeCount": 1})
    operator = create(env=model)
    assert isinstance(operator.compute_env, dict)
    operator.compute_env = {**operator.compute_env, "EnvName": "rendered", "DesiredComputeNodeCount": "1"}
    env_id = Ran(operator).result
    assert env_ids("rendered") == [env_id]


# -- an environment that is there already ------------------------------------------------------------------


@both
def test_reuse_takes_it_as_it_is(deferrable: bool) -> None:
    env_id = made(1)
    ran = Ran(create(3, deferrable=deferrable))
    assert ran.result == env_id
    assert ran.xcoms["env_created"] is False
    assert now(env_id).desired_compute_node_count == 1


def test_reuse_says_that_there_will_never_be_enough() -> None:
    made(1)
    with pytest.raises(PermanentInvalidRequest, match="if_exists='update'"):
        Ran(create(3, wait_for_nodes=2))


def test_update_changes_what_differs() -> None:
    env_id = made(1)
    data = {"InstanceType": None, "InstanceTypes": ["S5.LARGE8", "S5.MEDIUM4"]}
    members = {"EnvDescription": "for tests", "EnvData": data}
    operator = create(2, if_exists="update", members=members)
    assert isinstance(operator.compute_env, dict)
    operator.compute_env["EnvData"].pop("InstanceType")
    ran = Ran(operator)
    assert (ran.result, ran.xcoms["tcbatch_env"]["running"]) == (env_id, 2)
    info = TCBatchHook().describe_compute_env_create_info(env_id)
    assert info.env_description == "for tests"
    assert info.env_data is not None
    assert info.env_data.instance_types == ["S5.LARGE8", "S5.MEDIUM4"]
    sent = operator.hook.api.sent["ModifyComputeEnv"]
    assert Ran(operator).result == env_id
    assert operator.hook.api.sent["ModifyComputeEnv"] == sent, "what is as it should be is not changed again"


def test_fail_fails_for_good() -> None:
    env_id = made(1)
    with pytest.raises(PermanentInvalidRequest, match=env_id):
        Ran(create(if_exists="fail"))


def test_of_several_of_one_name_none_is_taken() -> None:
    ids = [made(running=False), made(running=False)]
    with pytest.raises(PermanentInvalidRequest, match="2 compute environments") as raised:
        Ran(create())
    assert all(env_id in str(raised.value) for env_id in ids)


def test_a_part_of_a_name_is_not_the_name(emulator: Emulator) -> None:
    emulator.configure(name_filter="contains")
    other = made(name="pool-2", running=False)
    assert Ran(create(if_exists="fail")).result != other


def test_one_that_is_being_deleted_is_not_taken(emulator: Emulator) -> None:
    emulator.configure(env_deleting_seconds=60)
    env_id = made(0)
    TCBatchHook().delete_compute_env(env_id)
    assert Ran(create()).result != env_id


# -- nodes that can't be made ------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("no_stock", ("ResourcesSoldOut", "no stock", "Stock: S5.MEDIUM4")),
        ("quota", ("LimitExceeded.InstanceQuota", "quota")),
        ("image", ("InvalidImageId.NotFound", "EnvData.ImageId")),
        ("Strange.Thing", ("Strange.Thing",)),
    ],
)
def test_a_failure_says_why_and_leaves_nothing(
    emulator: Emulator, deferrable: bool, reason: str, words: tuple[str, ...]
) -> None:
    emulator.configure(cvm_failures={"*": reason})
    with pytest.raises(e.ComputeEnvFailed) as raised:
        Ran(create(members={"ResourceMaxRetryCount": 0}, deferrable=deferrable))
    message = str(raised.value)
    assert all(word in message for word in ("node-", "CREATION_FAILED", "it was deleted", *words)), message
    assert env_ids() == []


def test_what_it_did_not_make_it_leaves(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    env_id = TCBatchHook().create_compute_env({**wish(), "ResourceMaxRetryCount": 0})
    with pytest.raises(e.ComputeEnvFailed, match="this task did not make it"):
        Ran(create())
    assert env_ids() == [env_id]


def test_what_it_made_may_be_kept(emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    with pytest.raises(e.ComputeEnvFailed, match="cancel_on_failure=False"):
        Ran(create(members={"ResourceMaxRetryCount": 0}, cancel_on_failure=False))
    assert len(env_ids()) == 1


@both
def test_the_service_may_make_nodes_again(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(cvm_failures={"*": f"no_stock*{2 if deferrable else 1}"})
    ran = Ran(create(fail_fast=False, deferrable=deferrable))
    assert ran.xcoms["tcbatch_env"]["running"] == 1


@both
def test_a_limit_removes_what_was_made(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_creating_seconds=10)
    with pytest.raises(e.ComputeEnvTimeout, match=r"1 running nodes .* within timeout \(1 s\); it was deleted"):
        Ran(create(timeout=1, deferrable=deferrable))
    assert env_ids() == []


def test_airflows_own_timer_leaves_nothing_either(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It strikes anywhere on a worker that waits."""
    emulator.configure(node_creating_seconds=1)

    def strike(*_: Any) -> None:
        raise AirflowTaskTimeout

    monkeypatch.setattr(watching, "wait_env_here", strike)
    with pytest.raises(AirflowTaskTimeout):
        Ran(create())
    assert env_ids() == []


def test_what_can_not_be_explained_is_removed_all_the_same(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise e.InfrastructureError("no network")

    monkeypatch.setattr(TCBatchHook, "explain_compute_env", fail)
    emulator.configure(cvm_failures={"*": "no_stock"})
    with pytest.raises(e.ComputeEnvFailed, match="it was deleted"):
        Ran(create(members={"ResourceMaxRetryCount": 0}))
    assert env_ids() == []


def test_preflight_finds_out_before_anything_is_made(emulator: Emulator) -> None:
    emulator.configure(sold_out_types=["S5.MEDIUM4"])
    with pytest.raises(e.ComputeEnvFailed, match=r"S5.MEDIUM4 .* is sold out in .*Instead: SA2.MEDIUM4"):
        Ran(create(preflight=True))
    assert env_ids() == []


# -- one task, one environment -----------------------------------------------------------------------------


@pytest.fixture
def task(connection: str) -> Task:
    return Task(retries=3)


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Kill the worker before, or after, the next CreateComputeEnv reaches the service."""
    real = ApiClient.call

    def at(place: str) -> None:
        def call(self: ApiClient, action: Any, **options: Any) -> Any:
            if action.name() != "CreateComputeEnv":
                return real(self, action, **options)
            monkeypatch.setattr(ApiClient, "call", real)
            if place == "after":
                real(self, action, **options)
            raise Crash

        monkeypatch.setattr(ApiClient, "call", call)

    return at


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])
@pytest.mark.parametrize("service", ["same_job", "error", "forgets"])
@pytest.mark.parametrize("cleared", [False, True], ids=["retry", "cleared"])
def test_a_worker_killed_at_its_creation_leaves_one_environment(
    task: Task,
    emulator: Emulator,
    crash: Callable[[str], None],
    place: str,
    if_exists: str,
    service: str,
    cleared: bool,
) -> None:
    """Whatever the service does about a token that it knows: its documentation does not say."""
    if service == "forgets":
        emulator.configure(client_token_window_seconds=0)
    else:
        emulator.configure(client_token_repeat=service)
    crash(place)
    with pytest.raises(Crash):
        create(if_exists=if_exists).execute(task.next_try())
    before = env_ids()
    assert len(before) == (1 if place == "after" else 0)
    ran = Ran(create(if_exists=if_exists), task.clear() if cleared else task.next_try())
    assert env_ids() == [ran.result]
    assert before in ([], [ran.result])
    assert ran.xcoms["env_created"] is True
    assert task.record["job_id"] == ran.result


def test_the_record_is_written_before_anything_is_sent(task: Task, crash: Callable[[str], None]) -> None:
    crash("before")
    with pytest.raises(Crash):
        create().execute(task.next_try())
    assert task.record["token"]
    assert task.record["job_id"] is None
    assert list(task.store.data) == ["tcbatch_env"], "a job's record has another key"


def test_a_try_that_was_replaced_makes_nothing(task: Task) -> None:
    old = task.next_try()
    task.next_try()
    with pytest.raises(Replaced):
        create().execute(old)
    assert env_ids() == []


def test_without_a_store_the_mark_brings_it_back(emulator: Emulator, crash: Callable[[str], None]) -> None:
    task = Task(retries=1, durable=False)
    crash("after")
    with pytest.raises(Crash):
        create(if_exists="fail").execute(task.next_try())
    [env_id] = env_ids()
    ran = Ran(create(if_exists="fail"), task.next_try())
    assert (ran.result, ran.xcoms["env_created"]) == (env_id, True)


@pytest.mark.parametrize("durable", [True, False])
def test_where_tags_are_denied_the_description_names_the_owner(
    emulator: Emulator, crash: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    task = Task(retries=1, durable=durable)
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "CreateComputeEnv" and action.compute_env.tags:
            raise e.PermissionDenied("no tags", code="UnauthorizedOperation")
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    members = {"EnvDescription": "mine"}
    first = Ran(create(members=members), task.next_try()).result
    info = TCBatchHook().describe_compute_env_create_info(first)
    assert info.env_description is not None
    assert info.env_description.startswith("mine [af-")
    again = Ran(create(members=members, if_exists="fail"), task.clear())
    assert (again.result, again.xcoms["env_created"]) == (first, True)


@pytest.mark.parametrize("by", ["update", "modify"])
def test_who_changes_the_description_leaves_the_owner_in_it(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    info = json.loads(os.environ["AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"])
    info["extra"]["ownership_mark"] = "name"
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    task = Task(retries=1, durable=False)
    env_id = Ran(create(members={"EnvDescription": "one"}), task.next_try()).result
    if by == "update":
        Ran(create(members={"EnvDescription": "two"}, if_exists="update"), task.next_try())
    else:
        Ran(modify(env_id, None, env_description="two"))
    text = TCBatchHook().describe_compute_env_create_info(env_id).env_description
    assert re.fullmatch(r"two \[af-[0-9a-f-]+\]", text or "")
    again = Ran(create(members={"EnvDescription": "two"}, if_exists="fail"), task.clear())
    assert again.result == env_id


def test_after_a_failure_the_retry_makes_another(task: Task, emulator: Emulator) -> None:
    emulator.configure(cvm_failures={"*": "no_stock"})
    with pytest.raises(e.ComputeEnvFailed):
        Ran(create(members={"ResourceMaxRetryCount": 0}), task.next_try())
    emulator.configure(cvm_failures={})
    assert Ran(create(members={"ResourceMaxRetryCount": 0}), task.next_try()).xcoms["tcbatch_env"]["running"] == 1


def test_nodes_that_a_killed_try_let_go_come_back(task: Task, emulator: Emulator) -> None:
    operator = create(2)
    context = task.next_try()
    env_id = Ran(operator, context).result
    operator.on_kill()  # outside of a task process nobody else can know of it
    wait_for(lambda: not now(env_id).compute_node_set)
    ran = Ran(create(2), task.next_try())
    assert (ran.result, ran.xcoms["tcbatch_env"]["running"]) == (env_id, 2)


@pytest.mark.parametrize(
    ("durable", "state", "nodes"),
    [
        (True, "failed", 0),
        (True, "success", 1),
        (True, "queued", 1),
        (True, "running", 0),
        (False, "failed", 0),
        (False, "success", 1),
        # It may be its successor that runs, which has found the environment by its name.
        (False, "running", 1),
    ],
)
def test_a_killed_worker_asks_what_became_of_its_task(
    task: Task, monkeypatch: pytest.MonkeyPatch, durable: bool, state: str, nodes: int
) -> None:
    """Whoever marks it as a success wants the environment; what was cleared is tried again."""
    operator, context = create(durable=durable), task.next_try()
    env_id = Ran(operator, context).result
    ti = instance_in(context)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object(), raising=False)
    states = {ti.run_id: {ti.task_id: state}}
    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", lambda **_: states)
    operator.on_kill()
    assert now(env_id).desired_compute_node_count == nodes


@pytest.mark.parametrize(("seconds", "budget", "nodes"), [(3.0, 30.0, 0), (120.0, killed._SECONDS, 1)])
def test_a_killed_worker_waits_for_a_busy_airflow(
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    budget: float,
    nodes: int,
) -> None:
    """As long as it may; it has more time here where it is to see the answer, however busy this machine is."""
    monkeypatch.setattr(killed, "_SECONDS", budget)
    operator, context = create(), task.next_try()
    env_id = Ran(operator, context).result
    ti = instance_in(context)

    def states(**_: Any) -> Any:
        time.sleep(seconds)
        return {ti.run_id: {ti.task_id: "failed"}}

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", object(), raising=False)
    monkeypatch.setattr(task_runner.RuntimeTaskInstance, "get_task_states", states)
    begun = time.monotonic()
    operator.on_kill()
    assert time.monotonic() - begun < budget + 15
    assert now(env_id).desired_compute_node_count == nodes
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and env_id in r.getMessage()]
    assert [("airflow tcbatch orphans --end" in warning) for warning in warnings] == [True] * bool(nodes)


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_worker_killed_while_the_environment_is_on_its_way(
    task: Task, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """The signal comes before there is anything to let go."""
    real = ApiClient.call
    operator = create()

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if place == "before" and action.name() == "DescribeComputeEnvs":
            operator.on_kill()
        answer = real(self, action, **options)
        if place == "after" and action.name() == "CreateComputeEnv":
            operator.on_kill()
        return answer

    monkeypatch.setattr(ApiClient, "call", call)
    with pytest.raises(e.TCBatchError, match="was killed"):
        operator.execute(task.next_try())
    assert [now(env_id).desired_compute_node_count for env_id in env_ids()] == ([] if place == "before" else [0])


def test_a_quota_that_the_environment_itself_fills(task: Task, emulator: Emulator) -> None:
    """The answer is lost, and the request, sent again, meets the quota: the token is kept for the next try."""
    emulator.configure(compute_env_quota=1, client_token_window_seconds=0)
    emulator.faults.add("lose_answer", action="CreateComputeEnv", count=1)
    try:
        env_id = Ran(create(), task.next_try()).result
    except e.QuotaExceeded:
        env_id = Ran(create(), task.next_try()).result
    assert env_ids() == [env_id]
    assert task.record["job_id"] == env_id
    emulator.faults.clear()


def test_a_token_is_as_old_as_the_environment_that_may_have_been_made_under_it(
    task: Task, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first request is lost, and what is sent later, maybe for an hour, is refused."""
    emulator.configure(compute_env_quota=1, client_token_window_seconds=0)
    emulator.faults.add("lose_answer", action="CreateComputeEnv", count=1)
    sent: list[float] = []
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() == "CreateComputeEnv":
            first = options["before_send"]

            def timed() -> None:
                sent.append(time.time())
                first()

            options["before_send"] = timed
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    with pytest.raises(e.QuotaExceeded):
        create().execute(task.next_try())
    emulator.faults.clear()
    assert len(sent) == 2
    assert sent[0] <= task.record["token_sent_at"] < sent[1]


def test_ten_tags_leave_the_description_for_the_owner(task: Task) -> None:
    tags = [{"Key": f"k{number}", "Value": "v"} for number in range(10)]
    env_id = Ran(create(members={"Tags": tags}), task.next_try()).result
    assert len(now(env_id).tags) == 10
    assert "[af-" in (TCBatchHook().describe_compute_env_create_info(env_id).env_description or "")


def test_a_cleared_task_makes_again_what_was_deleted(task: Task) -> None:
    first = Ran(create(), task.next_try()).result
    assert TCBatchHook().remove_compute_env(first, patience=20) is None
    second = Ran(create(), task.clear()).result
    assert second != first
    assert env_ids() == [second]


def a_day_passes(store: Store) -> None:
    """What is stored was written a day earlier."""
    for record in store.data.values():
        record["token_sent_at"] -= 86400
        if record["submitted_at"] is not None:
            record["submitted_at"] -= 86400


@pytest.mark.parametrize("cleared", [False, True], ids=["retry", "cleared"])
@pytest.mark.parametrize("done", [False, True], ids=["killed", "done"])
def test_an_old_environment_has_the_whole_timeout_for_other_nodes(
    task: Task, monkeypatch: pytest.MonkeyPatch, done: bool, cleared: bool
) -> None:
    first = create(1, timeout=60)
    if not done:
        monkeypatch.setattr(first, "reached", lambda *_: None)
    env_id = Ran(first, task.next_try()).result
    a_day_passes(task.store)
    context = task.clear() if cleared else task.next_try()
    ran = Ran(create(2, if_exists="update", timeout=60), context)
    assert (ran.result, now(env_id).compute_node_metrics.running_count) == (env_id, 2)
    assert task.record["submitted_at"] == pytest.approx(time.time(), abs=600)


def test_only_a_clear_gives_an_unfinished_creation_more_time(
    task: Task, emulator: Emulator, crash: Callable[[str], None]
) -> None:
    emulator.configure(node_creating_seconds=3)
    options = {"timeout": 60, "cancel_on_failure": False}
    crash("after")
    with pytest.raises(Crash):
        create(**options).execute(task.next_try())
    a_day_passes(task.store)
    with pytest.raises(e.ComputeEnvTimeout):
        Ran(create(**options), task.next_try())
    assert [Ran(create(**options), task.clear()).result] == env_ids()


# -- changing ----------------------------------------------------------------------------------------------


def modify(env_id: str, nodes: int | str | None, **options: Any) -> TCBatchModifyComputeEnvOperator:
    options = {"deferrable": False, "poll_interval": 0.2, **options}
    return TCBatchModifyComputeEnvOperator(task_id="modify", env_id=env_id, desired_compute_node_count=nodes, **options)


@both
def test_scaling_up_and_down(deferrable: bool) -> None:
    env_id = made(1)
    up = Ran(modify(env_id, "3", deferrable=deferrable))
    assert up.xcoms["tcbatch_env"] == {"desired": 3, "running": 3, "failed": 0, "present": 3, "attached": 0}
    down = Ran(modify(env_id, 1, deferrable=deferrable))
    assert down.xcoms["tcbatch_env"]["present"] == 1
    zero = Ran(modify(env_id, 0, deferrable=deferrable, new_name="empty"))
    assert zero.xcoms["tcbatch_env"]["present"] == 0
    assert env_ids("empty") == [env_id]


def test_scaling_explains_what_fails(emulator: Emulator) -> None:
    env_id = made(1)
    emulator.configure(cvm_failures={"*": "quota"})
    with pytest.raises(e.ComputeEnvFailed, match=r"LimitExceeded\.InstanceQuota"):
        Ran(modify(env_id, 2))


@both
def test_a_change_that_is_refused_now_is_asked_for_again(emulator: Emulator, deferrable: bool) -> None:
    """Nodes that are being made can't go yet."""
    emulator.configure(node_creating_seconds=2)
    env_id = made(2, running=False)
    operator = modify(env_id, 0, deferrable=deferrable)
    Ran(operator)
    assert now(env_id).compute_node_set == []
    assert operator.hook.api.sent["ModifyComputeEnv"] > 1


def test_only_a_name_is_not_waited_for() -> None:
    env_id = made(1, running=False)
    operator = modify(env_id, None, new_name="other", deferrable=True)
    assert Ran(operator).result == env_id
    assert env_ids("other") == [env_id]


def test_what_is_to_be_changed_must_be_said() -> None:
    with pytest.raises(e.InvalidRequest, match="at least one"):
        modify("env-1", None)
    with pytest.raises(e.InvalidRequest, match="0 to 2000"):
        modify("env-1", 2001)
    with pytest.raises(e.InvalidRequest, match="env_id or env_name"):
        TCBatchModifyComputeEnvOperator(task_id="x", env_id="env-1", env_name="pool", desired_compute_node_count=1)


def test_what_does_not_exist_can_not_be_changed() -> None:
    with pytest.raises(e.NotFound):
        Ran(modify("env-00000000", 1))


# -- deleting ----------------------------------------------------------------------------------------------


def delete(**options: Any) -> TCBatchDeleteComputeEnvOperator:
    return TCBatchDeleteComputeEnvOperator(task_id="delete", **{"deferrable": False, "poll_interval": 0.2, **options})


@both
@pytest.mark.parametrize("by", ["env_id", "env_name"])
def test_it_is_scaled_to_zero_and_deleted(deferrable: bool, by: str) -> None:
    env_id = made(2)
    ran = Ran(delete(deferrable=deferrable, **{by: env_id if by == "env_id" else "pool"}))
    assert ran.result == env_id
    with pytest.raises(e.NotFound):
        now(env_id)


@pytest.mark.parametrize("given", [{"env_id": "env-00000000"}, {"env_name": "nobody"}, {"env_id": "None"}])
def test_what_is_missing_is_deleted_already(given: dict[str, str]) -> None:
    assert Ran(delete(**given)).result is None
    with pytest.raises(e.NotFound):
        Ran(delete(missing_ok=False, **given))


@both
def test_nodes_that_are_being_made_are_waited_for(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_creating_seconds=1.5)
    env_id = made(2, running=False)
    Ran(delete(env_id=env_id, deferrable=deferrable))
    assert env_ids() == []


def submit_to(env_id: str, command: str) -> str:
    body = job(command)
    del body["Tasks"][0]["ComputeEnv"]
    body["Tasks"][0]["EnvId"] = env_id
    job_id = TCBatchHook().submit_job(body)
    wait_for(lambda: TCBatchHook().describe_job(job_id).job_state == "RUNNING")
    return job_id


@both
def test_what_runs_on_a_node_is_waited_for(emulator: Emulator, gate: Path, deferrable: bool) -> None:
    env_id = made(2)
    job_id = submit_to(env_id, f"until [ -e {gate} ]; do sleep 0.05; done")
    operator = delete(env_id=env_id, deferrable=deferrable, timeout=2)
    with pytest.raises(e.ComputeEnvTimeout, match=r"deletion .* within timeout \(2 s\)"):
        Ran(operator)
    assert now(env_id).desired_compute_node_count == 1, "the idle node costs nothing meanwhile"
    gate.touch()
    Ran(delete(env_id=env_id, deferrable=deferrable))
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert env_ids() == []


def test_force_waits_for_nothing(emulator: Emulator, gate: Path) -> None:
    env_id = made(2)
    job_id = submit_to(env_id, f"until [ -e {gate} ]; do sleep 0.05; done")
    Ran(delete(env_id=env_id, force=True))
    assert env_ids() == []
    assert emulator.wait_job(job_id) == "FAILED"


def test_instances_of_ones_own_are_let_go() -> None:
    env_id = made(1)
    TCBatchHook().attach_instances(env_id, [{"InstanceId": "ins-12345678"}])
    Ran(delete(env_id=env_id))
    assert env_ids() == []


def test_a_busy_environment_is_asked_again(emulator: Emulator) -> None:
    env_id = made(1)
    emulator.configure(env_busy_seconds=0.5)
    Ran(delete(env_id=env_id))
    assert env_ids() == []


# -- nodes and instances -----------------------------------------------------------------------------------


@both
def test_nodes_are_destroyed_and_waited_for(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_deleting_seconds=0.5)
    env_id = made(3)
    first, second, third = [node.compute_node_id for node in now(env_id).compute_node_set]
    options = {"env_id": env_id, "poll_interval": 0.2, "deferrable": deferrable}
    Ran(TCBatchTerminateComputeNodesOperator(task_id="end", compute_node_ids=[first, second], **options))
    assert [node.compute_node_id for node in now(env_id).compute_node_set] == [third]
    again = TCBatchTerminateComputeNodesOperator(task_id="end", compute_node_ids=first, **options)
    assert Ran(again).result == env_id
    assert "TerminateComputeNode" not in again.hook.api.sent, "what is gone is not destroyed again"


@both
def test_instances_come_and_go(emulator: Emulator, deferrable: bool) -> None:
    emulator.configure(node_created_seconds=0.5)
    env_id = made(1)
    options = {"env_id": env_id, "poll_interval": 0.2, "deferrable": deferrable}
    instances = [{"instance_id": "ins-12345678", "image_id": "img-pyqx34y1"}, "ins-87654321"]
    attach = TCBatchAttachInstancesOperator(task_id="attach", instances=instances, **options)
    ran = Ran(attach)
    assert ran.xcoms["tcbatch_env"] == {"desired": 1, "running": 3, "failed": 0, "present": 3, "attached": 2}
    again = TCBatchAttachInstancesOperator(task_id="attach", instances=instances, **options)
    assert Ran(again).result == env_id
    assert "AttachInstances" not in again.hook.api.sent, "their systems would be installed anew"
    for _ in range(2):
        ids = ["ins-12345678", "ins-87654321"]
        Ran(TCBatchDetachInstancesOperator(task_id="detach", instance_ids=ids, **options))
        assert now(env_id).attached_compute_node_count == 0


def test_instances_that_can_not_be_attached_are_an_error(emulator: Emulator) -> None:
    emulator.configure(unattachable_instances=["ins-12345678"])
    with pytest.raises(e.ResourceBusy):
        Ran(TCBatchAttachInstancesOperator(task_id="attach", env_id=made(0), instances="ins-12345678"))


def test_a_password_stays_out_of_the_template_field() -> None:
    entry = {"InstanceId": "ins-12345678", "LoginSettings": {"Password": "very-secret"}}
    operator = TCBatchAttachInstancesOperator(task_id="attach", env_id="env-1", instances=[entry])
    assert "very-secret" not in json.dumps(operator.instances)
    [final] = operator._final()
    assert final.login_settings is not None
    assert final.login_settings.password is not None
    assert final.login_settings.password.get_secret_value() == "very-secret"


# -- waiting -----------------------------------------------------------------------------------------------


@both
def test_an_environment_that_vanishes_is_told(
    emulator: Emulator, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long one may be unknown to the service that has just been made.
    monkeypatch.setattr(poller, "WatcherTimings", partial(WatcherTimings, missing=1.0))
    emulator.configure(node_creating_seconds=30)
    env_id = made(1, running=False)

    def vanish() -> None:
        emulator.on_loop(lambda services: services.batch.envs.pop(env_id))

    operator = create(deferrable=deferrable)
    if deferrable:
        with pytest.raises(e.ComputeEnvError, match="does not exist"):
            Ran(operator, meanwhile=vanish)
        return
    settle = env_creation.EnvCreation.settle

    def then_vanish(self: env_creation.EnvCreation) -> Any:
        found = settle(self)
        vanish()
        return found

    monkeypatch.setattr(env_creation.EnvCreation, "settle", then_vanish)
    with pytest.raises(e.ComputeEnvError, match="does not exist"):
        Ran(operator)


def test_waiting_that_fails_again_and_again_ends() -> None:
    env_id = made(1)
    operator = modify(env_id, 2, deferrable=True, poll_interval=0.2)
    context = Task().next_try()
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    carried = deferred.value.trigger.carried["carried"]
    event = {"status": "error", "message": "no network", "env_id": env_id, "carried": {**carried, "errors": 3}}
    with pytest.raises(e.ComputeEnvError, match="failed 4 times, the last time with: no network"):
        operator.execute_complete(context, event)
