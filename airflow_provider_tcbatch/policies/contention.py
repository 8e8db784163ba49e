"""Sharing a rate of requests with processes that can't be asked: what to learn from accepted and refused requests.

The service takes so many requests of an action in any second and refuses the others; a refused one does no harm and
does not count. A process sees only what becomes of its own requests. So it behaves as a station of reservation ALOHA
does: a request that was accepted has found a free place, and that place is free again a second later. Whoever holds
places uses them again, second after second, and is hardly ever refused. Whoever is refused and holds none asks again
after some seconds, with jitter. Whoever holds some asks now and then for one more. Such a request is accepted when
others have gone: then the process takes all that it can get, until it is refused. An answer that tells nothing of the
limit, as in an outage, is no accepted request: whoever took it for one would come back with more than it has found.

``docs/decisions/0018-sharing-a-rate.md`` says which other designs were tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from airflow_provider_tcbatch.exceptions import ApiError, NotFound, QuotaExceeded, ResourceBusy

__all__ = ["Claim", "ContendedRate", "Pauses", "was_let_through"]


class Pauses(NamedTuple):
    """Pauses of a process that has been refused, in windows of the service: seconds, as a rule.

    :param seek: until one that holds no place asks again.
    :param grow: until one that holds places asks for one more.
    :param growth: by which factor that gets longer with each refusal.
    :param longest: the longest.
    :param jitter: each pause is longer or shorter by up to so much of itself.
    :param forget: after so long without a refusal nothing is known of others any more.
    """

    seek: float = 5.5
    grow: float = 6.0
    growth: float = 1.7
    longest: float = 12.0
    jitter: float = 0.5
    forget: float = 60.0


class Claim(NamedTuple):
    """A request that is on its way.

    :param extra: whether it asks for more than the places that are held.
    :param number: which one it is.
    """

    extra: bool
    number: int


def was_let_through(error: ApiError) -> bool:
    """Whether an error says that the service has not refused the request for its rate, but has looked at its object.

    What is wrong with the service, with keys or with the request's form may be told before the rate is counted.

    :param error: what the request has come to.
    """
    return isinstance(error, (NotFound, QuotaExceeded, ResourceBusy))


#: Seconds between two looks of those for whom there is room as soon as an answer has come.
_SOON = 0.05

#: Clocks are floating point numbers.
_TINY = 1e-6


class ContendedRate:
    """When this process may send its next request of an action.

    :param rate: requests a second that the service takes of the whole account.
    :param share: part of it that a process uses at once while nothing is known of others, 0 to 1.
    :param spread: draws a random number from 0 to 1.
    :param pauses: pauses after a refusal.
    :param lease: seconds that a request takes at most. Whoever has sent it may not live to say what has become of it: a
        signal's handler may raise where nothing catches that.
    """

    def __init__(
        self,
        rate: float,
        share: float,
        spread: Callable[[], float],
        pauses: Pauses | None = None,
        lease: float = 60.0,
    ) -> None:
        self._most = max(1, int(rate))
        #: Length of the service's window. Of a rate below 1 it is longer.
        self._window = max(1.0, 1.0 / rate)
        self._initial = max(1, int(rate * share))
        self._spread = spread
        self._pauses = pauses or Pauses()
        #: When places were got that are held now: when the answers came, which is after the service has counted.
        self._held: deque[float] = deque()
        #: When requests left that have not been answered, by number.
        self._on_the_way: dict[int, float] = {}
        self._claims = 0
        self._lease = lease + self._window
        self._forget()

    def _forget(self) -> None:
        #: How many places to use. As long as nothing is refused it grows with each request that uses the last one: a
        #: process that is alone comes to the whole rate within some seconds.
        self._width = self._initial
        #: Whether there is no more room, as far as is known.
        self._full = False
        self._ask_at = float("-inf")
        self._refused_at: float | None = None
        self._strays = 0
        self._grow = self._pauses.grow

    def wait(self, now: float) -> float:
        """Seconds until a request may be sent; 0: now. Nothing is taken by asking, and it may be less another time.

        :param now: monotonic seconds.
        """
        self._drop(now)
        used = len(self._held) + len(self._on_the_way)
        if used < self._width:
            return 0.0
        until = self._held[0] + self._window if self._held else float("inf")
        if self._on_the_way:
            until = min(until, now + _SOON)
        elif self._full:
            until = min(until, self._ask_at)
        return max(0.0, until - now)

    def claim(self, now: float) -> Claim:
        """A request is going to be sent: :meth:`wait` has said 0.

        :param now: monotonic seconds.
        """
        self._drop(now)
        extra = self._full and len(self._held) + len(self._on_the_way) >= self._width
        self._claims += 1
        self._on_the_way[self._claims] = now
        return Claim(extra, self._claims)

    def accepted(self, claim: Claim, now: float) -> None:
        """The service has not refused it for its rate, and says so.

        :param now: monotonic seconds, when the answer came.
        """
        self._on_the_way.pop(claim.number, None)
        self._strays = 0
        self._drop(now)
        self._held.append(now)
        if claim.extra:
            # There is room: others have gone. Whoever has waited takes all that it can get.
            self._full = False
            self._grow = self._pauses.grow
            self._width += 1
        if not self._full and len(self._held) + len(self._on_the_way) >= self._width:
            self._width = min(self._most, self._width + 1)

    def refused(self, claim: Claim, now: float, *, in_turn: bool = False) -> None:
        """The service has refused it for its rate.

        :param now: monotonic seconds, when the answer came.
        :param in_turn: whether the requests of this machine take turns, so that one refusal may be a stray one: a
            request was late, and the next was not.
        """
        self._on_the_way.pop(claim.number, None)
        if in_turn and self._refused_at is None and self._strays == 0:
            self._strays += 1
            return
        if self._full and claim.extra and self._held:
            self._grow = min(self._pauses.longest, self._grow * self._pauses.growth)
        else:
            self._drop(now)
            self._width = len(self._held)
        self._full = True
        self._refused_at = now
        self._ask_later(now)

    def unsure(self, claim: Claim, now: float) -> None:
        """Whether the service has refused it for its rate is not known, nor whether it was sent: it may hold a place.

        :param now: monotonic seconds, when the answer came, or when it was given up.
        """
        self._on_the_way.pop(claim.number, None)
        self._drop(now)
        self._held.append(now)
        if self._refused_at is not None:
            self._refused_at = now  # what is known of others does not grow old while nothing can be learnt
        if claim.extra:
            self._ask_later(now)

    def _ask_later(self, now: float) -> None:
        pause = (self._grow if self._width else self._pauses.seek) * self._window
        self._ask_at = now + pause * (1 - self._pauses.jitter + 2 * self._pauses.jitter * self._spread())

    def _drop(self, now: float) -> None:
        while self._held and now - self._held[0] >= self._window - _TINY:
            self._held.popleft()
        for number in [number for number, left in self._on_the_way.items() if now - left >= self._lease]:
            del self._on_the_way[number]
        if self._refused_at is not None and now - self._refused_at > self._pauses.forget * self._window:
            self._forget()
