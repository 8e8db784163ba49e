"""Putting overrides onto a task that a template holds. Pure, on wire JSON.

The rules, which ``docs/templates.md`` tells the user:

- mappings merge, field by field; scalars replace; ``None`` removes a field;
- a list replaces the whole list, except where its entries have names (:data:`IDENTITY`): there they merge by name, new
  ones are added at the end, and one of which everything but the name is ``None`` removes its namesake;
- of fields that exclude one another (:data:`EXCLUSIVE`) the one that is given takes the place of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from airflow_provider_tcbatch.models.wire import to_wire_form

__all__ = [
    "EXCLUSIVE",
    "IDENTITY",
    "displaced",
    "merge",
    "names_of",
    "unreadable_secrets",
    "with_nulls",
    "without_nulls",
]

#: The field that names an entry of a list. A mapping's name is the path in the instance: there can be only one of it.
IDENTITY: Mapping[str, str] = {
    "EnvVars": "Name",
    "Tags": "Key",
    "InputMappings": "DestinationPath",
    "OutputMappings": "SourcePath",
}

#: Fields of which an object may have only one.
EXCLUSIVE = (
    ("EnvId", "ComputeEnv"),
    ("Command", "Commands"),
    ("InstanceType", "InstanceTypes", "InstanceTypeOptions"),
    ("VirtualPrivateCloud", "VirtualPrivateClouds", "Zones"),
    ("Password", "KeyIds"),
)


def merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``overrides`` put onto it; both stay as they are."""
    gone = displaced(overrides)
    result = {name: value for name, value in base.items() if name not in gone}
    for name, value in overrides.items():
        before = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            result[name] = merge(before if isinstance(before, Mapping) else {}, value)
        elif isinstance(value, (list, tuple)):
            result[name] = _merge_lists(name, before if isinstance(before, (list, tuple)) else [], value)
        else:
            result[name] = value
    return result


def displaced(given: Mapping[str, Any]) -> set[str]:
    """Names of fields that ``given`` takes the place of, because they exclude a field that it has."""
    gone: set[str] = set()
    for group in EXCLUSIVE:
        if any(given.get(name) is not None for name in group):
            gone.update(name for name in group if name not in given)
    return gone


def without_nulls(value: Any) -> Any:
    """A value without the fields that are ``None``, at any depth."""
    if isinstance(value, Mapping):
        return {name: without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [without_nulls(item) for item in value]
    return value


def with_nulls(value: Any, written: Any) -> Any:
    """A value that validation has made of what was written, with the ``None`` of mappings that it has dropped."""
    if isinstance(value, Mapping) and isinstance(written, Mapping):
        given = {name: with_nulls(value.get(name), item) for name, item in written.items()}
        return {**value, **{name: item for name, item in given.items() if item is not None or written[name] is None}}
    if isinstance(value, list) and isinstance(written, (list, tuple)):
        return [with_nulls(item, other) for item, other in zip(value, written, strict=True)]
    return value


def names_of(entries: Sequence[Any], field: str) -> list[str] | None:
    """The names of a list's entries; ``None`` if one of them has none.

    :param field: the field that holds the name.
    """
    names = [entry.get(field) for entry in entries if isinstance(entry, Mapping)]
    known = [name for name in names if isinstance(name, str)]
    return known if len(known) == len(entries) else None


def unreadable_secrets(model: type[BaseModel], data: Any) -> list[str]:
    """Paths of secrets that the service has shown as stars only, and that must not be sent back to it.

    :param model: type of ``data``.
    :param data: wire JSON with its secrets in clear.
    """
    stars = [
        path for path, secret in to_wire_form(model, data).secrets.items() if not secret.get_secret_value().strip("*")
    ]
    return [
        "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
        for path in stars
    ]


def _merge_lists(name: str, base: Sequence[Any], overrides: Sequence[Any]) -> list[Any]:
    field = IDENTITY.get(name, "")
    there, given = names_of(base, field), names_of(overrides, field)
    if there is None or given is None:
        return [without_nulls(entry) for entry in overrides]
    result: list[Any] = []
    done: set[str] = set()
    # Entries that are there keep their place; a name that is there twice is given once.
    for key, entry in zip(there, base, strict=True):
        if key not in given:
            result.append(entry)
        elif key not in done:
            done.add(key)
            result += _entries(overrides, given, key, entry)
    for key in dict.fromkeys(given):
        if key not in done:
            result += _entries(overrides, given, key, {})
    return result


def _entries(overrides: Sequence[Any], names: Sequence[str], key: str, base: Mapping[str, Any]) -> list[Any]:
    """What is given under a name, without what only removes."""
    found = [entry for name, entry in zip(names, overrides, strict=True) if name == key]
    if len(found) > 1:
        base = {}  # which of them is meant to change what is there can't be told
    return [merge(base, entry) for entry in found if not _removes(entry)]


def _removes(entry: Mapping[str, Any]) -> bool:
    values = list(entry.values())
    return len(values) > 1 and values.count(None) == len(values) - 1
