"""Writing to a task's log from a triggerer without stopping its event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["CompactBatch", "CompactEvent", "LogWriterMixin", "lines_waiting"]


@functools.cache
def _writer() -> Executor:
    """One thread for all triggers of this process: lines are written in the order in which they were said."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(1, "tcbatch-log")


class _Counts:
    """Lines of all triggers of this process: each number is changed by one thread only."""

    said = 0
    written = 0


#: Lines that nobody writes yet, each as the call that writes it. A loud job has hundreds at once, and a task of an
#: executor for each of them takes 2 KB and twice the time.
_unwritten: deque[Callable[[], None]] = deque()


def _add(write: Callable[[], None]) -> None:
    """Have something written soon; called by the thread of the event loop only."""
    _unwritten.append(write)
    if len(_unwritten) == 1:  # or else whoever writes the one before it goes on with this one
        _writer().submit(_write_all)


def _write_all() -> None:
    """Write what there is. What comes meanwhile is left to the next turn, which others may wait for."""
    for _ in range(len(_unwritten)):
        with suppress(Exception):  # a log that has been closed: there is nowhere to say so, and others have lines, too
            _unwritten.popleft()()
    if _unwritten:
        _writer().submit(_write_all)


def _forget() -> None:
    _writer.cache_clear()
    _unwritten.clear()
    _Counts.said = _Counts.written = 0


# A forked process has no thread of its parent's, nor its lines.
os.register_at_fork(after_in_child=_forget)


def lines_waiting() -> int:
    """How many lines of this process are on their way to the log."""
    return _Counts.said - _Counts.written


class CompactEvent(dict[str, Any]):
    """What an event tells, which shows no more of itself in a log than how the wait ended.

    A triggerer logs each event, and stores it only when that line is through its pipe, of which the other process takes
    4 KB and then does work that grows with the number of waits. So where thousands end at once they do so at the pace
    of their lines.
    """

    def __repr__(self) -> str:
        return " ".join(str(self[name]) for name in ("status", "state", "limit", "message") if self.get(name))


class CompactBatch(dict[str, Any]):
    """What an event tells of many things, which shows in a log how many they are.

    Airflow logs each event on the loop; messages may have hundreds of kilobytes.
    """

    def __repr__(self) -> str:
        return ", ".join(f"{len(things)} {name}" for name, things in self.items())


class LogWriterMixin:
    """Mixin of triggers that write to their task's log.

    A triggerer sends each line through a pipe to its other process, which does not read while it stores events, one
    after the other. Once the pipe is full, whoever writes on the event loop stops all waits for seconds (6 s were seen
    while a thousand ended).
    """

    #: The structured logger of the trigger's base.
    log: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Set here, not by the first line: by then the thousands of triggers there are would each need a table of their
        # attributes of their own.
        #: Lines that were said, and those of them that are written; each is counted by one thread only.
        self._said = 0
        self._written = 0

    def log_line(self, form: str, *args: object) -> None:
        """Have a line written soon, as ``log.info`` writes it."""
        self._said += 1
        _Counts.said += 1
        # The context knows whose line it is.
        _add(functools.partial(contextvars.copy_context().run, self._write, form, *args))

    def _write(self, form: str, *args: object) -> None:
        try:
            self.log.info(form, *args)
        finally:
            self._written += 1
            _Counts.written += 1

    async def drain_log(self) -> None:
        """Wait until everything is written: Airflow closes the log when the trigger has ended."""
        while self._written != self._said:
            await asyncio.get_running_loop().run_in_executor(_writer(), int)
