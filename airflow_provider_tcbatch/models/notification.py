"""Which events a job or an environment publishes, and to which CMQ topic."""

from __future__ import annotations

from collections import Counter

from pydantic import Field, field_validator

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.states import WireEnum

__all__ = ["EventConfig", "EventName", "EventVar", "Notification", "NotificationTarget"]


class NotificationTarget(WireEnum):
    """Message service that receives the events. The service's own default, CMQ, was shut down in 2022."""

    CMQ = "CMQ"
    TDMQ_CMQ = "TDMQ_CMQ"


class EventName(WireEnum):
    """All documented events. Jobs publish the first twelve, environments the next two, both the rest."""

    JOB_RUNNING = "JOB_RUNNING"
    JOB_SUCCEED = "JOB_SUCCEED"
    JOB_FAILED = "JOB_FAILED"
    JOB_FAILED_INTERRUPTED = "JOB_FAILED_INTERRUPTED"
    TASK_RUNNING = "TASK_RUNNING"
    TASK_SUCCEED = "TASK_SUCCEED"
    TASK_FAILED = "TASK_FAILED"
    TASK_FAILED_INTERRUPTED = "TASK_FAILED_INTERRUPTED"
    TASK_INSTANCE_RUNNING = "TASK_INSTANCE_RUNNING"
    TASK_INSTANCE_SUCCEED = "TASK_INSTANCE_SUCCEED"
    TASK_INSTANCE_FAILED = "TASK_INSTANCE_FAILED"
    TASK_INSTANCE_FAILED_INTERRUPTED = "TASK_INSTANCE_FAILED_INTERRUPTED"
    COMPUTE_ENV_CREATED = "COMPUTE_ENV_CREATED"
    COMPUTE_ENV_DELETED = "COMPUTE_ENV_DELETED"
    COMPUTE_NODE_CREATED = "COMPUTE_NODE_CREATED"
    COMPUTE_NODE_CREATION_FAILED = "COMPUTE_NODE_CREATION_FAILED"
    COMPUTE_NODE_RUNNING = "COMPUTE_NODE_RUNNING"
    COMPUTE_NODE_ABNORMAL = "COMPUTE_NODE_ABNORMAL"
    COMPUTE_NODE_DELETING = "COMPUTE_NODE_DELETING"


class EventVar(ApiModel):
    """A name and a value of the user's that the event carries back."""

    name: str
    value: str


class EventConfig(ApiModel):
    """One event to publish. ``EventVars`` must be on the wire even when it is empty."""

    event_name: EventName
    event_vars: list[EventVar]


class Notification(ApiModel):
    """Events that go to one topic.

    :param topic_name: *name* (not id) of a topic that exists and has a subscription.
    """

    topic_name: str
    event_configs: list[EventConfig] = Field(min_length=1)

    @field_validator("event_configs")
    @classmethod
    def _distinct_events(cls, configs: list[EventConfig]) -> list[EventConfig]:
        counts = Counter(config.event_name for config in configs)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"names {', '.join(repeated)} more than once; name each event once per topic")
        return configs
