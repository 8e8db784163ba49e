"""Letting the failed instances of jobs run again, and waiting until that has taken effect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import ApiError, JobError, ResourceBusy

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["REPAIR_SECONDS", "run_again"]

log = logging.getLogger(__name__)

#: Seconds to wait for RetryJobs to take effect.
REPAIR_SECONDS = 120.0

#: Most jobs of one RetryJobs.
_PORTION = 100


def run_again(
    hook: TCBatchHook,
    jobs: Sequence[JobView | DescribeJobResult],
    *,
    patience: float = REPAIR_SECONDS,
    accepted: Collection[str] = (),
    on_accepted: Callable[[Sequence[str]], None] = lambda job_ids: None,
) -> None:
    """Let the failed instances of FAILED jobs run again; return when every job has left the end it was in.

    RetryJobs is asynchronous: a job may read FAILED for a while after it. It is over when the job reads something
    else, or has another EndTime, because it has failed again in the meantime. RetryJobs has no token either: after a
    lost answer it is sent again only while the job still reads as before.

    :param jobs: the jobs as they were read just now.
    :param patience: seconds to wait.
    :param accepted: ids of those for which RetryJobs was accepted before, and that still read as they did then.
    :param on_accepted: told for which ones it was accepted.
    :raises ApiError: if the service refuses.
    :raises JobError: if nothing has happened to a job when ``patience`` is over.
    """
    until = time.monotonic() + patience
    pending = {job.job_id: job for job in jobs}
    asked = set(accepted)
    size = _PORTION
    while pending:
        refusal: ApiError | None = None
        unasked = [job_id for job_id in pending if job_id not in asked]
        for start in range(0, len(unasked), size):
            portion = unasked[start : start + size]
            sent = time.monotonic()
            try:
                hook.retry_jobs(portion)
                asked.update(portion)
                on_accepted(portion)
            except ApiError as error:
                log.info("RetryJobs for %s: %s", ", ".join(portion), error)
                refusal = error
                if not error.retryable and len(portion) > 1:
                    # One of them may be to blame; whether the others run again all the same is not documented.
                    size = 1
                    break
                if not (error.retryable or isinstance(error, ResourceBusy)):
                    raise
            until += time.monotonic() - sent  # it may have waited for its turn
        for view in hook.describe_jobs(list(pending)):
            before = pending[view.job_id]
            if view.job_state != before.job_state or view.end_time != before.end_time:
                del pending[view.job_id]
        if pending and time.monotonic() >= until:
            job_id = next(iter(pending))
            raise refusal or JobError(
                f"{', '.join(pending)}: still {pending[job_id].job_state}, {patience:.0f} s after the failed instances "
                f"were to run again (RetryJobs). See {hook.settings.job_url(job_id)}",
                job_id=job_id,
            )
        if pending:
            time.sleep(0.5 if refusal is None else 2.0)
