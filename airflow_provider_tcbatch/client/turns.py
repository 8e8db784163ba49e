"""Turns of the processes of one machine: one of them sends at a time, and no file or service is needed.

Time is cut into pieces as long as one request may take of the rate. Whoever wants to send takes the first piece that is
not taken yet, and sleeps until it begins. A piece is taken by binding a socket to a name in Linux's abstract namespace:
the kernel lets one process have it, and gives it back when that process ends, however it ends.

Processes on other machines, and in other containers, have names of their own: what they send is learnt from what the
service refuses, see :mod:`~airflow_provider_tcbatch.policies.contention`. Whoever can't take a piece sends without:
a user of the machine who takes all names does no harm by it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

__all__ = ["Turn", "Turns"]

#: How much longer than its part of the rate a piece is: requests do not all take the same time on their way.
_MARGIN = 0.08

#: Part of all names; processes with another one do not take turns with this one.
SALT = ""

#: Most pieces that are looked at. So many tasks that send at once wait for minutes.
_MOST = 2000


class Turn(NamedTuple):
    """A piece of time that belongs to this process.

    :param delay: seconds until it begins.
    :param queued: whether it had to line up: others come before it.
    :param number: which one it is; ``None`` if none could be taken.
    """

    delay: float
    queued: bool
    number: int | None = None


class Turns:
    """The turns of all processes of this machine that use a rate.

    :param key: what tells rates apart. It is not shown to others: names are digests of it.
    :param rate: requests a second.
    :param clock: unix seconds.
    """

    def __init__(self, key: Hashable, rate: float, clock: Callable[[], float] = time.time) -> None:
        digest = hashlib.sha256(f"{os.getuid()}/{SALT}/{key!r}".encode()).hexdigest()[:32]
        self._prefix = f"\0tcbatch/{digest}/"
        self._length = (1.0 + _MARGIN) / rate
        self._clock = clock
        #: Numbers and sockets of pieces that have not ended when they were looked at last.
        self._taken: deque[tuple[int, socket.socket]] = deque()

    def take(self) -> Turn:
        """Take the next turn that is free.

        Each is kept until it has ended, or a little longer: until the next one is taken.
        """
        if not sys.platform.startswith("linux"):
            return Turn(0.0, queued=False)
        now = self._clock()
        running = int(now / self._length)
        while self._taken and self._taken[0][0] < running:
            self._taken.popleft()[1].close()
        for number in range(running, running + _MOST):
            try:
                name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            except OSError:  # no file handle is left, or the system has no such sockets
                break
            try:
                name.bind(f"{self._prefix}{number}".encode())
            except OSError as error:
                name.close()
                if error.errno == errno.EADDRINUSE:
                    continue
                break
            self._taken.append((number, name))
            return Turn(max(0.0, number * self._length - now), queued=number > running + 1, number=number)
        return Turn(0.0, queued=False)

    def give_back(self, turn: Turn) -> None:
        """Let others have a turn in which nothing is sent."""
        for number, name in self._taken:
            if number == turn.number:
                name.close()
                self._taken.remove((number, name))
                return
