"""Changing queues, topics and subscriptions; rewinding, dead letters, filters, limits."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call


def name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def make_queue(tdmq: Call, **attributes: Any) -> str:
    queue = name("q")
    tdmq("CreateCmqQueue", QueueName=queue, **attributes)
    return queue


def make_topic(tdmq: Call, **attributes: Any) -> str:
    topic = name("t")
    tdmq("CreateCmqTopic", TopicName=topic, **attributes)
    return topic


def subscribe(tdmq: Call, topic: str, **members: Any) -> str:
    queue = make_queue(tdmq)
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName=queue, Protocol="queue", Endpoint=queue, **members)
    return queue


def code_of(call: Call, action: str, **params: Any) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call(action, **params)
    return str(caught.value.get_code())


def bodies(cmq: Call, queue: str) -> list[str]:
    answer = cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16)
    return sorted(message["msgBody"] for message in answer.get("msgInfoList", []))


def test_modify_queue(tdmq: Call) -> None:
    dead, queue = make_queue(tdmq), make_queue(tdmq, PollingWaitSeconds=7, Tags=[{"TagKey": "a", "TagValue": "b"}])
    tdmq("ModifyCmqQueueAttribute", QueueName=queue, VisibilityTimeout=77, RewindSeconds=60, Trace=True)
    policy = {"DeadLetterQueueName": dead, "Policy": 0, "MaxReceiveCount": 5}
    tdmq("ModifyCmqQueueAttribute", QueueName=queue, **policy)
    detail = tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe
    assert (detail.PollingWaitSeconds, detail.VisibilityTimeout, detail.RewindSeconds) == (7, 77, 60)
    assert (detail.Trace, detail.DeadLetterPolicy.DeadLetterQueue, detail.DeadLetterPolicy.MaxReceiveCount) == (
        True,
        dead,
        5,
    )
    (source,) = tdmq("DescribeCmqQueueDetail", QueueName=dead).QueueDescribe.DeadLetterSource
    assert source.QueueName == queue
    tdmq("UnbindCmqDeadLetter", SourceQueueName=queue)
    assert tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe.DeadLetterPolicy is None
    assert tdmq("DescribeCmqQueueDetail", QueueName=dead).QueueDescribe.DeadLetterSource == []
    tagged = tdmq("DescribeCmqQueues", IsTagFilter=True, Filters=[{"Name": "tag:a", "Values": ["b"]}], Limit=50)
    assert queue in [item.QueueName for item in tagged.QueueList]
    assert dead not in [item.QueueName for item in tagged.QueueList]


@pytest.mark.parametrize(
    "members",
    [
        {"VisibilityTimeout": 0},
        {"MsgRetentionSeconds": 29},
        {"RewindSeconds": 1_296_001},
        {"DeadLetterQueueName": "nowhere", "Policy": 0, "MaxReceiveCount": 1},
        {"Policy": 2},
    ],
)
def test_impossible_attributes(tdmq: Call, members: dict[str, Any]) -> None:
    queue = make_queue(tdmq)
    assert code_of(tdmq, "ModifyCmqQueueAttribute", QueueName=queue, **members) == "InvalidParameterValue"
    if "Policy" not in members:
        assert code_of(tdmq, "CreateCmqQueue", QueueName=name("q"), **members) == "InvalidParameterValue"


@pytest.mark.parametrize(
    "policy", [{"Policy": 0}, {"Policy": 0, "MaxReceiveCount": 1001}, {"Policy": 1, "MaxTimeToLive": 3600}, {}]
)
def test_impossible_dead_letter_policies(tdmq: Call, policy: dict[str, Any]) -> None:
    queue, dead = make_queue(tdmq), make_queue(tdmq)
    code = code_of(tdmq, "ModifyCmqQueueAttribute", QueueName=queue, DeadLetterQueueName=dead, **policy)
    assert code == "InvalidParameterValue"
    own = {"DeadLetterQueueName": queue, "Policy": 0, "MaxReceiveCount": 1}
    assert code_of(tdmq, "ModifyCmqQueueAttribute", QueueName=queue, **own) == "InvalidParameterValue"


def test_dead_letters(tdmq: Call, cmq: Call, emulator: Emulator) -> None:
    emulator.configure(cmq_speed=100)
    dead = make_queue(tdmq)
    queue = make_queue(
        tdmq, DeadLetterQueueName=dead, Policy=0, MaxReceiveCount=1, VisibilityTimeout=1, MsgRetentionSeconds=43_200
    )
    cmq("SendMessage", queueName=queue, msgBody="poison")
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 0
    assert cmq("ReceiveMessage", queueName=dead, pollingWaitSeconds=10)["msgBody"] == "poison"
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 7000


def test_a_message_nobody_deletes_is_lost(tdmq: Call, cmq: Call, emulator: Emulator) -> None:
    emulator.configure(cmq_speed=1000)
    queue = make_queue(tdmq, MsgRetentionSeconds=30)
    cmq("SendMessage", queueName=queue, msgBody="lost")
    time.sleep(0.05)
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 7000


def test_rewind(tdmq: Call, cmq: Call, emulator: Emulator) -> None:
    queue = make_queue(tdmq, RewindSeconds=3600)
    start = int(emulator.on_loop(lambda services: services.cmq.broker.now()))
    cmq("SendMessage", queueName=queue, msgBody="again")
    handle = cmq("ReceiveMessage", queueName=queue)["receiptHandle"]
    assert cmq("DeleteMessage", queueName=queue, receiptHandle=handle)["code"] == 0
    assert tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe.RewindMsgNum == 1
    tdmq("RewindCmqQueue", QueueName=queue, StartConsumeTime=start)
    assert bodies(cmq, queue) == ["again"]
    for wrong in (start - 4000, start + 4000):
        assert code_of(tdmq, "RewindCmqQueue", QueueName=queue, StartConsumeTime=wrong) == "InvalidParameterValue"
    plain = make_queue(tdmq)
    assert code_of(tdmq, "RewindCmqQueue", QueueName=plain, StartConsumeTime=start) == "UnsupportedOperation"


def test_filter_tags(tdmq: Call, cmq: Call) -> None:
    topic = make_topic(tdmq)
    red = subscribe(tdmq, topic, FilterTag=["red", "blue"])
    assert cmq("PublishMessage", topicName=topic, msgBody="none")["message"].startswith("(10730)")
    assert cmq("PublishMessage", topicName=topic, msgBody="red", **{"msgTag.1": "red"})["code"] == 0
    tdmq("ModifyCmqSubscriptionAttribute", TopicName=topic, SubscriptionName=red, FilterTags=["green"])
    tdmq("PublishCmqMsg", TopicName=topic, MsgContent="blue", MsgTag=["blue"])
    tdmq("PublishCmqMsg", TopicName=topic, MsgContent="green", MsgTag=["green"])
    tdmq("ClearCmqSubscriptionFilterTags", TopicName=topic, SubscriptionName=red)
    tdmq("PublishCmqMsg", TopicName=topic, MsgContent="untagged")
    assert bodies(cmq, red) == ["green", "red", "untagged"]
    (view,) = tdmq("DescribeCmqSubscriptionDetail", TopicName=topic).SubscriptionSet
    assert view.FilterTags == []
    for tags in (["x" * 17], ["a", "b", "c", "d", "e", "f"], [""]):
        code = code_of(tdmq, "ModifyCmqSubscriptionAttribute", TopicName=topic, SubscriptionName=red, FilterTags=tags)
        assert code == "InvalidParameterValue"
    gone = {"TopicName": topic, "SubscriptionName": "gone"}
    for action in ("ModifyCmqSubscriptionAttribute", "ClearCmqSubscriptionFilterTags", "DeleteCmqSubscribe"):
        assert code_of(tdmq, action, **gone) == "ResourceNotFound.Subscription"


def test_binding_keys(tdmq: Call, cmq: Call) -> None:
    topic = make_topic(tdmq, FilterType=2)
    errors = subscribe(tdmq, topic, BindingKey=["*.error", "fatal.#"])
    assert cmq("PublishMessage", topicName=topic, msgBody="x")["message"].startswith("(10700)")
    assert cmq("PublishMessage", topicName=topic, msgBody="x", routingKey="." * 16)["message"].startswith("(10691)")
    assert cmq("PublishMessage", topicName=topic, msgBody="x", routingKey="x" * 65)["message"].startswith("(10350)")
    assert cmq("PublishMessage", topicName=topic, msgBody="x", routingKey="disk.info")["code"] == 6030
    for key in ("disk.error", "fatal", "fatal.disk.full"):
        assert cmq("PublishMessage", topicName=topic, msgBody=key, routingKey=key)["code"] == 0
    sent = cmq("BatchPublishMessage", topicName=topic, routingKey="fatal", **{"msgBody.1": "a", "msgBody.2": "b"})
    assert len(sent["msgList"]) == 2
    assert bodies(cmq, errors) == ["a", "b", "disk.error", "fatal", "fatal.disk.full"]
    new = {"TopicName": topic, "SubscriptionName": "s", "Protocol": "queue", "Endpoint": errors}
    assert code_of(tdmq, "CreateCmqSubscribe", **new) == "InvalidParameterValue"
    new["TopicName"] = make_topic(tdmq)
    assert code_of(tdmq, "CreateCmqSubscribe", **new, BindingKey=["a"]) == "InvalidParameterValue"


def test_modify_topic(tdmq: Call) -> None:
    topic = make_topic(tdmq)
    tdmq("ModifyCmqTopicAttribute", TopicName=topic, MaxMsgSize=1024, MsgRetentionSeconds=60, Trace=True)
    detail = tdmq("DescribeCmqTopicDetail", TopicName=topic).TopicDescribe
    assert (detail.MaxMsgSize, detail.MsgRetentionSeconds, detail.Trace) == (1024, 60, True)
    assert code_of(tdmq, "ModifyCmqTopicAttribute", TopicName=topic, MaxMsgSize=1) == "InvalidParameterValue"
    code = code_of(tdmq, "PublishCmqMsg", TopicName=topic, MsgContent="x" * 1025)
    assert code == "FailedOperation.MaxMessageSizeError"


@pytest.mark.parametrize(
    ("action", "params", "code", "module"),
    [
        ("SendMessage", {"queueName": "1bad", "msgBody": "x"}, 4000, "10020"),
        ("SendMessage", {"queueName": "bad\n", "msgBody": "x"}, 4000, "10020"),
        ("PublishMessage", {"topicName": "ba d", "msgBody": "x"}, 4000, "10590"),
        ("SendMessage", {"msgBody": "x", "delaySeconds": 3601}, 4000, "10692"),
        ("SendMessage", {"msgBody": "x", "delaySeconds": "later"}, 4000, "10360"),
        ("SendMessage", {"msgBody": ""}, 4000, "10120"),
        ("BatchSendMessage", {"msgBody.x": "x"}, 4000, "10310"),
        ("BatchSendMessage", {f"msgBody.{n}": "x" for n in range(17)}, 4000, "10370"),
        ("BatchSendMessage", {"msgBody.1": "x" * 700_000, "msgBody.2": "x" * 700_000}, 4470, "10300"),
        ("BatchReceiveMessage", {}, 4000, "10390"),
        ("ReceiveMessage", {"pollingWaitSeconds": 31}, 4000, "10350"),
        ("DeleteMessage", {}, 4000, "10390"),
        ("BatchDeleteMessage", {f"receiptHandle.{n}": "x" for n in range(17)}, 4000, "10370"),
    ],
)
def test_return_codes(tdmq: Call, cmq: Call, action: str, params: dict[str, Any], code: int, module: str) -> None:
    if "queueName" not in params and "topicName" not in params:
        params = {"queueName": make_queue(tdmq), **params}
    answer = cmq(action, **params)
    assert (answer["code"], answer["message"][:7]) == (code, f"({module})")


def test_too_many_tags(tdmq: Call, cmq: Call) -> None:
    topic = make_topic(tdmq)
    subscribe(tdmq, topic)
    tags = {f"msgTag.{n}": "x" for n in range(1, 7)}
    assert cmq("PublishMessage", topicName=topic, msgBody="x", **tags)["message"].startswith("(10720)")
    tags = {"msgTag.1": "x" * 17}
    assert cmq("PublishMessage", topicName=topic, msgBody="x", **tags)["message"].startswith("(10350)")


def test_full_queue(tdmq: Call, cmq: Call, emulator: Emulator) -> None:
    queue = make_queue(tdmq)
    emulator.on_loop(lambda services: services.cmq.broker.queues[queue.lower()].attributes.update(MaxMsgHeapNum=2))
    batch = {"msgBody.1": "x", "msgBody.2": "y", "msgBody.3": "z"}
    assert cmq("BatchSendMessage", queueName=queue, **batch)["message"].startswith("(10240)")
    assert cmq("SendMessage", queueName=queue, msgBody="x")["code"] == 0
    assert cmq("SendMessage", queueName=queue, msgBody="x", delaySeconds=60)["code"] == 0
    assert cmq("SendMessage", queueName=queue, msgBody="x")["code"] == 4410
