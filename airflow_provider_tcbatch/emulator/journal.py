"""What happened, for people and tests: API calls, and every change of state with its time."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any


class CallLog:
    """Counts all calls and remembers the last ones.

    :param size: how many calls are remembered in full.
    """

    def __init__(self, size: int) -> None:
        self.counts: Counter[str] = Counter()
        self._calls: deque[dict[str, Any]] = deque(maxlen=size)

    def add(self, time: float, service: str, action: str, job_ids: Sequence[str], code: str, request_id: str) -> None:
        """Remember one answered call; ``code`` is ``OK`` or the error code."""
        self.counts[f"{service}.{action}"] += 1
        self._calls.append(
            {
                "time": time,
                "service": service,
                "action": action,
                "job_ids": list(job_ids),
                "code": code,
                "request_id": request_id,
            }
        )

    def resize(self, size: int) -> None:
        """Change how many calls are remembered, keeping the newest."""
        if size != self._calls.maxlen:
            self._calls = deque(self._calls, maxlen=size)

    def as_json(self) -> dict[str, Any]:
        """Body of ``GET /_emulator/calls``."""
        return {"counts": dict(self.counts), "calls": list(self._calls)}


class Timeline:
    """The history of one job."""

    __slots__ = ("_entries", "_events")

    def __init__(self) -> None:
        # Tuples, not dicts: a job of ten thousand instances leaves sixty thousand entries.
        self._entries: list[tuple[float, str, str | None, int | None, str]] = []
        self._events: list[tuple[float, str, str, str, str]] = []

    def state(self, time: float, entity: str, task: str | None, index: int | None, state: str) -> None:
        """A job, task or instance entered a state."""
        self._entries.append((time, entity, task, index, state))

    def event(self, time: float, event_name: str, topic: str, msg_id: str, body: str) -> None:
        """An event was published."""
        self._events.append((time, event_name, topic, msg_id, body))

    def as_json(self, job_id: str) -> dict[str, Any]:
        """Body of ``GET /_emulator/jobs/{id}/timeline``."""
        entries = [
            dict(zip(("time", "entity", "task", "index", "state"), entry, strict=True)) for entry in self._entries
        ]
        events = [
            dict(zip(("time", "event_name", "topic", "msg_id", "body"), event, strict=True)) for event in self._events
        ]
        return {"job_id": job_id, "entries": entries, "events": events}


def job_ids_of(params: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    """The jobs that a call is about, from its request and its answer."""
    found: list[str] = []
    for source in (params, answer):
        one, many = source.get("JobId"), source.get("JobIds")
        if isinstance(one, str):
            found.append(one)
        if isinstance(many, list):
            found.extend(item for item in many if isinstance(item, str))
    return list(dict.fromkeys(found))
