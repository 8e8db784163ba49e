"""When the waits of a process write to their tasks' logs."""

from __future__ import annotations

import math
import time

__all__ = ["LogTurns", "turns"]


class LogTurns:
    """When the brief waits of a process speak: where there are many, one after the other.

    Taking lines keeps a triggerer from starting and ending waits. One line takes it as long as ten that come together:
    waits speak at the same moments.

    :param lines: most lines a second.
    :param together: seconds between two such moments.
    :param longest: who would have to wait for more seconds than this says nothing.
    """

    def __init__(self, lines: float, together: float, longest: float = 600.0) -> None:
        self.lines = lines
        self.together = together
        self.longest = longest
        self._free = 0.0
        self._most = max(1, int(lines * together))
        #: How many speak at each moment, by its number.
        self._taken: dict[int, int] = {}

    def take(self, after: float) -> float | None:
        """The moment (unix seconds) at which a wait speaks; ``None`` if too many others are to speak before.

        :param after: seconds that it has to be away at least.
        """
        now = time.time()
        if self._free > now + self.longest:
            return None
        at = max(now + after, self._free)
        self._free = max(now, self._free) + 1 / self.lines
        moment = math.ceil(at / self.together)
        while self._taken.get(moment, 0) >= self._most:  # some have to be away longer than their turn is
            moment += 1
        if moment not in self._taken:
            past = int(now / self.together)
            self._taken = {number: taken for number, taken in self._taken.items() if number >= past}
        self._taken[moment] = self._taken.get(moment, 0) + 1
        return moment * self.together


#: Those of this process.
turns = LogTurns(lines=20.0, together=2.0)
