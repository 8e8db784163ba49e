"""Our types against the classes that Tencent generates from the same API.

The SDK tells names and types (in the docstrings of its properties); what is required stands in ``data``, see
``required_members``. Whatever the two say and ours do not, or the other way round, is a failure, unless it is listed in
``DEVIATIONS`` with its reason.
"""

from __future__ import annotations

import json
import re
import types
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import SecretStr
from pydantic.alias_generators import to_pascal
from tencentcloud.batch.v20170312 import models as batch_sdk
from tencentcloud.common.abstract_model import AbstractModel
from tencentcloud.tdmq.v20200217 import models as tdmq_sdk

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.cmq_views import CmqTag
from airflow_provider_tcbatch.models.job import EnvVar, Task
from airflow_provider_tcbatch.models.request import Action, Result
from tests.unit.models import required_members
from tests.unit.models.catalogue import ACTIONS, MODELS

SDK = {"batch": batch_sdk, "tdmq": tdmq_sdk}
REQUIRED: dict[str, dict[str, dict[str, bool]]] = json.loads(required_members.FILE.read_text(encoding="utf-8"))

#: Where we differ on purpose, and why.
DEVIATIONS = {
    "batch EventConfig.EventVars: the API requires it, we do not": (
        "an empty list is what nearly everybody wants, and it is always sent"
    ),
}

#: Types that have another name here.
RENAMED = {
    "CmqTag": "Tag",  # TDMQ's tags and filters have members of their own
    "CmqFilter": "Filter",
    "LogLocation": "RedirectInfo",  # an answer's, whose paths are not checked
}


def api_of(model: type[ApiModel]) -> str:
    """Which API a type belongs to."""
    return "tdmq" if model.__module__.rpartition(".")[2].startswith("cmq") else "batch"


def sdk_name(model: type[ApiModel]) -> str:
    """What the SDK calls a type."""
    name = model.__name__
    if issubclass(model, Action):
        return f"{name}Request"
    if issubclass(model, Result):
        return f"{name.removesuffix('Result')}Response"
    return RENAMED.get(name, name)


def sdk_members(sdk_class: type) -> dict[str, str]:
    """Type by member, as the SDK's docstrings tell it."""
    members = {}
    for name, value in vars(sdk_class).items():
        if isinstance(value, property):
            match = re.search(r":rtype: (.+)", value.__doc__ or "")
            assert match, f"{sdk_class.__name__}.{name} tells no type"
            kind = match[1].strip().removesuffix(" non-negative")
            members[name] = re.sub(r":class:`.*\.(\w+)`", r"\1", kind)
    return members


def our_members(model: type[ApiModel]) -> dict[str, str]:
    """The same of one of our types."""
    return {info.alias or name: spelled(info.annotation) for name, info in model.model_fields.items()}


def spelled(annotation: Any) -> str:
    """Spell an annotation as the SDK spells types."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return spelled(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = {spelled(member) for member in get_args(annotation) if member is not type(None)}
        assert len(kinds) == 1, f"{annotation} is of several types"
        return kinds.pop()
    if origin is list:
        return f"list of {spelled(get_args(annotation)[0])}"
    if issubclass(annotation, (SecretStr, Enum)):
        return "str"
    if issubclass(annotation, ApiModel):
        return sdk_name(annotation)
    return str(annotation.__name__)


def differences(model: type[ApiModel], sdk_class: type) -> list[str]:
    """What one of our types and a class of the SDK do not have in common."""
    path = f"{api_of(model)} {sdk_class.__name__}"
    ours, theirs = our_members(model), sdk_members(sdk_class)
    found = [f"{path}.{name}: missing" for name in theirs if name not in ours]
    found += [f"{path}.{name}: the API has no such member" for name in ours if name not in theirs]
    found += [
        f"{path}.{name}: is {ours[name]}, must be {theirs[name]}"
        for name in ours
        if name in theirs and ours[name] != theirs[name]
    ]
    for name, info in model.model_fields.items():
        alias = info.alias or name
        if to_pascal(name).lower() != alias.lower():
            found.append(f"{path}.{alias}: is called {name} in Python")
        required = REQUIRED[api_of(model)].get(sdk_class.__name__, {}).get(alias)
        if required is not None and info.is_required() != required:  # objects of answers have no entry
            says, said = ("requires", "do not") if required else ("does not require", "do")
            found.append(f"{path}.{alias}: the API {says} it, we {said}")
    return found


def reachable(sdk: types.ModuleType, part: str) -> set[str]:
    """Names of the SDK's classes that the actions need."""
    classes = {
        name: value
        for name, value in vars(sdk).items()
        if isinstance(value, type) and issubclass(value, AbstractModel) and value is not AbstractModel
    }
    if not part:
        return set(classes)
    pending = [name for name in classes if part in name and name.endswith(("Request", "Response"))]
    found: set[str] = set()
    while pending:
        name = pending.pop()
        if name in classes and name not in found:
            found.add(name)
            pending += [kind.removeprefix("list of ") for kind in sdk_members(classes[name]).values()]
    return found


