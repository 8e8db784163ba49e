"""An event in plain JSON, and text that JSON can hold."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["EventJson", "plain"]


class EventJson(TypedDict):
    """An event in plain JSON: what a sensor returns, and what a DAG that events start is given.

    All members are always there; what the event did not tell is ``None``.
    """

    #: The same for all deliveries of one event, see :meth:`BatchEvent.event_id`; ``None`` if nothing tells it apart.
    event_id: str | None
    #: ``JOB_SUCCEED``.
    name: str
    job_id: str | None
    job_name: str | None
    task_name: str | None
    #: Counted from 0.
    task_instance_index: int | None
    env_id: str | None
    env_name: str | None
    node_id: str | None
    #: When it happened, as the service spells it: ``2025-01-31T12:00:00Z``.
    time: str | None
    #: The user's EventVars.
    variables: dict[str, str]


def plain(text: str) -> str:
    """The text without what can't be stored: halves of surrogate pairs, and NUL characters."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "")
