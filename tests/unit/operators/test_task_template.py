"""Operators on task templates, against the emulator."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.execution.errors import PermanentInvalidRequest
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.links import TCBatchTaskTemplateLink
from airflow_provider_tcbatch.models import job as m
from airflow_provider_tcbatch.operators import task_template as module
from airflow_provider_tcbatch.operators.task_template import (
    TCBatchCreateTaskTemplateOperator,
    TCBatchDeleteTaskTemplateOperator,
    TCBatchEnsureTaskTemplateOperator,
    TCBatchModifyTaskTemplateOperator,
)
from airflow_provider_tcbatch.policies import outage
from tests.support.task_context import Task, instance_in
from tests.unit.conftest import job

NAME = "nightly"
SECRET = "a-very-secret-password"


@pytest.fixture(autouse=True)
def clean(connection: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No template when a test begins or ends, and quick looks at what became of a request."""
    monkeypatch.setattr(module, "_PAUSES", (0.0, 0.05))
    delete_all()
    yield
    delete_all()


def delete_all() -> None:
    hook = TCBatchHook()
    if ids := [view.task_template_id for view in hook.describe_task_templates()]:
        hook.delete_task_templates(ids)


def content(**members: Any) -> dict[str, Any]:
    [task] = job("true", **members)["Tasks"]
    return dict(task)


def variables(**values: str) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


def create(task: Any = None, **options: Any) -> TCBatchCreateTaskTemplateOperator:
    given = content() if task is None else task
    return TCBatchCreateTaskTemplateOperator(task_id="create", name=NAME, task=given, **options)


def ensure(task: Any = None, **options: Any) -> TCBatchEnsureTaskTemplateOperator:
    given = content() if task is None else task
    return TCBatchEnsureTaskTemplateOperator(task_id="ensure", name=NAME, task=given, **options)


def modify(**options: Any) -> TCBatchModifyTaskTemplateOperator:
    if "task_template_id" not in options:
        options.setdefault("name", NAME)
    return TCBatchModifyTaskTemplateOperator(task_id="modify", **options)


def delete(**options: Any) -> TCBatchDeleteTaskTemplateOperator:
    return TCBatchDeleteTaskTemplateOperator(task_id="delete", **options)


class Done:
    """An operator that has been executed."""

    def __init__(self, operator: Any, tries: int = 1, **context: Any) -> None:
        task = Task(retries=5)
        for _ in range(tries):
            now = task.next_try()
        operator.render_template_fields({**context, **now})
        self.value = operator.execute(now)
        self.xcoms: dict[str, Any] = instance_in(now).xcoms

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        return {change["path"]: (change["before"], change["after"]) for change in self.xcoms["tcbatch_changes"]}


