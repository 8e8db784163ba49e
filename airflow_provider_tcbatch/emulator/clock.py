"""Time as the emulator plays it: at the wall's pace or a multiple of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Timer:
    """A call that is to be made when a clock says so.

    :param clock: the clock.
    :param due: when, in its own seconds without its skew.
    :param call: the call.
    """

    __slots__ = ("_call", "_clock", "_handle", "due")

    def __init__(self, clock: Clock, due: float, call: Callable[[], None]) -> None:
        self._clock = clock
        self._call = call
        self.due = due
        self._handle = asyncio.get_running_loop().call_later(clock.until(due), self._run)

    def _run(self) -> None:
        self._clock.forget(self)
        self._call()

    def again(self) -> None:
        """Set it anew: the clock's speed has changed."""
        self._handle.cancel()
        self._handle = asyncio.get_running_loop().call_later(self._clock.until(self.due), self._run)

    def cancel(self) -> None:
        """Do not call any more."""
        self._handle.cancel()
        self._clock.forget(self)


class Clock:
    """Epoch seconds that may run faster than the wall's; continuous also when its speed changes.

    What waits for it is woken by it: a change of its speed changes how long that takes on the wall's. Timers belong to
    one event loop, in which the speed is changed, too, once there are any.

    :param speed: seconds that pass on this clock while one passes on the wall's.
    :param skew: seconds that it is ahead of (or, negative, behind) where it should be.
    :param earliest: epoch seconds that it shows at least, its skew apart; what it showed before does not come again.
    """

    def __init__(self, speed: float = 1.0, skew: float = 0.0, earliest: float = 0.0) -> None:
        self._speed = speed
        self.skew = skew
        self._wall = time.time()
        self._own = max(self._wall, earliest)
        self._timers: set[Timer] = set()

    @property
    def speed(self) -> float:
        """Seconds that pass on this clock while one passes on the wall's."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        if speed == self._speed:
            return
        wall = time.time()
        self._own, self._wall = self._own + (wall - self._wall) * self._speed, wall
        self._speed = speed
        for timer in self._timers:
            timer.again()

    @property
    def elapsed(self) -> float:
        """What it shows, its skew apart: epoch seconds."""
        return self._elapsed()

    def _elapsed(self) -> float:
        return self._own + (time.time() - self._wall) * self._speed

    def now(self) -> float:
        """Epoch seconds."""
        return self._elapsed() + self.skew

    def wall(self, seconds: float) -> float:
        """How long ``seconds`` of this clock last on the wall's, at its present speed."""
        return seconds / self._speed

    def until(self, due: float) -> float:
        """How long it takes on the wall's until this clock shows ``due``, its skew apart."""
        return max(0.0, due - self._elapsed()) / self._speed

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call something after so many seconds of this clock."""
        timer = Timer(self, self._elapsed() + seconds, call)
        self._timers.add(timer)
        return timer

    def forget(self, timer: Timer) -> None:
        """Called by a timer that is over."""
        self._timers.discard(timer)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this clock."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(seconds, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()
