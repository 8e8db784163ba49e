"""From what a user wrote to plain JSON with wire names, and back again.

A DAG author may write a job as models, as dictionaries in either spelling, or as a mixture, with Jinja
expressions anywhere. What an operator keeps in its template field must be plain JSON, because Airflow
turns a pydantic model into ``str(model)`` when it serializes a DAG and never renders Jinja inside one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_origin

from annotated_types import Ge, MaxLen
from pydantic import BaseModel, SecretStr

from airflow_provider_tcbatch.models.base import HIDDEN, ApiModel, is_jinja, model_type, reveal
from airflow_provider_tcbatch.models.storage import Placeholder

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["HIDDEN", "WireForm", "is_jinja", "put_secrets_back", "to_wire_form", "with_placeholders"]

_Path = tuple[str | int, ...]


@dataclass
class WireForm:
    """A value in wire JSON.

    :param data: plain JSON with wire names; secrets are replaced by :data:`HIDDEN`.
    :param secrets: what was taken out, by path.
    """

    data: Any
    secrets: dict[_Path, SecretStr] = field(default_factory=dict)


def to_wire_form(model: type[BaseModel], value: Any) -> WireForm:
    """Bring a value into wire JSON without validating it.

    Names that the model does not know stay as they are, so that validation can name them.

    :param model: the type that ``value`` is meant to be.
    :param value: an instance of ``model``, or a mapping in either spelling, models inside allowed.
    """
    form = WireForm(None)
    form.data = _normalise(model, value, (), form.secrets)
    return form


def put_secrets_back(data: Any, secrets: Mapping[_Path, SecretStr]) -> Any:
    """Return ``data`` with the secrets at their places again; ``data`` itself is left alone."""
    for path, secret in secrets.items():
        data = _replace(data, path, secret)
    return data


def with_placeholders(model: type[BaseModel], data: Any, is_template: Callable[[Any], bool]) -> Any:
    """Replace values that are only known at run time by ones that satisfy their own field's rules.

    So the rules *between* fields (exactly one of two, no cycle) can be checked before rendering. Equal
    expressions get equal placeholders: a dependence on task ``"part-{{ ds }}"`` is found.

    :param model: the type that ``data`` is meant to be.
    :param data: wire JSON.
    :param is_template: whether a value is only known at run time.
    """
    if is_template(data):
        return _example(model, str(data))
    if not isinstance(data, Mapping):
        return data
    if issubclass(model, ApiModel):
        data = model.without_unknowns(dict(data), is_template)
    fields = _by_alias(model)
    return {key: _fill(fields[key], item, is_template) if key in fields else item for key, item in data.items()}


def _fill(info: FieldInfo, value: Any, is_template: Callable[[Any], bool]) -> Any:
    if is_template(value):
        return _example_of_field(info, str(value))
    inner = model_type(info.annotation)
    if isinstance(value, list):
        item_type = _item_type(info.annotation)
        return [
            with_placeholders(inner, item, is_template)
            if inner is not None
            else (_example_of(item_type, (), str(item)) if is_template(item) else item)
            for item in value
        ]
    return value if inner is None else with_placeholders(inner, value, is_template)


def _example(model: type[BaseModel], text: str) -> dict[str, Any]:
    """Smallest valid wire JSON of a model."""
    example = {
        info.alias or name: _example_of_field(info, text)
        for name, info in model.model_fields.items()
        if info.is_required()
    }
    # Two models have a rule that asks for one of two optional fields.
    if "EnvId" in _by_alias(model) and "ComputeEnv" in _by_alias(model):
        example["EnvId"] = "env-00000000"
    return example


def _example_of_field(info: FieldInfo, text: str) -> Any:
    return _example_of(info.annotation, tuple(info.metadata), text)


def _example_of(annotation: Any, metadata: tuple[Any, ...], text: str) -> Any:
    for rule in metadata:
        if isinstance(rule, Placeholder):
            return rule.value
    if get_origin(annotation) is list:
        return [_example_of(get_args(annotation)[0], (), text)]
    if get_origin(annotation) is not None or hasattr(annotation, "__args__"):
        # A union such as ``int | None``: the first member is the one with content. ``Annotated`` members
        # keep their own rules.
        first = get_args(annotation)[0]
        inner_rules = tuple(getattr(annotation, "__metadata__", ()))
        return _example_of(first, (*metadata, *inner_rules), text)
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel):
            return _example(annotation, text)
        if issubclass(annotation, Enum):
            return next(iter(annotation)).value
        if annotation is bool:
            return True
        if annotation is int:
            return next((rule.ge for rule in metadata if isinstance(rule, Ge)), 1)
        if annotation is float:
            return 1.0
    digest = "t" + hashlib.sha256(text.encode()).hexdigest()[:15]
    limit = next((rule.max_length for rule in metadata if isinstance(rule, MaxLen)), len(digest))
    return digest[:limit]


def _item_type(annotation: Any) -> Any:
    if get_origin(annotation) is list:
        return get_args(annotation)[0]
    return next((found for arg in get_args(annotation) if (found := _item_type(arg)) is not None), None)


def _by_alias(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _normalise(model: type[BaseModel] | None, value: Any, path: _Path, secrets: dict[_Path, SecretStr]) -> Any:
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, (list, tuple)):
        return [_normalise(model, item, (*path, number), secrets) for number, item in enumerate(value)]
    if isinstance(value, Mapping):
        fields = {} if model is None else _by_alias(model)
        aliases = {} if model is None else {name: info.alias for name, info in model.model_fields.items()}
        wire = {}
        for name, item in value.items():
            key: str = aliases.get(name) or name
            at = (*path, key)
            info = fields.get(key)
            if info is not None and _holds_secret(info.annotation):
                wire[key] = _hide(item, at, secrets)
            else:
                wire[key] = _normalise(model_type(info.annotation) if info else None, item, at, secrets)
        return wire
    return reveal(value) if isinstance(value, str) else value


def _hide(value: Any, at: _Path, secrets: dict[_Path, SecretStr]) -> Any:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(plain, str) or is_jinja(plain):
        return plain  # a reference to a secret is none, and a wrong type is left for validation to name
    secrets[at] = value if isinstance(value, SecretStr) else SecretStr(plain)
    return HIDDEN


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(arg) for arg in get_args(annotation))


def _replace(data: Any, path: _Path, secret: SecretStr) -> Any:
    if not path:
        return secret.get_secret_value() if data == HIDDEN else data
    head, rest = path[0], path[1:]
    if isinstance(data, list) and isinstance(head, int) and head < len(data):
        return [_replace(item, rest, secret) if number == head else item for number, item in enumerate(data)]
    if isinstance(data, Mapping) and head in data:
        return {key: _replace(item, rest, secret) if key == head else item for key, item in data.items()}
    return data
