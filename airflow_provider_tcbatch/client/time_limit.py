"""A limit on the time that blocking calls take together, whatever holds them up.

A timeout of a request does not bound a call: it counts from the last byte, and the SDKs try again. So calls are made in
threads of their own, and those that are late are not waited for any longer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from airflow_provider_tcbatch.exceptions import TCBatchError

__all__ = ["TimeLimit", "TimeUp"]

T = TypeVar("T")


class TimeUp(TCBatchError):
    """The calls have used up their time."""


class TimeLimit:
    """Seconds for any number of calls, one after the other; what is done between them does not count.

    :param seconds: for all of them; ``None`` for no limit.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self._spent = 0.0
        #: Whether a call was not waited for, or not begun.
        self.up = False

    def run(self, call: Callable[[], T]) -> T:
        """Make a call, in a thread of its own if there is a limit.

        :param call: what to do. It must do no harm if it goes on after its time, or does not come to its end: it reads.
        :raises TimeUp: if there is no time for it, or not enough.
        """
        if self.seconds is None:
            return call()
        left = self.seconds - self._spent
        begun = time.monotonic()
        results: list[T] = []
        errors: list[BaseException] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        if left > 0:
            # Daemonic: a worker that is through does not wait for it.
            threading.Thread(target=work, name="tcbatch-read", daemon=True).start()
            done.wait(left)
            self._spent += time.monotonic() - begun
        if errors:
            raise errors[0]
        if not results:
            self.up = True
            raise TimeUp(f"no answer within {self.seconds:g} s ([tcbatch] explain_timeout)")
        return results[0]
