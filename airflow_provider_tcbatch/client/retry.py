"""When and how often a request is sent again.

The SDK's own retryer must not be used: after one retryable error it keeps the stale error, sends again
although the second answer was a success, and finally raises; with SubmitJob that is a second job.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from airflow_provider_tcbatch.exceptions import ApiError, Throttled

__all__ = ["ATTEMPTS", "Course", "retrying", "retrying_async"]

log = logging.getLogger(__name__)

#: Attempts in all for one call; with the waits below they span about half a minute at most.
ATTEMPTS = 5


#: Seconds that a request may wait for a place without a word in the log.
_QUIET = 10.0


class Course:
    """What has become of a request so far.

    :param patience: for how many seconds to send it again while the service refuses it for its rate; 0: not at all.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._begun: float | None = None
        #: Monotonic seconds after which it does not wait for a place; ``None``: for as long as it takes to get one.
        self.until: float | None = None
        self._since: float | None = None
        self._told = False
        self._maybe_done = False
        self._sent_at: float | None = None
        self._lost_at: float | None = None

    def begin(self) -> None:
        """It can be sent now: what it needs has been imported. What that took is no part of the patience."""
        if self._begun is None:
            self._begun = time.monotonic()
            self.until = self._begun + self._patience if self._patience else None

    def sends(self) -> None:
        """It is sent now."""
        self._sent_at = time.time()

    def refused(self, error: Throttled) -> None:
        """The service has refused it for its rate, and has done nothing.

        :raises Throttled: if it is not to be sent again.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = time.time()
        if self.until is None or now >= self.until:
            error.since = self._since
            self.failed(error)
            raise error
        if not self._told and self._begun is not None and now - self._begun >= _QUIET:
            self._told = True
            log.info("More of these requests are sent than the account may send; this one waits its turn: %s", error)

    def failed(self, error: ApiError, action: str | None = None) -> None:
        """It has failed: the error is told of earlier attempts whose answers were lost.

        :param action: its action. Where another one failed, which was to give the keys, it was not sent this time.
        """
        if action is not None and error.action != action:
            error.maybe_done = False
        if error.maybe_done and not self._maybe_done:
            self._lost_at = self._sent_at
        error.lost_at = self._lost_at
        self._maybe_done = error.maybe_done = self._maybe_done or error.maybe_done


def _worth_repeating(may_repeat: bool, *, throttled: bool) -> Callable[[BaseException], bool]:
    def worth(error: BaseException) -> bool:
        if not isinstance(error, ApiError) or not error.retryable:
            return False
        if isinstance(error, Throttled):
            return throttled
        return may_repeat or not error.maybe_done

    return worth


class _Wait(wait_random_exponential):
    """Exponential backoff with full jitter, but never below half a second."""

    def __call__(self, retry_state: RetryCallState) -> float:
        return 0.5 + super().__call__(retry_state)


def retrying(may_repeat: bool, attempts: int = ATTEMPTS) -> Retrying:
    """Retry controller for a blocking call. It leaves alone what was refused for its rate, see :class:`Course`.

    :param may_repeat: ``False`` for a write that could be carried out twice: sent again only if it was never sent.
    """
    return Retrying(
        retry=retry_if_exception(_worth_repeating(may_repeat, throttled=False)),
        stop=stop_after_attempt(attempts),
        wait=_Wait(multiplier=0.5, max=10),
        reraise=True,
    )


def retrying_async(may_repeat: bool, attempts: int = ATTEMPTS, *, throttled: bool = False) -> AsyncRetrying:
    """Retry controller for a coroutine; see :func:`retrying`.

    :param throttled: whether to send again what was refused for its rate.
    """
    return AsyncRetrying(
        retry=retry_if_exception(_worth_repeating(may_repeat, throttled=throttled)),
        stop=stop_after_attempt(attempts),
        wait=_Wait(multiplier=0.5, max=10),
        reraise=True,
    )
