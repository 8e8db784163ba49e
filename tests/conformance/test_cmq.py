"""Topics and queues through the official TDMQ SDK, messages through the CMQ data plane."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import time
import uuid
from typing import Any

import pytest
import requests
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, submission, task

EVENTS = ["JOB_RUNNING", "JOB_SUCCEED", "TASK_SUCCEED", "TASK_INSTANCE_SUCCEED"]


def name(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def queue(tdmq: Call) -> str:
    queue = name("q")
    assert tdmq("CreateCmqQueue", QueueName=queue, VisibilityTimeout=1).QueueId.startswith("cmqq-")
    return queue


def receive_all(cmq: Call, queue: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        answer = cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16, pollingWaitSeconds=10)
        assert answer["code"] == 0, answer
        found.extend(answer["msgInfoList"])
        handles = {f"receiptHandle.{n}": m["receiptHandle"] for n, m in enumerate(answer["msgInfoList"], 1)}
        assert cmq("BatchDeleteMessage", queueName=queue, **handles)["code"] == 0
    return found


def test_events_of_a_job_arrive(batch: Call, tdmq: Call, cmq: Call, emulator: Emulator, queue: str) -> None:
    topic = name("t")
    notification = {
        "TopicName": topic,
        "EventConfigs": [{"EventName": event, "EventVars": [{"Name": "k", "Value": "v"}]} for event in EVENTS],
    }
    job = submission(task("true"), Notifications=[notification], NotificationTarget="TDMQ_CMQ")
    tdmq("CreateCmqTopic", TopicName=topic)
    with pytest.raises(TencentCloudSDKException, match="no subscription") as caught:
        batch("SubmitJob", **job)
    assert caught.value.get_code() == "InvalidParameter.NotificationTopicName"
    tdmq(
        "CreateCmqSubscribe",
        TopicName=topic,
        SubscriptionName="s",
        Protocol="queue",
        Endpoint=queue,
        NotifyContentFormat="SIMPLIFIED",
    )
    job_id = batch("SubmitJob", **job).JobId
    messages = receive_all(cmq, queue, len(EVENTS))
    events = [json.loads(message["msgBody"])["Events"][0] for message in messages]
    assert sorted(event["EventName"] for event in events) == sorted(EVENTS)
    assert {event["Batch"]["JobId"] for event in events} == {job_id}
    assert events[0]["EventVars"] == [{"Name": "k", "Value": "v"}]
    assert events[0]["Region"] == emulator.info.region
    url = f"{emulator.info.endpoint}/_emulator/jobs/{job_id}/timeline"
    published = requests.get(url, timeout=5).json()["events"]
    assert {event["msg_id"] for event in published} == {message["msgId"] for message in messages}

    emulator.configure(event_base64=True)
    batch("SubmitJob", **job)
    for message in receive_all(cmq, queue, len(EVENTS)):
        assert json.loads(base64.b64decode(message["msgBody"]))["Events"]

    emulator.configure(events="off")
    job_id = batch("SubmitJob", **job).JobId
    emulator.wait_job(job_id)
    assert tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe.ActiveMsgNum == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("algorithm", ["HmacSHA1", "HmacSHA256"])
def test_send_receive_delete(cmq: Call, tdmq: Call, queue: str, method: str, algorithm: str) -> None:
    body = "ünïcode & = ? \n <xml/>"
    sent = cmq("SendMessage", method=method, SignatureMethod=algorithm, queueName=queue, msgBody=body)
    assert sent["code"] == 0
    got = cmq("ReceiveMessage", method=method, SignatureMethod=algorithm, queueName=queue, UserpollingWaitSeconds=3)
    assert (got["msgBody"], got["msgId"], got["dequeueCount"]) == (body, sent["msgId"], 1)
    detail = tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe
    assert (detail.ActiveMsgNum, detail.InactiveMsgNum) == (0, 1)
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 7000
    assert cmq("DeleteMessage", method=method, queueName=queue, receiptHandle=got["receiptHandle"])["code"] == 0
    assert cmq("DeleteMessage", queueName=queue, receiptHandle=got["receiptHandle"])["code"] == 4430


def test_message_reappears_and_its_old_handle_is_void(cmq: Call, queue: str) -> None:
    cmq("SendMessage", queueName=queue, msgBody="again")
    first = cmq("ReceiveMessage", queueName=queue)
    second = cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds=10)
    assert (second["msgId"], second["dequeueCount"]) == (first["msgId"], 2)
    partly = cmq(
        "BatchDeleteMessage",
        queueName=queue,
        **{"receiptHandle.1": first["receiptHandle"], "receiptHandle.2": second["receiptHandle"]},
    )
    assert partly["code"] == 6010
    assert [error["receiptHandle"] for error in partly["errorList"]] == [first["receiptHandle"]]
    none = cmq("BatchDeleteMessage", queueName=queue, **{"receiptHandle.1": "x"})
    assert none["code"] == 6020


def test_long_poll_wakes_at_once(cmq: Call, emulator: Emulator, queue: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cmq, "ReceiveMessage", queueName=queue, pollingWaitSeconds=30)
        time.sleep(0.2)  # Either order of the two calls is right; this makes the waiting one likely.
        sent_at = time.monotonic()
        cmq("SendMessage", queueName=queue, msgBody="now")
        assert waiting.result(timeout=60)["msgBody"] == "now"
        assert time.monotonic() - sent_at < 25


def test_gone_receiver_takes_no_message(cmq: Call, emulator: Emulator, queue: str) -> None:
    with pytest.raises(requests.exceptions.ReadTimeout):
        _receive_and_hang_up(cmq, queue)
    cmq("SendMessage", queueName=queue, msgBody="kept")
    assert cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds=5)["dequeueCount"] == 1


def _receive_and_hang_up(cmq: Call, queue: str) -> None:
    original = requests.post

    def impatient(*args: Any, **kwargs: Any) -> requests.Response:
        return original(*args, **{**kwargs, "timeout": 0.3})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "post", impatient)
        cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds=30)


def test_batch_send_and_publish(cmq: Call, tdmq: Call, queue: str) -> None:
    topic = name("t")
    tdmq("CreateCmqTopic", TopicName=topic)
    assert cmq("PublishMessage", topicName=topic, msgBody="x")["code"] == 6030
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName="s", Protocol="queue", Endpoint=queue)
    assert cmq("PublishMessage", topicName=topic, msgBody="p")["code"] == 0
    many = cmq("BatchSendMessage", queueName=queue, **{"msgBody.0": "a", "msgBody.1": "b"})
    assert len(many["msgList"]) == 2
    assert tdmq("PublishCmqMsg", TopicName=topic, MsgContent="q").Result is True
    assert {message["msgBody"] for message in receive_all(cmq, queue, 4)} == {"p", "a", "b", "q"}
    gap = cmq("BatchSendMessage", queueName=queue, **{"msgBody.1": "a", "msgBody.3": "b"})
    assert (gap["code"], "(10380)" in gap["message"]) == (4000, True)


def test_signature_and_identity_are_checked(cmq: Call, emulator: Emulator, queue: str) -> None:
    assert cmq("ReceiveMessage", secret_key="wrong", queueName=queue)["code"] == 4100
    assert cmq("ReceiveMessage", SecretId="AKIDnobody", queueName=queue)["code"] == 4100
    assert cmq("ReceiveMessage", SecretId="nobody", queueName=queue)["message"].startswith("(10450)")
    assert cmq("ReceiveMessage", Timestamp=int(time.time()) - 400, queueName=queue)["code"] == 4100
    bare = requests.get(emulator.info.cmq_endpoint + "/v2/index.php?Action=ReceiveMessage", timeout=5).json()
    assert bare["code"] == 4000


def test_errors_of_the_data_plane(cmq: Call, queue: str) -> None:
    assert cmq("ReceiveMessage", queueName="nowhere")["code"] == 4440
    assert cmq("PublishMessage", topicName="nowhere", msgBody="x")["code"] == 4440
    assert cmq("CreateQueue", queueName="legacy")["message"].startswith("(10430)")
    assert cmq("BatchReceiveMessage", queueName=queue, numOfMsg=17)["code"] == 4000
    assert cmq("SendMessage", queueName=queue)["code"] == 4000
    assert cmq("SendMessage", queueName=queue, msgBody="x" * (1024 * 1024 + 1))["code"] == 4400
    assert cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds="soon")["code"] == 4000


def test_control_plane(tdmq: Call, emulator: Emulator, queue: str) -> None:
    with pytest.raises(TencentCloudSDKException) as caught:
        tdmq("CreateCmqQueue", QueueName=queue.upper())
    assert caught.value.get_code() == "ResourceInUse.Queue"
    detail = tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe
    assert (detail.VisibilityTimeout, detail.MsgRetentionSeconds, detail.Status) == (1, 3600, 1)
    listed = tdmq("DescribeCmqQueues", QueueNameList=[queue])
    assert [item.QueueName for item in listed.QueueList] == [queue]
    subscriptions = tdmq("DescribeCmqSubscriptionDetail", TopicName=emulator.info.topic)
    assert [item.Endpoint for item in subscriptions.SubscriptionSet] == [f"{emulator.info.topic}-base"]

    wanted = {"TopicName": emulator.info.topic, "SubscriptionName": queue, "Protocol": "queue", "Endpoint": queue}
    tdmq("CreateCmqSubscribe", **wanted)
    with pytest.raises(TencentCloudSDKException) as caught:
        tdmq("CreateCmqSubscribe", **wanted)
    assert caught.value.get_code() == "ResourceInUse.Subscription"
    assert tdmq("DescribeCmqSubscriptionDetail", TopicName=emulator.info.topic).TotalCount == 2
    tdmq("DeleteCmqSubscribe", TopicName=emulator.info.topic, SubscriptionName=queue)
    tdmq("DeleteCmqQueue", QueueName=queue)
    emulator.configure(cmq_name_block_seconds=30)
    with pytest.raises(TencentCloudSDKException) as caught:
        tdmq("CreateCmqQueue", QueueName=queue)
    assert caught.value.get_code() == "ResourceInUse.Queue"
    with pytest.raises(TencentCloudSDKException) as caught:
        tdmq("DescribeCmqQueueDetail", QueueName=queue)
    assert caught.value.get_code() == "ResourceNotFound"


def test_deleting_a_queue_ends_the_wait_on_it(cmq: Call, tdmq: Call, queue: str) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cmq, "ReceiveMessage", queueName=queue, pollingWaitSeconds=30)
        tdmq("DeleteCmqQueue", QueueName=queue)
        assert waiting.result(timeout=60)["code"] == 4440
