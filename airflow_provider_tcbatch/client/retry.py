"""When and how often a request is sent again.

The SDK's own retryer must not be used: after one retryable error it keeps the stale error, sends again
although the second answer was a success, and finally raises; with SubmitJob that is a second job.
"""

from __future__ import annotations

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from airflow_provider_tcbatch.exceptions import ApiError

__all__ = ["ATTEMPTS", "retrying", "retrying_async"]

#: Attempts in all for one call; with the waits below they span about half a minute at most.
ATTEMPTS = 5


def _worth_repeating(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.retryable


class _Wait(wait_random_exponential):
    """Exponential backoff with full jitter, but never below half a second."""

    def __call__(self, retry_state: RetryCallState) -> float:
        return 0.5 + super().__call__(retry_state)


def retrying(may_repeat: bool, attempts: int = ATTEMPTS) -> Retrying:
    """Retry controller for a blocking call.

    :param may_repeat: ``False`` for a write that could be carried out twice.
    """
    return Retrying(
        retry=retry_if_exception(_worth_repeating),
        stop=stop_after_attempt(attempts if may_repeat else 1),
        wait=_Wait(multiplier=0.5, max=10),
        reraise=True,
    )


def retrying_async(may_repeat: bool, attempts: int = ATTEMPTS) -> AsyncRetrying:
    """Retry controller for a coroutine; see :func:`retrying`."""
    return AsyncRetrying(
        retry=retry_if_exception(_worth_repeating),
        stop=stop_after_attempt(attempts if may_repeat else 1),
        wait=_Wait(multiplier=0.5, max=10),
        reraise=True,
    )
