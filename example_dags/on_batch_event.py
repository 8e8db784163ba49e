"""A DAG that starts when a Batch job ends, whoever submitted it.

Set up once: a topic, and a queue ``airflow-assets`` that is subscribed to it and that nothing else reads
(docs/assets.md). Jobs must publish to the topic: their Notifications name it.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_tcbatch.events import BatchEventPayload, batch_events
from airflow_provider_tcbatch.triggers.event import TCBatchEventTrigger

ended = Asset(
    "nightly-jobs",
    watchers=[
        AssetWatcher(
            name="ended",
            trigger=TCBatchEventTrigger(
                queue_name="airflow-assets",
                event_names=["JOB_SUCCEED", "JOB_FAILED"],
                # Only jobs whose events carry this; all of them without it.
                variables={"pipeline": "nightly"},
            ),
        )
    ],
)


@dag(schedule=ended, tags=["tencent batch", "example"])
def on_batch_event() -> None:
    @task
    def events(triggering_asset_events: Any = None) -> list[BatchEventPayload]:
        """What has happened: one run may have been started by several events."""
        return batch_events(triggering_asset_events)

    @task
    def handle(event: BatchEventPayload) -> str:
        """One event. ``event_id`` is the same if Airflow should hear of it again after a breakdown."""
        text = f"{event['job_name']} ({event['job_id']}): {event['state']} at {event['time']}"
        print(text)
        return text

    handle.expand(event=events())


DAG = on_batch_event()
