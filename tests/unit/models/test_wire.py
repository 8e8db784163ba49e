"""From what a user wrote to wire JSON and back: secrets out and in again, Jinja anywhere."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.base import HIDDEN, ApiModel, is_jinja
from airflow_provider_tcbatch.models.compute_env import Placement
from airflow_provider_tcbatch.models.job import Application, Docker, Job, Task
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.models.wire import put_secrets_back, to_wire_form, with_placeholders
from tests.unit.models.strategies import SECRET, Wire, wire
from tests.unit.models.test_base import hidden, pythonic

BIG = [Job, NamedComputeEnv, Placement, Task]
TASK: Wire = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-12345678"}


def check(data: Any, model: type[ApiModel] = Job) -> ApiModel:
    """What an operator does when a DAG is parsed."""
    return model.parse(with_placeholders(model, to_wire_form(model, data).data, is_jinja))


def places(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in an object, containers included."""
    if path:
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def put(data: Any, path: tuple[str | int, ...], value: Any) -> None:
    """Replace what stands at a place, if the place is still there."""
    for key in path[:-1]:
        if not isinstance(data, (dict, list)) or (isinstance(data, list) and key not in range(len(data))):
            return
        data = data[key]  # type: ignore[index]
    if isinstance(data, dict) or (isinstance(data, list) and path[-1] in range(len(data))):
        data[path[-1]] = value  # type: ignore[index]


@pytest.mark.parametrize("model", BIG)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_secrets_leave_and_come_back(model: type[ApiModel], data: st.DataObject) -> None:
    original = data.draw(wire(model))
    for written in (original, pythonic(model, original), model.parse(original)):
        form = to_wire_form(model, written)
        assert form.data == hidden(original)
        assert SECRET not in json.dumps(form.data)
        assert SECRET not in repr(form)
        assert put_secrets_back(form.data, form.secrets) == original
        assert form.data == hidden(original)  # not changed by putting them back
        assert model.parse(put_secrets_back(form.data, form.secrets)).to_wire() == original


@pytest.mark.parametrize("model", BIG)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_jinja_anywhere_in_a_valid_object_is_accepted(model: type[ApiModel], data: st.DataObject) -> None:
    written = data.draw(wire(model))
    for number, path in enumerate(data.draw(st.lists(st.sampled_from(list(places(written))), max_size=6))):
        put(written, path, f"{{{{ params.p{number} }}}}")
    before = copy.deepcopy(written)
    check(written, model)
    assert written == before


@pytest.mark.parametrize("model", BIG)
def test_an_expression_for_the_whole(model: type[ApiModel]) -> None:
    assert check("{{ params.all }}", model)


def test_models_inside_dictionaries() -> None:
    task = Task(
        application=Application(
            delivery_form="LOCAL", docker=Docker(image="i", password=SecretStr("hush")), command="echo {{ ds }}"
        ),
        env_id="env-1",
    )
    form = to_wire_form(Job, {"job_name": "n", "tasks": (task,)})
    assert form.data == {
        "JobName": "n",
        "Tasks": [
            {
                "Application": {
                    "DeliveryForm": "LOCAL",
                    "Command": "echo {{ ds }}",
                    "Docker": {"Image": "i", "Password": HIDDEN},
                },
                "EnvId": "env-1",
            }
        ],
    }
    assert type(form.data["Tasks"][0]["Application"]["DeliveryForm"]) is str


def test_references_to_secrets_stay() -> None:
    form = to_wire_form(Docker, {"image": "i", "password": "{{ conn.hub.password }}"})
    assert form.data["Password"] == "{{ conn.hub.password }}"
    assert not form.secrets


def test_unknown_names_stay_for_validation_to_name() -> None:
    form = to_wire_form(Job, {"tasks": [], "colour": {"deep": [1]}})
    assert form.data == {"Tasks": [], "colour": {"deep": [1]}}


def test_a_secret_that_was_edited_away_is_not_put_back() -> None:
    secrets: dict[tuple[str | int, ...], SecretStr] = {
        ("Docker", "Password"): SecretStr("hush"),
        ("List", 3): SecretStr("hush"),
    }
    assert put_secrets_back({"Docker": {"Password": "other"}, "List": [1]}, secrets) == {
        "Docker": {"Password": "other"},
        "List": [1],
    }


def tasks(*names: str) -> list[Wire]:
    return [{**TASK, "TaskName": name} for name in names]


def edge(start: str, end: str) -> Wire:
    return {"StartTask": start, "EndTask": end}


