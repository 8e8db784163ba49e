"""Looking at several jobs, and asking for their end."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_tcbatch.exceptions import ApiError, NotFound, ResourceBusy
from airflow_provider_tcbatch.hooks.batch import has_machines
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.waits.jobs import has_ended

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.views import JobView

    #: Jobs by id as they were read last; ``None`` for one that does not exist.
    Views: TypeAlias = dict[str, JobView | DescribeJobResult | None]

__all__ = ["ASKING_SECONDS", "UNKNOWN_SECONDS", "ask_to_end", "is_over", "look"]

log = logging.getLogger(__name__)

#: Seconds to go on asking for the end of a job that is SUBMITTED, which the service refuses.
ASKING_SECONDS = 120.0

#: Seconds to go on asking where the service refuses, or does not know, a job for no reason that can be seen here.
UNKNOWN_SECONDS = 10.0


def look(hook: TCBatchHook, job_ids: Sequence[str], *, patience: float = 0.0) -> Views:
    """Jobs by id as they are now; ``None`` for those that do not exist.

    :param patience: seconds to wait for jobs that are not known: they may just have been submitted.
    """
    until = time.monotonic() + patience
    while True:
        views: Views = dict.fromkeys(job_ids)
        try:
            views |= {view.job_id: view for view in hook.describe_jobs(job_ids) if view.job_id in views}
        except NotFound:
            log.debug("DescribeJobs refuses ids that it does not know; asking for each")
        for job_id in [job_id for job_id, view in views.items() if view is None]:
            # DescribeJobs leaves out what it does not know; only DescribeJob says so.
            try:
                views[job_id] = hook.describe_job(job_id)
            except NotFound:
                continue
        if None not in views.values() or time.monotonic() >= until:
            return views
        time.sleep(1.0)


def is_over(hook: TCBatchHook, view: JobView | DescribeJobResult) -> bool:
    """Whether a job has ended and uses no machine any more.

    When a job is FAILED, at its first failed instance or its last one, is not documented: so its instances are counted.
    """
    if not has_ended(str(view.job_state), interrupted=False):
        return False
    return view.job_state != State.FAILED or not has_machines(hook.describe_job(view.job_id))


def ask_to_end(hook: TCBatchHook, job_ids: Sequence[str], *, patience: float = ASKING_SECONDS) -> Views:
    """Terminate jobs, and return when the service has accepted it for each; their ends are not waited for.

    What has ended already is left alone. One job that can't be terminated does not spare the others.

    :param patience: seconds to go on asking while a job is SUBMITTED.
    :returns: the jobs as they were seen last.
    :raises ApiError: if the service refuses one of them.
    """
    from airflow_provider_tcbatch.models.actions import TerminateJob

    begun = time.monotonic()
    seen: Views = dict.fromkeys(job_ids)
    left = list(seen)
    refusals: list[ApiError] = []
    while left:
        seen |= look(hook, left)
        age = time.monotonic() - begun
        for job_id in list(left):
            view = seen[job_id]
            try:
                if view is not None and is_over(hook, view):
                    left.remove(job_id)
                elif view is not None:
                    hook.api.call(TerminateJob(job_id=job_id), attempts=1, patience=hook.api.settings.patience)
                    left.remove(job_id)
                elif age >= min(patience, UNKNOWN_SECONDS):
                    left.remove(job_id)
            except NotFound:
                continue  # the next look tells
            except ApiError as error:
                bound = patience if view is not None and view.job_state == State.SUBMITTED else UNKNOWN_SECONDS
                if age < min(patience, bound) and (error.retryable or isinstance(error, ResourceBusy)):
                    log.info("Job %s can't be terminated yet: %s", job_id, error)
                    continue
                log.warning("Job %s can't be terminated: %s", job_id, error)
                refusals.append(error)
                left.remove(job_id)
        if left:
            time.sleep(min(2.0, max(0.25, (time.monotonic() - begun) / 4)))
    if refusals:
        raise refusals[0]
    return seen
