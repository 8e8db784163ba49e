"""Filters and paging as the Describe actions have them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable
from airflow_provider_tcbatch.emulator.settings import Settings

T = TypeVar("T")


class Filters(Generic[T]):
    """Filters are joined by AND, the values of one filter by OR; values match exactly, names maybe in part.

    :param filters: ``[{"Name": …, "Values": […]}]`` of a request.
    :param known: how to read the value of a filter from an item.
    :param tags: how to read an item's tags, if it has any.
    :param unknown: error code of an unknown name.
    :param parts_of_names: whether a part of a name suffices.
    :raises ApiError: ``unknown`` for an unknown name, InvalidParameterValue.LimitExceeded for too many values.
    """

    def __init__(
        self,
        filters: Sequence[Mapping[str, Any]],
        known: Mapping[str, Callable[[T], str]],
        tags: Callable[[T], Iterable[Mapping[str, str]]] | None = None,
        unknown: str = "InvalidFilter",
        parts_of_names: bool = False,
    ) -> None:
        self._tests: list[Callable[[T], bool]] = []
        for item in filters:
            name, values = item["Name"], frozenset(item["Values"])
            if len(item["Values"]) > 100:
                raise ApiError(
                    "InvalidParameterValue.LimitExceeded", f"The filter {printable(name, 60)} has too many values."
                )
            if name in known:
                make_test = _part_test if parts_of_names and name.endswith("-name") else _value_test
                self._tests.append(make_test(known[name], values))
            elif tags is not None and name in ("tag-key", "tag-value"):
                self._tests.append(_tag_test(tags, name[4:].title(), values))
            elif tags is not None and name.startswith("tag:"):
                self._tests.append(_pair_test(tags, name[4:], values))
            else:
                raise ApiError(unknown, f"The filter {printable(name, 60)!r} is not supported.")

    def select(self, items: Iterable[T]) -> list[T]:
        """The items that pass all filters."""
        return [item for item in items if all(test(item) for test in self._tests)]


def _value_test(read: Callable[[T], str], values: frozenset[str]) -> Callable[[T], bool]:
    return lambda item: read(item) in values


def _part_test(read: Callable[[T], str], values: frozenset[str]) -> Callable[[T], bool]:
    return lambda item: any(value in read(item) for value in values)


def _tag_test(
    tags: Callable[[T], Iterable[Mapping[str, str]]], member: str, values: frozenset[str]
) -> Callable[[T], bool]:
    return lambda item: any(tag[member] in values for tag in tags(item))


def _pair_test(
    tags: Callable[[T], Iterable[Mapping[str, str]]], key: str, values: frozenset[str]
) -> Callable[[T], bool]:
    return lambda item: any(tag["Key"] == key and tag["Value"] in values for tag in tags(item))


def in_order(settings: Settings, oldest_first: Collection[T]) -> list[T]:
    """What there is in the order in which it is listed."""
    found = list(oldest_first)
    if settings.listing_order == "newest":
        found.reverse()
    return found


def page(items: Sequence[T], params: Mapping[str, Any], *, default: int, largest: int) -> Sequence[T]:
    """One page of a listing by ``Offset`` and ``Limit``.

    :raises ApiError: InvalidParameterValue for a negative number or a limit that is too large.
    """
    offset, limit = params.get("Offset", 0), params.get("Limit", default)
    for name, value in (("Offset", offset), ("Limit", limit)):
        if value < 0:
            raise ApiError("InvalidParameterValue.Negative", f"The parameter `{name}` must not be negative.")
    if limit > largest:
        raise ApiError("InvalidParameterValue", f"The parameter `Limit` must be at most {largest}.")
    return items[offset : offset + limit]
