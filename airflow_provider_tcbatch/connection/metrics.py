"""Figures go to Airflow's metrics: StatsD, Datadog or OpenTelemetry, as ``[metrics]`` says."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any

__all__ = ["AirflowMetrics"]


class AirflowMetrics:
    """Hands figures to Airflow's ``Stats``; its own settings say where they go, and whether at all.

    :param tags: go with each figure, where the backend has tags.
    """

    def __init__(self, **tags: str) -> None:
        self._tags = tags

    @cached_property
    def _stats(self) -> Any:
        # Airflow has set it up in workers and triggerers.
        try:
            from airflow.sdk.observability.stats import Stats
        except ImportError:  # before Airflow 3.2
            from airflow.stats import Stats
        return Stats

    def count(self, name: str, number: int) -> None:
        """So many more of something."""
        self._stats.incr(name, number, tags=self._tags)

    def gauge(self, name: str, value: float) -> None:
        """How much of something there is now."""
        self._stats.gauge(name, value, tags=self._tags)

    def timing(self, name: str, seconds: float) -> None:
        """How long something took."""
        self._stats.timing(name, timedelta(seconds=seconds), tags=self._tags)
