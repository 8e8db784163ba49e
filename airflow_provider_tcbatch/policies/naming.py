"""Finding a job by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["newest_named"]


def newest_named(jobs: Iterable[JobView], name: str) -> JobView | None:
    """The job of this name that was submitted last; ``None`` if there is none.

    :param jobs: what the service found. Whether its filter takes parts of names, and in which order it lists, is not
        documented.
    """
    found = [job for job in jobs if job.job_name == name]
    # A time is written as 2025-01-31T12:00:00Z, or with a space: as text it sorts.
    return max(found, key=lambda job: (job.create_time or "").replace(" ", "T"), default=None)
