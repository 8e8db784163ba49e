"""Starting DAGs from events of Batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.policies.event.filter import EventFilter
from airflow_provider_tcbatch.triggers._base.queue_trigger import BaseQueueTrigger

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.payloads import BatchEventPayload, BatchEventsPayload
    from airflow_provider_tcbatch.watching.event_reader import Arrival

__all__ = ["TCBatchEventTrigger"]

#: One text, or several.
Texts = str | Collection[str] | None


class TCBatchEventTrigger(BaseQueueTrigger):
    """Tell of events of jobs, tasks and environments, whoever submitted them: for an ``AssetWatcher``.

    Events of TDMQ CMQ queue ``queue_name`` that are asked for become asset events: the first one at once, those that
    come within the next 5 s together. The payload is ``{"events": [...]}``, a list of
    :class:`~airflow_provider_tcbatch.events.BatchEventPayload`. An event that is asked for by no trigger of this queue
    is deleted. What follows from a message is stored at least once; ``event_id`` tells repeated ones.

    :param queue_name: a durable queue that is subscribed to the topic and that nothing else reads, waits neither.
    :param event_names: names of events, such as JOB_SUCCEED, one or many; this and what follows: default is any.
    :param job_ids: ids of jobs.
    :param job_names: exact names of jobs.
    :param task_names: names of tasks.
    :param env_ids: ids of compute environments.
    :param env_names: exact names of compute environments.
    :param variables: EventVars that the event must carry, with these values.
    :param confirm: ask the API about what an event names before it counts: what the API does not bear out within 10 s
        (no such job, or it is not in that state) is logged and left out, and names that are missing in the event are
        filled in. Up to 16 messages cost one request.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :raises ValueError: if a name is none of the documented events, or something is no text.
    """

    def __init__(
        self,
        *,
        queue_name: str,
        event_names: Texts = None,
        job_ids: Texts = None,
        job_names: Texts = None,
        task_names: Texts = None,
        env_ids: Texts = None,
        env_names: Texts = None,
        variables: Mapping[str, str] | None = None,
        confirm: bool = True,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
    ) -> None:
        super().__init__(queue_name=queue_name, tencentcloud_conn_id=tencentcloud_conn_id, region=region)
        self.filter = EventFilter.parse(
            names=event_names,
            job_ids=job_ids,
            job_names=job_names,
            task_names=task_names,
            env_ids=env_ids,
            env_names=env_names,
            variables=variables,
        )
        # As plain JSON, always the same: in another order it would be another trigger to Airflow.
        filters = self.filter.to_json()
        self.event_names: Sequence[str] | None = filters.get("names")
        self.job_ids: Sequence[str] | None = filters.get("job_ids")
        self.job_names: Sequence[str] | None = filters.get("job_names")
        self.task_names: Sequence[str] | None = filters.get("task_names")
        self.env_ids: Sequence[str] | None = filters.get("env_ids")
        self.env_names: Sequence[str] | None = filters.get("env_names")
        self.variables = dict(sorted(self.filter.variables.items())) or None
        self.confirm = confirm

    @property
    def asks_for(self) -> dict[str, bool]:
        """What the API has to be asked for: also names, which events need not hold."""
        return {"doubts": self.confirm, "names": bool(self.filter.job_names or self.filter.env_names)}

    def payload(self, batch: Sequence[Arrival]) -> BatchEventsPayload | None:
        """Those events of some messages that are asked for, in the order in which the queue delivered them."""
        events = [event for arrival in batch for event in self._events(arrival)]
        return {"events": events} if events else None

    def _events(self, arrival: Arrival) -> Iterator[BatchEventPayload]:
        from airflow_provider_tcbatch.models.check_message import check_of
        from airflow_provider_tcbatch.models.payloads import event_payload

        if not arrival.events and not arrival.reported:
            arrival.reported = True
            if arrival.problem is not None:
                self.log.warning(
                    "Message %s on queue %s is taken for one without events, and is deleted: %s",
                    arrival.key,
                    self.queue_name,
                    arrival.problem,
                )
            elif check_of(arrival.message.body) is None:
                self.log.warning(
                    "Message %s on queue %s holds no event of Batch, and is deleted", arrival.key, self.queue_name
                )
        for sighting in arrival.sightings:
            if (self.confirm and sighting.doubt) or self.filter.matches(sighting.event) is not True:
                continue
            yield event_payload(
                sighting.event,
                queue_name=self.queue_name,
                message_id=arrival.key,
                confirmed=sighting.confirmed,
            )
