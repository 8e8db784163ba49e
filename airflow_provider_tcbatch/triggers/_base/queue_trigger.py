"""What triggers have in common that start DAGs from the messages of a queue."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_tcbatch.triggers._base.log_writer import CompactBatch
from airflow_provider_tcbatch.triggers._base.serialization import SignatureMixin

if TYPE_CHECKING:
    from airflow.triggers.shared_stream import SharedStreamProducer

    from airflow_provider_tcbatch.watching.event_reader import Arrival, EventReader

__all__ = ["BaseQueueTrigger", "acknowledges"]

#: Without acknowledgements, a message is deleted so many seconds after its event was handed to Airflow.
_STORED_SECONDS = 5.0


def acknowledges() -> bool:
    """Whether Airflow says when an event has been stored: 3.3 and later."""
    return hasattr(BaseEventTrigger, "create_shared_stream_producer")


class BaseQueueTrigger(SignatureMixin, BaseEventTrigger):
    """Reads a durable queue of its user's own.

    From Airflow 3.3 on all such triggers of a triggerer that name one queue share one reader, and a message is deleted
    once whatever follows from it has been stored. Before, each trigger has a reader of its own, so each needs a queue
    of its own, and a message is deleted some seconds after its events were handed over.

    :param queue_name: name of the queue.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    """

    def __init__(
        self, *, queue_name: str, tencentcloud_conn_id: str = "tencentcloud_default", region: str | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not isinstance(queue_name, str) or not queue_name.strip():
            raise ValueError(f"queue_name is {queue_name!r}; write the name of a CMQ queue")
        # Not `queue`: to Airflow, a trigger's queue says which triggerers may run it.
        self.queue_name = queue_name.strip()
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region

    @property
    def _place(self) -> tuple[str, str | None, str]:
        """Where the queue is."""
        return self.tencentcloud_conn_id, self.region, self.queue_name

    @property
    def asks_for(self) -> dict[str, bool]:
        """What the API has to be asked for about events, see ``QueueMemory.asking``."""
        return {"doubts": False, "names": False}

    @abstractmethod
    def payload(self, batch: Sequence[Arrival]) -> Any:
        """What follows from some messages: the payload of one event, or ``None``."""

    # -- Airflow 3.3 and later -----------------------------------------------------------------------

    def shared_stream_key(self) -> tuple[str, ...] | None:
        """Triggers with equal keys share one reader."""
        from airflow_provider_tcbatch.triggers._base.queue_reader import queue_key

        return queue_key(*self._place) if acknowledges() else None

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Make the reader's side of the shared stream; Airflow calls it once for all who share it."""
        from airflow_provider_tcbatch.connection.deployment import seconds_of
        from airflow_provider_tcbatch.triggers._base.queue_reader import event_reader
        from airflow_provider_tcbatch.triggers._base.shared_stream import QueueProducer

        patience = seconds_of("triggerer", "shared_stream_ack_timeout", 300.0)
        return QueueProducer(event_reader(*cls(**kwargs)._place, visibility=2 * patience))

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[Sequence[Arrival]]
    ) -> AsyncIterator[TriggerEvent]:
        """Make events from the messages that the shared reader hands out."""
        from airflow_provider_tcbatch.triggers._base.queue_reader import queue_memory

        # Nothing is awaited before this: the reader must know before it hands out a message that this trigger gets.
        with queue_memory(*self._place).asking(**self.asks_for):
            async for batch in shared_stream:
                # Before the next batch is taken: that says that this one is through.
                if (payload := self.payload(batch)) is not None:
                    yield TriggerEvent(CompactBatch(payload))  # type: ignore[no-untyped-call]

    # -- before --------------------------------------------------------------------------------------

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Read the queue alone, where Airflow does not say when an event has been stored."""
        from airflow_provider_tcbatch.triggers._base.queue_reader import event_reader, queue_memory

        reader: EventReader = event_reader(*self._place)
        loop = asyncio.get_running_loop()
        try:
            with queue_memory(*self._place).asking(**self.asks_for):
                async with aclosing(reader.batches()) as batches:
                    async for batch in batches:
                        if (payload := self.payload(batch)) is not None:
                            yield TriggerEvent(CompactBatch(payload))  # type: ignore[no-untyped-call]
                        later = 0.0 if payload is None else _STORED_SECONDS
                        for arrival in batch:
                            loop.call_later(later, partial(reader.finish, arrival.key, delete=True))
        finally:
            await reader.aclose()
