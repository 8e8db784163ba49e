"""Threads for reads that may hang, for which no process stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from typing_extensions import ParamSpec

__all__ = ["Readers"]

P = ParamSpec("P")
T = TypeVar("T")


class Readers(Executor):
    """A few daemonic threads: at the end of a process Python waits for those of its own pools, however long they take.

    What they do must do no harm if it does not come to its end: they read.

    :param most: how many there are at most.
    :param name: what they are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Read as soon as a thread is free."""
        future: Future[T] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        with self._lock:
            if self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._read, name=self._name, daemon=True).start()
        return future

    def _read(self) -> None:
        while True:
            future, call = self._work.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del future, call  # what was read is not kept until the next one comes
