"""TDMQ-CMQ: queues, topics, and the events that are on their way to these."""

from __future__ import annotations

from airflow_provider_tcbatch.emulator.cmq.broker import Broker
from airflow_provider_tcbatch.emulator.cmq.post import Post
from airflow_provider_tcbatch.emulator.host import Host


class CmqService:
    """The state of CMQ.

    :param host: what it stands on.
    """

    broker: Broker
    #: Brings events of other services to topics.
    post: Post

    def __init__(self, host: Host) -> None:
        self.host = host
        self._first_message = 1
        self.begin()

    def begin(self, first_message: int | None = None) -> None:
        """Begin anew, by the clock and the ledger that the host has now.

        :param first_message: number that no message had so far; by default the one of the last beginning.
        """
        host = self.host
        self._first_message = first_message or self._first_message
        self.broker = Broker(
            host.queue_clock, lambda queue: host.faults.queue(queue) is not None, host.ledger, self._first_message
        )
        self.post = Post(self.broker, host.faults)

    def close(self) -> None:
        """Wake everybody who waits for a message, and stop all timers."""
        self.broker.close()
