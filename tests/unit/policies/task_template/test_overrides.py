from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.compute_env import EnvData, LoginSettings
from airflow_provider_tcbatch.models.job import Application, Task
from airflow_provider_tcbatch.policies.task_template.overrides import (
    EXCLUSIVE,
    IDENTITY,
    displaced,
    merge,
    unreadable_secrets,
    with_nulls,
)
from tests.unit.models.strategies import Wire, wire


def variables(**values: str | None) -> list[dict[str, Any]]:
    return [{"Name": name, "Value": value} for name, value in values.items()]


BASE: Wire = {
    "TaskName": "t",
    "Timeout": 60,
    "Application": {"DeliveryForm": "LOCAL", "Command": "a", "Docker": {"Image": "i", "User": "u"}},
    "ComputeEnv": {"EnvData": {"InstanceTypes": ["S1", "S2"], "ImageId": "img-1", "SecurityGroupIds": ["a", "b"]}},
    "EnvVars": variables(A="1", B="2"),
    "InputMappings": [
        {"SourcePath": "cfs://x/a/", "DestinationPath": "/a", "MountOptionParameter": "-o ro"},
        {"SourcePath": "cfs://x/b/", "DestinationPath": "/b"},
    ],
    "OutputMappings": [{"SourcePath": "/out", "DestinationPath": "cfs://x/out/"}],
}


def deep(path: str, data: Any) -> Any:
    for step in path.split("."):
        data = data[step]
    return data


@pytest.mark.parametrize(
    ("overrides", "path", "after"),
    [
        ({"Timeout": 90}, "Timeout", 90),
        ({"Application": {"Command": "b"}}, "Application", {**BASE["Application"], "Command": "b"}),
        ({"Application": {"Docker": {"User": None}}}, "Application.Docker", {"Image": "i"}),
        (
            {"ComputeEnv": {"EnvData": {"SecurityGroupIds": ["c"]}}},
            "ComputeEnv.EnvData",
            {"InstanceTypes": ["S1", "S2"], "ImageId": "img-1", "SecurityGroupIds": ["c"]},
        ),
        ({"EnvVars": variables(C="3", A="9")}, "EnvVars", variables(A="9", B="2", C="3")),
        ({"EnvVars": variables(A=None)}, "EnvVars", variables(B="2")),
        ({"EnvVars": variables(Z=None)}, "EnvVars", variables(A="1", B="2")),
        ({"EnvVars": []}, "EnvVars", variables(A="1", B="2")),
        (
            {"InputMappings": [{"SourcePath": "cfs://y/", "DestinationPath": "/a"}]},
            "InputMappings",
            [
                {"SourcePath": "cfs://y/", "DestinationPath": "/a", "MountOptionParameter": "-o ro"},
                BASE["InputMappings"][1],
            ],
        ),
        (
            {"OutputMappings": [{"SourcePath": "/log", "DestinationPath": "cfs://x/log/"}]},
            "OutputMappings",
            [*BASE["OutputMappings"], {"SourcePath": "/log", "DestinationPath": "cfs://x/log/"}],
        ),
        ({"Tags": [{"Key": "k", "Value": "v"}]}, "Tags", [{"Key": "k", "Value": "v"}]),
        ({"RedirectInfo": {"StdoutRedirectPath": None}}, "RedirectInfo", {}),
    ],
)
def test_each_rule(overrides: Wire, path: str, after: Any) -> None:
    before = copy.deepcopy((BASE, overrides))
    merged = merge(BASE, overrides)
    assert deep(path, merged) == after
    untouched = {name: value for name, value in BASE.items() if name not in overrides}
    assert {name: merged[name] for name in untouched} == untouched
    assert (BASE, overrides) == before


def test_none_removes_a_field() -> None:
    assert "Timeout" not in merge(BASE, {"Timeout": None, "EnvVars": None})
    assert "EnvVars" not in merge(BASE, {"EnvVars": None})
    assert merge(BASE, {"MaxRetryCount": None}) == BASE


