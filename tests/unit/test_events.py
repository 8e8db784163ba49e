from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.sdk import Asset

from airflow_provider_tcbatch.events import batch_events, queue_messages
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.models.payloads import BatchEventPayload, event_payload

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
ONE, OTHER = Asset("one"), Asset("other")


@dataclass
class AssetEvent:
    """What Airflow hands to a task, as far as it matters."""

    extra: dict[str, Any]
    timestamp: datetime = field(default=START)


def told(job_id: str, seconds: int) -> AssetEvent:
    event = BatchEvent("JOB_SUCCEED", job_id=job_id)
    payload = event_payload(event, queue_name="q", message_id="m", confirmed=True)
    return AssetEvent({"from_trigger": True, "payload": {"events": [payload]}}, START + timedelta(seconds=seconds))


def ids(events: list[BatchEventPayload]) -> list[str | None]:
    return [event["job_id"] for event in events]


def test_events_come_once_and_in_order() -> None:
    mapping = {ONE: [told("job-3", 3), told("job-1", 1)], OTHER: [told("job-2", 2), told("job-1", 4)]}
    assert ids(batch_events(mapping)) == ["job-1", "job-2", "job-3"]
    assert ids(batch_events(mapping, asset=ONE)) == ["job-1", "job-3"]
    assert batch_events(mapping, asset=Asset("third")) == []
    assert batch_events({}) == []


def test_what_else_has_started_the_run_is_passed_over() -> None:
    message = {"queue_name": "q", "message_id": "m", "enqueued_at": 0.0, "body": "hello", "json": None, "events": []}
    mapping = {
        ONE: [
            AssetEvent({}),
            AssetEvent({"payload": "text"}),
            # Of other triggers, which may call theirs as they like.
            AssetEvent({"payload": {"events": ["text", {"id": 1}], "messages": [{"message_id": None}, None]}}),
            AssetEvent({"payload": {"events": 5, "messages": True}}),
            AssetEvent({"payload": {"messages": [message, message]}}),
            told("job-1", 1),
        ]
    }
    assert ids(batch_events(mapping)) == ["job-1"]
    assert [found["body"] for found in queue_messages(mapping)] == ["hello"]
