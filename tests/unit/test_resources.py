"""Parts of DAGs between set-up and tear-down: what is wired to what, and whole runs with ``dag.test()``."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, TaskGroup, task, task_group

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import ConfigurationError, InvalidRequest
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.resources import compute_environment, task_template
from tests.unit.operators.test_compute_env import FAST_LIMITS, PACE, wish

ENV = wish(1)


class Work(BaseOperator):
    template_fields = ("takes",)

    def __init__(self, takes: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.takes = takes


def before(dag: DAG) -> dict[str, set[str]]:
    """What each task has directly before it."""
    validate: Callable[[], None] = dag.validate
    validate()
    return {name: set(one.upstream_task_ids) for name, one in dag.task_dict.items()}


def test_every_kind_of_task_stands_between_the_two() -> None:
    with DAG("d", schedule=None) as dag:
        outside = Work(task_id="outside")
        with compute_environment("env", compute_env=ENV) as env:
            Work(task_id="classic", takes=env.env_id)
            mapped = Work.partial(task_id="mapped").expand(takes=[1, 2])

            @task
            def flow(takes: Any) -> None: ...

            flow(env.env_id)
            flow.override(task_id="mapped_flow").expand(takes=[1, 2])
            with TaskGroup("group"):
                Work(task_id="one") >> Work(task_id="two")

            @task_group
            def groups(takes: Any) -> None:
                Work(task_id="one", takes=takes) >> Work(task_id="two")

            groups.expand(takes=[1, 2])
            outside >> mapped
        mapped >> Work(task_id="after")
    assert before(dag) == {
        "outside": set(),
        "env": set(),
        "classic": {"env"},
        "mapped": {"env", "outside"},
        "flow": {"env"},
        "mapped_flow": {"env"},
        "group.one": {"env"},
        "group.two": {"group.one"},
        "groups.one": {"env"},
        "groups.two": {"groups.one"},
        "after": {"mapped"},
        "env_teardown": {
            *("env", "classic", "mapped", "flow", "mapped_flow", "group.two", "groups.one", "groups.two"),
        },
    }
    assert [dag.task_dict[name].is_setup for name in ("env", "classic", "env_teardown")] == [True, False, False]
    teardown = dag.task_dict["env_teardown"]
    assert teardown.is_teardown
    assert not teardown.on_failure_fail_dagrun
    assert teardown.trigger_rule == "all_done"


def test_one_inside_another() -> None:
    with (
        DAG("d", schedule=None) as dag,
        compute_environment("outer", compute_env=ENV),
        task_template("inner", name="t", task=TASK) as inner,
    ):
        Work(task_id="work", takes=inner.task_template_id)
    assert before(dag) == {
        "outer": set(),
        "inner": {"outer"},
        "work": {"inner"},
        "inner_teardown": {"inner", "work"},
        "outer_teardown": {"outer", "work", "inner_teardown"},
    }


def test_a_tear_down_waits_for_what_may_run_on_after_the_last_task() -> None:
    """A failure fails what comes after it at once, while its neighbours run on: these are waited for themselves."""
    with DAG("d", schedule=None) as dag, compute_environment("env", compute_env=ENV):
        one, two, last = (Work(task_id=name) for name in ("one", "two", "last"))
        [one, two] >> last >> Work(task_id="very_last")
    assert before(dag)["env_teardown"] == {"env", "one", "two", "very_last"}


def test_what_keeps_a_tear_down_from_running_is_told() -> None:
    with (
        DAG("d", schedule=None, dagrun_timeout=timedelta(hours=1)),
        pytest.warns(UserWarning, match="dagrun_timeout.*skips 'env_teardown'.*'env' made stays"),
        compute_environment("env", compute_env=ENV),
    ):
        Work(task_id="work")


def test_in_a_task_group_names_are_whole() -> None:
    with DAG("d", schedule=None) as dag, TaskGroup("g"), compute_environment("env", compute_env=ENV):
        Work(task_id="work")
    assert before(dag)["g.env_teardown"] == {"g.env", "g.work"}
    set_up, tear_down = (dag.task_dict[name] for name in ("g.env", "g.env_teardown"))
    assert set_up.pair == tear_down.pair  # type: ignore[union-attr]


def test_what_airflow_wants_of_the_first_task_is_said() -> None:
    with (
        DAG("d", schedule=None),
        pytest.raises(InvalidRequest, match=r"'late'.*'none_failed'.*all_success"),
        compute_environment("env", compute_env=ENV) as env,
    ):
        Work(task_id="first") >> Work(task_id="late", takes=env.env_id, trigger_rule="none_failed")


def test_as_text_it_makes_no_edge() -> None:
    with DAG("d", schedule=None) as dag, compute_environment("env", compute_env=ENV) as env:
        Work(task_id="first") >> Work(task_id="late", takes=f"{env.env_id}", trigger_rule="none_failed")
    assert before(dag)["late"] == {"first"}


def test_the_runs_of_which_dags_share_is_known_to_both_tasks() -> None:
    with DAG("d", schedule=None), compute_environment("env", compute_env=ENV, shared_by=True) as one:
        pass
    assert one.set_up.pair.dag_ids == one.tear_down.pair.dag_ids == ("d",)  # type: ignore[attr-defined]
    with DAG("e", schedule=None), compute_environment("env", compute_env=ENV, shared_by=["e", "d"]) as two:
        pass
    assert two.tear_down.pair.dag_ids == ("d", "e")  # type: ignore[attr-defined]


def test_arguments_reach_the_task_that_they_are_for() -> None:
    options: dict[str, Any] = {"deferrable": True, "poll_interval": 5, "pool": "p", "timeout": 60, "retries": 1}
    with (
        DAG("d", schedule=None),
        compute_environment("env", compute_env=ENV, teardown_args={"pool": "q"}, **options) as env,
    ):
        pass
    first, last = (
        {name: getattr(one, name) for name in ("deferrable", "poll_interval", "pool", "timeout", "retries")}
        for one in (env.set_up, env.tear_down)
    )
    assert first == options
    assert last == {**options, "pool": "q", "timeout": None, "retries": 3}


def test_a_dag_is_needed_and_each_with_statement_has_its_own() -> None:
    resource = compute_environment("env", compute_env=ENV)
    with pytest.raises(ConfigurationError, match="make it inside a DAG"), resource:
        pass
    with DAG("d", schedule=None):
        again = compute_environment("env", compute_env=ENV)
        with again:
            pass
        with pytest.raises(ConfigurationError, match="used already"), again:
            pass


# -- whole runs --------------------------------------------------------------------------------------------

TASK = {
    "TaskName": "main",
    "Application": {"DeliveryForm": "LOCAL", "Command": "echo $WORD"},
    "ComputeEnv": {"EnvData": {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}},
}

DAG_FILE = """
from airflow.sdk import DAG, task
from airflow_provider_tcbatch.operators.job import TCBatchSubmitJobOperator
from airflow_provider_tcbatch.resources import compute_environment, task_template

