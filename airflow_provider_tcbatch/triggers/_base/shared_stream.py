"""A queue as the source of a shared stream; needs Airflow 3.3."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

if TYPE_CHECKING:
    from airflow_provider_tcbatch.watching.event_reader import Arrival, EventReader

__all__ = ["QueueProducer"]

log = logging.getLogger(__name__)


class QueueProducer(SharedStreamProducer):
    """Hands messages to all triggers that share a queue, and deletes those that are through.

    :param reader: reads the queue; closed with the producer.
    """

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    async def open_stream(self) -> AsyncGenerator[tuple[list[Arrival], tuple[str, ...]], None]:
        """Batches of messages as they come, each with what tells its messages from others."""
        async with aclosing(self._reader.batches()) as batches:
            async for batch in batches:
                yield batch, tuple(arrival.key for arrival in batch)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Delete messages that every trigger is through with; leave the others to come again.

        It never raises: a message that can't be deleted comes again, and is recognised.
        """
        for item in batch:
            outcome = item.outcome
            if outcome.failed:
                log.warning(
                    "%d messages of queue %s are left to come again: what %d triggers told of them was not stored",
                    len(item.broker_payload),
                    self._reader.queue_name,
                    outcome.failed,
                )
            # Without a trigger there is nobody who has taken it in.
            through = outcome.failed == 0 and outcome.acked + outcome.rejected > 0
            for key in item.broker_payload:
                self._reader.finish(key, delete=through)

    def get_advance_lane(self, broker_payload: tuple[str, ...]) -> tuple[str, ...]:
        """Batches do not wait for one another."""
        return broker_payload

    async def aclose(self) -> None:
        """Delete what is through, and close the clients."""
        await self._reader.aclose()
