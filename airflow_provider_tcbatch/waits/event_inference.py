"""What the API tells of events without anybody hearing them: states that can't be without the event before them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import NotFound
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv, DescribeComputeEnvs
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.models.request import PAGE, filters_of
from airflow_provider_tcbatch.models.states import ComputeNodeState
from airflow_provider_tcbatch.policies.job.quorum import Quorum, QuorumVerdict
from airflow_provider_tcbatch.policies.job.targets import TargetVerdict
from airflow_provider_tcbatch.policies.lookup import newest_named
from airflow_provider_tcbatch.waits.job_parts import QuorumWait, is_still, task_state

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.env_views import ComputeEnvView
    from airflow_provider_tcbatch.policies.event.awaited import AwaitedEvents

__all__ = ["Finding", "instances_wait", "look", "look_once", "newest_job"]


@dataclass(frozen=True)
class Finding:
    """What one look showed of the events of one family.

    :param family: what the events are about.
    :param verdict: whether one of them must have come, or none can come any more.
    :param words: what was seen.
    :param event: the one that must have come, with what the API knows of it.
    :param job_id: the job that was looked at, if any.
    :param env_id: the compute environment.
    """

    family: str
    verdict: TargetVerdict
    words: str
    event: BatchEvent | None = None
    job_id: str | None = None
    env_id: str | None = None


async def look(api: ApiClient, awaited: AwaitedEvents, family: str) -> Finding:
    """Look once at what the events of a family would be about.

    :param family: one of those that ``awaited`` names something of.
    :raises NotFound: if there is no such job, task or environment, and nothing says that there will be.
    :raises ApiError: if the API can't be asked.
    """
    looks: dict[str, Callable[[ApiClient, AwaitedEvents], Awaitable[Finding]]] = {
        "JOB": _job,
        "TASK": _task,
        "TASK_INSTANCE": _instances,
        "COMPUTE_ENV": _env,
        "COMPUTE_NODE": _nodes,
    }
    return await looks[family](api, awaited)


async def look_once(settings: ConnectionSettings, awaited: AwaitedEvents) -> list[Finding]:
    """Look once at all that can be seen, for a worker.

    :raises ApiError: if that fails.
    """
    api = settings.api_client()
    try:
        return [await look(api, awaited, family) for family in awaited.looked_at]
    finally:
        await api.aclose()


async def newest_job(api: ApiClient, name: str) -> str | None:
    """Id of the newest job of a name; ``None`` if there is none."""
    request = DescribeJobs(filters=filters_of({"job-name": [name]}))
    found = [job async for page in api.apages(request, PAGE) for job in page.job_set]
    newest = newest_named(found, name)
    return None if newest is None else newest.job_id


def instances_wait(awaited: AwaitedEvents, job_id: str, states: tuple[str, ...], **options: Any) -> QuorumWait:
    """A wait until one of the instances that events are wanted of is in one of these states."""
    indexes = frozenset(awaited.indexes) or None
    return QuorumWait(job_id, str(awaited.task_name), frozenset(states), Quorum("any"), indexes, **options)


# -- jobs ------------------------------------------------------------------------------------------------


async def _view(api: ApiClient, awaited: AwaitedEvents) -> DescribeJobResult | None:
    job_id = awaited.job_id or await newest_job(api, str(awaited.job_name))
    return None if job_id is None else await api.ashared(DescribeJob(job_id=job_id))


def _no_job(awaited: AwaitedEvents, family: str) -> Finding:
    return Finding(family, TargetVerdict.WAITING, f"There is no job called {awaited.job_name!r} yet")


async def _job(api: ApiClient, awaited: AwaitedEvents) -> Finding:
    view = await _view(api, awaited)
    if view is None:
        return _no_job(awaited, "JOB")
    state = str(view.job_state)
    verdict = awaited.targets("JOB").judge(state)
    return Finding(
        "JOB",
        verdict,
        f"Job {view.job_id} is {state}",
        _event(awaited, "JOB", verdict, state, view),
        job_id=view.job_id,
    )


async def _task(api: ApiClient, awaited: AwaitedEvents) -> Finding:
    view = await _view(api, awaited)
    if view is None:
        return _no_job(awaited, "TASK")
    state = task_state(view, str(awaited.task_name))
    if state is None:
        words = f"Job {view.job_id} ({view.job_state}) does not show its tasks yet"
        return Finding("TASK", TargetVerdict.WAITING, words, job_id=view.job_id)
    verdict = awaited.targets("TASK").judge(state, over=is_still(view.job_state, view.task_instance_metrics))
    words = f"Task {awaited.task_name!r} of job {view.job_id} ({view.job_state}) is {state}"
    return Finding("TASK", verdict, words, _event(awaited, "TASK", verdict, state, view), job_id=view.job_id)


async def _instances(api: ApiClient, awaited: AwaitedEvents) -> Finding:
    family = "TASK_INSTANCE"
    view = await _view(api, awaited)
    if view is None:
        return _no_job(awaited, family)
    wanted = awaited.targets(family).wanted
    counts = await instances_wait(awaited, view.job_id, wanted).look(api)
    words = f"Instances of task {awaited.task_name!r} of job {view.job_id} ({view.job_state}): {counts}"
    if counts.verdict is not QuorumVerdict.REACHED:
        hopeless = counts.verdict is QuorumVerdict.HOPELESS
        verdict = TargetVerdict.FAILED if hopeless else TargetVerdict.WAITING
        return Finding(family, verdict, words, job_id=view.job_id)
    reached = wanted[0]
    for state in wanted[1:]:
        if (await instances_wait(awaited, view.job_id, (reached,)).look(api)).verdict is QuorumVerdict.REACHED:
            break
        reached = state
    event = _event(awaited, family, TargetVerdict.REACHED, reached, view)
    return Finding(family, TargetVerdict.REACHED, words, event, job_id=view.job_id)


def _event(
    awaited: AwaitedEvents, family: str, verdict: TargetVerdict, state: str, view: DescribeJobResult
) -> BatchEvent | None:
    name = awaited.implied(family, state)
    if verdict is not TargetVerdict.REACHED or name is None:
        return None
    return BatchEvent(
        name,
        job_id=view.job_id,
        job_name=view.job_name,
        task_name=None if family == "JOB" else awaited.task_name,
        instance_index=awaited.indexes[0] if family == "TASK_INSTANCE" and len(awaited.indexes) == 1 else None,
    )


# -- compute environments --------------------------------------------------------------------------------


async def _named_envs(api: ApiClient, name: str) -> list[ComputeEnvView]:
    request = DescribeComputeEnvs(filters=filters_of({"env-name": [name]}))
    found = [env async for page in api.apages(request, PAGE) for env in page.compute_env_set]
    # Whether the service's filter takes parts of names is not documented.
    return [env for env in found if env.env_name == name]


async def _env(api: ApiClient, awaited: AwaitedEvents) -> Finding:
    family = "COMPUTE_ENV"
    env_id, env_name = awaited.env_id, awaited.env_name
    if env_id is not None:
        try:
            env_name = (await api.ashared(DescribeComputeEnv(env_id=env_id))).env_name
            there = True
        except NotFound:
            if "DELETED" not in awaited.states(family):
                raise
            there = False
    else:
        found = await _named_envs(api, str(env_name))
        there = bool(found)
        env_id = found[0].env_id if found else None
    words = f"Compute environment {env_id or repr(env_name)} {'exists' if there else 'does not exist'}"
    name = awaited.implied(family, "CREATED" if there else "DELETED")
    if name is None:
        return Finding(family, TargetVerdict.WAITING, words, env_id=env_id)
    event = BatchEvent(name, env_id=env_id, env_name=env_name)
    return Finding(family, TargetVerdict.REACHED, words, event, env_id=env_id)


async def _nodes(api: ApiClient, awaited: AwaitedEvents) -> Finding:
    family = "COMPUTE_NODE"
    ids = [awaited.env_id] if awaited.env_id else [env.env_id for env in await _named_envs(api, str(awaited.env_name))]
    words = f"There is no compute environment called {awaited.env_name!r} yet"
    ending = False
    for env_id in ids:
        env = await api.ashared(DescribeComputeEnv(env_id=env_id))
        nodes = env.compute_node_set or ()
        words = f"Compute environment {env_id} has {len(nodes)} nodes"
        for node in nodes:
            state = str(node.compute_node_state or "")
            if (name := awaited.implied(family, state)) is not None:
                words = f"Node {node.compute_node_id} of compute environment {env_id} is {state}"
                event = BatchEvent(name, env_id=env_id, env_name=env.env_name, node_id=node.compute_node_id)
                return Finding(family, TargetVerdict.REACHED, words, event, env_id=env_id)
        # Nodes that are there can still be deleted.
        left = [node for node in nodes if node.compute_node_state != ComputeNodeState.DELETING]
        ending = bool(env.next_action) and not left
    if ending and awaited.env_id:
        return Finding(family, TargetVerdict.FAILED, f"{words}, and is being deleted", env_id=awaited.env_id)
    return Finding(family, TargetVerdict.WAITING, words, env_id=awaited.env_id)
