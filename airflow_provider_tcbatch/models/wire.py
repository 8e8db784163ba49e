"""From what a user wrote to plain JSON with wire names, and back again.

A DAG author may write a job as models, as dictionaries in either spelling, or as a mixture, with Jinja
expressions anywhere. What an operator keeps in its template field must be plain JSON, because Airflow
turns a pydantic model into ``str(model)`` when it serializes a DAG and never renders Jinja inside one.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from annotated_types import Ge, MaxLen
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from airflow_provider_tcbatch.models.base import HIDDEN, ApiModel, is_jinja, model_type, reveal
from airflow_provider_tcbatch.models.storage import Placeholder

__all__ = [
    "HIDDEN",
    "Wanted",
    "WireForm",
    "is_jinja",
    "put_secrets_back",
    "secrets_of",
    "texts",
    "to_wire_form",
    "with_placeholders",
    "with_texts",
    "with_values",
]

_Path = tuple[str | int, ...]

#: What holds other values is mostly of these types, and of those it is told much faster than of others.
_CONTAINERS = (dict, list, tuple)
_MAPPING = (dict, Mapping)


@dataclass
class WireForm:
    """A value in wire JSON.

    :param data: plain JSON with wire names; secrets are replaced by :data:`HIDDEN`.
    :param secrets: what was taken out, by path.
    """

    data: Any
    secrets: dict[_Path, SecretStr] = field(default_factory=dict)


class Wanted(NamedTuple):
    """What the model wants at a place.

    :param model: an object, or several, of this type.
    :param text: text.
    :param texts: several texts.
    """

    model: type[BaseModel] | None
    text: bool = False
    texts: bool = False


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


def secrets_of(model: type[BaseModel], value: Any) -> list[str]:
    """The secrets in a value, in clear.

    :param model: the type that ``value`` is meant to be.
    :param value: as for :func:`to_wire_form`; anything else holds none.
    """
    if not _may_hold_secrets(model) or not isinstance(value, (BaseModel, *_MAPPING)):
        return []
    found = [secret.get_secret_value() for secret in to_wire_form(model, value).secrets.values()]
    return [secret for secret in dict.fromkeys(found) if secret and secret != HIDDEN]


@functools.cache
def _may_hold_secrets(model: type[BaseModel]) -> bool:
    fields = _fields(model).values()
    return any(known.secret or (known.model is not None and _may_hold_secrets(known.model)) for known in fields)


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
    return _filled(model, data, is_template)


def with_values(wanted: Wanted, data: Any, value_of: Callable[[Wanted, Any, str], Any], path: str) -> Any:
    """Replace what stands at the ends of an object by what it is at run time.

    :param wanted: what ``data`` is meant to be.
    :param data: wire JSON, with Jinja and other tasks' outputs in it.
    :param value_of: takes what is wanted at an end, what stands there, and its path; returns its value.
    :param path: where ``data`` stands, for ``value_of``.
    """
    if isinstance(data, _MAPPING):
        fields = {} if wanted.model is None else _fields(wanted.model)
        return {
            name: with_values(fields.get(name, _UNKNOWN).wanted, item, value_of, f"{path}.{name}")
            for name, item in data.items()
        }
    if isinstance(data, (list, tuple)):
        of_item = Wanted(wanted.model, wanted.texts)
        return [with_values(of_item, item, value_of, f"{path}[{number}]") for number, item in enumerate(data)]
    return value_of(wanted, data, path)


def with_texts(wanted: Wanted, data: Any) -> Any:
    """Make text of numbers and flags that stand where the model wants text.

    For what Jinja or another task made: its author can't put quotes around it. What a DAG file holds stays as it is, so
    that validation names it.

    :param wanted: what ``data`` is meant to be.
    :param data: wire JSON, or a part of it.
    """
    return with_values(wanted, data, lambda at, value, _: _text_of(value) if at.text else value, "")


def _text_of(value: Any) -> Any:
    return str(value) if isinstance(value, (bool, int, float)) else value


def texts(data: Any, path: str) -> Iterator[tuple[str, str]]:
    """All text in an object, with its path.

    :param data: wire JSON.
    :param path: where ``data`` stands.
    """
    if isinstance(data, str):
        yield path, data
    elif isinstance(data, _MAPPING):
        for name, item in data.items():
            yield from texts(item, f"{path}.{name}")
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield from texts(item, f"{path}[{number}]")


def _filled(model: type[BaseModel], data: Any, is_template: Callable[[Any], bool]) -> Any:
    """What is known of a value, with placeholders inside where something is not."""
    if not isinstance(data, _MAPPING):
        return data
    if issubclass(model, ApiModel):
        data = model.without_unknowns(dict(data), is_template)
    fields = _fields(model)
    filled = {}
    for key, value in data.items():
        known = fields.get(key)
        if known is None or key != known.alias:
            filled[key] = value
        elif is_template(value):
            filled[key] = _example_of_field(known.info, str(value))
        elif isinstance(value, list):
            filled[key] = _filled_list(known, value, is_template)
        else:
            filled[key] = value if known.model is None else _filled(known.model, value, is_template)
    return filled


def _filled_list(known: _Field, items: list[Any], is_template: Callable[[Any], bool]) -> list[Any]:
    model = known.model
    if model is not None:
        return [with_placeholders(model, item, is_template) for item in items]
    item_type = _item_type(known.info.annotation)
    return [_example_of(item_type, (), str(item)) if is_template(item) else item for item in items]


def _example(model: type[BaseModel], text: str) -> dict[str, Any]:
    """Smallest valid wire JSON of a model."""
    example = {
        info.alias or name: _example_of_field(info, text)
        for name, info in model.model_fields.items()
        if info.is_required()
    }
    # Some models have a rule that asks for one of two optional fields.
    if "Command" in _fields(model) and "Commands" in _fields(model):
        example["Command"] = "true"
    if "EnvId" in _fields(model) and "ComputeEnv" in _fields(model):
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


class _Field(NamedTuple):
    """What is asked of a field again and again.

    :param alias: its name on the wire.
    :param info: as pydantic describes it.
    :param model: the model inside its annotation.
    :param secret: whether it holds a secret.
    :param wanted: what it holds.
    """

    alias: str
    info: FieldInfo
    model: type[BaseModel] | None
    secret: bool
    wanted: Wanted


#: A field that the model does not have keeps its name.
_UNKNOWN = _Field("", FieldInfo(), None, False, Wanted(None))


@functools.cache
def _fields(model: type[BaseModel]) -> dict[str, _Field]:
    """A model's fields under both of their names.

    Looked up once for a model: a DAG file may hold thousands of jobs, and annotations are slow to take apart.
    """
    found = {}
    for name, info in model.model_fields.items():
        alias = info.alias or name
        model_inside = model_type(info.annotation)
        item = _item_type(info.annotation)
        wanted = Wanted(model_inside, _is_text(info.annotation), item is not None and _is_text(item))
        found[name] = found[alias] = _Field(alias, info, model_inside, _holds_secret(info.annotation), wanted)
    return found


def _normalise(model: type[BaseModel] | None, value: Any, path: _Path, secrets: dict[_Path, SecretStr]) -> Any:
    if isinstance(value, str):
        return reveal(value)
    if not isinstance(value, _CONTAINERS) and isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True, exclude_unset=True)
    if isinstance(value, _MAPPING):
        fields = {} if model is None else _fields(model)
        wire = {}
        for name, item in value.items():
            known = fields.get(name, _UNKNOWN)
            key = known.alias or name
            if known.secret:
                wire[key] = _hide(item, (*path, key), secrets)
            elif type(item) is str:
                wire[key] = item
            else:
                wire[key] = _normalise(known.model, item, (*path, key), secrets)
        return wire
    if isinstance(value, (list, tuple)):
        return [_normalise(model, item, (*path, number), secrets) for number, item in enumerate(value)]
    return value


def _hide(value: Any, at: _Path, secrets: dict[_Path, SecretStr]) -> Any:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(plain, str) or is_jinja(plain):
        return plain  # a reference to a secret is none, and a wrong type is left for validation to name
    secrets[at] = value if isinstance(value, SecretStr) else SecretStr(plain)
    return HIDDEN


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(_holds_secret(arg) for arg in get_args(annotation))


def _is_text(annotation: Any) -> bool:
    """Whether an annotation such as ``FolderPath | None`` asks for text, and not for a list of it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_text(get_args(annotation)[0])
    if origin is None:
        return isinstance(annotation, type) and issubclass(annotation, (str, SecretStr))
    return origin is not list and any(_is_text(argument) for argument in get_args(annotation))


def _replace(data: Any, path: _Path, secret: SecretStr) -> Any:
    if not path:
        return secret.get_secret_value() if data == HIDDEN else data
    head, rest = path[0], path[1:]
    if isinstance(data, list) and isinstance(head, int) and head < len(data):
        return [_replace(item, rest, secret) if number == head else item for number, item in enumerate(data)]
    if isinstance(data, Mapping) and head in data:
        return {key: _replace(item, rest, secret) if key == head else item for key, item in data.items()}
    return data
