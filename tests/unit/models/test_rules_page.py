"""docs/rules.md says what the types refuse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from airflow_provider_tcbatch.models.actions import SubmitJob
from airflow_provider_tcbatch.models.base import model_type
from airflow_provider_tcbatch.models.env_actions import CreateComputeEnv
from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate
from airflow_provider_tcbatch.models.values import Count, Integer

PAGE = Path(__file__).parents[3] / "docs/rules.md"
#: Annotated types, which their type does not show.
NUMBERS: tuple[Any, ...] = (Count, Integer)
#: What the page says once for all members.
FOR_ALL = {repr(rule) for kind in NUMBERS for rule in kind.__metadata__}


def inside(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from inside(argument)


def models(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> dict[str, type[BaseModel]]:
    if model.__name__ not in found:
        found[model.__name__] = model
        for info in model.model_fields.values():
            if part := model_type(info.annotation):
                models(part, found)
    return found


MODELS: dict[str, type[BaseModel]] = {}
for action in (SubmitJob, CreateComputeEnv, CreateTaskTemplate):
    models(action, MODELS)


def rules() -> Iterator[tuple[str, str, set[str]]]:
    """Members with rules of their own: object, member, and the values of a choice."""
    for model in MODELS.values():
        for name, info in model.model_fields.items():
            choices = {
                str(member.value)
                for part in inside(info.annotation)
                if isinstance(part, type) and issubclass(part, Enum)
                for member in part
            }
            parts = [rule for part in inside(info.annotation) for rule in getattr(part, "__metadata__", ())]
            own = [rule for rule in (*info.metadata, *parts) if repr(rule) not in FOR_ALL]
            # A required whole number has the rules of its kind apart.
            apart = {repr(rule) for kind in NUMBERS for rule in (*kind.__metadata__[0].metadata,)}
            if choices or [rule for rule in own if repr(rule) not in apart]:
                yield model.__name__, info.alias or name, choices


def rows() -> dict[str, str]:
    """Rule by member."""
    text = PAGE.read_text().partition("## Members")[2]
    found: dict[str, str] = {}
    for line in re.findall(r"^\| (`.*) \|$", text, re.MULTILINE):
        members, rule, _ = line.split(" | ", 2)
        for member in re.findall(r"`([\w.]+)`", members):
            found[member] = found.get(member, "") + rule
    return found


def test_every_rule_has_a_row() -> None:
    page, known = rows(), list(rules())
    assert len(known) > 40
    missing = [f"{model}.{member}" for model, member, _ in known if not page.get(f"{model}.{member}", "").strip(" |")]
    assert missing == []


def test_rows_name_the_values_of_a_choice() -> None:
    page = rows()
    for model, member, choices in rules():
        if choices and member != "EventName":
            named = set(re.findall(r"`([^`]+)`", page[f"{model}.{member}"]))
            assert choices <= named, f"{model}.{member}"


def test_rows_are_of_members_that_there_are() -> None:
    for row in rows():
        model, _, member = row.partition(".")
        assert member in {info.alias for info in MODELS[model].model_fields.values()}, row


def test_rules_between_members_have_rows() -> None:
    page = rows()
    between = {name for name, model in MODELS.items() if model.__pydantic_decorators__.model_validators}
    assert between == {"Job", "Task", "Application", "EnvData", "LoginSettings"}
    for member in ("Job.Tasks", "Task.EnvId", "Application.Commands", "EnvData.InstanceTypes", "LoginSettings.KeyIds"):
        assert page[member].strip()
