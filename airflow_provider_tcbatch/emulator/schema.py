"""What the API accepts and answers, read from the property docstrings of Tencent's own SDK models."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.required_members import REQUIRED

_RTYPE = re.compile(r":rtype:\s*(?P<type>.+)")
_CLASS = re.compile(r":class:`[^`]*\.(?P<name>\w+)`")
_SCALARS = {"str": "string", "int": "integer", "float": "float", "bool": "boolean"}

#: How text is read where a number or a truth value is wanted: ``"1"``, ``"TRUE"``.
_READERS: dict[str, TypeAdapter[Any]] = {
    "integer": TypeAdapter(int),
    "float": TypeAdapter(float),
    "boolean": TypeAdapter(bool),
}

_MODULES = {
    "batch": "tencentcloud.batch.v20170312.models",
    "tdmq": "tencentcloud.tdmq.v20200217.models",
}


@dataclass(frozen=True)
class Field:
    """Type of one member: a scalar kind (``string`` …) or the name of an object, maybe in a list."""

    kind: str
    is_list: bool

    @property
    def is_object(self) -> bool:
        return self.kind not in _SCALARS.values()


class Schema:
    """The objects of one service.

    :param service: ``batch`` or ``tdmq``.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._models = importlib.import_module(_MODULES[service])
        self._required = REQUIRED[service]
        self._fields: dict[str, dict[str, Field]] = {}

    def fields(self, model: str) -> dict[str, Field]:
        """Members of an object by wire name, in the SDK's order."""
        known = self._fields.get(model)
        if known is None:
            cls = getattr(self._models, model)
            known = {
                name: _parse_type(value.__doc__ or "")
                for name, value in vars(cls).items()
                if isinstance(value, property)
            }
            self._fields[model] = known
        return known

    def has(self, model: str) -> bool:
        """Whether the SDK knows an object of this name."""
        return hasattr(self._models, model)

    def actions(self) -> Iterator[str]:
        """Names of all actions the SDK has a request for."""
        for name in vars(self._models):
            if name.endswith("Request") and self.has(name[:-7] + "Response"):
                yield name[:-7]

    def check(self, model: str, value: Any, *, lenient: bool = False) -> dict[str, Any]:
        """Validate a request and return it without null members.

        :param model: name of the request object.
        :param value: decoded JSON.
        :param lenient: accept ``"1"`` where a number is wanted, and ``"TRUE"`` or ``1`` where a truth value is.
        :raises ApiError: MissingParameter, UnknownParameter or InvalidParameter, naming the member's path.
        """
        return self._object(model, value, "", lenient)

    def _object(self, model: str, value: Any, path: str, lenient: bool) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong_type(path or "(request)", "an object", value)
        fields = self.fields(model)
        result: dict[str, Any] = {}
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            field = fields.get(name)
            if field is None:
                raise ApiError("UnknownParameter", f"The parameter `{printable(where)}` is not recognized.")
            if item is None:
                continue
            # Otherwise each of many thousand jobs would keep a spelling of "TaskName" of its own.
            name = sys.intern(name)
            if field.is_list:
                if not isinstance(item, list):
                    raise _wrong_type(where, "a list", item)
                result[name] = [
                    self._value(field.kind, element, f"{where}.{index}", lenient) for index, element in enumerate(item)
                ]
            else:
                result[name] = self._value(field.kind, item, where, lenient)
        for name in self._required.get(model, ()):
            if name not in result:
                where = f"{path}.{name}" if path else name
                raise ApiError("MissingParameter", f"The request is missing a required parameter `{where}`.")
        return result

    def _value(self, kind: str, value: Any, where: str, lenient: bool) -> Any:
        if kind == "string":
            if not isinstance(value, str):
                raise _wrong_type(where, "a string", value)
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ApiError("InvalidParameter", f"The parameter `{where}` is not valid Unicode text.") from None
            return value
        if kind == "boolean":
            if lenient and isinstance(value, (str, int, float)):
                value = _read(kind, value, where, "a boolean")
            if not isinstance(value, bool):
                raise _wrong_type(where, "a boolean", value)
            return value
        if kind in ("integer", "float"):
            return _number(kind, value, where, lenient)
        return self._object(kind, value, where, lenient)

    def complete(self, model: str, value: Mapping[str, Any]) -> dict[str, Any]:
        """Give an answer every member the SDK knows; what is not set becomes null.

        :raises KeyError: when ``value`` holds a member the SDK does not know, a mistake in the emulator.
        """
        fields = self.fields(model)
        unknown = value.keys() - fields.keys()
        if unknown:
            raise KeyError(f"{model} has no members {sorted(unknown)}")
        result: dict[str, Any] = {}
        for name, field in fields.items():
            item = value.get(name)
            if item is not None and field.is_object:
                if field.is_list:
                    item = [self.complete(field.kind, element) for element in item]
                else:
                    item = self.complete(field.kind, item)
            result[name] = item
        return result


@cache
def schema(service: str) -> Schema:
    """The one :class:`Schema` of a service."""
    return Schema(service)


def printable(text: str, limit: int = 200) -> str:
    """Text from a client, safe to repeat in a message: no control characters, not endless."""
    clean = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"


def _parse_type(doc: str) -> Field:
    match = _RTYPE.search(doc)
    if match is None:
        raise TypeError(f"no :rtype: in the SDK's docstring {doc!r}")
    text = match["type"].strip()
    is_list = text.startswith("list of ")
    if is_list:
        # "list of int non-negative" is how the SDK spells a list of unsigned integers.
        text = text[len("list of ") :].split()[0]
    reference = _CLASS.match(text)
    if reference is not None:
        text = reference["name"]
    return Field(_SCALARS.get(text, text), is_list)


def _number(kind: str, value: Any, where: str, lenient: bool) -> Any:
    wanted = "an integer" if kind == "integer" else "a number"
    if lenient and isinstance(value, str):
        value = _read(kind, value, where, wanted)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(where, wanted, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ApiError(
            "InvalidParameter", f"The parameter `{printable(where)}` must be {wanted} and finite, not {value}."
        )
    if kind == "integer":
        if isinstance(value, float) and not value.is_integer():
            raise _wrong_type(where, wanted, value)
        if abs(value) >= 2**63:
            raise ApiError("InvalidParameter", f"The parameter `{where}` does not fit into 64 bits.")
        return int(value)
    return float(value)


def _read(kind: str, value: str | float, where: str, wanted: str) -> Any:
    try:
        return _READERS[kind].validate_python(value)
    except ValidationError:
        raise _wrong_type(where, wanted, value) from None


def _wrong_type(where: str, wanted: str, value: Any) -> ApiError:
    got = "null" if value is None else type(value).__name__
    return ApiError("InvalidParameter", f"The parameter `{printable(where)}` must be {wanted}, not {got}.")
