"""Connections that many waits of one process read at the same time.

A triggerer starts thousands of triggers in a row, and reading a connection takes Airflow about a millisecond of its
event loop and a question to the supervisor. So waits that begin within some seconds of one another read it once.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["FRESH_SECONDS", "shared_settings"]

#: For how many seconds a connection that was read is good enough for a wait that begins.
FRESH_SECONDS = 10.0


@dataclass
class _Entry:
    settings: ConnectionSettings | None = None
    read_at: float = float("-inf")
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def fresh(self) -> ConnectionSettings | None:
        return self.settings if time.monotonic() - self.read_at < FRESH_SECONDS else None


# Keyed by the loop object: a lock belongs to its loop.
_entries: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Entry]] = weakref.WeakKeyDictionary()


async def shared_settings(key: Hashable, read: Callable[[], Awaitable[ConnectionSettings]]) -> ConnectionSettings:
    """The settings that belong to ``key``, read now or a moment ago.

    What fails is not kept: whoever comes next tries by itself. One after the other reads in its own task, because
    Airflow lets only the task of a trigger talk to the supervisor.

    :param key: what tells connections apart.
    :param read: reads the connection.
    """
    entry = _entries.setdefault(asyncio.get_running_loop(), {}).setdefault(key, _Entry())
    if (known := entry.fresh) is not None:
        return known
    async with entry.lock:
        if (known := entry.fresh) is not None:
            return known
        settings = await read()
        entry.settings, entry.read_at = settings, time.monotonic()
        return settings
