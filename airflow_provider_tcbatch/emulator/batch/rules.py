"""Checks that several actions share; each raises the documented code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

_ZONE = re.compile(r"^(?P<region>[a-z]{2,}(?:-[a-z0-9]+)+?)-(?P<number>\d{1,2})$")
_TOPIC_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*$")


def check_activated(host: Host) -> None:
    """An account must be allowed to use Batch before it makes anything."""
    if not host.settings.batch_activated:
        raise ApiError("UnauthorizedOperation.UserNotAllowedToUseBatch", "The account is not allowed to use Batch.")


def check_zone(host: Host, zone: str, where: str) -> None:
    """A zone must exist, belong to the region of the request and be open."""
    match = _ZONE.fullmatch(zone)
    if match is None:
        raise ApiError("InvalidZone.MismatchRegion", f"The zone {printable(zone)} of `{where}` does not exist.")
    if match["region"] != host.identity.region:
        raise ApiError(
            "InvalidParameterValue.InvalidZoneMismatchRegion",
            f"The zone {zone} of `{where}` is not in the region {host.identity.region}.",
        )
    if not 1 <= int(match["number"]) <= 20:
        raise ApiError("InvalidZone.MismatchRegion", f"The zone {zone} of `{where}` does not exist.")
    if zone in host.settings.unavailable_zones:
        raise ApiError("InvalidParameterValue.UnavailableZone", f"The zone {zone} of `{where}` is not available.")


def check_zone_filter(host: Host, filters: Iterable[Mapping[str, Any]]) -> None:
    """The values of a filter called zone must be zones of this region."""
    for item in filters:
        if item["Name"] == "zone":
            for zone in item["Values"]:
                match = _ZONE.fullmatch(zone)
                if match is None or match["region"] != host.identity.region or not 1 <= int(match["number"]) <= 20:
                    raise ApiError("InvalidZone.MismatchRegion", f"The zone {printable(zone)} does not exist here.")


def check_length(source: Mapping[str, Any], name: str, limit: int, code: str, where: str) -> None:
    """A text must not be longer than ``limit`` characters."""
    if len(source.get(name, "")) > limit:
        raise ApiError(code, f"The parameter `{where}{name}` is longer than {limit} characters.")


def check_choice(
    source: Mapping[str, Any], name: str, choices: Sequence[str], where: str, code: str = "InvalidParameterValue"
) -> None:
    """A text, if given, must be one of some."""
    if name in source and source[name] not in choices:
        raise ApiError(
            code, f"The parameter `{where}` must be one of {', '.join(choices)}, not {printable(source[name], 60)!r}."
        )


def check_open(
    host: Host,
    source: Mapping[str, Any],
    name: str,
    known: Sequence[str],
    where: str,
    code: str = "InvalidParameterValue",
) -> None:
    """A text of which only some values are documented, and not that others are refused."""
    if host.settings.undocumented_values == "refuse":
        check_choice(source, name, known, where, code)


def check_no_nul(source: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    """Text that becomes part of a command line or an environment can hold no NUL."""
    for name in names:
        if "\0" in source.get(name, ""):
            raise ApiError("InvalidParameterValue", f"The parameter `{where}.{name}` holds a NUL.")


def check_not_negative(source: Mapping[str, Any], name: str, where: str) -> None:
    """A number, if given, must not be negative."""
    if source.get(name, 0) < 0:
        raise ApiError("InvalidParameterValue.Negative", f"The parameter `{where}` must not be negative.")


def check_tags(source: Mapping[str, Any], where: str) -> None:
    """At most ten tags."""
    if len(source.get("Tags", ())) > 10:
        raise ApiError("InvalidParameterValue.LimitExceeded", f"There are at most 10 `{where}`.")


def check_client_token(request: Mapping[str, Any]) -> None:
    """A ClientToken has at most 64 ASCII characters. That an empty one is refused is not documented; it is none."""
    token = request.get("ClientToken", "")
    if len(token) > 64 or not token.isascii():
        raise ApiError("InvalidParameterValue", "The parameter `ClientToken` must be at most 64 ASCII characters.")


def digest_of(request: Mapping[str, Any]) -> str:
    """What tells two requests apart."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def known_by_token(host: Host, tokens: Mapping[str, tuple[str, str, float]], token: str, digest: str) -> str | None:
    """What a ClientToken made before, or None when the request is to be carried out.

    :param tokens: id, digest of the request and time by token.
    :raises ApiError: when the token was used with other parameters and the settings refuse that.
    """
    known = tokens.get(token)
    if known is None or host.now() - known[2] > host.settings.client_token_window_seconds:
        return None
    if known[1] == digest:
        if host.settings.client_token_repeat == "error":
            raise ApiError("InvalidParameterValue", "The ClientToken was used before.")
    elif host.settings.client_token_mismatch == "error":
        raise ApiError("InvalidParameterValue", "The ClientToken was used before, with other parameters.")
    elif host.settings.client_token_mismatch == "new_job":
        return None
    return known[0]


def check_not_both(params: Mapping[str, Any], ids: str, largest: int = 100) -> None:
    """Ids and filters exclude each other, and there are not too many ids."""
    if params.get(ids) and params.get("Filters"):
        raise ApiError("InvalidParameter.InvalidParameterCombination", f"`{ids}` and `Filters` exclude each other.")
    if len(params.get(ids) or ()) > largest:
        raise ApiError("InvalidParameterValue", f"`{ids}` has at most {largest} entries.")


def check_notifications(
    batch: BatchService, notifications: Sequence[Mapping[str, Any]], events: frozenset[str], where: str
) -> None:
    """Topics must exist and have a subscription; events must be known and named once each.

    :param events: events that the entity has.
    """
    if len(notifications) > (most := batch.host.settings.max_notifications):
        raise ApiError("InvalidParameterValue.LimitExceeded", f"`{where}` has at most {most} entries.")
    for index, notification in enumerate(notifications):
        path = f"{where}.{index}"
        topic_name = notification["TopicName"]
        if len(topic_name) > 64:
            raise ApiError(
                "InvalidParameter.NotificationTopicNameTooLong", f"The parameter `{path}.TopicName` is longer than 64."
            )
        topic = batch.topics.broker.topic(topic_name) if _TOPIC_NAME.fullmatch(topic_name) else None
        if topic is None or not topic.subscriptions:
            reason = "does not exist" if topic is None else "has no subscription"
            raise ApiError(
                "InvalidParameter.NotificationTopicName",
                f"The topic {printable(topic_name)!r} of `{path}.TopicName` {reason}.",
            )
        if not notification["EventConfigs"]:
            raise ApiError("MissingParameter", f"The request is missing a required parameter `{path}.EventConfigs.0`.")
        seen: set[str] = set()
        for position, event in enumerate(notification["EventConfigs"]):
            name = event["EventName"]
            if name not in events:
                raise ApiError(
                    "InvalidParameterValue",
                    f"`{path}.EventConfigs.{position}.EventName` {printable(name, 60)!r} is no event of this kind.",
                )
            if name in seen:
                raise ApiError(
                    "InvalidParameter.NotificationEventNameDuplicate",
                    f"`{path}.EventConfigs` names the event {name} twice.",
                )
            seen.add(name)
            if len(event["EventVars"]) > (most := batch.host.settings.max_event_vars):
                raise ApiError(
                    "InvalidParameterValue.LimitExceeded",
                    f"`{path}.EventConfigs.{position}.EventVars` has at most {most} entries.",
                )
