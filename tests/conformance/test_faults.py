"""Trouble on demand, as official clients meet it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosServiceError
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator
from tests.conformance.conftest import Call, states, submission, task


@pytest.fixture(autouse=True)
def no_faults(emulator: Emulator) -> Iterator[None]:
    yield
    emulator.faults.clear()


def code_of(call: Call, action: str, **params: Any) -> str:
    with pytest.raises(TencentCloudSDKException) as caught:
        call(action, **params)
    return str(caught.value.get_code())


def calls(emulator: Emulator, action: str) -> list[str]:
    """How the calls of an action ended, oldest first."""
    log = requests.get(f"{emulator.info.endpoint}/_emulator/calls", timeout=5).json()["calls"]
    return [call["code"] for call in log if call["action"] == action]


@pytest.mark.parametrize(
    ("kind", "members", "code"),
    [
        ("throttle", {}, "RequestLimitExceeded"),
        ("throttle", {"code": "RequestLimitExceeded.UinLimitExceeded"}, "RequestLimitExceeded.UinLimitExceeded"),
        ("error", {}, "InternalError"),
        ("error", {"code": "InternalError.CallCvm"}, "InternalError.CallCvm"),
        ("http_error", {"status": 502}, "ServerNetworkError"),
        ("drop", {}, "ClientNetworkError"),
        ("clock_skew", {"seconds": -400}, "AuthFailure.SignatureExpire"),
        ("clock_skew", {"seconds": 400}, "AuthFailure.SignatureExpire"),
    ],
)
def test_requests_that_are_not_carried_out(
    emulator: Emulator, batch: Call, kind: str, members: dict[str, Any], code: str
) -> None:
    fault = emulator.faults.add(kind, service="batch", action="SubmitJob", count=1, **members)
    before = len(calls(emulator, "SubmitJob"))
    jobs = emulator.on_loop(lambda services: len(services.batch.jobs))
    assert code_of(batch, "SubmitJob", **submission(task("true"))) == code
    assert emulator.on_loop(lambda services: len(services.batch.jobs)) == jobs
    assert batch("DescribeJobs").RequestId
    assert batch("SubmitJob", **submission(task("true"))).JobId
    assert len(calls(emulator, "SubmitJob")) == before + 2
    assert emulator.faults.all()[0].hits == 1
    assert emulator.faults.remove(fault)


@pytest.mark.parametrize(("kind", "code"), [("lose_answer", "ClientNetworkError"), ("error_after", "InternalError")])
def test_job_exists_though_the_client_does_not_know(emulator: Emulator, batch: Call, kind: str, code: str) -> None:
    emulator.faults.add(kind, service="batch", action="SubmitJob", count=1)
    request = submission(task("true"), token=f"token-{time.time()}")
    before = set(emulator.on_loop(lambda services: list(services.batch.jobs)))
    assert code_of(batch, "SubmitJob", **request) == code
    made = set(emulator.on_loop(lambda services: list(services.batch.jobs))) - before
    assert made == {batch("SubmitJob", **request).JobId}


def test_an_error_of_the_wrong_content_type_is_no_error_to_the_sdk(emulator: Emulator, batch: Call) -> None:
    emulator.faults.add("content_type", action="DescribeJob")
    assert batch("DescribeJob", JobId="job-00000000").JobState is None
    emulator.faults.clear()
    emulator.faults.add("content_type", action="DescribeJob", content_type="text/html")
    assert code_of(batch, "DescribeJob", JobId="job-00000000") == "JSONDecodeError"


@pytest.mark.parametrize("kind", ["slow", "slow_answer"])
def test_slow(emulator: Emulator, batch: Call, kind: str) -> None:
    emulator.faults.add(kind, action="DescribeJobs", seconds=0.3)
    started = time.monotonic()
    assert batch("DescribeJobs").RequestId
    assert time.monotonic() - started >= 0.3


def test_cmq(emulator: Emulator, tdmq: Call, cmq: Call) -> None:
    queue = f"q{time.time_ns()}"
    tdmq("CreateCmqQueue", QueueName=queue)
    emulator.faults.add("throttle", service="cmq", target=queue, count=1)
    emulator.faults.add("error", service="cmq", action="SendMessage", count=1)
    emulator.faults.add("error", service="cmq", action="SendMessage", count=1, code="4300")
    assert cmq("SendMessage", queueName="nowhere", msgBody="x")["code"] == 6000
    assert [cmq("SendMessage", queueName=queue, msgBody="x")["code"] for _ in range(3)] == [4480, 4300, 0]
    emulator.faults.add("lose_answer", service="cmq", action="ReceiveMessage", count=1)
    with pytest.raises(requests.ConnectionError):
        cmq("ReceiveMessage", queueName=queue)
    assert tdmq("DescribeCmqQueueDetail", QueueName=queue).QueueDescribe.InactiveMsgNum == 1


def test_dead_queue(emulator: Emulator, tdmq: Call, cmq: Call) -> None:
    queue, topic = f"q{time.time_ns()}", f"t{time.time_ns()}"
    tdmq("CreateCmqQueue", QueueName=queue)
    tdmq("CreateCmqTopic", TopicName=topic)
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName="s", Protocol="queue", Endpoint=queue)
    fault = emulator.faults.add("dead_queue", target=queue)
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 4440
    assert cmq("PublishMessage", topicName=topic, msgBody="lost")["code"] == 0
    assert code_of(tdmq, "SendCmqMsg", QueueName=queue, MsgContent="x", DelaySeconds=0) == (
        "FailedOperation.CmqBackendError"
    )
    emulator.faults.remove(fault)
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 7000
    emulator.faults.add("dead_queue", target=queue, code="6000")
    assert cmq("ReceiveMessage", queueName=queue)["code"] == 6000


def test_cos(emulator: Emulator, cos: CosS3Client) -> None:
    bucket = emulator.info.bucket
    for kind, status, code in (
        ("throttle", 503, "SlowDown"),
        ("error", 500, "InternalError"),
        ("clock_skew", 403, "AccessDenied"),
    ):
        emulator.faults.add(kind, service="cos", action="PUT", target=bucket, count=1, seconds=100_000)
        with pytest.raises(CosServiceError) as caught:
            cos.put_object(Bucket=bucket, Key="fault", Body=b"x")
        assert (caught.value.get_status_code(), caught.value.get_error_code()) == (status, code)
        assert not cos.object_exists(bucket, "fault")
    emulator.faults.add("error_after", service="cos", action="PUT", count=1)
    with pytest.raises(CosServiceError):
        cos.put_object(Bucket=bucket, Key="fault", Body=b"x")
    assert cos.object_exists(bucket, "fault")
    for kind in ("drop", "lose_answer"):
        emulator.faults.add(kind, service="cos", action="DELETE", count=1)
        with pytest.raises(CosClientError):
            cos.delete_object(bucket, "fault")
        assert cos.object_exists(bucket, "fault") is (kind == "drop")
    emulator.faults.add("content_type", service="cos", action="GET", content_type="text/odd", count=1)
    cos.put_object(Bucket=bucket, Key="fault", Body=b"x")
    assert cos.get_object(bucket, "fault")["Content-Type"] == "text/odd"
    emulator.faults.add("slow_answer", service="cos", action="HEAD", seconds=0.2)
    started = time.monotonic()
    assert cos.object_exists(bucket, "fault")
    assert time.monotonic() - started >= 0.2


def test_events(emulator: Emulator, batch: Call, tdmq: Call, cmq: Call) -> None:
    queue, topic = f"q{time.time_ns()}", f"t{time.time_ns()}"
    tdmq("CreateCmqQueue", QueueName=queue)
    tdmq("CreateCmqTopic", TopicName=topic)
    tdmq("CreateCmqSubscribe", TopicName=topic, SubscriptionName="s", Protocol="queue", Endpoint=queue)
    emulator.faults.add("lose_event", action="JOB_RUNNING", target=topic)
    emulator.faults.add("duplicate_event", action="JOB_SUCCEED", target=topic)
    names = ("JOB_RUNNING", "JOB_SUCCEED", "TASK_SUCCEED")
    notification = {"TopicName": topic, "EventConfigs": [{"EventName": name, "EventVars": []} for name in names]}
    job_id = batch("SubmitJob", **submission(task("true"), Notifications=[notification])).JobId
    emulator.wait_job(job_id)
    messages = cmq("BatchReceiveMessage", queueName=queue, numOfMsg=16)["msgInfoList"]
    events = [json.loads(message["msgBody"])["Events"][0]["EventName"] for message in messages]
    assert sorted(events) == ["JOB_SUCCEED", "JOB_SUCCEED", "TASK_SUCCEED"]
    # The timeline says what was published, not what arrived.
    timeline = requests.get(f"{emulator.info.endpoint}/_emulator/jobs/{job_id}/timeline", timeout=5).json()
    assert {event["event_name"] for event in timeline["events"]} == set(names)


@pytest.fixture
def heard(tdmq: Call) -> str:
    """Name of a topic, and of a queue that hears it."""
    name = f"t{time.time_ns()}"
    tdmq("CreateCmqTopic", TopicName=name)
    # What is received stays hidden, also from a slow machine while the clock of queues is fast.
    tdmq("CreateCmqQueue", QueueName=name, VisibilityTimeout=43_200)
    tdmq("CreateCmqSubscribe", TopicName=name, SubscriptionName=name, Protocol="queue", Endpoint=name)
    return name


def telling(topic: str, *names: str) -> dict[str, Any]:
    configs = [{"EventName": name, "EventVars": []} for name in names]
    return {"NotificationTarget": "TDMQ_CMQ", "Notifications": [{"TopicName": topic, "EventConfigs": configs}]}


def next_event(cmq: Call, queue: str, wait: int = 0) -> str | None:
    answer = cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds=wait)
    if answer["code"] == 7000:
        return None
    event: str = json.loads(answer["msgBody"])["Events"][0]["EventName"]
    return event


@pytest.mark.parametrize("speed", [1, 60])
def test_an_event_that_comes_late(emulator: Emulator, batch: Call, cmq: Call, heard: str, speed: int) -> None:
    emulator.configure(cmq_speed=speed)
    emulator.faults.add("delay_event", action="JOB_SUCCEED", target=heard, seconds=60)
    began = time.monotonic()
    request = submission(task("true"), **telling(heard, "JOB_RUNNING", "JOB_SUCCEED"))
    assert emulator.wait_job(batch("SubmitJob", **request).JobId) == "SUCCEED"
    answer = cmq("ReceiveMessage", queueName=heard)
    assert "JOB_RUNNING" in answer["msgBody"]
    assert cmq("DeleteMessage", queueName=heard, receiptHandle=answer["receiptHandle"])["code"] == 0
    if speed == 1:
        assert next_event(cmq, heard) is None
    else:
        assert next_event(cmq, heard, wait=20) == "JOB_SUCCEED"
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("last", [False, True])
def test_events_that_change_places(emulator: Emulator, batch: Call, cmq: Call, heard: str, last: bool) -> None:
    # What nothing follows waits for its time.
    emulator.faults.add("reorder_event", action="JOB_SUCCEED" if last else "JOB_RUNNING", target=heard, seconds=8)
    job_id = batch("SubmitJob", **submission(task("true"), **telling(heard, "JOB_RUNNING", "JOB_SUCCEED"))).JobId
    assert emulator.wait_job(job_id) == "SUCCEED"
    found = [next_event(cmq, heard), next_event(cmq, heard)]
    if last:
        assert found == ["JOB_RUNNING", None]
        assert next_event(cmq, heard, wait=20) == "JOB_SUCCEED"
    else:
        assert found == ["JOB_SUCCEED", "JOB_RUNNING"]
    assert emulator.faults.all()[0].hits == 1


def test_control_api(emulator: Emulator, batch: Call) -> None:
    url = f"{emulator.info.endpoint}/_emulator/faults"
    session = requests.Session()
    session.headers["X-Emulator-Token"] = emulator.info.control_token
    added = session.post(url, json={"kind": "throttle", "action": "DescribeJobs", "count": 1}, timeout=5)
    assert added.status_code == 201
    assert code_of(batch, "DescribeJobs") == "RequestLimitExceeded"
    (listed,) = requests.get(url, timeout=5).json()["faults"]
    assert (listed["id"], listed["hits"], listed["kind"]) == (added.json()["id"], 1, "throttle")
    bodies: tuple[Any, ...] = ({"kind": "earthquake"}, {"kind": "drop", "count": "many"}, {}, [], {"kind": 7})
    for bad in bodies:
        answer = session.post(url, json=bad, timeout=5)
        assert answer.status_code == 400
        assert "invalid" in answer.json()["error"]
    assert session.delete(f"{url}/{listed['id']}", timeout=5).status_code == 200
    assert session.delete(f"{url}/{listed['id']}", timeout=5).status_code == 404
    requests.post(url, json={"kind": "drop", "service": "cmq"}, timeout=5)
    assert session.delete(url, timeout=5).json() == {"faults": []}


def test_clock_of_the_whole_service(emulator: Emulator, batch: Call, cmq: Call, cos: CosS3Client) -> None:
    emulator.configure(clock_skew_seconds=-1000)
    assert code_of(batch, "DescribeJobs") == "AuthFailure.SignatureExpire"
    assert cmq("ReceiveMessage", queueName=emulator.info.topic)["code"] == 4100
    with pytest.raises(CosServiceError, match="RequestTimeTooSkewed"):
        cos.get_object(emulator.info.bucket, "x")


def test_rate_limits(emulator: Emulator, batch: Call) -> None:
    emulator.configure(rate_limits="intl")
    # Many at once: one after the other they might be as slow as they have to be, on a busy machine.
    with ThreadPoolExecutor(10) as pool:
        ended = list(pool.map(lambda _: _try(batch), range(40)))
    assert set(ended) == {"OK", "RequestLimitExceeded"}
    assert ended.count("OK") >= 2
    emulator.configure(rate_limits="off")
    assert [_try(batch) for _ in range(6)] == ["OK"] * 6


def _try(batch: Call) -> str:
    try:
        batch("DescribeJobs")
    except TencentCloudSDKException as error:
        return str(error.get_code())
    return "OK"


def instances(batch: Call, job_id: str) -> list[tuple[str, str]]:
    found = batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
    return [(instance.TaskInstanceState, instance.StateReason) for instance in found]


def test_machine_is_lost_under_an_instance(emulator: Emulator, batch: Call) -> None:
    emulator.faults.add("lose_machine", target="lost", seconds=0, count=1)
    job_id = batch("SubmitJob", **submission(task("sleep 60"), JobName="lost")).JobId
    assert emulator.wait_job(job_id) == "FAILED"
    assert instances(batch, job_id) == [("FAILED", "first heartbeat timeout")]
    # Used up, and a retry is an attempt of its own.
    emulator.faults.add("lose_machine", target="retried", seconds=0, count=1)
    request = submission(task("test ! -e seen", MaxRetryCount=1), JobName="retried")
    job_id = batch("SubmitJob", **request).JobId
    assert emulator.wait_job(job_id) == "SUCCEED"
    assert states(emulator, job_id, "instance").count("RUNNING") == 2


def test_only_spot_machines_are_reclaimed(emulator: Emulator, batch: Call) -> None:
    emulator.faults.add("reclaim_machine", seconds=0, code="reclaimed")
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    assert emulator.wait_job(job_id) == "SUCCEED"
    spot = {"EnvData": {"InstanceType": "SA5.MEDIUM4", "InstanceChargeType": "SPOTPAID"}}
    job_id = batch("SubmitJob", **submission(task("sleep 60", ComputeEnv=spot))).JobId
    assert emulator.wait_job(job_id) == "FAILED"
    assert instances(batch, job_id) == [("FAILED", "reclaimed")]


def test_machine_cannot_be_made(emulator: Emulator, batch: Call) -> None:
    emulator.faults.add("fail_creation", target="SA5.MEDIUM4", count=1)
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    assert emulator.wait_job(job_id) == "FAILED"
    assert "ResourcesSoldOut" in instances(batch, job_id)[0][1]
    job_id = batch("SubmitJob", **submission(task("true"))).JobId
    assert emulator.wait_job(job_id) == "SUCCEED"


def test_node_is_lost_at_once(emulator: Emulator, batch: Call) -> None:
    env = {"EnvName": "e", "DesiredComputeNodeCount": 1, "EnvData": {"InstanceTypes": ["S5.MEDIUM4"]}}
    env_id = batch("CreateComputeEnv", ComputeEnv=env, Placement={"Zone": "ap-guangzhou-3"}).EnvId
    while not (nodes := running_nodes(batch, env_id)):
        time.sleep(0.02)
    fault = emulator.faults.add("lose_machine", target=nodes[0])
    assert emulator.faults.all()[-1].hits == 1
    emulator.faults.remove(fault)
    assert running_nodes(batch, env_id) == []
    batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=0)


def running_nodes(batch: Call, env_id: str) -> list[str]:
    nodes = batch("DescribeComputeEnv", EnvId=env_id).ComputeNodeSet
    return [node.ComputeNodeId for node in nodes if node.ComputeNodeState == "RUNNING"]
