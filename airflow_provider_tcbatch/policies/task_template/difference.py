"""What would have to change for something on the service to be as it is wished. Pure, on wire JSON.

Only what the wish names is compared: what the service adds of its own (defaults, states, times) is no difference,
nor is what others have set besides. ``None`` in a wish means that the field must not be there. Nothing, an empty text,
an empty list and an empty mapping are the same. Lists whose order has no meaning are compared by the names of their
entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from airflow_provider_tcbatch.models.base import HIDDEN
from airflow_provider_tcbatch.models.wire import WireForm, to_wire_form
from airflow_provider_tcbatch.policies.task_template.overrides import displaced, names_of, without_nulls

__all__ = ["UNORDERED", "Change", "Key", "applied", "between", "difference"]

#: Lists whose order has no meaning, and the field that names an entry.
UNORDERED: Mapping[str, str] = {
    "EnvVars": "Name",
    "Tags": "Key",
    "Notifications": "TopicName",
    "EventConfigs": "EventName",
    "EventVars": "Name",
}

_Path = tuple[str | int, ...]


class Key(str):
    """A step of a path: the entry of a list that has this name."""


@dataclass(frozen=True)
class Change:
    """One difference; secrets are stars.

    :param steps: the way to it: names of fields, numbers of entries, and names of entries (:class:`Key`).
    :param before: what is there; ``None`` for nothing.
    :param after: what is wished; ``None`` if it is to go.
    """

    steps: tuple[str | int, ...]
    before: Any
    after: Any

    @property
    def path(self) -> str:
        """The way to it, such as ``EnvVars[DAY].Value``."""
        parts = [f"[{step}]" if isinstance(step, (int, Key)) else f".{step}" for step in self.steps]
        return "".join(parts).removeprefix(".")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: ``path``, ``before``, ``after``."""
        return {"path": self.path, "before": self.before, "after": self.after}

    def __str__(self) -> str:
        before, after = (
            "nothing" if value is None else json.dumps(value, ensure_ascii=False) for value in (self.before, self.after)
        )
        return f"{self.path}: {before} -> {after}"


def difference(model: type[BaseModel], wished: Mapping[str, Any], shown: Mapping[str, Any]) -> list[Change]:
    """What differs, in the order of the wish.

    A secret that the service shows as stars only can't be compared, and does not count.

    :param model: type of both; it knows which fields are secrets.
    :param wished: wire JSON, with secrets in clear.
    :param shown: the same, as the service shows it.
    """
    comparison = _Comparison(to_wire_form(model, wished), to_wire_form(model, shown))
    return list(comparison.changes())


def between(model: type[BaseModel], before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """All that differs between two whole objects: also what only the first one has.

    :param model: type of both.
    :param before: wire JSON, with secrets in clear.
    :param after: the same.
    """
    changes = difference(model, after, before)
    told = {change.steps for change in changes}
    lost = [change for change in difference(model, before, after) if change.before is None and change.steps not in told]
    return changes + [Change(change.steps, change.after, None) for change in lost]


def applied(wished: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown, with all that the wish names as it is wished; both stay as they are.

    :param wished: wire JSON, with secrets in clear.
    :param shown: the same.
    """
    gone = displaced(wished)
    result = {name: value for name, value in shown.items() if name not in gone}
    for name, value in wished.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _applied(name, value, result.get(name))
    return result


def _applied(name: str | int, wish: Any, shown: Any) -> Any:
    if isinstance(wish, Mapping):
        return applied(wish, shown if isinstance(shown, Mapping) else {})
    if isinstance(wish, (list, tuple)):
        shown = shown if isinstance(shown, (list, tuple)) else []
        pairs = _pairs(name, wish, shown)
        if pairs is None:
            return without_nulls(wish)
        return [
            _applied(step, wish[here], None if there is None else shown[there])
            for step, here, there in pairs
            if here is not None
        ]
    return wish


#: How an entry is called, and its numbers in what is wished and in what is shown; ``None`` where it is missing.
_Pair = tuple[int | Key, int | None, int | None]


def _pairs(name: str | int, wish: Sequence[Any], shown: Sequence[Any]) -> list[_Pair] | None:
    """Entries of two lists that belong together; ``None`` if that can't be told."""
    field = UNORDERED.get(str(name), "")
    wanted, present = names_of(wish, field), names_of(shown, field)
    if wanted and present and len(set(wanted)) == len(wanted) and len(set(present)) == len(present):
        there = {key: number for number, key in enumerate(present)}
        pairs: list[_Pair] = [(Key(key), number, there.pop(key, None)) for number, key in enumerate(wanted)]
        return pairs + [(Key(key), None, number) for key, number in there.items()]
    if len(wish) == len(shown):
        return [(number, number, number) for number in range(len(wish))]
    return None


class _Comparison:
    """Two objects without their secrets, and these beside them."""

    def __init__(self, wished: WireForm, shown: WireForm) -> None:
        self._wished = wished
        self._shown = shown

    def changes(self) -> Iterator[Change]:
        return self._compare(self._wished.data, self._shown.data, (), (), ())

    def _compare(self, wish: Any, shown: Any, steps: _Path, here: _Path, there: _Path) -> Iterator[Change]:
        """Compare two values.

        :param steps: the way to them as it is told.
        :param here: the way to the wish, by numbers.
        :param there: the way to what is shown.
        """
        if _is_nothing(wish) and _is_nothing(shown):
            return
        if isinstance(wish, Mapping) and isinstance(shown, Mapping):
            for name, value in wish.items():
                yield from self._compare(value, shown.get(name), (*steps, name), (*here, name), (*there, name))
            for name in sorted(displaced(wish) & shown.keys()):
                if not _is_nothing(shown[name]):
                    yield Change((*steps, name), shown[name], None)
            return
        pairs = _pairs(steps[-1], wish, shown) if isinstance(wish, list) and isinstance(shown, list) else None
        if pairs is not None:
            for step, mine, its in pairs:
                if mine is None or its is None:
                    before, after = (None if its is None else shown[its]), (None if mine is None else wish[mine])
                    yield Change((*steps, step), before, without_nulls(after))
                else:
                    yield from self._compare(wish[mine], shown[its], (*steps, step), (*here, mine), (*there, its))
        elif not self._same(wish, shown, here, there):
            yield Change(steps, None if _is_nothing(shown) else shown, without_nulls(wish))

    def _same(self, wish: Any, shown: Any, here: _Path, there: _Path) -> bool:
        if wish == HIDDEN == shown:
            wanted, present = self._wished.secrets.get(here), self._shown.secrets.get(there)
            text = "" if present is None else present.get_secret_value()
            return wanted == present or not text.strip("*")
        # Python takes True for 1.
        return bool(wish == shown) and isinstance(wish, bool) == isinstance(shown, bool)


def _is_nothing(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_nothing(item) for item in value.values())
    return value is None or value == "" or value == []
