"""Ready-made policies for ``retry_policy=`` of an operator (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import (
    ConfigurationError,
    InfrastructureError,
    JobFailed,
    JobMachinesFailed,
    JobTimeout,
    QueueTimeout,
    QuotaExceeded,
    Throttled,
)

if TYPE_CHECKING:
    from airflow.sdk import ExceptionRetryPolicy

__all__ = ["infrastructure_only"]


def infrastructure_only(retry_delay: timedelta = timedelta(minutes=5)) -> ExceptionRetryPolicy:
    """Retry what the cloud is to blame for, and fail at once where a program is.

    Retried, as far as the task's ``retries`` go: :class:`~.exceptions.JobMachinesFailed`,
    :class:`~.exceptions.QueueTimeout`, :class:`~.exceptions.QuotaExceeded`, :class:`~.exceptions.Throttled` and
    :class:`~.exceptions.InfrastructureError`. Failed at once: any other :class:`~.exceptions.JobFailed`, and
    :class:`~.exceptions.JobTimeout`. Everything else is left to Airflow's own rules; a request that is wrong, or not
    permitted, is never retried.

    :param retry_delay: time between two tries, instead of the task's own.
    :raises ConfigurationError: on Airflow before 3.3, which has no retry policies.
    """
    try:
        from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
    except ImportError:
        from airflow import __version__

        raise ConfigurationError(
            f"A retry policy needs Airflow 3.3 or later, this is {__version__}: leave retry_policy out, and let the "
            "task's retries apply to every failure"
        ) from None
    return ExceptionRetryPolicy(
        rules=[
            # The first rule that matches wins: JobMachinesFailed is a JobFailed.
            RetryRule(
                exception=[JobMachinesFailed, QueueTimeout, QuotaExceeded, Throttled, InfrastructureError],
                action=RetryAction.RETRY,
                retry_delay=retry_delay,
                reason="Machines, a quota or the service are to blame: another try may do",
            ),
            RetryRule(
                exception=[JobFailed, JobTimeout],
                action=RetryAction.FAIL,
                reason="A program failed, or did not end in time: another try would come to the same",
            ),
        ]
    )
