"""How well events are heard: in the log, and as metrics of whoever wants them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_tcbatch.client.cmq import Message
    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["Health", "Metrics", "NoMetrics"]

log = logging.getLogger(__name__)

#: Seconds between two summaries in the log.
SUMMARY_SECONDS = 900.0

#: A time in a message that is further off than this many seconds is not what it is taken for.
_PLAUSIBLE_SECONDS = 7 * 86400.0


class Metrics(Protocol):
    """Where figures go; ``connection/metrics.py`` hands them to Airflow."""

    def count(self, name: str, number: int) -> None:
        """So many more of something."""

    def gauge(self, name: str, value: float) -> None:
        """How much of something there is now."""

    def timing(self, name: str, seconds: float) -> None:
        """How long something took."""


class NoMetrics:
    """Nobody wants them."""

    def count(self, name: str, number: int) -> None: ...

    def gauge(self, name: str, value: float) -> None: ...

    def timing(self, name: str, seconds: float) -> None: ...


class Health:
    """Counts what a listener hears, and tells it.

    Names of metrics begin with ``tcbatch.events.``; ``docs/events.md`` lists them.

    :param topic: the topic, for the log.
    :param metrics: where figures go.
    :param every: seconds between two summaries.
    """

    def __init__(self, topic: str, metrics: Metrics | None = None, every: float = SUMMARY_SECONDS) -> None:
        self._topic = topic
        self._metrics: Metrics = metrics or NoMetrics()
        self._every = every
        self._since = time.monotonic()
        # Since the last poll, and since the last summary.
        self._fresh: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._lag_sum = self._lag_most = 0.0
        self._quiet = False
        #: Unix seconds when the last message came; ``None`` before the first.
        self.last_message_at: float | None = None

    def hearing(self, hears: bool) -> None:
        """Whether events are being heard; told at each change."""
        self._metrics.gauge("tcbatch.events.hearing", 1.0 if hears else 0.0)

    def failed(self) -> None:
        """A try to receive failed."""
        self._fresh["errors"] += 1

    def message(self, message: Message, events: Sequence[BatchEvent], now: float, *, claimed: bool, left: bool) -> None:
        """A message came.

        :param events: what was read in it; nothing if it could not be read.
        :param now: unix seconds when it came.
        :param claimed: whether somebody here wanted it.
        :param left: whether it was left in the queue, for others.
        """
        self.last_message_at = now
        self._fresh.update(received=1, claimed=int(claimed), left=int(left), unreadable=int(not events))
        times = [at for event in events if (at := _unix_seconds(event.time)) is not None]
        for sent_at in times or [message.enqueued_at]:
            # Clocks differ, and the queue's tells whole seconds.
            lag = max(0.0, now - sent_at)
            if lag < _PLAUSIBLE_SECONDS:
                self._total["lags"] += 1
                self._lag_sum += lag
                self._lag_most = max(self._lag_most, lag)
                self._metrics.timing("tcbatch.events.lag", lag)

    def polled(self, queue: str, now: float) -> None:
        """A poll came back, with messages or not, or failed.

        :param now: unix seconds.
        """
        for name, number in self._fresh.items():
            if number:
                self._metrics.count(f"tcbatch.events.{name}", number)
        self._total.update(self._fresh)
        self._fresh.clear()
        passed = time.monotonic() - self._since
        if passed < self._every:
            return
        if self.last_message_at is not None:
            self._metrics.gauge("tcbatch.events.last_message_age", max(0.0, now - self.last_message_at))
        nothing = not (self._total["received"] or self._total["errors"])
        # That nothing happens is told once, and not over and over again.
        level = logging.DEBUG if nothing and self._quiet else logging.INFO
        log.log(level, "Events of topic %s on queue %s: %s", self._topic, queue, self._summary(passed, now))
        self._quiet = nothing
        self._since = time.monotonic()
        self._total.clear()
        self._lag_sum = self._lag_most = 0.0

    def _summary(self, passed: float, now: float) -> str:
        total = self._total
        parts = [
            f"{total['received']} messages in {passed:.0f} s",
            f"{total['claimed']} for somebody here",
            f"{total['left']} left for others",
            f"{total['unreadable']} unreadable",
            f"{total['errors']} errors",
        ]
        if lags := total["lags"]:
            parts.append(f"lag {self._lag_sum / lags:.1f} s on average, {self._lag_most:.1f} s at most")
        if self.last_message_at is not None:
            parts.append(f"last message {max(0.0, now - self.last_message_at):.0f} s ago")
        return ", ".join(parts)


def _unix_seconds(text: str | None) -> float | None:
    """Seconds of a time as events spell it (``2018-06-15T14:43:17Z``); ``None`` if it is none."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()
