"""Types for reading answers of the service tolerantly.

Requests are checked as strictly as the rules are certain. An answer is checked for one thing only: that what a caller
can't do without is there. An account holds jobs and environments that somebody made years ago, in a console, under
rules that have changed since; a list must not become unreadable because one of them breaks a rule of today.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, GetCoreSchemaHandler, SecretStr, ValidationError
from pydantic_core import CoreSchema, core_schema

from airflow_provider_tcbatch.models.states import ActivityState, ComputeNodeState, State

__all__ = ["Count", "Echo", "KnownActivityState", "KnownNodeState", "KnownState", "Listing"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)


class _ReadLoosely:
    """Falls back to :func:`loosely` where strict validation fails."""

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        def read(value: Any, strictly: Callable[[Any], Any]) -> Any:
            try:
                return strictly(value)
            except ValidationError:
                if isinstance(value, Mapping):
                    return loosely(source, value)
                raise

        return core_schema.no_info_wrap_validator_function(read, handler(source))


def loosely(model: type[ModelT], data: Mapping[str, Any]) -> ModelT:
    """Make an object of what is there, unchecked.

    Members that are missing or null are ``None`` (whatever the annotation says), values that do not fit their type
    stay as they came, unknown members are dropped.

    :param model: type of the object.
    :param data: what the service sent.
    """
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        value = data.get(info.alias or name)
        if value is not None:
            fields[name] = _value(info.annotation, value)
        elif info.is_required():
            fields[name] = None
    return model.model_construct(_fields_set={name for name, value in fields.items() if value is not None}, **fields)


def _value(annotation: Any, value: Any) -> Any:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _value(get_args(annotation)[0], value)
    if origin in (Union, types.UnionType):
        return _value(get_args(annotation)[0], value)
    if origin is list and isinstance(value, list):
        return [_value(get_args(annotation)[0], item) for item in value]
    if not isinstance(annotation, type):
        return value
    if issubclass(annotation, BaseModel) and isinstance(value, Mapping):
        return loosely(annotation, value)
    if issubclass(annotation, SecretStr) and isinstance(value, str):
        return SecretStr(value)
    if issubclass(annotation, Enum):
        try:
            return annotation(value)
        except ValueError:
            return value
    return value


#: An object of a request that an answer gives back: ``Echo[Task]``. See :func:`loosely` for one that is not valid.
Echo = Annotated[T, _ReadLoosely()]

#: A list that an answer must hold; null stands for an empty one.
Listing = Annotated[list[T], BeforeValidator(lambda value: [] if value is None else value)]

#: A number of things; null stands for none.
Count = Annotated[int, BeforeValidator(lambda value: 0 if value is None else value)]

#: States that this version does not know stay plain strings.
KnownState = Annotated[State | str, Field(union_mode="left_to_right")]
KnownNodeState = Annotated[ComputeNodeState | str, Field(union_mode="left_to_right")]
KnownActivityState = Annotated[ActivityState | str, Field(union_mode="left_to_right")]
