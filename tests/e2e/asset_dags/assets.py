"""DAGs that events of Batch start: two watchers of one queue."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_tcbatch.events import batch_events
from airflow_provider_tcbatch.triggers.event import TCBatchEventTrigger

QUEUE = "assets"


def told_of(name: str, *events: str, **filters: Any) -> Asset:
    """An asset that events of jobs write."""
    trigger = TCBatchEventTrigger(queue_name=QUEUE, event_names=events, **filters)
    return Asset(f"batch-{name}", watchers=[AssetWatcher(name=name, trigger=trigger)])


@task
def tell(triggering_asset_events: Any = None) -> list[str]:
    """Which events have started this run."""
    events = batch_events(triggering_asset_events)
    return [f"{event['name']} {event['job_id']} {event['job_name']} {event['confirmed']}" for event in events]


with DAG("on_success", schedule=told_of("success", "JOB_SUCCEED")):
    tell()

with DAG("on_failure", schedule=told_of("failure", "JOB_FAILED", job_names="breaks", variables={"side": "left"})):
    tell()
