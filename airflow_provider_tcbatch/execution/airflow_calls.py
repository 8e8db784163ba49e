"""Calls to Airflow from a worker, and how long they take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["airflow_call", "push", "slowest_call"]

#: Seconds of the slowest call of this process, which runs one try, or a part of it.
_slowest = 0.0


@contextlib.contextmanager
def airflow_call() -> Iterator[None]:
    """Measure a call to Airflow."""
    global _slowest
    started = time.monotonic()
    try:
        yield
    finally:
        _slowest = max(_slowest, time.monotonic() - started)


def slowest_call() -> float:
    """Seconds that the slowest of the calls so far has taken; 0 if there was none."""
    return _slowest


def push(context: Context, key: str, value: Any) -> None:
    """Push an XCom."""
    with airflow_call():
        context["ti"].xcom_push(key=key, value=value)
