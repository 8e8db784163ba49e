"""Finding a job whose id got lost, by its name and what it carries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.hooks.batch import UNKNOWN_SECONDS
from airflow_provider_tcbatch.policies.job.submission import TOKEN_WINDOW
from airflow_provider_tcbatch.policies.ownership.marks import GENERATION_VARIABLE, OWNER_TAG, generation_of

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.policies.ownership.record import Record

__all__ = ["find_job"]

#: A job that is older than its token by more than this many seconds is another one: clocks differ by minutes at most.
_SLACK = 3600.0


def find_job(hook: TCBatchHook, record: Record, *, patient: bool = True) -> str | None:
    """Id of the job that was submitted under a record's token; ``None`` if there is none.

    :param patient: wait for a job that may have been made a moment ago and not be listed yet.
    """
    generation = generation_of(record.token)
    # It may have been sent again for as long as its token is trusted.
    young = patient and time.time() - record.token_sent_at < TOKEN_WINDOW + UNKNOWN_SECONDS
    until = time.monotonic() + (UNKNOWN_SECONDS if young else 0.0)
    while True:
        for view in hook.describe_jobs(filters={"job-name": [record.job_name]}):
            # Whether the filter wants the whole name is not documented.
            if view.job_name != record.job_name or _is_older(view.create_time, record.token_sent_at - _SLACK):
                continue
            if _is_of(hook, view.job_id, record.job_name, view.tags, generation):
                return view.job_id
        if time.monotonic() >= until:
            return None
        # A job may not be listed at once.
        time.sleep(2.0)


def _is_older(created: str | None, instant: float) -> bool:
    """Whether a job was made before an instant, as far as its time can be read."""
    try:
        time_of = datetime.fromisoformat((created or "").replace("Z", "+00:00"))
    except ValueError:
        return False
    if time_of.tzinfo is None:
        time_of = time_of.replace(tzinfo=timezone.utc)
    return time_of.timestamp() < instant


def _is_of(hook: TCBatchHook, job_id: str, name: str, tags: Sequence[Any] | None, generation: str) -> bool:
    if name.endswith(f"-{generation}"):
        return True
    values = [tag.value for tag in tags or () if tag.key == OWNER_TAG]
    if values:
        return any(str(value).endswith(f"/{generation}") for value in values)
    info = hook.describe_job_submit_info(job_id)
    return any(
        variable.name == GENERATION_VARIABLE and variable.value == generation
        for task in info.tasks or ()
        for variable in getattr(task, "env_vars", None) or ()
    )
