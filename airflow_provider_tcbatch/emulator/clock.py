"""Time as the emulator plays it: at the wall's pace or a multiple of it."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Epoch seconds that may run faster than the wall's; continuous also when its speed changes.

    :param speed: seconds that pass on this clock while one passes on the wall's.
    :param skew: seconds that it is ahead of (or, negative, behind) where it should be.
    """

    def __init__(self, speed: float = 1.0, skew: float = 0.0) -> None:
        self._speed = speed
        self.skew = skew
        self._wall = self._own = time.time()

    @property
    def speed(self) -> float:
        """Seconds that pass on this clock while one passes on the wall's."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        wall = time.time()
        self._own, self._wall = self._own + (wall - self._wall) * self._speed, wall
        self._speed = speed

    def now(self) -> float:
        """Epoch seconds."""
        return self._own + (time.time() - self._wall) * self._speed + self.skew

    def wall(self, seconds: float) -> float:
        """How long ``seconds`` of this clock last on the wall's."""
        return seconds / self._speed

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock, at its present speed."""
        await asyncio.sleep(seconds / self._speed)
