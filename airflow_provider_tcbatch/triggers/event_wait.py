"""Waiting for an event without holding a worker; this trigger only observes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.links import TCBatchComputeEnvLink, TCBatchJobLink
from airflow_provider_tcbatch.policies.event.awaited import AwaitedEvents
from airflow_provider_tcbatch.triggers._base.sensor_trigger import BaseSensorTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["EVENT_ARGUMENTS", "TCBatchEventWaitTrigger", "event_links"]

#: What says which events are waited for: arguments of sensor and trigger.
EVENT_ARGUMENTS = (
    "event_names",
    "job_id",
    "job_name",
    "task_name",
    "task_instance_index",
    "env_id",
    "env_name",
    "variables",
)


class TCBatchEventWaitTrigger(BaseSensorTrigger):
    """Wait until one of some events has come; whatever becomes of the waiting task, jobs and environments are left
    alone.

    An event counts once the API shows what it says. Where the API can show that it must have come, it need not be
    heard.

    It yields exactly one event, a dictionary:

    - ``status``: ``reached``; ``failed`` when none of the events can come any more; ``timeout``; ``away``; ``error``
    - ``event``: for ``reached``, the event as :class:`~.models.events.EventJson`
    - ``heard``: whether it was heard; otherwise a state was read that can't be without it
    - ``limit``: ``timeout``, if that was reached
    - ``message``: what went wrong, for ``error``; what was seen, for ``failed``
    - ``source``, ``observed_at``, ``event_received_at``: the look that ended the wait
    - and what is in ``carried``

    :param event_names: the events; one is enough.
    :param job_id: the job that they are about.
    :param job_name: exactly the name of a job, instead.
    :param task_name: its task.
    :param task_instance_index: an instance of that task, or several.
    :param env_id: the compute environment that they are about.
    :param env_name: exactly its name, instead.
    :param variables: EventVars that the event must carry, with these values.
    :param common: what all triggers of sensors take, see :class:`~.triggers._base.sensor_trigger.BaseSensorTrigger`.
    """

    def __init__(
        self,
        *,
        event_names: str | Sequence[str],
        job_id: str | None = None,
        job_name: str | None = None,
        task_name: str | None = None,
        task_instance_index: int | str | Sequence[int] | None = None,
        env_id: str | None = None,
        env_name: str | None = None,
        variables: Mapping[str, str] | None = None,
        **common: Any,
    ) -> None:
        self.event_names = event_names
        self.job_id = job_id
        self.job_name = job_name
        self.task_name = task_name
        self.task_instance_index = task_instance_index
        self.env_id = env_id
        self.env_name = env_name
        self.variables = variables
        super().__init__(**common)

    async def wait(self) -> dict[str, Any]:
        """Wait for the event."""
        # Imported here: a DAG file that names this trigger should not pay for its clients.
        from airflow_provider_tcbatch.waits.event import EventWait
        from airflow_provider_tcbatch.waits.sessions import env_watcher

        async with self.session() as (settings, watcher):
            awaited = AwaitedEvents.parse(**{name: getattr(self, name) for name in EVENT_ARGUMENTS})
            wait = EventWait(awaited, **self.options)
            if awaited.env_id is None:
                return (await wait.run(watcher, settings)).to_event()
            async with env_watcher(settings) as wait.envs:
                return (await wait.run(watcher, settings)).to_event()

    def result(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The event, and whether it was heard."""
        return {**event["event"], "heard": bool(event["heard"])}

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The pages of the job and of the environment that the event is about."""
        return event_links(event["event"] or {}, settings)


def event_links(event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
    """The XComs behind the buttons of a task that has waited for an event.

    :param event: the event in plain JSON.
    """
    job_id, env_id = event.get("job_id"), event.get("env_id")
    links = {TCBatchJobLink.key: settings.job_url(job_id)} if job_id else {}
    return {**links, **({TCBatchComputeEnvLink.key: settings.env_url(env_id)} if env_id else {})}
