"""From a connection to the reader of a durable event queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook
from airflow_provider_tcbatch.watching.event_reader import EventReader, QueueMemory, QueueSource, memory_of

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["event_reader", "queue_key", "queue_memory"]


def queue_key(conn_id: str, region: str | None, queue_name: str) -> tuple[str, str, str, str]:
    """What is equal for all who read one queue by one connection."""
    # Names of queues are not told apart by case: two readers of one queue would take messages away from each other.
    return ("tencent+cmq", conn_id, region or "", queue_name.lower())


def queue_memory(conn_id: str, region: str | None, queue_name: str) -> QueueMemory:
    """What this process knows of a queue."""
    return memory_of(queue_key(conn_id, region, queue_name))


def event_reader(conn_id: str, region: str | None, queue_name: str, *, visibility: float = 0.0) -> EventReader:
    """Make a reader. The connection is read when it begins to read, and again when its keys are refused.

    :param conn_id: id of the connection.
    :param region: region; default is the connection's.
    :param queue_name: name of the queue.
    :param visibility: seconds for which a message should stay hidden; see :class:`~.watching.event_reader.EventReader`.
    """

    async def connect() -> QueueSource:
        settings = await TencentCloudHook(conn_id, region).asettings()
        _refuse_queue_of_waits(settings, queue_name)
        return QueueSource(settings.cmq_client(), settings.api_client())

    return EventReader(queue_name, connect, queue_memory(conn_id, region, queue_name), visibility=visibility)


def _refuse_queue_of_waits(settings: ConnectionSettings, queue_name: str) -> None:
    if (settings.event_queue or "").lower() == queue_name.lower():
        raise ConfigurationError(
            f"Queue {queue_name!r} is field event_queue of connection {settings.conn_id!r}: waits read it, and delete "
            "messages that asset watchers need. What to do: make another queue, subscribe it to the topic, and name "
            "that one in the DAG"
        )
