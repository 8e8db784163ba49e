"""Event bodies in every form that the real service might use, and the provider's reading of them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.events import parse_message
from tests.conformance.conftest import Call, submission, task


@pytest.mark.parametrize("shape", ["objects", "lower", "mapping"])
@pytest.mark.parametrize("form", ["wrapped", "bare", "snake", "minimal", "extended"])
def test_the_provider_reads_every_form(
    emulator: Emulator, batch: Call, tdmq: Call, cmq: Call, form: str, shape: str
) -> None:
    emulator.configure(event_body=form, event_vars_shape=shape)
    queue, topic = f"q{time.time_ns()}", f"t{time.time_ns()}"
    tdmq("CreateCmqQueue", QueueName=queue)
    tdmq("CreateCmqTopic", TopicName=topic)
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName="s", Protocol="queue", Endpoint=queue)
    names = ("JOB_RUNNING", "JOB_SUCCEED", "TASK_SUCCEED", "TASK_INSTANCE_SUCCEED")
    event_vars = [{"Name": "RunOf", "Value": "my_dag"}]
    notification = {
        "TopicName": topic,
        "EventConfigs": [{"EventName": name, "EventVars": event_vars} for name in names],
    }
    job_id = batch("SubmitJob", **submission(task("true"), Notifications=[notification])).JobId
    emulator.wait_job(job_id)
    bodies = [message["msgBody"] for message in cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16)["msgInfoList"]]
    events = [event for body in bodies for event in parse_message(body)]
    assert sorted(event.name for event in events) == sorted(names)
    assert {event.job_id for event in events} == {job_id}
    assert [event.variables for event in events] == [{} if form == "minimal" else {"RunOf": "my_dag"}] * len(names)
    for body in bodies:
        check_form(json.loads(body), form, shape)


def check_form(document: Any, form: str, shape: str) -> None:
    """That the setting did what it says; the parser would not tell."""
    list_name = {"wrapped": "Events", "snake": "events", "extended": "Events"}.get(form)
    event = document[list_name][0] if list_name else document
    if form == "minimal":
        assert event.keys() == {"EventName", "JobId"}
        return
    members, event_vars = ("batch", "event_vars") if form == "snake" else ("Batch", "EventVars")
    assert ("job_id" in event[members]) is (form == "snake")
    assert event[members].keys().isdisjoint({"CreateTime", "EndTime"}) is (form in ("snake", "extended"))
    assert ("Sequence" in event) is (form == "extended")
    lower = {"name": "RunOf", "value": "my_dag"}
    expected: Any = [lower] if shape == "lower" or form == "snake" else [{"Name": "RunOf", "Value": "my_dag"}]
    assert event[event_vars] == ({"RunOf": "my_dag"} if shape == "mapping" else expected)


def test_the_least_that_is_said_of_a_machine(emulator: Emulator, batch: Call, tdmq: Call, cmq: Call) -> None:
    """A machine that was rented for a job belongs to no environment; the node is named all the same."""
    emulator.configure(event_body="minimal")
    name = f"m{time.time_ns()}"
    tdmq("CreateCmqQueue", QueueName=name)
    tdmq("CreateCmqTopic", TopicName=name)
    tdmq("CreateCmqSubscribe", TopicName=name, SubscriptionName="s", Protocol="queue", Endpoint=name)
    configs = [{"EventName": "COMPUTE_NODE_RUNNING", "EventVars": []}]
    told: dict[str, Any] = {"Notifications": [{"TopicName": name, "EventConfigs": configs}]}
    emulator.wait_job(batch("SubmitJob", **submission(task("true"), **told)).JobId)
    rented = json.loads(cmq("ReceiveMessage", queueName=name)["msgBody"])
    assert rented.keys() == {"EventName", "ComputeNodeId"}
    assert rented["ComputeNodeId"].startswith("node-")

    env = {"EnvName": name, "DesiredComputeNodeCount": 1, "EnvData": {"InstanceType": "S5.MEDIUM4"}, **told}
    env_id = batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}).EnvId
    node = json.loads(cmq("ReceiveMessage", queueName=name, pollingWaitSeconds=20)["msgBody"])
    (shown,) = batch("DescribeComputeEnv", EnvId=env_id).ComputeNodeSet
    assert node == {"EventName": "COMPUTE_NODE_RUNNING", "EnvId": env_id, "ComputeNodeId": shown.ComputeNodeId}
    batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=0)
