"""Which events a job must publish so that its waiters hear of its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_provider_tcbatch.models.notification import NotificationTarget

__all__ = ["FAIL_FAST_EVENTS", "FINAL_JOB_EVENTS", "with_notification"]

#: One event for each final state of a job.
FINAL_JOB_EVENTS = ("JOB_SUCCEED", "JOB_FAILED", "JOB_FAILED_INTERRUPTED")

#: What a waiter that ends its job at the first failed instance wants to hear, too.
FAIL_FAST_EVENTS = ("TASK_INSTANCE_FAILED", "TASK_INSTANCE_FAILED_INTERRUPTED")


def with_notification(job: dict[str, Any], topic: str, events: Sequence[str] = FINAL_JOB_EVENTS) -> dict[str, Any]:
    """Return a job that also publishes ``events`` to ``topic``; what the user configured stays as it is.

    A job carries one ``NotificationTarget`` for all its notifications. Where the user set the old ``CMQ``,
    nothing is added: it would send the user's own notifications elsewhere.

    :param job: job in wire JSON; it is not changed.
    :param topic: name of the topic.
    :param events: names of the events.
    """
    if job.get("NotificationTarget") == NotificationTarget.CMQ:
        return job
    notifications = [dict(entry) for entry in job.get("Notifications") or []]
    ours = next((entry for entry in notifications if entry.get("TopicName") == topic), None)
    if ours is None:
        ours = {"TopicName": topic, "EventConfigs": []}
        notifications.append(ours)
    present = {config["EventName"] for config in ours["EventConfigs"]}
    # EventVars is required by the service even when there are none.
    missing = [{"EventName": name, "EventVars": []} for name in events if name not in present]
    ours["EventConfigs"] = [*ours["EventConfigs"], *missing]
    return {**job, "Notifications": notifications, "NotificationTarget": NotificationTarget.TDMQ_CMQ.value}
