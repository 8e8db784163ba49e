"""The messages that tell a topic about changes of state.

Tencent publishes one sample only, of a compute node. The bodies of JOB_, TASK_, TASK_INSTANCE_ and COMPUTE_ENV_ events
are a guess by analogy: the entity's view and the ids of its parents. Settings turn the form of all bodies into others
that a reader should be able to bear.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.ids import iso

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.settings import Settings

JOB_EVENTS = frozenset(
    f"{entity}_{state}"
    for entity in ("JOB", "TASK", "TASK_INSTANCE")
    for state in ("RUNNING", "SUCCEED", "FAILED", "FAILED_INTERRUPTED")
)
NODE_EVENTS = frozenset(
    f"COMPUTE_NODE_{state}" for state in ("CREATED", "CREATION_FAILED", "RUNNING", "ABNORMAL", "DELETING")
)
ENV_EVENTS = frozenset({"COMPUTE_ENV_CREATED", "COMPUTE_ENV_DELETED"})


def body(
    event_name: str,
    time: float,
    region: str,
    members: dict[str, Any],
    event_vars: list[dict[str, str]],
    settings: Settings,
) -> str:
    """The JSON text of a message with one event, in the form of ``event_body`` and ``event_vars_shape``."""
    if settings.state_reasons == "none" and "StateReason" in members:
        members = {**members, "StateReason": ""}
    event = {
        "EventVersion": "1.0",
        "EventTime": iso(time),
        "Region": region,
        "Batch": members,
        "EventName": event_name,
        "EventVars": _shaped(event_vars, settings.event_vars_shape),
    }
    return json.dumps(_FORMS[settings.event_body](event), ensure_ascii=False, separators=(",", ":"))


def _shaped(event_vars: list[dict[str, str]], shape: str) -> Any:
    if shape == "mapping":
        return {item["Name"]: item["Value"] for item in event_vars}
    if shape == "lower":
        return [{name.lower(): value for name, value in item.items()} for item in event_vars]
    return event_vars


def _wrapped(event: dict[str, Any]) -> dict[str, Any]:
    return {"Events": [event]}


def _bare(event: dict[str, Any]) -> dict[str, Any]:
    return event


def _snake(event: dict[str, Any]) -> dict[str, Any]:
    # The names inside of EventVars are the user's own, unless each variable is an object.
    event_vars = event["EventVars"]
    plain = {_snake_name(name): value for name, value in event.items()}
    plain["batch"] = {_snake_name(name): value for name, value in event["Batch"].items()}
    if isinstance(event_vars, list):
        plain["event_vars"] = [{_snake_name(name): value for name, value in item.items()} for item in event_vars]
    return {"events": [plain]}


def _snake_name(name: str) -> str:
    return _WORD_START.sub("_", name).lower()


def _minimal(event: dict[str, Any]) -> dict[str, Any]:
    # A machine that was rented for a job belongs to no environment.
    ids = {name: event["Batch"][name] for name in ("JobId", "EnvId", "ComputeNodeId") if event["Batch"].get(name)}
    return {"EventName": event["EventName"], **ids}


def _extended(event: dict[str, Any]) -> dict[str, Any]:
    members = {name: value for name, value in event["Batch"].items() if name not in ("CreateTime", "EndTime")}
    unknown = {"Sequence": 7, "Labels": ["a", None], "Origin": {"Kind": "scheduler", "Detail": {"Shard": 3}}}
    return {"Events": [{**unknown, **event, "Batch": {**unknown, **members}}], "SchemaVersion": 2}


_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FORMS = {"wrapped": _wrapped, "bare": _bare, "snake": _snake, "minimal": _minimal, "extended": _extended}


def encode(text: str) -> str:
    """A body as Base64, for those who expect the service to encode it."""
    return base64.b64encode(text.encode()).decode()
