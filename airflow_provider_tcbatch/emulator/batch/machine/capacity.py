"""How many instances run at once, over all jobs."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable


def waiting_reason(size: int) -> str:
    """Why somebody waits."""
    return (
        f"Waiting for capacity: at most {size} instances run on this computer at the same time (the emulator's setting "
        "capacity)"
    )


class Capacity:
    """A counting lock that serves higher priorities first and whose size may change while it is used.

    :param size: answers how many slots there are now.
    """

    def __init__(self, size: Callable[[], int]) -> None:
        self._size = size
        self._used = 0
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def used(self) -> int:
        """Slots taken now."""
        return self._used

    @property
    def full(self) -> bool:
        """Whether whoever asks now has to wait."""
        return self._used >= self._size() or bool(self._waiting)

    async def acquire(self, priority: int) -> None:
        """Take a slot, after all who wait with a higher priority or came earlier with the same."""
        if self._used < self._size() and not self._waiting:
            self._used += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (-priority, next(self._order), future))
        self.serve()
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._used -= 1
        self.serve()

    def serve(self) -> None:
        """Hand free slots to those who wait; to be called after the size has grown."""
        while self._waiting and self._used < self._size():
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self._used += 1
                future.set_result(None)
