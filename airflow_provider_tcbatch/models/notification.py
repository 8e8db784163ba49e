"""Which events a job or an environment publishes, and to which CMQ topic."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, field_validator

from airflow_provider_tcbatch.models.base import ApiModel
from airflow_provider_tcbatch.models.states import WireEnum
from airflow_provider_tcbatch.models.values import TopicName

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
    """One event to publish.

    :param event_vars: what the event carries back. The API asks for the list even when it is empty, so it is always
        sent.
    """

    event_name: EventName
    event_vars: list[EventVar] = Field(default_factory=list)

    def model_post_init(self, context: Any, /) -> None:
        """Count ``event_vars`` as set, so that it is sent."""
        self.__pydantic_fields_set__.add("event_vars")


class Notification(ApiModel):
    """Events that go to one topic.

    :param topic_name: *name* (not id) of a topic that exists and has a subscription.
    """

    topic_name: TopicName
    event_configs: list[EventConfig] = Field(min_length=1)

    @classmethod
    def without_unknowns(cls, wire: dict[str, Any], is_template: Callable[[Any], bool]) -> dict[str, Any]:
        """Let different expressions stand for different events, and equal ones for the same."""
        configs = wire.get("EventConfigs")
        if not isinstance(configs, list):
            return wire
        names = [config.get("EventName") if isinstance(config, Mapping) else config for config in configs]
        free = [event.value for event in EventName if event.value not in names]
        chosen: dict[str, str] = {}
        filled = []
        for config, name in zip(configs, names, strict=True):
            if name is not None and is_template(name):
                if str(name) not in chosen:
                    chosen[str(name)] = free.pop(0) if free else EventName.JOB_RUNNING.value
                rest = config if isinstance(config, Mapping) else {}
                config = {**rest, "EventName": chosen[str(name)]}
            filled.append(config)
        return {**wire, "EventConfigs": filled}

    @field_validator("event_configs")
    @classmethod
    def _distinct_events(cls, configs: list[EventConfig]) -> list[EventConfig]:
        counts = Counter(config.event_name for config in configs)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"names {', '.join(repeated)} more than once; name each event once per topic")
        return configs