def pairs() -> list[tuple[type[ApiModel], str, str]]:
    """Our types, each with its API and the SDK's name; actions whose answer is empty bring the bare one."""
    found = {(model, api_of(model), sdk_name(model)) for model in MODELS}
    for action in ACTIONS:
        if action.result_type() is Result:
            found.add((Result, api_of(action), f"{action.__name__}Response"))
    return sorted(found, key=lambda pair: pair[1:])


def test_names_types_and_required_members_agree() -> None:
    found = []
    for model, api, name in pairs():
        sdk_class = getattr(SDK[api], name, None)
        found += [f"{api} {name}: the API has no such object"] if sdk_class is None else differences(model, sdk_class)
    assert sorted(found) == sorted(DEVIATIONS)


@pytest.mark.parametrize(("api", "count"), [("batch", 30), ("tdmq", 20)])
def test_every_action_and_object_has_a_type(api: str, count: int) -> None:
    ours = {name for _, of, name in pairs() if of == api}
    assert reachable(SDK[api], required_members.APIS[api][1]) == ours
    assert len([action for action in ACTIONS if action.service == api]) == count


def test_actions_name_service_and_version() -> None:
    assert {(action.service, action.version) for action in ACTIONS} == {
        ("batch", "2017-03-12"),
        ("tdmq", "2020-02-17"),
    }
    assert all(action.service == api_of(action) for action in ACTIONS)
    assert all(sdk_name(action.result_type()) in (f"{action.name()}Response", "Response") for action in ACTIONS)


def test_the_file_of_required_members_is_complete_and_current() -> None:
    for action in ACTIONS:
        assert set(REQUIRED[action.service][sdk_name(action)]) == set(our_members(action))
    if required_members.available():
        assert required_members.collect() == REQUIRED


class TestItself:
    """The comparison would notice."""

    def test_a_missing_an_extra_and_a_mistyped_member(self) -> None:
        class EnvVarOfOurs(EnvVar):
            name: int  # type: ignore[assignment]
            comment: str | None = None

        found = differences(EnvVarOfOurs, batch_sdk.EnvVar)
        assert found == [
            "batch EnvVar.Comment: the API has no such member",
            "batch EnvVar.Name: is int, must be str",
        ]
        assert "batch Task.Application: missing" in differences(EnvVar, batch_sdk.Task)

    def test_a_list_for_an_object_and_a_wrong_object(self) -> None:
        class Wrong(Task):
            application: list[EnvVar]  # type: ignore[assignment]

        assert "batch Task.Application: is list of EnvVar, must be Application" in differences(Wrong, batch_sdk.Task)

    def test_a_difference_in_what_is_required(self) -> None:
        class Wrong(EnvVar):
            value: str | None = None  # type: ignore[assignment]

        assert differences(Wrong, batch_sdk.EnvVar) == ["batch EnvVar.Value: the API requires it, we do not"]

    def test_a_name_that_does_not_fit_its_alias(self) -> None:
        class Wrong(CmqTag):
            __module__ = CmqTag.__module__
            model_config = {"alias_generator": lambda name: "TagKey" if name == "label" else to_pascal(name)}  # noqa: RUF012
            label: str

        assert "tdmq Tag.TagKey: is called label in Python" in differences(Wrong, tdmq_sdk.Tag)
