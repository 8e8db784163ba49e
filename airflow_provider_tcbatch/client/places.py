"""Places in the rate of an account: who wants to send waits for one, and says what has become of the request.

All clients of a process that use one account share its places. The processes of one machine take turns
(:mod:`~airflow_provider_tcbatch.client.turns`); what those of other machines send is learnt from what is refused
(:mod:`~airflow_provider_tcbatch.policies.contention`).
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

from airflow_provider_tcbatch.client.limits import rate_of
from airflow_provider_tcbatch.client.turns import Turn, Turns
from airflow_provider_tcbatch.policies.contention import Claim, ContendedRate

__all__ = ["Place", "Places", "forget", "shared_places"]


class Place(NamedTuple):
    """A request that may be sent now.

    :param action: its action.
    :param claim: what it asks of the rate.
    :param in_turn: whether others of this machine lined up for it.
    """

    action: str
    claim: Claim
    in_turn: bool


class _Line:
    """Those who want to send one action."""

    def __init__(self, key: Hashable, rate: float, share: float, lease: float, *, takes_turns: bool) -> None:
        self.rate = ContendedRate(rate, share, random.random, lease=lease)
        self.turns = Turns(key, rate) if takes_turns else None
        #: One after the other waits, in the order in which they came. A lock belongs to its loop.
        self.locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


class Places:
    """Places in the rates of one account.

    :param key: what tells accounts apart.
    :param limits: requests a second by action.
    :param share: part of each that a process uses at once while nothing is known of others, 0 to 1.
    :param clock: monotonic seconds.
    :param lease: seconds that a request takes at most: after that its place is free again, whatever became of it.
    """

    def __init__(
        self,
        key: Hashable,
        limits: Mapping[str, float],
        share: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
        lease: float = 60.0,
    ) -> None:
        self._key = key
        self._limits = limits
        self._share = share
        self._clock = clock
        self._lease = lease
        self._lines: dict[str, _Line] = {}
        # Blocking calls may come from several threads. It is never held while somebody waits.
        self._lock = threading.Lock()

    def apart(self) -> Places:
        """Places without a lock in common with these. They take turns with them, as those of another process do."""
        return Places(self._key, self._limits, self._share, self._clock, self._lease)

    def wait(self, action: str, until: float | None = None) -> Place:
        """Wait for a place, and block.

        :param until: monotonic seconds after which to send in any case.
        """
        line = self._line(action)
        while (pause := self._pause(line, until)) > 0:
            time.sleep(pause)
        turn = self._turn(line, until)
        try:
            time.sleep(turn.delay)
        except BaseException:  # a signal: nothing is sent
            self._give_back(line, turn)
            raise
        return self._claim(action, line, turn.queued)

    async def await_place(self, action: str, until: float | None = None) -> Place:
        """Wait for a place without blocking the event loop: first come, first served."""
        line = self._line(action)
        lock = line.locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            while (pause := self._pause(line, until)) > 0:  # noqa: ASYNC110 - time makes room, nobody tells of it
                await asyncio.sleep(pause)
            turn = self._turn(line, until)
            try:
                await asyncio.sleep(turn.delay)
            except BaseException:  # it is cancelled: nothing is sent
                self._give_back(line, turn)
                raise
            return self._claim(action, line, turn.queued)

    def accepted(self, place: Place) -> None:
        """The request was not refused for its rate, and its answer says so."""
        with self._lock:
            self._line_of(place.action).rate.accepted(place.claim, self._clock())

    def refused(self, place: Place) -> None:
        """The request was refused for its rate."""
        with self._lock:
            self._line_of(place.action).rate.refused(place.claim, self._clock(), in_turn=place.in_turn)

    def unsure(self, place: Place) -> None:
        """What has become of the request says nothing of the rate, or it was not sent."""
        with self._lock:
            self._line_of(place.action).rate.unsure(place.claim, self._clock())

    def _pause(self, line: _Line, until: float | None) -> float:
        with self._lock:
            now = self._clock()
            pause = line.rate.wait(now)
        return pause if until is None else min(pause, max(0.0, until - now))

    def _turn(self, line: _Line, until: float | None) -> Turn:
        if line.turns is None:
            return Turn(0.0, queued=False)
        with self._lock:
            turn = line.turns.take()
        return turn if until is None else turn._replace(delay=min(turn.delay, max(0.0, until - self._clock())))

    def _give_back(self, line: _Line, turn: Turn) -> None:
        if line.turns is not None:
            with self._lock:
                line.turns.give_back(turn)

    def _claim(self, action: str, line: _Line, queued: bool) -> Place:
        with self._lock:
            return Place(action, line.rate.claim(self._clock()), queued)

    def _line(self, action: str) -> _Line:
        with self._lock:
            return self._line_of(action)

    def _line_of(self, action: str) -> _Line:
        if action not in self._lines:
            rate = rate_of(action, self._limits)
            # Reads come in bursts, and are answered from whatever is left of a rate.
            takes_turns = not action.startswith("Describe")
            self._lines[action] = _Line((self._key, action), rate, self._share, self._lease, takes_turns=takes_turns)
        return self._lines[action]


_shared: dict[Hashable, Places] = {}
_sharing = threading.Lock()


def shared_places(key: Hashable, limits: Mapping[str, float], share: float, lease: float = 60.0) -> Places:
    """The places of this process for an account.

    :param key: what tells accounts apart: keys and endpoint.
    :param limits: requests a second by action.
    :param share: see :class:`Places`.
    :param lease: likewise; that of whoever comes first holds.
    """
    full = (key, share, tuple(sorted(limits.items())))
    with _sharing:
        if full not in _shared:
            _shared[full] = Places(key, limits, share, lease=lease)
        return _shared[full]


def forget() -> None:
    """Forget what was learnt of others; for tests."""
    with _sharing:
        _shared.clear()