def shown() -> dict[str, Any]:
    """The only template there is."""
    [view] = TCBatchHook().describe_task_templates()
    return view.to_wire()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All requests that are sent from now on, but for those that only look."""
    sent: list[Any] = []
    real = ApiClient.call

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if not action.name().startswith("Describe"):
            sent.append(action)
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    return sent


def names(calls: list[Any]) -> list[str]:
    return [action.name() for action in calls]


# -- what is checked when the DAG is parsed ----------------------------------------------------------------


@pytest.mark.parametrize("make", [create, ensure])
@pytest.mark.parametrize(
    ("task", "words"),
    [
        (content(Comand="x"), "Task.Comand: unknown field"),
        ({"Application": {"DeliveryForm": "LOCAL", "Command": "true"}}, "neither is given"),
        (content(EnvId="{{ var.value.env }}"), "both are given"),
        ("EnvId: env-1", "Task.Application: this field is required"),
        ("[1]", "task must be a mapping with Application in it"),
    ],
)
def test_a_wrong_task_is_refused_at_parse(make: Callable[..., Any], task: Any, words: str) -> None:
    with pytest.raises(e.InvalidRequest) as caught:
        make(task)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: create(if_exists="replace"), "reuse, update or fail"),
        (lambda: TCBatchCreateTaskTemplateOperator(task_id="x", name="", task=content()), "name is ''"),
        (lambda: TCBatchEnsureTaskTemplateOperator(task_id="x", name="n" * 61, task=content()), "1 to 60"),
        (lambda: modify(), "at least one of task, new_name and description"),
        (lambda: modify(name=None, task={}), "one of task_template_id and name"),
        (lambda: modify(task_template_id="i", name="n", task={}), "one of task_template_id and name"),
        (lambda: modify(new_name=" "), "new_name is ' '"),
        (lambda: modify(task={"Comand": 1}), "Task.Comand: unknown field"),
        (lambda: delete(), "give task_template_ids, or names"),
    ],
)
def test_wrong_arguments_are_refused_at_parse(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(e.InvalidRequest) as caught:
        make()
    assert words in str(caught.value)


@pytest.mark.parametrize("spelling", ["dict", "snake", "model", "json", "yaml"])
def test_all_spellings_mean_the_same(spelling: str) -> None:
    wire = {"Application": {"DeliveryForm": "LOCAL", "Command": "echo {{ day }}"}, "EnvId": "env-12345678"}
    snake = {"application": {"delivery_form": "LOCAL", "command": "echo {{ day }}"}, "env_id": "env-12345678"}
    model = m.Task(application=m.Application(delivery_form="LOCAL", command="echo {{ day }}"), env_id="env-12345678")
    text = "Application: {DeliveryForm: LOCAL, Command: 'echo {{ day }}'}\nEnvId: env-12345678"
    forms = {"dict": wire, "snake": snake, "model": model, "json": json.dumps(wire), "yaml": text}
    Done(create(forms[spelling]), day="today")
    info = shown()["TaskTemplateInfo"]
    assert (info["Application"]["Command"], info["EnvId"]) == ("echo today", "env-12345678")


def test_secrets_are_sent_but_stored_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    task = content()
    task["Application"]["Docker"] = {"Image": "i", "Password": SECRET}
    with DAG("d", schedule=None) as dag:
        operator = ensure(task)
    assert SECRET not in json.dumps(DagSerialization.to_dict(dag))
    done = Done(operator)
    assert shown()["TaskTemplateInfo"]["Application"]["Docker"]["Password"] == SECRET
    task["Application"]["Docker"]["Password"] = "another-" + SECRET
    again = Done(ensure(task))
    assert again.changes == {"TaskTemplateInfo.Application.Docker.Password": ("***", "***")}
    assert shown()["TaskTemplateInfo"]["Application"]["Docker"]["Password"] == "another-" + SECRET
    log = capsys.readouterr().out
    assert "Docker.Password: " in log
    assert SECRET not in log + json.dumps(done.xcoms) + json.dumps(again.xcoms) + json.dumps(operator.task)


# -- create ------------------------------------------------------------------------------------------------


def test_it_is_made_once_and_told_field_by_field(calls: list[Any]) -> None:
    operator = create(content(Timeout=60), description="for tests", tags={"team": "{{ team }}"})
    done = Done(operator, team="data")
    template = shown()
    assert done.value == template["TaskTemplateId"]
    assert template["TaskTemplateName"] == NAME
    assert template["TaskTemplateDescription"] == "for tests"
    assert template["Tags"] == [{"Key": "team", "Value": "data"}]
    assert template["TaskTemplateInfo"]["Timeout"] == 60
    assert set(done.changes) == {"TaskTemplateName", "TaskTemplateInfo", "TaskTemplateDescription", "Tags"}
    assert done.changes["TaskTemplateName"] == (None, NAME)
    assert done.xcoms[TCBatchTaskTemplateLink.key] == TCBatchHook().settings.template_url(done.value)
    again = Done(create(content(Timeout=60), description="for tests"))
    assert (again.value, again.changes) == (done.value, {})
    assert names(calls) == ["CreateTaskTemplate"]


@pytest.mark.parametrize(("if_exists", "timeout", "told"), [("reuse", 60, {}), ("update", 90, {"Timeout": (60, 90)})])
def test_what_becomes_of_a_template_that_is_there(if_exists: str, timeout: int, told: dict[str, Any]) -> None:
    first = Done(create(content(Timeout=60, MaxRetryCount=2)))
    second = Done(create(content(Timeout=90), if_exists=if_exists))
    assert second.value == first.value
    assert shown()["TaskTemplateInfo"]["Timeout"] == timeout
    assert shown()["TaskTemplateInfo"]["MaxRetryCount"] == 2
    assert second.changes == {f"TaskTemplateInfo.{name}": values for name, values in told.items()}


def test_fail_means_that_it_must_not_be_there(calls: list[Any]) -> None:
    first = Done(create(if_exists="fail"))
    with pytest.raises(PermanentInvalidRequest, match=f"'{NAME}' .*exists already"):
        Done(create(if_exists="fail"))
    assert Done(create(if_exists="fail"), tries=2).value == first.value, "an earlier try may have died after making it"
    with pytest.raises(PermanentInvalidRequest):
        Done(create(content(Timeout=1), if_exists="fail"), tries=2)
    assert names(calls) == ["CreateTaskTemplate"]


@pytest.mark.parametrize("if_exists", ["reuse", "update", "fail"])
@pytest.mark.parametrize("fault", ["lose_answer", "error_after"])
def test_a_lost_answer_makes_no_second_template(emulator: Emulator, if_exists: str, fault: str) -> None:
    emulator.faults.add(fault, action="CreateTaskTemplate", count=1)
    done = Done(create(if_exists=if_exists))
    assert shown()["TaskTemplateId"] == done.value
    assert done.changes["TaskTemplateName"] == (None, NAME)


@pytest.mark.parametrize("fault", ["drop", "error"])
def test_a_request_that_did_not_arrive_is_sent_again(emulator: Emulator, calls: list[Any], fault: str) -> None:
    emulator.faults.add(fault, action="CreateTaskTemplate", count=2)
    done = Done(create())
    assert shown()["TaskTemplateId"] == done.value
    assert names(calls) == ["CreateTaskTemplate"] * 3


def test_what_is_refused_for_its_rate_waits_its_turn(emulator: Emulator, calls: list[Any]) -> None:
    """Nothing was made: there is nothing to look for."""
    emulator.faults.add("throttle", action="CreateTaskTemplate", count=2)
    sent = emulator.services.host.calls.counts["batch.CreateTaskTemplate"]
    done = Done(create())
    assert shown()["TaskTemplateId"] == done.value
    assert emulator.services.host.calls.counts["batch.CreateTaskTemplate"] == sent + 3
    assert names(calls) == ["CreateTaskTemplate"]


def test_in_the_end_it_gives_up(emulator: Emulator, calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    fault = emulator.faults.add("error", action="CreateTaskTemplate")
    try:
        with pytest.raises(e.InfrastructureError):
            Done(create())
    finally:
        emulator.faults.remove(fault)
    assert names(calls) == ["CreateTaskTemplate"] * 3


def test_a_full_account_is_no_lost_answer(emulator: Emulator, calls: list[Any]) -> None:
    TCBatchHook().create_task_template("another", content())
    calls.clear()
    emulator.configure(task_template_quota=1)
    with pytest.raises(e.QuotaExceeded):
        Done(create())
    assert names(calls) == ["CreateTaskTemplate"]


@pytest.mark.parametrize("older", [True, False])
def test_of_two_that_are_made_at_the_same_moment_the_older_one_stays(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """Nothing says that the service refuses a second template of a name."""
    hook, real, others = TCBatchHook(), ApiClient.call, []

    def call(self: ApiClient, action: Any, **options: Any) -> Any:
        if action.name() != "CreateTaskTemplate":
            return real(self, action, **options)
        monkeypatch.setattr(ApiClient, "call", real)
        others.append(other := hook.create_task_template(NAME, content(Timeout=5)))
        at = 0.0 if older else 4e9
        emulator.on_loop(lambda services: setattr(services.batch.templates[other], "created_at", at))
        return real(self, action, **options)

    monkeypatch.setattr(ApiClient, "call", call)
    done = Done(create(content(Timeout=60), if_exists="update"))
    views = {view.task_template_id: view.to_wire() for view in hook.describe_task_templates()}
    assert (done.value in others) == older
    assert len(views) == (1 if older else 2), "what others have made is left to them"
    assert views[str(done.value)]["TaskTemplateInfo"]["Timeout"] == 60


# -- ensure ------------------------------------------------------------------------------------------------


def test_exactly_what_differs_is_changed(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    before = content(Timeout=60, MaxRetryCount=2, FailedAction="INTERRUPT", EnvVars=variables(A="1", B="2"))
    Done(ensure(before, description="old"))
    wish = content(Timeout=90, FailedAction=None, EnvVars=variables(C="3", A="1"))
    done = Done(ensure(wish, description="new"))
    assert done.changes == {
        "TaskTemplateDescription": ("old", "new"),
        "TaskTemplateInfo.Timeout": (60, 90),
        "TaskTemplateInfo.FailedAction": ("INTERRUPT", None),
        "TaskTemplateInfo.EnvVars[C]": (None, {"Name": "C", "Value": "3"}),
        "TaskTemplateInfo.EnvVars[B]": ({"Name": "B", "Value": "2"}, None),
    }
    assert "TaskTemplateInfo.Timeout: 60 -> 90" in capsys.readouterr().out
    template = shown()
    assert template["TaskTemplateDescription"] == "new"
    kept = {name: value for name, value in before.items() if name != "FailedAction"}
    assert template["TaskTemplateInfo"] == {**kept, "Timeout": 90, "EnvVars": variables(C="3", A="1")}
    assert Done(ensure(wish, description="new")).changes == {}
    assert names(calls) == ["CreateTaskTemplate", "ModifyTaskTemplate"]


def test_only_what_differs_is_sent(calls: list[Any]) -> None:
    Done(ensure(description="old"))
    Done(ensure(description=""))
    assert calls[-1].to_wire().keys() == {"TaskTemplateId", "TaskTemplateDescription"}
    assert not shown().get("TaskTemplateDescription")


def test_another_environment_takes_the_place_of_the_old_one() -> None:
    Done(ensure())
    env = {"Application": content()["Application"], "EnvId": "env-12345678"}
    done = Done(ensure(env))
    assert done.changes["TaskTemplateInfo.EnvId"] == (None, "env-12345678")
    assert done.changes["TaskTemplateInfo.ComputeEnv"] == (content()["ComputeEnv"], None)
    assert "ComputeEnv" not in shown()["TaskTemplateInfo"]


def test_a_dry_run_only_reports(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    absent = Done(ensure(dry_run=True))
    assert absent.value is None
    assert set(absent.changes) == {"TaskTemplateName", "TaskTemplateInfo"}
    assert TCBatchTaskTemplateLink.key not in absent.xcoms
    assert "would be made" in capsys.readouterr().out
    assert calls == []
    made = Done(ensure(content(Timeout=60)))
    dry = Done(ensure(content(Timeout=90), dry_run=True))
    assert (dry.value, dry.changes) == (made.value, {"TaskTemplateInfo.Timeout": (60, 90)})
    assert shown()["TaskTemplateInfo"]["Timeout"] == 60


def test_tags_can_not_be_changed_and_that_is_said(calls: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    Done(ensure(tags={"team": "data"}))
    done = Done(ensure(tags={"team": "ops"}))
    assert done.changes == {}
    assert 'Tags[team].Value: "data" -> "ops"' in capsys.readouterr().out
    assert names(calls) == ["CreateTaskTemplate"]


def test_a_password_that_the_service_hides_is_not_overwritten_with_stars(emulator: Emulator) -> None:
    Done(ensure(content(Authentications=[{"Scene": "COS", "SecretId": "id", "SecretKey": "****"}])))
    with pytest.raises(PermanentInvalidRequest, match=r"Authentications\[0\]\.SecretKey .*stars"):
        Done(ensure(content(Timeout=5)))
    Done(ensure(description="what is not sent is not harmed"))
    keys = [{"Scene": "COS", "SecretId": "id", "SecretKey": SECRET}]
    Done(ensure(content(Timeout=5, Authentications=keys)))
    assert shown()["TaskTemplateInfo"]["Authentications"] == keys


def test_rendering_is_checked_again(calls: list[Any]) -> None:
    with pytest.raises(PermanentInvalidRequest, match=r"Task\.Timeout"):
        Done(ensure(content(Timeout="{{ n }}")), n="soon")
    assert calls == []


@pytest.mark.parametrize("style", ["null", "absent", "empty"])
def test_how_the_service_writes_nothing_makes_no_difference(emulator: Emulator, style: str) -> None:
    emulator.configure(empty_values=style)
    Done(ensure())
    assert Done(ensure()).changes == {}


def test_numbers_that_rendering_made_text_of_make_no_difference() -> None:
    for _ in range(2):
        done = Done(ensure(content(Timeout="{{ n }}")), n=60)
    assert done.changes == {}


# -- modify ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_part_is_changed_by_the_rules_of_overrides(calls: list[Any], by: str) -> None:
    made = Done(create(content(Timeout=60, MaxRetryCount=2, EnvVars=variables(A="1", B="2"))))
    which = {"task_template_id": made.value} if by == "id" else {"name": NAME}
    part = {"timeout": "{{ n }}", "MaxRetryCount": None, "EnvVars": [*variables(C="3"), {"Name": "A", "Value": None}]}
    changed = Done(modify(task=part, description="d", **which), n=90)
    assert changed.value == made.value
    assert changed.changes == {
        "TaskTemplateInfo.Timeout": (60, 90),
        "TaskTemplateInfo.MaxRetryCount": (2, None),
        "TaskTemplateInfo.EnvVars[C]": (None, {"Name": "C", "Value": "3"}),
        "TaskTemplateInfo.EnvVars[A]": ({"Name": "A", "Value": "1"}, None),
        "TaskTemplateDescription": (None, "d"),
    }
    info = shown()["TaskTemplateInfo"]
    assert info == {**content(), "Timeout": 90, "EnvVars": variables(B="2", C="3")}
    assert Done(modify(task={"Timeout": 90}, description="d", **which)).changes == {}
    assert names(calls) == ["CreateTaskTemplate", "ModifyTaskTemplate"]


def test_renaming_can_be_done_twice() -> None:
    made = Done(create())
    for _ in range(2):
        assert Done(modify(new_name="weekly")).value == made.value
    assert shown()["TaskTemplateName"] == "weekly"
    with pytest.raises(e.NotFound, match="no task template 'nightly'"):
        Done(modify(description="d"))


def test_what_is_not_there_can_not_be_changed() -> None:
    with pytest.raises(e.NotFound, match="task-tmpl-00000000"):
        Done(modify(task_template_id="task-tmpl-00000000", description="d"))
    with pytest.raises(e.NotFound):
        Done(modify(task_template_id="{{ nothing }}", description="d"), nothing=None)


def test_what_comes_out_must_be_a_task(calls: list[Any]) -> None:
    Done(create())
    with pytest.raises(PermanentInvalidRequest, match="neither is given"):
        Done(modify(task={"ComputeEnv": None}))
    assert names(calls) == ["CreateTaskTemplate"]


# -- delete ------------------------------------------------------------------------------------------------


def test_deleting_can_be_done_twice() -> None:
    hook = TCBatchHook()
    ids = [hook.create_task_template(name, content()) for name in ("a", "b", "b", "b-more")]
    assert sorted(Done(delete(names=["b"])).value) == sorted(ids[1:3])
    assert Done(delete(names=["b"])).value == []
    assert Done(delete(task_template_ids=[*ids[:2], "task-tmpl-00000000"])).value == [ids[0]]
    assert shown()["TaskTemplateId"] == ids[3]
    assert Done(delete(task_template_ids="{{ made }}", names="b-more"), made=ids[3]).value == [ids[3]]


@pytest.mark.parametrize("nothing", [None, "", "None", []])
def test_an_xcom_that_is_not_there_deletes_nothing(calls: list[Any], nothing: Any) -> None:
    Done(create())
    operator = delete(task_template_ids="x")
    operator.task_template_ids = nothing
    assert Done(operator).value == []
    assert names(calls) == ["CreateTaskTemplate"]


def test_a_lost_answer_to_a_deletion_is_no_error(emulator: Emulator) -> None:
    made = Done(create())
    emulator.faults.add("lose_answer", action="DeleteTaskTemplates", count=1)
    assert Done(delete(names=NAME)).value == [made.value]
    assert list(TCBatchHook().describe_task_templates([str(made.value)])) == []


def test_a_deletion_that_was_never_answered_is_told(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "outage_pause", lambda failures, spread: 0.05)
    template_id = Done(create()).value
    emulator.faults.add("lose_answer", action="DeleteTaskTemplates", count=5)
    assert Done(delete(names=NAME)).value == [template_id]
    assert not list(TCBatchHook().describe_task_templates())


def test_somebody_else_may_be_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service deletes all or none: one that is gone must not save the others."""
    hook = TCBatchHook()
    ids = [hook.create_task_template(name, content()) for name in "ab"]
    real = TCBatchHook.delete_task_templates

    def late(self: TCBatchHook, given: Any) -> None:
        monkeypatch.setattr(TCBatchHook, "delete_task_templates", real)
        real(self, ids[:1])
        real(self, given)

    monkeypatch.setattr(TCBatchHook, "delete_task_templates", late)
    assert sorted(Done(delete(task_template_ids=ids)).value) == sorted(ids)
    assert list(hook.describe_task_templates(ids)) == []
