"""How much of what jobs print is shown: a loud job must not keep the waits of others, nor fill the memory.

A line costs a triggerer some 0.1 ms in each of its two processes, and both do nothing else meanwhile. So each wait may
show some lines a second, and all of a process together some more. Nobody waits for a turn: what is too much is left
out, counted, and said. A few lines are sure to everybody, however loud others are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["ALONE", "SHARED", "LineBudget", "LineLimits", "Room"]


@dataclass(frozen=True)
class LineLimits:
    """What may be shown. A burst is what may come at once after a silence.

    :param lines: lines a second.
    :param line_burst: lines at once.
    :param size: bytes a second.
    :param size_burst: bytes at once.
    """

    lines: float
    line_burst: int
    size: float
    size_burst: int


#: A wait among others in a triggerer: as much as fifty lines a second for ten seconds, and ten a second for good.
SHARED = LineLimits(lines=10, line_burst=500, size=4096, size_burst=128 * 1024)

#: All waits of a triggerer together.
_TOGETHER = LineLimits(lines=200, line_burst=2_000, size=64 * 1024, size_burst=512 * 1024)

#: Sure to each wait, whatever others show.
_SURE = LineLimits(lines=2, line_burst=20, size=1024, size_burst=8 * 1024)

#: A wait that has a process for itself, on a worker.
ALONE = LineLimits(lines=100, line_burst=5_000, size=64 * 1024, size_burst=1024 * 1024)

#: Lines on their way to the log beyond which nothing but what is sure is added.
_MOST_WAITING = 1_000


class Room:
    """Fills again as time passes.

    :param limits: how fast, and how far.
    :param clock: monotonic clock in seconds.
    """

    __slots__ = ("_at", "_clock", "_limits", "_lines", "_size")

    def __init__(self, limits: LineLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._at = clock()
        self._lines = float(limits.line_burst)
        self._size = float(limits.size_burst)

    def left(self) -> tuple[int, int]:
        """How many lines, and how many bytes, may be shown now."""
        now = self._clock()
        passed, self._at = now - self._at, now
        self._lines = min(self._limits.line_burst, self._lines + passed * self._limits.lines)
        self._size = min(self._limits.size_burst, self._size + passed * self._limits.size)
        return int(self._lines), int(self._size)

    def take(self, lines: int, size: int) -> None:
        """Note what is shown."""
        self._lines -= lines
        self._size -= size


#: What the waits of this process share; they are on one event loop, or alone.
_together = Room(_TOGETHER)


class LineBudget:
    """What one wait may show.

    :param limits: its own limits.
    :param waiting: how many lines of all waits are on their way to the log; ``None`` for a wait that shares with
        nobody.
    :param together: what all waits share.
    :param clock: monotonic clock in seconds.
    """

    __slots__ = ("_own", "_sure", "_together", "_waiting", "burst")

    def __init__(
        self,
        limits: LineLimits = ALONE,
        waiting: Callable[[], int] | None = None,
        *,
        together: Room | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        #: Bytes that may come at once.
        self.burst = limits.size_burst
        self._own = Room(limits, clock)
        self._sure = Room(_SURE, clock)
        self._waiting = waiting
        self._together = _together if together is None else together

    def left(self, among: int = 1) -> tuple[int, int]:
        """How many lines, and how many bytes, may be shown now.

        :param among: how many outputs have to do with it.
        """
        lines, size = self._own.left()
        if self._waiting is not None:
            sure_lines, sure_size = self._sure.left()
            all_lines, all_size = self._together.left() if self._waiting() < _MOST_WAITING else (0, 0)
            lines, size = min(lines, max(sure_lines, all_lines)), min(size, max(sure_size, all_size))
        return max(0, -(-lines // among)), max(0, -(-size // among))

    def take(self, lines: int, size: int) -> None:
        """Note what is shown."""
        self._own.take(lines, size)
        if self._waiting is not None:
            self._sure.take(lines, size)
            self._together.take(lines, size)
