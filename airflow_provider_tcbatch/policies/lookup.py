"""Finding a job, or an environment, by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["envs_named", "newest_named", "only_env"]


def newest_named(jobs: Iterable[JobView], name: str) -> JobView | None:
    """The job of this name that was submitted last; ``None`` if there is none.

    :param jobs: what the service found. Whether its filter takes parts of names, and in which order it lists, is not
        documented.
    """
    found = [job for job in jobs if job.job_name == name]
    # A time is written as 2025-01-31T12:00:00Z, or with a space: as text it sorts.
    return max(found, key=lambda job: (job.create_time or "").replace(" ", "T"), default=None)


def envs_named(envs: Iterable[ComputeEnvView], name: str) -> list[ComputeEnvView]:
    """The environments of exactly this name that are not being deleted.

    :param envs: what the service found. Whether its filter wants the whole name is not documented.
    """
    return [env for env in envs if env.env_name == name and not env.next_action]


def only_env(envs: Iterable[ComputeEnvView], name: str) -> str | None:
    """Id of the environment of this name; ``None`` if there is none.

    :param envs: what the service found.
    :raises ValueError: if there are several.
    """
    found = envs_named(envs, name)
    if len(found) > 1:
        raise ValueError(f"{len(found)} compute environments are called {name!r}: name one by its id")
    return found[0].env_id if found else None