class TestRulesBetweenFields:
    """They hold although something is not known yet."""

    def test_both_environments(self) -> None:
        with pytest.raises(InvalidRequest, match="both are given"):
            check({"Tasks": [{**TASK, "EnvId": "{{ var.value.env }}", "ComputeEnv": {"EnvData": "{{ params.data }}"}}]})

    def test_no_environment(self) -> None:
        with pytest.raises(InvalidRequest, match="neither is given"):
            check({"Tasks": [{"Application": "{{ params.application }}"}]})

    def test_two_commands(self) -> None:
        application = {"DeliveryForm": "LOCAL", "Command": "{{ ds }}", "Commands": ["{{ ds }}"]}
        with pytest.raises(InvalidRequest, match="exclude one another"):
            check({"Tasks": [{**TASK, "Application": application}]})

    def test_a_field_beside_an_expression(self) -> None:
        with pytest.raises(InvalidRequest, match="Priority: input should be less"):
            check({"Tasks": tasks("{{ ds }}"), "Priority": 101})

    def test_a_cycle_of_equal_expressions(self) -> None:
        names = tasks("{{ a }}", "{{ b }}")
        check({"Tasks": names, "Dependences": [edge("{{ a }}", "{{ b }}")]})
        with pytest.raises(InvalidRequest, match="cycle"):
            check({"Tasks": names, "Dependences": [edge("{{ a }}", "{{ b }}"), edge("{{ b }}", "{{ a }}")]})

    def test_names_that_are_equal_expressions(self) -> None:
        with pytest.raises(InvalidRequest, match="must be unique"):
            check({"Tasks": tasks("{{ a }}", "{{ a }}")})

    def test_a_task_that_is_certainly_missing(self) -> None:
        with pytest.raises(InvalidRequest, match="names task 'c'"):
            check({"Tasks": tasks("a", "b"), "Dependences": [edge("a", "c")]})

    def test_an_event_named_twice(self) -> None:
        for name in ("JOB_FAILED", "{{ event }}"):
            notification = {"TopicName": "{{ topic }}", "EventConfigs": [{"EventName": name}] * 2}
            with pytest.raises(InvalidRequest, match="more than once"):
                check({"Tasks": tasks("a"), "Notifications": [notification]})


class TestWhatCannotBeJudgedYet:
    """It is accepted; after rendering it is looked at again."""

    @pytest.mark.parametrize(
        ("names", "edges"),
        [
            (["{{ a }}", "b"], [edge("prepare", "b")]),  # "prepare" may be what the expression gives
            (["a", "b"], [edge("{{ first }}", "b")]),
            (["a", "b"], ["{{ edge }}", edge("a", "b")]),
            (["a", "b"], "{{ edges }}"),
            (["{{ a }}", "{{ b }}"], [edge("{{ c }}", "{{ d }}")]),
        ],
    )
    def test_dependences(self, names: list[str], edges: Any) -> None:
        check({"Tasks": tasks(*names), "Dependences": edges})

    def test_dependences_of_tasks_that_are_expressions(self) -> None:
        check({"Tasks": "{{ params.tasks }}", "Dependences": [edge("a", "b")]})
        check({"Tasks": ["{{ params.task }}"], "Dependences": [edge("a", "b")]})

    def test_different_events(self) -> None:
        names = ["JOB_RUNNING", "{{ a }}", "{{ b }}", "JOB_FAILED"]
        configs: list[Any] = [{"EventName": name} for name in names]
        notification = {"TopicName": "t", "EventConfigs": [*configs, "{{ config }}", "{{ other }}"]}
        check({"Tasks": tasks("a"), "Notifications": [notification]})

    def test_values_that_are_no_text(self) -> None:
        class Later:
            """Such as an XComArg."""

            def __str__(self) -> str:
                return "{{ task_instance.xcom_pull('a') }}"

            __hash__ = None  # type: ignore[assignment]

        later = Later()
        data = {"Tasks": [{**TASK, "TaskName": later}, {**TASK, "EnvId": later}], "Dependences": [edge("x", "y")]}
        form = to_wire_form(Job, data)
        Job.parse(with_placeholders(Job, form.data, lambda value: isinstance(value, Later) or is_jinja(value)))


def test_equal_expressions_get_equal_placeholders() -> None:
    filled = with_placeholders(Job, {"Tasks": tasks("{{ a }}", "{{ b }}"), "JobName": "{{ a }}"}, is_jinja)
    first, second = (task["TaskName"] for task in filled["Tasks"])
    assert first == filled["JobName"] != second


@pytest.mark.parametrize("text", ["{{ ds }}", "a{% if x %}b{% endif %}", "{# note #}"])
def test_what_is_jinja(text: str) -> None:
    assert is_jinja(text)
    assert not is_jinja(text.replace("{", "("))
    assert not is_jinja(5)
