"""Work in the background of an event loop."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Alarm", "ResultT", "spawn"]


ResultT = TypeVar("ResultT")


def spawn(coroutine: Coroutine[Any, Any, ResultT], name: str) -> asyncio.Task[ResultT]:
    """Start a background task in an empty context.

    A task inherits the context of the coroutine that starts it: in a triggerer that is one task instance's
    log file and trace, which must not receive what is done for everybody.
    """
    loop = asyncio.get_running_loop()
    return contextvars.Context().run(lambda: loop.create_task(coroutine, name=name))


class Alarm:
    """Something to sleep on until it rings or time is up.

    ``asyncio.wait_for`` would do, but on Python 3.10 and 3.11 it swallows a cancellation that meets the end of what
    it waits for, and the task would never end.
    """

    __slots__ = ("_sleeper",)

    def __init__(self) -> None:
        self._sleeper: asyncio.Future[None] | None = None

    async def sleep(self, timeout: float | None) -> None:
        loop = asyncio.get_running_loop()
        self._sleeper = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, self.ring)
        try:
            await self._sleeper
        finally:
            self._sleeper = None
            if timer is not None:
                timer.cancel()

    def ring(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)