def test_what_excludes_another_field_takes_its_place() -> None:
    assert "ComputeEnv" not in merge(BASE, {"EnvId": "env-1"})
    types = merge(BASE, {"ComputeEnv": {"EnvData": {"InstanceType": "S9"}}})["ComputeEnv"]["EnvData"]
    assert types["InstanceType"] == "S9"
    assert "InstanceTypes" not in types
    both = merge(BASE, {"EnvId": "env-1", "ComputeEnv": {"EnvType": "MANAGED"}})
    assert {"EnvId", "ComputeEnv"} <= both.keys(), "a contradiction in the overrides is left for validation to name"
    assert "ComputeEnv" in merge(BASE, {"EnvId": None})


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (model, pair)
        for model, group in zip((Task, Application, EnvData, EnvData, LoginSettings), EXCLUSIVE, strict=True)
        for pair in itertools.combinations(group, 2)
    ],
)
def test_what_is_said_to_exclude_one_another_does(model: Any, names: tuple[str, str]) -> None:
    values = {
        "EnvId": "env-1",
        "ComputeEnv": {},
        "Command": "c",
        "Commands": [{"Command": "c"}],
        "InstanceType": "S1",
        "InstanceTypes": ["S1"],
        "InstanceTypeOptions": {"CPU": 1, "Memory": 1},
        "VirtualPrivateCloud": {"VpcId": "v", "SubnetId": "s"},
        "VirtualPrivateClouds": [],
        "Zones": ["ap-guangzhou-3"],
        "Password": "p",
        "KeyIds": ["k"],
        "DeliveryForm": "LOCAL",
        "Application": {"DeliveryForm": "LOCAL", "Command": "c"},
    }
    needed = {info.alias: values[str(info.alias)] for info in model.model_fields.values() if info.is_required()}
    with pytest.raises(InvalidRequest, match=r"exclude one another|both are given"):
        model.parse({**needed, **{name: values[name] for name in names}})


def test_a_name_that_is_there_twice_is_given_once() -> None:
    base = [*variables(A="1"), *variables(B="2"), *variables(A="3")]
    assert merge({"EnvVars": base}, {"EnvVars": variables(A="9")})["EnvVars"] == variables(A="9", B="2")


def test_a_list_without_names_is_replaced() -> None:
    assert merge(BASE, {"EnvVars": ["nonsense"]})["EnvVars"] == ["nonsense"]


@settings(max_examples=60, deadline=None)
@given(base=wire(Task), overrides=wire(Task))
def test_what_is_given_is_there_and_the_rest_stays(base: Wire, overrides: Wire) -> None:
    merged = merge(base, overrides)
    assert merge(merged, overrides) == merged, "once is enough"
    for name, value in overrides.items():
        if not isinstance(value, (dict, list)):
            assert merged[name] == value
        elif name in IDENTITY:
            assert {entry[IDENTITY[name]] for entry in value} <= {entry[IDENTITY[name]] for entry in merged[name]}
    for name in base.keys() - overrides.keys() - displaced(overrides):
        assert merged[name] == base[name]
    assert Task.parse(merged), "two valid tasks make a valid one"


@settings(max_examples=60, deadline=None)
@given(base=wire(Task), names=st.sets(st.sampled_from(["Timeout", "EnvVars", "Tags", "FailedAction"])))
def test_nothing_given_changes_nothing(base: Wire, names: set[str]) -> None:
    assert merge(base, {}) == base
    merged = merge(base, dict.fromkeys(names))
    assert merged == {name: value for name, value in base.items() if name not in names}


def test_stars_are_no_secret() -> None:
    task = {"Application": {"Docker": {"Image": "i", "Password": "****"}}, "Authentications": [{"SecretKey": "k"}]}
    assert unreadable_secrets(Task, task) == ["Application.Docker.Password"]
    assert unreadable_secrets(Task, {"Authentications": [{"SecretKey": "k"}, {"SecretKey": "*"}]}) == [
        "Authentications[1].SecretKey"
    ]


def test_what_was_written_as_none_comes_back_after_validation() -> None:
    written = {"Timeout": "60", "TaskName": None, "EnvVars": [{"Name": "A", "Value": "1"}], "RedirectInfo": {"X": None}}
    typed = {"Timeout": 60, "EnvVars": [{"Name": "A", "Value": "1"}], "RedirectInfo": {}}
    assert with_nulls(typed, written) == {**typed, "TaskName": None, "RedirectInfo": {"X": None}}