with (
    DAG("in_between", schedule=None, params={{"fails": False, "debug": False}}) as dag,
    compute_environment(
        "env",
        compute_env={env!r},
        on_teardown="{{{{ 'keep' if params.debug else 'delete' }}}}",
        deferrable=True,
        poll_interval=0.2,
        shared_by={shared!r},
    ) as env,
    task_template("template", name="in-between", task={task!r}) as template,
):

    @task
    def plan(env_id, template_id):
        words = [{{"EnvVars": [{{"Name": "WORD", "Value": word}}]}} for word in ("one", "two")]
        return [{{"Tasks": [{{"TaskTemplateId": template_id, "EnvId": env_id, **word}}]}} for word in words]

    @task
    def check(params):
        if params["fails"]:
            raise RuntimeError("this task fails")

    jobs = plan(env.env_id, template.task_template_id)
    TCBatchSubmitJobOperator.partial(task_id="jobs", deferrable=False, poll_interval=0.2).expand(job=jobs) >> check()
"""

GROUP = """
from airflow.sdk import DAG, task, task_group
from airflow_provider_tcbatch.resources import compute_environment

with DAG("in_group", schedule=None) as dag:

    @task
    def told(word, env_id):
        return f"{{word}} runs on {{env_id}}"

    @task_group
    def part(word):
        with compute_environment("env", compute_env={env!r}, poll_interval=0.2, shared_by={shared!r}) as env:
            told(word, env.env_id)

    part.expand(word=["one", "two"])
"""


@pytest.fixture
def run_dag(
    airflow_home: Path, emulator: Emulator, connection: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Any]]:
    """Write the DAG file and run it to its end."""
    info = json.loads(emulator.info.airflow_conn_json)
    extra = info.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    info["extra"] = {**extra, "api_limits": json.dumps(FAST_LIMITS)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    emulator.configure(**PACE)
    path = airflow_home / "dags" / "in_between.py"

    def go(text: str = DAG_FILE, *, shared: bool, fails: bool = False) -> Any:
        path.write_text(text.format(env=wish(2, "in-between"), task=TASK, shared=shared))
        spec = importlib.util.spec_from_file_location("in_between", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.dag.test(run_conf={"fails": fails})

    yield go
    path.unlink()


@pytest.mark.parametrize(
    ("shared", "fails"),
    [pytest.param(False, True, id="own"), pytest.param(True, False, id="shared", marks=pytest.mark.oldest)],
)
def test_nothing_is_left_of_a_run(run_dag: Callable[..., Any], shared: bool, fails: bool) -> None:
    run = run_dag(shared=shared, fails=fails)
    states = {(ti.task_id, ti.map_index): str(ti.state) for ti in run.get_task_instances()}
    expected = dict.fromkeys(
        [(name, -1) for name in ("env", "template", "plan", "template_teardown", "env_teardown")]
        + [("jobs", 0), ("jobs", 1)],
        "success",
    )
    assert states == {**expected, ("check", -1): "failed" if fails else "success"}
    assert str(run.state) == ("failed" if fails else "success")
    hook = TCBatchHook()
    assert not [view for view in hook.describe_compute_envs() if str(view.env_name).startswith("in-between")]
    views = hook.describe_task_templates()
    assert not [view for view in views if str(view.task_template_name).startswith("in-between")]


def test_in_a_mapped_task_group_each_instance_has_its_own(
    run_dag: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_dag(GROUP, shared=False)
    assert {(ti.task_id, ti.map_index): str(ti.state) for ti in run.get_task_instances()} == {
        (f"part.{name}", index): "success" for name in ("env", "told", "env_teardown") for index in (0, 1)
    }
    said = dict(re.findall(r"(one|two) runs on (env-\w+)", capfd.readouterr().out))
    assert len(set(said.values())) == 2
    assert not [view for view in TCBatchHook().describe_compute_envs() if str(view.env_name).startswith("in-between")]
