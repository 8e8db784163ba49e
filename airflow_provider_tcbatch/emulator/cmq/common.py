"""What the actions on queues and on topics have in common."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_tcbatch.emulator.cmq.entities import Queue, Topic
from airflow_provider_tcbatch.emulator.cmq.service import CmqService
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

Params = dict[str, Any]
Handler = Callable[[CmqService, Params], Params]
#: Default, smallest and largest value by the name of a numeric attribute.
Numbers = Mapping[str, tuple[int, int, int]]

T = TypeVar("T", Queue, Topic)

NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,63}\Z")
TENANT = "cmq-emulator"


def numbers(params: Params, table: Numbers) -> dict[str, Any]:
    """Numeric attributes with their defaults filled in.

    :raises ApiError: for one out of its range.
    """
    return {**{name: default for name, (default, _, _) in table.items()}, **given_numbers(params, table)}


def given_numbers(params: Params, table: Numbers) -> dict[str, Any]:
    """Those numeric attributes that a request sets.

    :raises ApiError: for one out of its range.
    """
    result: dict[str, Any] = {}
    for name, (_, low, high) in table.items():
        if name in params:
            if not low <= params[name] <= high:
                raise ApiError("InvalidParameterValue", f"The parameter `{name}` must be {low} to {high}.")
            result[name] = params[name]
    return result


def check_new_name(cmq: CmqService, kind: str, name: str, where: str) -> None:
    """Whether something new may have this name.

    :raises ApiError: for an illegal name, or one of something that was just deleted.
    """
    if not NAME.match(name):
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter `{where}` must begin with a letter and hold at most 64 letters, digits, _ and -.",
        )
    deleted = cmq.broker.deleted_names.get((kind, name.lower()))
    if deleted is not None and cmq.broker.now() - deleted < cmq.host.settings.cmq_name_block_seconds:
        raise ApiError(
            f"ResourceInUse.{kind.title()}",
            f"{name} was deleted less than {cmq.host.settings.cmq_name_block_seconds:g} s ago and is blocked for now.",
        )


def find_queue(cmq: CmqService, name: str) -> Queue:
    """The queue of this name.

    :raises ApiError: ResourceNotFound.
    """
    queue = cmq.broker.queue(name)
    if queue is None:
        raise ApiError("ResourceNotFound", f"The queue {printable(name, 64)!r} does not exist.")
    return queue


def find_topic(cmq: CmqService, name: str) -> Topic:
    """The topic of this name.

    :raises ApiError: ResourceNotFound.Topic.
    """
    topic = cmq.broker.topic(name)
    if topic is None:
        raise ApiError("ResourceNotFound.Topic", f"The topic {printable(name, 64)!r} does not exist.")
    return topic


def select(items: Mapping[str, T], params: Params, kind: str) -> list[T]:
    """Queues or topics that a request wants to see.

    :param items: by name in lower case.
    :param kind: ``Queue`` or ``Topic``. ``QueueName`` matches a part of the name, ``QueueNameList`` whole names.
    """
    part, names = params.get(f"{kind}Name", "").lower(), params.get(f"{kind}NameList")
    wanted = {name.lower() for name in names} if names else None
    return [
        item
        for name, item in items.items()
        if part in name and (wanted is None or name in wanted) and _tagged(item.tags, params.get("Filters", ()))
    ]


def _tagged(tags: Sequence[Mapping[str, str]], filters: Sequence[Mapping[str, Any]]) -> bool:
    values = {tag["TagKey"]: tag["TagValue"] for tag in tags}
    for item in filters:
        prefix, _, key = item.get("Name", "").partition(":")
        if prefix != "tag":
            raise ApiError("InvalidParameterValue", "The name of a filter must be tag:<key>.")
        if values.get(key) not in item.get("Values", ()):
            return False
    return True


def page(items: Sequence[Any], params: Params) -> Sequence[Any]:
    """The part of a list that a request asks for."""
    offset, limit = params.get("Offset", 0), params.get("Limit", 20)
    if offset < 0 or not 0 <= limit <= 50:
        raise ApiError("InvalidParameterValue", "`Offset` must not be negative and `Limit` must be 0 to 50.")
    return items[offset : offset + limit]
