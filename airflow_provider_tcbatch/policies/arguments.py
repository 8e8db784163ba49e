"""What an argument names, as a user wrote it or as a template made it: pure reading."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

__all__ = ["NOTHING", "listed", "number_of", "selection", "several_of", "text_of"]

#: What Jinja makes of an XCom that is not there.
NOTHING = ("", "None")

#: Parts of a written selection: an index, or the first and the last one.
_PART = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def several_of(name: str, given: object, kind: type) -> list[Any]:
    """What an argument names: one thing, or several, each once; also as text that Jinja made of a list.

    :param name: the argument, for the message.
    :param kind: ``str`` or ``int``.
    :raises ValueError: saying what to write instead.
    """
    items = listed(given)
    if kind is int:
        items = [int(item) if isinstance(item, str) and item.strip().isdigit() else item for item in items]
    for item in items:
        wrong = type(item) is not kind  # a bool is an int, too
        if wrong or (item < 0 if kind is int else not item):
            wanted = "an id or a list of ids" if kind is str else "an index from 0, or a list of them"
            raise ValueError(f"{name} holds {item!r}; write {wanted}")
    return list(dict.fromkeys(items))


def listed(given: object) -> list[Any]:
    """The items of a list, of text that holds one, or of a single value."""
    if isinstance(given, str):
        text = given.strip()
        if text in NOTHING:
            return []
        if not text.startswith("["):
            return [text]
        try:
            given = yaml.safe_load(text)
        except yaml.YAMLError:
            return [text]
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, (bytes, Mapping)) else [given]


def text_of(name: str, given: object) -> str:
    """The one name that an argument holds.

    :param name: the argument, for the message.
    :raises ValueError: saying what to write instead.
    """
    if not isinstance(given, str) or given.strip() in NOTHING:
        raise ValueError(f"{name} is {given!r}; write one name")
    return given.strip()


def number_of(name: str, given: object) -> int:
    """The number that an argument holds.

    :param name: the argument, for the message.
    :raises ValueError: saying what to write instead.
    """
    if isinstance(given, str) and given.strip().isdigit():
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{name} is {given!r}; write a number from 0")
    return given


def selection(given: object) -> list[int] | None:
    """Indexes of instances: one, several, text such as ``"0-9, 12"``; ``None`` for ``all``.

    :raises ValueError: saying what to write instead.
    """
    if isinstance(given, str) and given.strip().lower() == "all":
        return None
    if isinstance(given, str) and not given.strip().startswith("["):
        chosen: list[int] = []
        for part in given.split(","):
            match = _PART.fullmatch(part)
            if match is None or int(match[2] or match[1]) < int(match[1]):
                raise ValueError(
                    f"indexes is {given!r}; write all, an index from 0, a list of them, or text such as '0-9, 12'"
                )
            chosen += range(int(match[1]), int(match[2] or match[1]) + 1)
    else:
        chosen = several_of("indexes", given, int)
    if not chosen:
        raise ValueError("indexes is empty; write at least one, or all")
    return list(dict.fromkeys(chosen))
