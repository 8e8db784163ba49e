from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.base import HIDDEN, ApiModel
from airflow_provider_tcbatch.models.job import Task
from airflow_provider_tcbatch.models.named_env import NamedComputeEnv
from airflow_provider_tcbatch.models.wire import to_wire_form
from airflow_provider_tcbatch.policies.task_template.difference import (
    UNORDERED,
    Change,
    Key,
    applied,
    between,
    difference,
)
from tests.unit.models.strategies import SECRET, Wire, wire
from tests.unit.models.test_wire import places, put

MODELS = pytest.mark.parametrize("model", [Task, NamedComputeEnv])


def hidden(model: type[ApiModel], value: Any) -> Any:
    return to_wire_form(model, value).data


def unordered(name: str, value: Any) -> bool:
    """Whether a list's order has no meaning: its entries are told apart by their names."""
    if name not in UNORDERED or not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        return False
    names = [entry.get(UNORDERED[name]) for entry in value]
    return all(isinstance(one, str) for one in names) and len(set(names)) == len(names)


def embellished(value: Any, data: st.DataObject) -> Any:
    """What a service might show: with fields of its own, and lists in an order of its own."""
    if isinstance(value, dict):
        shown = {name: embellished(item, data) for name, item in value.items()}
        for name in shown:
            if unordered(name, shown[name]):
                shown[name] = data.draw(st.permutations(shown[name]))
        return {"EchoedState": "RUNNING", **shown, "ServiceDefault": {"Size": 7}}
    return [embellished(item, data) for item in value] if isinstance(value, list) else value


def canonical(value: Any) -> Any:
    """Alike for what is the same."""
    if isinstance(value, dict):
        items = {
            name: sorted(canonical(item), key=json.dumps) if unordered(name, item) else canonical(item)
            for name, item in value.items()
        }
        return {name: items[name] for name in sorted(items) if items[name] not in (None, "", [], {})}
    return [canonical(item) for item in value] if isinstance(value, list) else value


def carry_out(shown: Any, changes: list[Change]) -> Any:
    """Do what a list of changes says."""
    shown = copy.deepcopy(shown)
    for change in changes:
        node = shown
        *way, last = change.steps
        for name, step in zip(["", *way], way, strict=False):
            node = node[place(node, str(name), step)]
        where = place(node, str(way[-1]) if way else "", last)
        if change.after is not None:
            if isinstance(node, list) and where == len(node):
                node.append(change.after)
            else:
                node[where] = change.after
        else:
            del node[where]
    return shown


def place(node: Any, name: str, step: str | int) -> Any:
    if not isinstance(step, Key):
        return step
    keys = [entry[UNORDERED[name]] for entry in node]
    return keys.index(step) if step in keys else len(keys)


@MODELS
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_object_does_not_differ_from_itself(model: type[ApiModel], data: st.DataObject) -> None:
    wish = data.draw(wire(model))
    shown = embellished(wish, data)
    before = copy.deepcopy((wish, shown))
    assert difference(model, wish, shown) == []
    assert canonical(applied(wish, shown)) == canonical(shown), "what others have set stays"
    assert (wish, shown) == before


@MODELS
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_carrying_out_the_changes_gives_what_is_wished(model: type[ApiModel], data: st.DataObject) -> None:
    shown = data.draw(wire(model))
    wish = data.draw(
        st.sampled_from(["another", "edited"]).flatmap(
            lambda way: wire(model) if way == "another" else st.just(copy.deepcopy(shown))
        )
    )
    for path in data.draw(st.lists(st.sampled_from([*places(wish)] or [("x",)]), max_size=4)):
        # A field may be wished away, an entry of a list is left out instead.
        away = [None] if isinstance(path[-1], str) else []
        put(wish, path, data.draw(st.sampled_from([*away, "changed", 7])))
    changes = difference(model, wish, shown)
    result = applied(wish, shown)
    assert difference(model, wish, result) == []
    assert canonical(carry_out(hidden(model, shown), changes)) == canonical(hidden(model, result))
    assert (changes == []) == (canonical(result) == canonical(shown))
    assert SECRET not in repr(changes)
    assert SECRET not in json.dumps([change.to_json() for change in changes])
    assert SECRET not in "".join(map(str, changes))


@MODELS
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_nothing_to_change_one_way_is_nothing_the_other_way(model: type[ApiModel], data: st.DataObject) -> None:
    """For two objects that name the same fields."""
    one = data.draw(wire(model))
    two = copy.deepcopy(one)
    for name in two:
        if unordered(name, two[name]):
            two[name] = data.draw(st.permutations(two[name]))
    scalars = [path for path in places(two) if isinstance(look(two, path), (int, str))]
    changed = bool(scalars) and data.draw(st.booleans())
    if changed:
        put(two, data.draw(st.sampled_from(scalars)), data.draw(st.sampled_from(["changed", 7])))
    forth, back = difference(model, one, two), difference(model, two, one)
    assert (forth == []) == (back == []) == (canonical(one) == canonical(two))


