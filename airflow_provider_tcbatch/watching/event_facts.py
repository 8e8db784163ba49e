"""Asks the API about what events name, in few requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvs
from airflow_provider_tcbatch.policies.event.confirmation import EventFacts

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView
    from airflow_provider_tcbatch.models.events import BatchEvent
    from airflow_provider_tcbatch.models.views import JobView

__all__ = ["look_up"]

#: Most ids in one request.
_PAGE = 100

ViewT = TypeVar("ViewT")


async def look_up(api: ApiClient, events: Collection[BatchEvent]) -> list[EventFacts]:
    """Find out about the jobs and environments of some events: one request for a hundred of either.

    The tasks of a job are only in DescribeJob, so each job that an event of a task names costs one more.

    :returns: the facts for each event, in their order.
    :raises ApiError: if the service can't be asked.
    """
    jobs = {
        view.job_id: view for view in await _all(_ids(event.job_id for event in events), lambda ids: _jobs(api, ids))
    }
    envs = {
        view.env_id: view for view in await _all(_ids(event.env_id for event in events), lambda ids: _envs(api, ids))
    }
    of_tasks = _ids(event.job_id for event in events if event.task_name and event.family.startswith("TASK"))
    tasks = {job_id: await _tasks(api, job_id) for job_id in of_tasks if job_id in jobs}
    found = []
    for event in events:
        job, env = jobs.get(event.job_id or ""), envs.get(event.env_id or "")
        facts = EventFacts(
            job_state=None if job is None else str(job.job_state),
            job_name=None if job is None else job.job_name,
            task_states=tasks.get(event.job_id or ""),
            env_found=env is not None,
            env_name=None if env is None else env.env_name,
        )
        found.append(facts)
    return found


def _ids(found: Iterable[str | None]) -> list[str]:
    return [one for one in dict.fromkeys(found) if one]


async def _all(ids: list[str], ask: Callable[[list[str]], Awaitable[list[ViewT]]]) -> list[ViewT]:
    """The views of all ids. One that the service takes for malformed spoils only itself."""
    views: list[ViewT] = []
    portions = [ids[start : start + _PAGE] for start in range(0, len(ids), _PAGE)]
    while portions:
        portion = portions.pop()
        try:
            views += await ask(portion)
        except InvalidRequest as error:
            if not error.code.startswith("InvalidParameter"):
                raise
            if len(portion) > 1:
                middle = len(portion) // 2
                portions += [portion[:middle], portion[middle:]]
    return views


async def _jobs(api: ApiClient, ids: list[str]) -> list[JobView]:
    return list((await api.acall(DescribeJobs(job_ids=ids, limit=len(ids)))).job_set)


async def _envs(api: ApiClient, ids: list[str]) -> list[ComputeEnvView]:
    return list((await api.acall(DescribeComputeEnvs(env_ids=ids, limit=len(ids)))).compute_env_set)


async def _tasks(api: ApiClient, job_id: str) -> dict[str, str] | None:
    """States of a job's tasks; ``None`` while the service lists none."""
    try:
        view = await api.acall(DescribeJob(job_id=job_id))
    except NotFound:
        return None
    return {str(task.task_name): str(task.task_state) for task in view.task_set or ()} or None
