"""Set-up and tear-down of compute environments, of a run's own and shared, against the emulator."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context
from airflow.sdk.api.datamodels._generated import DagRunState

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.compute_env import creation as env_creation
from airflow_provider_tcbatch.execution.compute_env.sharing import SharedCreation
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.compute_env_setup import (
    TCBatchSetUpComputeEnvOperator,
    TCBatchTearDownComputeEnvOperator,
)
from airflow_provider_tcbatch.operators.task_template_setup import (
    TCBatchSetUpTaskTemplateOperator,
    TCBatchTearDownTaskTemplateOperator,
)
from tests.support.task_context import Store, TaskDeferred, TaskInstance, instance_in
from tests.unit.operators.test_compute_env import FAST_LIMITS, HAS_STORE, PACE, a_day_passes, event_of, wish

SETUP, TEARDOWN = "machines", "machines_teardown"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, emulator: Emulator) -> Iterator[None]:
    monkeypatch.setattr(env_creation, "UNKNOWN_SECONDS", 3.0)
    info = json.loads(emulator.info.airflow_conn_json)
    extra = info.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    info["extra"] = {**extra, "api_limits": json.dumps(FAST_LIMITS)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    emulator.configure(**PACE)
    yield
    emulator.on_loop(lambda services: services.batch.envs.clear())


class Airflow:
    """As much of Airflow as set-ups and tear-downs ask: states and XComs of several runs."""

    def __init__(self) -> None:
        self.states: dict[str, dict[str, str | None]] = {}
        self.runs: dict[str, str] = {}
        self.xcoms: dict[tuple[str, str], dict[str, Any]] = {}
        self.stores: dict[tuple[str, str], Store] = {}
        self.context: Context = {}

    def begin(self, run_id: str, task_id: str) -> Context:
        """A task begins: its context."""
        self.states.setdefault(run_id, {SETUP: None, TEARDOWN: None})[task_id] = "running"
        self.xcoms[run_id, task_id] = {}
        ti = TaskInstance(task_id=task_id)
        ti.run_id = run_id
        ti.xcoms = self.xcoms[run_id, task_id]
        ti.start_date = datetime.now(timezone.utc)
        more = {
            "xcom_pull": lambda task_ids, key, dag_id="a_dag", run_id=run_id, map_indexes=None: self.xcoms.get(
                (run_id, task_ids), {}
            ).get(key),
            "get_task_states": lambda dag_id, task_ids: {"a_dag": self.states}.get(dag_id, {}),
            "get_dagrun_state": lambda dag_id, run_id: DagRunState(self.runs.get(run_id, "running")),
        }
        for name, method in more.items():
            setattr(ti, name, method)
        context: dict[str, Any] = {"ti": ti, "dag_run": SimpleNamespace()}
        if HAS_STORE:
            store = self.stores.setdefault((run_id, task_id), Store())
            store.current = ti.id
            context["task_state_store"] = store.accessor(ti.id)
        # Airflow's, as far as an operator looks: the values are of types of their own.
        return cast("Context", context)

    def run(self, operator: Any, run_id: str) -> Any:
        """Run a task to its end, deferrals included; what it returns."""
        self.context = self.begin(run_id, operator.task_id)
        try:
            result = operator.execute(self.context)
        except TaskDeferred as deferred:
            result = deferred
        except Exception:
            self.states[run_id][operator.task_id] = "failed"
            raise
        while isinstance(result, TaskDeferred):
            event = asyncio.run(event_of(result.trigger))
            try:
                result = operator.execute_complete(self.context, event)
            except TaskDeferred as deferred:
                result = deferred
        instance_in(self.context).xcom_push(key="return_value", value=result)
        self.states[run_id][operator.task_id] = "success"
        return result


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


def set_up(**options: Any) -> TCBatchSetUpComputeEnvOperator:
    options = {"deferrable": False, "poll_interval": 0.2, "compute_env": wish(1), **options}
    return TCBatchSetUpComputeEnvOperator(task_id=SETUP, teardown_task_id=TEARDOWN, **options)


def tear_down(**options: Any) -> TCBatchTearDownComputeEnvOperator:
    options = {"deferrable": False, "poll_interval": 0.2, **options}
    return TCBatchTearDownComputeEnvOperator(task_id=TEARDOWN, setup_task_id=SETUP, **options)


def shared() -> dict[str, Any]:
    # Operators of no DAG stand in one called so.
    return {"shared_by": ["a_dag", "adhoc_airflow"]}


def names() -> dict[str, str]:
    return {view.env_id: str(view.env_name) for view in TCBatchHook().describe_compute_envs() if not view.next_action}


class Killed(BaseException):
    """The worker is killed here."""


def kill_after(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """The worker dies when the service has carried out the action, before the answer arrives."""
    from airflow_provider_tcbatch.client.api import ApiClient

    call = ApiClient.call

    def dies(self: ApiClient, request: Any, **options: Any) -> Any:
        answer = call(self, request, **options)
        if type(request).__name__ == action:
            raise Killed
        return answer

    monkeypatch.setattr(ApiClient, "call", dies)


# -- of a run's own ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferred"])
def test_each_run_has_its_own_and_takes_it_away(airflow: Airflow, deferrable: bool) -> None:
    ids = [airflow.run(set_up(deferrable=deferrable), run_id) for run_id in ("one", "two")]
    assert len(set(ids)) == 2
    assert all(name.startswith("pool-") for name in names().values())
    assert airflow.run(tear_down(deferrable=deferrable), "one") == [ids[0]]
    assert list(names()) == [ids[1]]
    assert airflow.run(tear_down(deferrable=deferrable), "two") == [ids[1]]
    assert names() == {}
    assert airflow.run(tear_down(deferrable=deferrable), "two") == []


@pytest.mark.parametrize("mark", ["tag", "name", "none"])
def test_a_set_up_killed_before_the_answer_leaves_nothing(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_TENCENTCLOUD_DEFAULT"])
    connection["extra"]["ownership_mark"] = mark
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(connection))
    with monkeypatch.context() as patch:
        kill_after(patch, "CreateComputeEnv")
        with pytest.raises(Killed):
            airflow.run(set_up(), "one")
    [env_id] = names()
    assert airflow.run(tear_down(), "one") == [env_id]
    assert names() == {}


def test_what_is_not_listed_yet_is_waited_for(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        kill_after(patch, "CreateComputeEnv")
        with pytest.raises(Killed):
            airflow.run(set_up(), "one")
    [env_id] = names()
    describe, looks = TCBatchHook.describe_compute_envs, []

    def late(self: TCBatchHook, *args: Any, **kwargs: Any) -> Any:
        looks.append(1)
        return iter(()) if len(looks) == 1 else describe(self, *args, **kwargs)

    monkeypatch.setattr(TCBatchHook, "describe_compute_envs", late)
    monkeypatch.setattr(env_creation, "UNKNOWN_SECONDS", 60.0)
    assert airflow.run(tear_down(), "one") == [env_id]


def test_of_one_that_never_began_nothing_is_waited_for(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_creation, "UNKNOWN_SECONDS", 1000.0)
    assert airflow.run(tear_down(), "one") == []


def test_a_retry_goes_on_and_what_was_made_twice_goes_twice(airflow: Airflow, emulator: Emulator) -> None:
    first = airflow.run(set_up(), "one")
    assert airflow.run(set_up(), "one") == first
    name = names()[first]
    second = TCBatchHook().create_compute_env(wish(0, name))
    assert sorted(airflow.run(tear_down(deferrable=True), "one")) == sorted([first, second])
    assert names() == {}


def test_it_may_be_kept_without_nodes_or_as_it_is(airflow: Airflow) -> None:
    env_id = airflow.run(set_up(), "one")
    assert airflow.run(tear_down(on_teardown="keep"), "one") == []
    assert TCBatchHook().describe_compute_env(env_id).desired_compute_node_count == 1
    assert airflow.run(tear_down(on_teardown="scale_to_zero", deferrable=True), "one") == [env_id]
    view = TCBatchHook().describe_compute_env(env_id)
    assert (view.desired_compute_node_count, view.compute_node_set or []) == (0, [])
    assert airflow.run(set_up(), "one") == env_id, "a clear gives it its nodes back"
    assert TCBatchHook().describe_compute_env(env_id).desired_compute_node_count == 1


def test_a_clear_on_the_next_day_has_the_whole_timeout_for_the_nodes(airflow: Airflow) -> None:
    env_id = airflow.run(set_up(timeout=60), "one")
    airflow.run(tear_down(on_teardown="scale_to_zero"), "one")
    for store in airflow.stores.values():
        a_day_passes(store)
    assert airflow.run(set_up(timeout=60), "one") == env_id


@pytest.mark.parametrize("options", [{}, {"wait_for_nodes": 3}], ids=["all", "as_many_as_are_written"])
def test_a_clear_gives_back_what_a_waiting_tear_down_has_taken(airflow: Airflow, options: dict[str, Any]) -> None:
    env_id = airflow.run(set_up(compute_env=wish(3)), "one")
    # As a tear-down does that waits for the one node on which something runs.
    TCBatchHook().modify_compute_env(env_id, desired_compute_node_count=1)
    assert airflow.run(set_up(compute_env=wish(3), **options), "one") == env_id
    assert airflow.xcoms["one", SETUP]["tcbatch_env"]["running"] == 3


def test_it_touches_nobody_elses(airflow: Airflow) -> None:
    others = [TCBatchHook().create_compute_env(wish(0, name)) for name in ("pool", "pool-0123456789ab")]
    airflow.run(set_up(), "one")
    airflow.run(tear_down(), "one")
    assert sorted(names()) == sorted(others)


def test_a_name_without_room_is_refused(airflow: Airflow) -> None:
    with pytest.raises(PermanentInvalidRequest, match="write 1 to 40"):
        airflow.run(set_up(compute_env=wish(1, "x" * 41)), "one")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_teardown": "destroy"}, "delete, scale_to_zero, keep"),
        ({"on_teardown": "scale_to_zero", "shared_by": True}, "delete or keep"),
        ({"shared_by": ["another_dag"]}, "this one"),
    ],
)
def test_mistakes_are_found_when_the_dag_is_parsed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(e.InvalidRequest, match=message):
        tear_down(**options)


# -- shared ------------------------------------------------------------------------------------------------


def test_the_last_user_takes_it_away(airflow: Airflow) -> None:
    env_id = airflow.run(set_up(**shared()), "one")
    assert airflow.run(set_up(**shared()), "two") == env_id
    assert airflow.run(tear_down(**shared()), "one") == []
    [name] = names().values()
    assert not name.endswith("-closed"), "as long as it is used, others find it"
    assert airflow.run(set_up(**shared()), "three") == env_id
    assert airflow.run(tear_down(**shared()), "two") == []
    assert airflow.run(tear_down(**shared(), deferrable=True), "three") == [env_id]
    assert names() == {}


def test_a_run_that_somebody_has_ended_is_no_user(airflow: Airflow) -> None:
    env_id = airflow.run(set_up(**shared()), "one")
    airflow.run(set_up(**shared()), "two")
    airflow.runs["two"] = "failed"
    assert airflow.run(tear_down(**shared()), "one") == [env_id]


def test_a_set_up_that_fails_leaves_it_to_the_others(airflow: Airflow, emulator: Emulator) -> None:
    env_id = airflow.run(set_up(**shared()), "one")
    emulator.configure(cvm_failures={"*": "no_stock"})
    TCBatchHook().modify_compute_env(env_id, desired_compute_node_count=2)
    with pytest.raises(e.ComputeEnvError):
        airflow.run(set_up(**shared(), timeout=3), "two")
    assert list(names()) == [env_id]
    assert airflow.run(tear_down(**shared()), "two") == []
    assert airflow.run(tear_down(**shared()), "one") == [env_id]


def test_a_closed_one_is_not_taken(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tear-down dies after it has closed the environment: others make their own, and the last removes both."""
    first = airflow.run(set_up(**shared()), "one")
    with monkeypatch.context() as patch:
        kill_after(patch, "ModifyComputeEnv")
        with pytest.raises(Killed):
            airflow.run(tear_down(**shared()), "one")
    assert names()[first].endswith("-closed")
    second = airflow.run(set_up(**shared()), "two")
    assert second != first
    assert sorted(airflow.run(tear_down(**shared()), "two")) == sorted([first, second])
    assert airflow.run(tear_down(**shared()), "one") == []