def look(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


@MODELS
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_all_that_differs_between_two_objects(model: type[ApiModel], data: st.DataObject) -> None:
    before, after = data.draw(wire(model)), data.draw(wire(model))
    changes = between(model, before, after)
    assert canonical(carry_out(hidden(model, before), changes)) == canonical(hidden(model, after))
    assert len({change.steps for change in changes}) == len(changes)
    assert (changes == []) == (canonical(before) == canonical(after))


SHOWN: Wire = {
    "Timeout": 60,
    "TaskName": "t",
    "ComputeEnv": {"EnvData": {"InstanceTypes": ["S1", "S2"]}},
    "EnvVars": [{"Name": "A", "Value": "1"}, {"Name": "B", "Value": "2"}],
    "Application": {"DeliveryForm": "LOCAL", "Docker": {"Image": "i", "Password": "old"}},
}


@pytest.mark.parametrize(
    ("wish", "lines"),
    [
        ({"Timeout": 90}, ["Timeout: 60 -> 90"]),
        ({"Timeout": None}, ["Timeout: 60 -> nothing"]),
        ({"MaxRetryCount": 3}, ["MaxRetryCount: nothing -> 3"]),
        ({"MaxRetryCount": None, "RedirectInfo": {"StdoutRedirectPath": None}}, []),
        ({"Timeout": True}, ["Timeout: 60 -> true"]),
        ({"EnvVars": [{"Name": "B", "Value": "2"}, {"Name": "A", "Value": "1"}]}, []),
        (
            {"EnvVars": [{"Name": "C", "Value": "3"}, {"Name": "A", "Value": "9"}]},
            [
                'EnvVars[C]: nothing -> {"Name": "C", "Value": "3"}',
                'EnvVars[A].Value: "1" -> "9"',
                'EnvVars[B]: {"Name": "B", "Value": "2"} -> nothing',
            ],
        ),
        (
            {"ComputeEnv": {"EnvData": {"InstanceTypes": ["S2", "S1"]}}},
            [
                'ComputeEnv.EnvData.InstanceTypes[0]: "S1" -> "S2"',
                'ComputeEnv.EnvData.InstanceTypes[1]: "S2" -> "S1"',
            ],
        ),
        (
            {"ComputeEnv": {"EnvData": {"InstanceTypes": ["S1"]}}},
            ['ComputeEnv.EnvData.InstanceTypes: ["S1", "S2"] -> ["S1"]'],
        ),
        (
            {"EnvId": "env-1"},
            [
                'EnvId: nothing -> "env-1"',
                'ComputeEnv: {"EnvData": {"InstanceTypes": ["S1", "S2"]}} -> nothing',
            ],
        ),
        ({"Application": {"Docker": {"Password": "old"}}}, []),
        ({"Application": {"Docker": {"Password": "new"}}}, ['Application.Docker.Password: "***" -> "***"']),
        ({"EnvVars": []}, [f"EnvVars: {json.dumps(SHOWN['EnvVars'])} -> []"]),
    ],
)
def test_how_a_difference_reads(wish: Wire, lines: list[str]) -> None:
    assert [str(change) for change in difference(Task, wish, SHOWN)] == lines


def test_a_secret_that_the_service_hides_can_not_be_compared() -> None:
    shown = copy.deepcopy(SHOWN)
    shown["Application"]["Docker"]["Password"] = "******"
    assert difference(Task, {"Application": {"Docker": {"Password": "new"}}}, shown) == []
    del shown["Application"]["Docker"]["Password"]
    [change] = difference(Task, {"Application": {"Docker": {"Password": "new"}}}, shown)
    assert change.to_json() == {"path": "Application.Docker.Password", "before": None, "after": HIDDEN}


def test_secrets_of_entries_that_stand_elsewhere_are_compared() -> None:
    """They are told apart by where they stand, which is not where they stand in the wish."""

    def env(*topics: str, **members: Any) -> Wire:
        notes = [{"TopicName": topic, "EventConfigs": []} for topic in topics]
        return {"EnvName": "e", "Notifications": notes, **members}

    keys = [{"Scene": "COS", "SecretId": "id", "SecretKey": SECRET + "1"}]
    one, two = env("a", "b", Authentications=keys), env("b", "a", Authentications=keys)
    assert difference(NamedComputeEnv, one, two) == []
    two["Authentications"] = [{**keys[0], "SecretKey": SECRET + "2"}]
    [change] = difference(NamedComputeEnv, one, two)
    assert change.path == "Authentications[0].SecretKey"


def test_a_wish_on_nothing_is_told_field_by_field() -> None:
    wish = {"Timeout": 60, "Application": {"Docker": {"Password": "new"}}, "TaskName": None}
    assert [change.to_json() for change in difference(Task, wish, {})] == [
        {"path": "Timeout", "before": None, "after": 60},
        {"path": "Application", "before": None, "after": {"Docker": {"Password": HIDDEN}}},
    ]
