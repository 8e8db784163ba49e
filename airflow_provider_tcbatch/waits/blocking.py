"""Running a coroutine on a worker until it is through, within the limits that Airflow sets by signals."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

__all__ = ["run_here"]

T = TypeVar("T")


def run_here(work: Coroutine[Any, Any, T], began: Callable[[Callable[[], None]], None] | None = None) -> T:
    """Run a coroutine, and block until it has ended.

    Airflow enforces ``execution_timeout`` by an exception that a handler of SIGALRM raises, wherever the process is at
    that moment. Within an event loop that may be a callback of a transport, and asyncio logs what is raised there and
    goes on (``selector_events.py``, "Fatal write error on socket transport"): the limit would be lost. So while the
    loop runs, the handler is called between two of its steps; what it raises ends the coroutine, and is raised here.

    :param work: it is cancelled if the handler raises something.
    :param began: told of what cancels it from elsewhere, such as another signal's handler.
    :raises asyncio.CancelledError: if it was cancelled in this way.
    """

    async def run(alarm: _Alarm) -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        if began is not None:
            began(partial(_cancel, loop, task))
        alarm.interrupt(loop, task)
        return await work

    with _alarm_between_steps() as alarm:
        return asyncio.run(run(alarm))


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


class _Alarm:
    """A handler of a signal that hands it on to another one, at a moment at which that one may raise.

    :param handler: the other one.
    """

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self._handler = handler
        self._heard: tuple[int, FrameType | None] | None = None
        self._raised: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None

    def interrupt(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        """From now on, what the other one raises ends this task."""
        self._loop, self._task = loop, task
        if self._heard is not None:
            loop.call_soon(self._hand_on)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take the signal; it may come anywhere in the loop's code."""
        self._heard = number, frame
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_on)

    def _hand_on(self) -> None:
        if self._heard is None:
            return
        heard, self._heard = self._heard, None
        try:
            self._handler(*heard)
        except BaseException as error:  # it is raised again in the end
            self._raised = error
            if self._task is not None:
                self._task.cancel()

    def end(self) -> None:
        """The loop has ended: raise what is still to be raised."""
        self._hand_on()
        if self._raised is not None:
            raise self._raised


@contextlib.contextmanager
def _alarm_between_steps() -> Iterator[_Alarm]:
    """Take the place of the handler of SIGALRM, if there is one and it is called in this thread."""
    before = signal.getsignal(signal.SIGALRM)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield _Alarm(lambda _number, _frame: None)
        return
    alarm = _Alarm(before)
    signal.signal(signal.SIGALRM, alarm)
    try:
        yield alarm
    finally:
        signal.signal(signal.SIGALRM, before)
        alarm.end()