def test_one_that_is_closed_while_it_is_found_goes_when_nobody_uses_it(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = airflow.run(set_up(**shared()), "one")
    airflow.states["one"][TEARDOWN] = "running"
    find = TCBatchHook.find_compute_envs

    def then_close(self: TCBatchHook, name: str) -> Any:
        found = find(self, name)
        for view in found:
            if view.env_id == first:
                self.modify_compute_env(first, env_name=f"{name}-closed")
        return found

    monkeypatch.setattr(TCBatchHook, "find_compute_envs", then_close)
    second = airflow.run(set_up(**shared()), "two")
    assert second != first
    assert list(names()) == [second], "nobody used the first one any more"
    assert airflow.xcoms["two", SETUP]["tcbatch_env_uses"] == [second]


@pytest.mark.parametrize("durable", [True, False])
def test_one_that_is_closed_as_soon_as_it_is_made_is_followed_by_another(
    airflow: Airflow, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    """Where nothing is remembered, the ClientToken of the first one would bring that one again."""
    create = SharedCreation._create
    made: list[Any] = []

    def then_close(self: SharedCreation) -> Any:
        found = create(self)
        if not made:
            TCBatchHook().modify_compute_env(found.env_id, env_name=f"{names()[found.env_id]}-closed")
        made.append(found.env_id)
        return found

    monkeypatch.setattr(SharedCreation, "_create", then_close)
    env_id = airflow.run(set_up(**shared(), durable=durable), "one")
    assert made[1:] == [env_id]
    assert list(names()) == [env_id]


def test_a_shared_one_is_taken_with_as_many_nodes_as_it_has(airflow: Airflow) -> None:
    env_id = airflow.run(set_up(**shared()), "one")
    assert airflow.run(set_up(**shared(), compute_env=wish(2)), "two") == env_id
    assert airflow.xcoms["two", SETUP]["tcbatch_env"]["desired"] == 1


def test_of_two_made_at_once_the_older_is_taken(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    find, looks = TCBatchHook.find_compute_envs, []

    def blind_at_first(self: TCBatchHook, name: str) -> Any:
        looks.append(1)
        return [] if len(looks) == 1 else sorted(find(self, name), key=lambda view: view.env_id != first)

    first = airflow.run(set_up(**shared()), "one")
    with monkeypatch.context() as patch:
        patch.setattr(TCBatchHook, "find_compute_envs", blind_at_first)
        # Times are full seconds; which of two is the older one is decided by their ids then.
        patch.setattr("airflow_provider_tcbatch.execution.compute_env.sharing.age", lambda view: view.env_id != first)
        assert airflow.run(set_up(**shared()), "two") == first
    assert list(names()) == [first]
    assert airflow.xcoms["two", SETUP]["tcbatch_env_uses"] == [first]


def test_where_renaming_is_refused_the_error_says_what_to_do(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    env_id = airflow.run(set_up(**shared()), "one")

    def refuses(self: TCBatchHook, env_id: str, **changes: Any) -> None:
        if "env_name" in changes:
            raise e.InvalidRequest("EnvName can't be changed", code="InvalidParameter")
        modify(self, env_id, **changes)

    modify = TCBatchHook.modify_compute_env
    monkeypatch.setattr(TCBatchHook, "modify_compute_env", refuses)
    with pytest.raises(PermanentInvalidRequest, match="renames=False"):
        airflow.run(tear_down(**shared()), "one")
    assert airflow.run(tear_down(**shared(), renames=False), "one") == [env_id]


# -- templates ---------------------------------------------------------------------------------------------

TASK = {
    "TaskName": "count",
    "Application": {"DeliveryForm": "LOCAL", "Command": "true"},
    "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
}


def test_a_template_of_a_runs_own(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> TCBatchSetUpTaskTemplateOperator:
        return TCBatchSetUpTaskTemplateOperator(task_id=SETUP, name="resource-count", task=TASK)

    def take(**options: Any) -> TCBatchTearDownTaskTemplateOperator:
        return TCBatchTearDownTaskTemplateOperator(task_id=TEARDOWN, setup_task_id=SETUP, **options)

    def there() -> set[str]:
        views = TCBatchHook().describe_task_templates()
        return {
            view.task_template_id for view in views if (view.task_template_name or "").startswith("resource-count-")
        }

    one, two = airflow.run(make(), "one"), airflow.run(make(), "two")
    assert there() == {one, two}
    assert airflow.run(make(), "one") == one
    assert airflow.run(take(on_teardown="keep"), "one") == []
    assert airflow.run(take(), "one") == [one]
    assert airflow.run(take(), "two") == [two]
    with monkeypatch.context() as patch:
        kill_after(patch, "CreateTaskTemplate")
        with pytest.raises(Killed):
            airflow.run(make(), "three")
    assert airflow.run(take(), "three") != []
    assert there() == set()
    with pytest.raises(e.InvalidRequest, match="delete or keep"):
        take(on_teardown="scale_to_zero")
