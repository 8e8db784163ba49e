"""Whether what the API says bears out an event: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.models.states import State

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.events import BatchEvent

__all__ = ["EventFacts", "completed", "confirms", "doubt", "has_been", "nameless"]


@dataclass(frozen=True)
class EventFacts:
    """What the API says about whatever an event names.

    :param job_state: state of its job; ``None`` if there is no such job, or the event names none.
    :param job_name: the job's name.
    :param task_states: states of the job's tasks by name, where they were asked for.
    :param env_found: whether its compute environment exists.
    :param env_name: the environment's name.
    """

    job_state: str | None = None
    job_name: str | None = None
    task_states: Mapping[str, str] | None = None
    env_found: bool = False
    env_name: str | None = None


def doubt(event: BatchEvent, facts: EventFacts) -> str | None:
    """Why the API does not bear an event out, in words; ``None`` if it does, or can't tell.

    What came to a state that it leaves by itself may be further already. Where an event names nothing that can be asked
    for, nothing speaks against it.
    """
    if event.job_id is not None:
        if facts.job_state is None:
            return f"there is no job {event.job_id}"
        if event.family == "JOB" and not has_been(event.state, facts.job_state):
            return f"job {event.job_id} is {facts.job_state}"
        if event.family.startswith("TASK") and event.task_name is not None and facts.task_states is not None:
            state = facts.task_states.get(event.task_name)
            if state is None:
                return f"job {event.job_id} has no task {event.task_name!r}"
            if event.family == "TASK" and not has_been(event.state, state):
                return f"task {event.task_name!r} of job {event.job_id} is {state}"
    if event.env_id is not None and event.family == "COMPUTE_ENV":
        if event.state == "DELETED" and facts.env_found:
            return f"environment {event.env_id} exists"
        if event.state != "DELETED" and not facts.env_found:
            return f"there is no environment {event.env_id}"
    # Nodes: whether environments that the service makes for one job are listed is not documented, nor for how long
    # nodes are that go. So a missing environment says nothing against an event of one of its nodes.
    return None


def confirms(event: BatchEvent, facts: EventFacts) -> bool:
    """Whether the API knows what an event is about, and nothing speaks against it."""
    if doubt(event, facts) is not None:
        return False
    if event.family == "COMPUTE_ENV" and event.state == "DELETED":
        return event.env_id is not None
    return facts.job_state is not None or facts.env_found


def completed(event: BatchEvent, facts: EventFacts | None) -> BatchEvent:
    """The event with the names that the API knows."""
    if facts is None:
        return event
    return replace(event, job_name=facts.job_name or event.job_name, env_name=facts.env_name or event.env_name)


def nameless(event: BatchEvent) -> bool:
    """Whether an event names a job or an environment by its id alone."""
    return (event.job_id is not None and event.job_name is None) or (
        event.env_id is not None and event.env_name is None
    )


def has_been(state: str, now: str) -> bool:
    """Whether something may have come to a state, and not been begun again since.

    :param state: what an event tells of it.
    :param now: what the API shows.
    """
    if state == State.RUNNING:
        return now in (State.RUNNING, State.SUCCEED, State.FAILED, State.FAILED_INTERRUPTED)
    # What was interrupted is FAILED once it has been terminated.
    return now == state or (state == State.FAILED_INTERRUPTED and now == State.FAILED)
