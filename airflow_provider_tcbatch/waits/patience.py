"""What a wait does while the API can't be asked: it goes on, and says so once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.connection.deployment import api_patience
from airflow_provider_tcbatch.exceptions import ApiError, Throttled
from airflow_provider_tcbatch.policies.outage import Outage, can_not_be_asked, outage_pause, patient_until
from airflow_provider_tcbatch.waits import log_turns

if TYPE_CHECKING:
    from airflow_provider_tcbatch.watching.subscription import Subscription

__all__ = ["Patience"]

#: Questions in a row that fail before it is called an outage and told.
FLUKES = 3


class Patience:
    """How long one wait goes on while the API can't be asked, and what its task's log is told.

    That the API can't be asked is no verdict about a job. So the wait goes on as long as its own limits allow; with
    none, ``[tcbatch] api_patience`` decides. Where thousands wait their lines come one after the other, see
    :class:`~.waits.log_turns.LogTurns`; what has not been said when the wait ends is left to the worker, see
    :meth:`untold`.

    :param log_line: takes what the task's log shows: a format and its arguments.
    """

    __slots__ = ("_ends", "_failures", "_line", "_line_at", "_log_line", "_said", "outage")

    def __init__(self, log_line: Callable[..., None]) -> None:
        self._log_line = log_line
        #: Failed questions in a row, by who asked; nobody is in it while all get answers.
        self._failures: dict[Hashable, int] | None = None
        #: The outage that lasts.
        self.outage: Outage | None = None
        #: When it lasts for too long (unix seconds), once somebody needs to know: it is read for each of thousands.
        self._ends: float | None = None
        #: What is to be said, and when (unix seconds); never, if others have too much to say.
        self._line: Outage | None = None
        self._line_at: float | None = None
        #: Whether the log has been told that the API is away.
        self._said = False

    # -- what is heard -----------------------------------------------------------------------------------

    def failed(self, error: ApiError, asker: Hashable = None) -> bool:
        """A question of the wait's own has failed: whether that ends the wait, because the question was wrong.

        :param asker: tells several apart that ask for one wait.
        """
        if not can_not_be_asked(error):
            return True
        if isinstance(error, Throttled):
            return False  # it costs time and nothing else
        failures = self._failures = self._failures or {}
        failures[asker] = failures.get(asker, 0) + 1
        self.outage = Outage(self.outage.since if self.outage else time.time(), str(error))
        if failures[asker] == FLUKES:
            self._tell()
        return False

    def answered(self, asker: Hashable = None) -> None:
        """A question has been answered."""
        if not self._failures or self._failures.pop(asker, None) is None or self._failures:
            return
        outage, self.outage, self._failures, self._ends = self.outage, None, None, None
        if outage is not None and (self._said or self._line is not None):
            self._line = replace(outage, until=time.time())
            self._line_at = log_turns.turns.take(random.random())

    def heed(self, subscription: Subscription[Any], asker: Hashable = None) -> None:
        """Take in what the shared watcher knows, which asks for many waits."""
        outage = subscription.outage
        if outage is None:
            self.answered(asker)
            return
        failures = self._failures = self._failures or {}
        self.outage = self.outage or outage
        if failures.get(asker, 0) < FLUKES:
            failures[asker] = FLUKES
            self._tell()

    # -- what follows ------------------------------------------------------------------------------------

    def alarm(self, limit: float | None) -> float | None:
        """When there is something to do, in unix seconds.

        :param limit: when the wait's own limit is reached.
        """
        ends = [] if limit is not None or self.outage is None else [self._until()]
        return min([*ends, *([] if self._line_at is None else [self._line_at])], default=None)

    def over(self, limit: float | None) -> Outage | None:
        """Say what is to be said now; the outage, if it lasts for too long.

        :param limit: when the wait's own limit is reached: if there is one, no outage is too long.
        """
        if self._line is not None and self._line_at is not None and time.time() >= self._line_at:
            self._said = self._line.until is None
            self._log_line("%s", self._line)
            self._line = self._line_at = None
        too_long = self.outage is not None and limit is None and time.time() >= self._until()
        return self.outage if too_long else None

    def pause(self, usual: float, asker: Hashable = None) -> float:
        """Seconds until the next question.

        :param usual: seconds while all is well.
        """
        failures = (self._failures or {}).get(asker, 0)
        return outage_pause(failures, random.random()) if failures else usual

    def untold(self) -> dict[str, Any] | None:
        """What the log has not been told, for a worker to tell when the wait has ended: see :class:`.Outage`."""
        if self.outage is not None:
            return self.outage.to_json()
        return None if self._line is None else self._line.to_json()

    def _until(self) -> float:
        assert self.outage is not None
        if self._ends is None:
            self._ends = patient_until(self.outage.since, None, api_patience())
        return self._ends

    def _tell(self) -> None:
        if self._line is None and not self._said:
            self._line = self.outage
            self._line_at = log_turns.turns.take(random.random())
