"""Whether the API bears out what an event says. Anybody may write to a queue; a state can't be forged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import NotFound
from airflow_provider_tcbatch.models.actions import DescribeJob
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv, DescribeComputeEnvActivities
from airflow_provider_tcbatch.models.request import Filter
from airflow_provider_tcbatch.models.states import ActivityState, ComputeNodeState, State
from airflow_provider_tcbatch.policies.event.confirmation import has_been
from airflow_provider_tcbatch.policies.job.quorum import Quorum, QuorumVerdict
from airflow_provider_tcbatch.waits.job_parts import QuorumWait

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnvResult
    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["confirm"]

_NODE = ComputeNodeState
#: What a node must be, or be past, when an event tells of it. The others are left again at once.
_SINCE = {
    _NODE.CREATED.value: (_NODE.CREATED, _NODE.RUNNING, _NODE.ABNORMAL, _NODE.DELETING),
    _NODE.RUNNING.value: (_NODE.RUNNING, _NODE.ABNORMAL, _NODE.DELETING),
    _NODE.CREATION_FAILED.value: (_NODE.CREATION_FAILED,),
    _NODE.ABNORMAL.value: (_NODE.ABNORMAL,),
    _NODE.DELETING.value: (_NODE.DELETING,),
}
_CREATE_NODE = "CREATE_COMPUTE_NODE"


async def confirm(api: ApiClient, event: BatchEvent) -> BatchEvent | None:
    """Ask the API about what an event names.

    Events of nodes that belong to no environment are taken as they are: the API knows nothing of them.

    :param event: the event. What it leaves out may be anything: the API must show its state somewhere in what it names.
    :returns: the event, with the names that the API knows; ``None`` if the API does not show it, or not yet.
    :raises ApiError: if the API can't be asked.
    """
    if event.family == "COMPUTE_NODE" and event.env_id is None:
        return event
    try:
        if event.family in ("JOB", "TASK", "TASK_INSTANCE"):
            return None if event.job_id is None else await _job(api, event, event.job_id)
        return None if event.env_id is None else await _env(api, event, event.env_id)
    except NotFound:
        return event if event.name == "COMPUTE_ENV_DELETED" else None


async def _job(api: ApiClient, event: BatchEvent, job_id: str) -> BatchEvent | None:
    view = await api.ashared(DescribeJob(job_id=job_id))
    if event.family == "JOB":
        shown = has_been(event.state, str(view.job_state))
    elif event.family == "TASK":
        tasks = [task for task in view.task_set or () if event.task_name in (None, task.task_name)]
        shown = any(has_been(event.state, str(task.task_state)) for task in tasks)
    else:
        shown = await _instance(api, event, view)
    return replace(event, job_name=view.job_name or event.job_name) if shown else None


async def _instance(api: ApiClient, event: BatchEvent, view: DescribeJobResult) -> bool:
    if event.task_name is None:
        metrics = view.task_instance_metrics
        counted = [state.value for state in State if metrics and getattr(metrics, f"{state.value.lower()}_count")]
        return any(has_been(event.state, now) for now in counted)
    wanted = {event.state} | ({State.FAILED.value} if event.state == State.FAILED_INTERRUPTED else set())
    indexes = None if event.instance_index is None else frozenset({event.instance_index})
    wait = QuorumWait(view.job_id, event.task_name, frozenset(wanted), Quorum("any"), indexes)
    return (await wait.look(api, ended=False)).verdict is QuorumVerdict.REACHED


async def _env(api: ApiClient, event: BatchEvent, env_id: str) -> BatchEvent | None:
    view = await api.ashared(DescribeComputeEnv(env_id=env_id))
    if event.family == "COMPUTE_ENV":
        shown = event.state == "CREATED"
    else:
        shown = await _node(api, event, view)
    return replace(event, env_name=view.env_name or event.env_name) if shown else None


async def _node(api: ApiClient, event: BatchEvent, view: DescribeComputeEnvResult) -> bool:
    states = {node.compute_node_id: node.compute_node_state for node in view.compute_node_set or ()}
    named = states.values() if event.node_id is None else (states.get(event.node_id),)
    if any(state in _SINCE.get(event.state, ()) for state in named):
        return True
    if event.node_id is None:
        return False
    # A node that is made anew, or is gone, has left the state behind: what was done to it is on record.
    condition = Filter(name="compute-node-id", values=[event.node_id])
    request = DescribeComputeEnvActivities(env_id=view.env_id, filters=condition, limit=100)
    record = (await api.ashared(request)).activity_set
    done = [activity for activity in record if activity.compute_node_id == event.node_id]
    gone = event.node_id not in states
    if event.state == _NODE.DELETING:
        return gone and bool(done)
    made = [activity for activity in done if activity.compute_node_activity_type == _CREATE_NODE]
    if event.state == _NODE.CREATION_FAILED:
        return any(activity.activity_state == ActivityState.FAILED for activity in made)
    made.sort(key=lambda activity: (activity.start_time or "").replace(" ", "T"))
    # One that had been made, and was made again, was lost in between.
    before = made if gone and event.state != _NODE.ABNORMAL else made[:-1]
    return any(activity.activity_state == ActivityState.SUCCEED for activity in before)
