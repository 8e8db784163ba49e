"""What reached a DAG that events of Batch, or messages of a queue, have started: typed payloads.

.. code-block:: python

    @task
    def ended(triggering_asset_events) -> list[BatchEventPayload]:
        return batch_events(triggering_asset_events)

One run may have been started by several events: Airflow gathers those that come before it makes the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_tcbatch.models.payloads import BatchEventPayload, QueueMessagePayload

if TYPE_CHECKING:
    from airflow.sdk import Asset

__all__ = ["BatchEventPayload", "QueueMessagePayload", "batch_events", "queue_messages"]

#: The mapping of that name in a task's context.
TriggeringAssetEvents = Mapping[Any, Iterable[Any]]


def batch_events(
    triggering_asset_events: TriggeringAssetEvents, *, asset: Asset | None = None
) -> list[BatchEventPayload]:
    """Events of Batch that started a run, each once, in the order in which they were stored.

    :param triggering_asset_events: ``triggering_asset_events`` of a task's context.
    :param asset: only those of this asset. What else has started the run, such as a task that wrote the asset, is
        passed over in any case.
    """
    payloads = _payloads(triggering_asset_events, asset, "events", "event_id")
    return list({payload["event_id"]: cast("BatchEventPayload", payload) for payload in payloads}.values())


def queue_messages(
    triggering_asset_events: TriggeringAssetEvents, *, asset: Asset | None = None
) -> list[QueueMessagePayload]:
    """Messages of queues that started a run, each once, in the order in which they were stored.

    :param triggering_asset_events: ``triggering_asset_events`` of a task's context.
    :param asset: only those of this asset.
    """
    payloads = _payloads(triggering_asset_events, asset, "messages", "message_id")
    return list({payload["message_id"]: cast("QueueMessagePayload", payload) for payload in payloads}.values())


def _payloads(
    events: TriggeringAssetEvents, asset: Asset | None, member: str, identity: str
) -> Iterator[dict[str, Any]]:
    """What stands in one member of all payloads, and is ours: that has a text that tells it apart."""
    assets = list(events) if asset is None else [asset] if asset in events else []
    # An event is also there under each alias of its asset.
    found = {id(event): event for one in assets for event in events[one]}
    for event in sorted(found.values(), key=lambda event: event.timestamp):
        payload = event.extra.get("payload")
        told = payload.get(member) if isinstance(payload, dict) else None
        for one in told if isinstance(told, list) else ():
            if isinstance(one, dict) and isinstance(one.get(identity), str):
                yield one
