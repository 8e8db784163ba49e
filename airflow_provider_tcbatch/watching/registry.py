"""Who shares a watcher with whom.

One watcher per event loop and key (credentials, region, endpoint, topic), made for the first wait and closed a
little after the last one: triggers that follow one another should not make and remove a queue each.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.background import spawn
from airflow_provider_tcbatch.watching.poller import Poller

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


def shared_watcher(
    key: Hashable, make: Callable[[], tuple[WatcherT, ApiClient]], grace: float = GRACE
) -> AbstractAsyncContextManager[WatcherT]:
    """Use the watcher that belongs to ``key`` on the running loop.

    :param key: what tells watchers apart.
    :param make: makes a watcher, not yet started, and the client that is closed with it.
    :param grace: seconds to keep it after its last user.
    """
    return _Use(key, make, grace)


class _Use(AbstractAsyncContextManager[WatcherT]):
    """One use of a watcher. There is one for each wait: a generator that is held open takes three times as much."""

    __slots__ = ("_entries", "_entry", "_grace", "_key", "_make")

    def __init__(self, key: Hashable, make: Callable[[], tuple[WatcherT, ApiClient]], grace: float) -> None:
        self._key = key
        self._make: Callable[[], tuple[WatcherT, ApiClient]] | None = make
        self._grace = grace

    async def __aenter__(self) -> WatcherT:
        make, self._make = self._make, None
        assert make is not None, "a use begins once"
        loop = asyncio.get_running_loop()
        # A loop that ended takes its watchers along: their timers and tasks would keep it, and their sockets, for ever.
        for ended in [known for known in _entries if known.is_closed()]:
            del _entries[ended]
        self._entries = entries = _entries.setdefault(loop, {})
        entry = entries.get(self._key)
        if entry is not None and entry.watcher.crashed:
            del entries[self._key]  # its users have been told; the last of them closes it
            entry = None
        if entry is None:
            entry = entries[self._key] = _Entry(*make())
            entry.watcher.start()
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.users += 1
        self._entry = entry
        # What a key stands for is always made in the same way.
        return cast("WatcherT", entry.watcher)

    async def __aexit__(self, *_: object) -> None:
        entry = self._entry
        entry.users -= 1
        if entry.users == 0:
            entry.timer = asyncio.get_running_loop().call_later(self._grace, _retire, self._entries, self._key, entry)


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
