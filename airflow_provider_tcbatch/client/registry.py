"""Who shares a watcher with whom.

One watcher per event loop and key (credentials, region, endpoint, topic), made for the first wait and closed a
little after the last one: triggers that follow one another should not make and remove a queue each.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.poller import Poller
from airflow_provider_tcbatch.client.waiting import spawn

__all__ = ["shared_watcher"]

log = logging.getLogger(__name__)

WatcherT = TypeVar("WatcherT", bound=Poller[Any])

#: Seconds that an unused watcher is kept.
GRACE = 30.0


@dataclass
class _Entry:
    watcher: Poller[Any]
    api: ApiClient
    users: int = 0
    timer: asyncio.TimerHandle | None = None
    # Strong references: the loop itself keeps only weak ones.
    closing: set[asyncio.Task[None]] = field(default_factory=set)


# Keyed by the loop object, not its id: ids are used again.
_entries: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Entry]] = weakref.WeakKeyDictionary()


@asynccontextmanager
async def shared_watcher(
    key: Hashable, make: Callable[[], tuple[WatcherT, ApiClient]], grace: float = GRACE
) -> AsyncIterator[WatcherT]:
    """Use the watcher that belongs to ``key`` on the running loop.

    :param key: what tells watchers apart.
    :param make: makes a watcher, not yet started, and the client that is closed with it.
    :param grace: seconds to keep it after its last user.
    """
    loop = asyncio.get_running_loop()
    # A loop that ended takes its watchers along: their timers and tasks would keep it, and their sockets, for ever.
    for ended in [known for known in _entries if known.is_closed()]:
        del _entries[ended]
    entries = _entries.setdefault(loop, {})
    entry = entries.get(key)
    if entry is not None and entry.watcher.crashed:
        del entries[key]  # its users have been told; the last of them closes it
        entry = None
    if entry is None:
        entry = entries[key] = _Entry(*make())
        entry.watcher.start()
    if entry.timer is not None:
        entry.timer.cancel()
        entry.timer = None
    entry.users += 1
    try:
        # What a key stands for is always made in the same way.
        yield cast("WatcherT", entry.watcher)
    finally:
        entry.users -= 1
        if entry.users == 0:
            entry.timer = loop.call_later(grace, _retire, entries, key, entry)


def _retire(entries: dict[Hashable, _Entry], key: Hashable, entry: _Entry) -> None:
    if entries.get(key) is entry:
        del entries[key]
    task = spawn(_close(entry), "tcbatch-watcher-close")
    entry.closing.add(task)
    task.add_done_callback(entry.closing.discard)


async def _close(entry: _Entry) -> None:
    await entry.watcher.aclose()
    await entry.api.aclose()
    log.debug("Watcher closed")
