from __future__ import annotations

from typing import Any

from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.policies.job.notifications import FINAL_JOB_EVENTS, with_notification
from tests.unit.conftest import job


def names(notification: dict[str, Any]) -> list[str]:
    return [config["EventName"] for config in notification["EventConfigs"]]


def test_a_job_without_notifications_gets_one_with_event_vars() -> None:
    sent = with_notification(job("true"), "topic")
    [notification] = sent["Notifications"]
    assert names(notification) == list(FINAL_JOB_EVENTS)
    assert all(config["EventVars"] == [] for config in notification["EventConfigs"])
    assert sent["NotificationTarget"] == "TDMQ_CMQ"
    Job.parse(sent)


def test_the_users_own_events_stay_and_none_is_named_twice() -> None:
    own = {"EventName": "JOB_FAILED", "EventVars": [{"Name": "a", "Value": "b"}]}
    original = {
        **job("true"),
        "Notifications": [
            {"TopicName": "other", "EventConfigs": [{"EventName": "JOB_RUNNING", "EventVars": []}]},
            {"TopicName": "topic", "EventConfigs": [own]},
        ],
    }
    sent = with_notification(original, "topic")
    other, ours = sent["Notifications"]
    assert names(other) == ["JOB_RUNNING"]
    assert sorted(names(ours)) == sorted(FINAL_JOB_EVENTS)
    assert ours["EventConfigs"][0] == own
    assert names(original["Notifications"][1]) == ["JOB_FAILED"], "the caller's job must not change"


def test_nothing_is_added_where_the_user_chose_the_old_service() -> None:
    original = {**job("true"), "NotificationTarget": "CMQ"}
    assert with_notification(original, "topic") == original
