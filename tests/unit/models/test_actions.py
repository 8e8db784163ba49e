"""Requests: the rules that are certain, and what may be sent twice."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models import actions, cmq, env_actions, template_actions
from airflow_provider_tcbatch.models.request import Action, Result
from tests.unit.models.catalogue import ACTIONS

IDS = [f"x-{number}" for number in range(101)]
TASK = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-12345678"}
FILTERS = [{"Name": "zone", "Values": ["ap-guangzhou-3"]}]
JOB = {"JobId": "job-1"}
TASK_OF_JOB = {**JOB, "TaskName": "a"}
QUEUE = {"QueueName": "q"}
SUBSCRIPTION = {"TopicName": "t", "SubscriptionName": "s", "Protocol": "queue", "Endpoint": "q"}

REFUSED: list[tuple[type[Action[Any]], dict[str, Any], str]] = [
    (actions.DescribeJobs, {"JobIds": IDS}, "JobIds: list should have at most 100 items"),
    (actions.DescribeJobs, {"JobIds": ["a"], "Filters": FILTERS}, "JobIds and Filters exclude one another"),
    (actions.DescribeJobs, {"Limit": 101}, "Limit: input should be less than or equal to 100"),
    (actions.DescribeJobs, {"Offset": -1}, "Offset: input should be greater than or equal to 0"),
    (actions.DescribeTask, {**TASK_OF_JOB, "Limit": 1001}, "Limit: input should be less than or equal to 1000"),
    (actions.DescribeTaskLogs, {**TASK_OF_JOB, "TaskInstanceIndexes": list(range(11))}, "at most 10 items"),
    (actions.DescribeTaskLogs, {**TASK_OF_JOB, "TaskInstanceIndexes": [-1]}, r"Indexes\[0\]: input should be greater"),
    (actions.DescribeTaskLogs, {**TASK_OF_JOB, "TaskInstanceIndexes": [1], "Offset": 0}, "exclude one another"),
    (actions.DescribeTaskLogs, {**TASK_OF_JOB, "Limit": 11}, "Limit: input should be less than or equal to 10"),
    (actions.RetryJobs, {"JobIds": IDS}, "at most 100 items"),
    (actions.TerminateTaskInstance, {**TASK_OF_JOB, "TaskInstanceIndex": -1}, "greater than or equal to 0"),
    (
        actions.DescribeJobMonitorData,
        {**TASK_OF_JOB, "TaskInstanceIndex": 0, "MetricName": "Cpu"},
        "MetricName: must be one of 'CpuUsage'",
    ),
    (
        actions.SubmitJob,
        {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": {"Tasks": [TASK]}, "ClientToken": "x" * 65},
        "ClientToken: string should have at most 64 characters",
    ),
    (
        actions.SubmitJob,
        {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": {"Tasks": [TASK]}, "ClientToken": "ü"},
        "ClientToken: must consist of ASCII",
    ),
    (env_actions.DescribeComputeEnvs, {"EnvIds": IDS}, "at most 100 items"),
    (env_actions.DescribeComputeEnvs, {"EnvIds": [], "Filters": []}, "EnvIds and Filters exclude one another"),
    (env_actions.DescribeComputeEnvCreateInfos, {"EnvIds": ["a"], "Filters": FILTERS}, "exclude one another"),
    (env_actions.DescribeComputeEnvActivities, {"EnvId": "e", "Filters": FILTERS}, "Filters: input should be a valid"),
    (env_actions.ModifyComputeEnv, {"EnvId": "e", "DesiredComputeNodeCount": 2001}, "less than or equal to 2000"),
    (env_actions.ModifyComputeEnv, {"EnvId": "e", "EnvData": {"InstanceTypes": []}}, "at least 1 item"),
    (env_actions.ModifyComputeEnv, {"EnvId": "e", "EnvData": {"InstanceTypes": ["a", "a"]}}, "names a more than once"),
    (env_actions.TerminateComputeNodes, {"EnvId": "e", "ComputeNodeIds": IDS}, "at most 100 items"),
    (env_actions.AttachInstances, {"EnvId": "e", "Instances": [{"InstanceId": i} for i in IDS]}, "at most 100 items"),
    (env_actions.AttachInstances, {"EnvId": "e", "Instances": [{"InstanceId": "i"}] * 2}, "names i more than once"),
    (env_actions.DetachInstances, {"EnvId": "e", "InstanceIds": ["i", "i"]}, "names i more than once"),
    (template_actions.DeleteTaskTemplates, {"TaskTemplateIds": IDS}, "at most 100 items"),
    (template_actions.DescribeTaskTemplates, {"Limit": 0}, "greater than or equal to 1"),
    (template_actions.DescribeTaskTemplates, {"TaskTemplateIds": ["a"], "Filters": FILTERS}, "exclude one another"),
    (template_actions.ModifyTaskTemplate, {"TaskTemplateId": "t"}, "at least one of TaskTemplateName, TaskTemplate"),
    (
        template_actions.ModifyTaskTemplate,
        {"TaskTemplateId": "t", "TaskTemplateName": "字" * 21},
        "TaskTemplateName: must have at most 60 bytes in UTF-8; it has 63",
    ),
    (
        template_actions.ModifyTaskTemplate,
        {"TaskTemplateId": "t", "TaskTemplateInfo": {"Application": TASK["Application"]}},
        "TaskTemplateInfo: exactly one of EnvId and ComputeEnv is required",
    ),
    (
        template_actions.CreateTaskTemplate,
        {"TaskTemplateName": "x" * 61, "TaskTemplateInfo": TASK},
        "TaskTemplateName: string should have at most 60 characters",
    ),
    (cmq.CreateCmqQueue, {"QueueName": "1q"}, "QueueName: string should match pattern"),
    (cmq.CreateCmqQueue, {"QueueName": "q" * 65}, "at most 64 characters"),
    (cmq.CreateCmqQueue, {**QUEUE, "Policy": 1}, "Policy 1 needs a MaxTimeToLive"),
    (
        cmq.CreateCmqQueue,
        {**QUEUE, "MaxTimeToLive": 600, "MsgRetentionSeconds": 600},
        "MaxTimeToLive must be less than MsgRetentionSeconds",
    ),
    (cmq.ModifyCmqQueueAttribute, {**QUEUE, "VisibilityTimeout": 0}, "VisibilityTimeout: input should be greater"),
    (cmq.DescribeCmqQueues, {"Offset": 0}, "Offset needs a Limit"),
    (cmq.DescribeCmqTopics, {"Limit": 51}, "Limit: input should be less than or equal to 50"),
    (cmq.CreateCmqTopic, {"TopicName": "a.b"}, "TopicName: string should match pattern"),
    (cmq.CreateCmqSubscribe, {**SUBSCRIPTION, "NotifyContentFormat": "JSON"}, "must be SIMPLIFIED"),
    (cmq.CreateCmqSubscribe, {**SUBSCRIPTION, "Protocol": "http"}, "must begin with http://"),
    (cmq.CreateCmqSubscribe, {**SUBSCRIPTION, "FilterTag": ["t"] * 6}, "at most 5 items"),
    (cmq.CreateCmqSubscribe, {**SUBSCRIPTION, "BindingKey": ["." * 16]}, "at most 64 bytes and 15 dots"),
    (cmq.SendCmqMsg, {**QUEUE, "MsgContent": "m"}, "DelaySeconds: this field is required"),
]


@pytest.mark.parametrize(("action", "data", "problem"), REFUSED)
def test_what_the_service_would_certainly_refuse(action: type[Action[Any]], data: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        action.parse(data)


def test_what_is_not_known_to_be_refused() -> None:
    actions.DescribeJobs.parse({})
    actions.DescribeJobs.parse({"JobIds": IDS[:100], "Limit": 100})
    actions.RetryJobs.parse({"JobIds": ["not an id"]})
    actions.DescribeTaskLogs.parse({**TASK_OF_JOB, "TaskInstanceIndexes": list(range(10)), "Limit": 10})
    template_actions.CreateTaskTemplate.parse({"TaskTemplateName": "字" * 60, "TaskTemplateInfo": TASK})
    template_actions.ModifyTaskTemplate.parse({"TaskTemplateId": "t", "TaskTemplateDescription": ""})
    env_actions.CreateComputeEnv.parse(
        {"Placement": {"Zone": "ap-guangzhou-3"}, "ComputeEnv": {"EnvName": "e" * 300, "DesiredComputeNodeCount": 0}}
    )
    cmq.CreateCmqTopic.parse({"TopicName": "1_a-b"})


def test_what_may_be_sent_twice() -> None:
    once = {action.name() for action in ACTIONS if not action.repeatable}
    assert once == {
        "SubmitJob",
        "CreateComputeEnv",
        "CreateTaskTemplate",
        "RetryJobs",
        "AttachInstances",
        "SendCmqMsg",
        "PublishCmqMsg",
        "ClearCmqQueue",
        "RewindCmqQueue",
    }
    assert all(action.repeatable for action in ACTIONS if action.name().startswith("Describe"))


@pytest.mark.parametrize(
    ("action", "data"),
    [
        (actions.SubmitJob, {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": {"Tasks": [TASK]}}),
        (
            env_actions.CreateComputeEnv,
            {"Placement": {"Zone": "ap-guangzhou-3"}, "ComputeEnv": {"EnvName": "e", "DesiredComputeNodeCount": 1}},
        ),
    ],
)
def test_a_token_makes_a_write_repeatable(action: type[Action[Any]], data: dict[str, Any]) -> None:
    assert not action.parse(data).may_repeat
    assert action.parse({**data, "ClientToken": "t"}).may_repeat


def test_other_requests_say_so_for_their_class() -> None:
    assert actions.TerminateJob.parse(JOB).may_repeat
    assert not actions.RetryJobs.parse({"JobIds": ["job-1"]}).may_repeat


def test_an_action_has_to_name_its_answer() -> None:
    class Nameless(Action):  # type: ignore[type-arg]
        pass

    with pytest.raises(TypeError, match=r"Nameless does not name its result type: derive it from Action\[...\]"):
        Nameless.result_type()
    assert cmq.DeleteCmqQueue.result_type() is Result


def test_pages_can_be_turned() -> None:
    page = actions.DescribeJobs.parse({"Filters": FILTERS}).model_copy(update={"offset": 200, "limit": 100})
    assert page.to_wire() == {"Filters": FILTERS, "Offset": 200, "Limit": 100}


def test_event_variables_are_always_sent() -> None:
    notification = {"TopicName": "t", "EventConfigs": [{"EventName": "JOB_FAILED"}]}
    job = actions.Job.parse({"Tasks": [TASK], "Notifications": [notification]})
    assert job.to_wire()["Notifications"][0]["EventConfigs"] == [{"EventName": "JOB_FAILED", "EventVars": []}]
