"""An emulator with a data folder goes on where the one before it ended, however that one ended."""

from __future__ import annotations

import base64
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from qcloud_cos import CosConfig, CosS3Client
from tencentcloud.batch.v20170312 import batch_client
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.tdmq.v20200217 import models as tdmq_models
from tencentcloud.tdmq.v20200217 import tdmq_client

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.signing import cmq as cmq_signing
from tests.conformance.conftest import alive, request_of, submission, task
from tests.support.processes import wait_for

QUICK = ("submitted_seconds=0", "starting_seconds=0", "cmq_name_block_seconds=0")
LOST = "first heartbeat timeout"


class Served:
    """``tcbatch-emulator serve`` as a process, with the clients of its services."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self._folder = folder
        self._settings = settings
        self.info: dict[str, Any] = {}

    def start(self, *settings: str) -> None:
        command = [
            sys.executable,
            "-m",
            "airflow_provider_tcbatch.emulator.cli",
            "serve",
            "--port",
            "0",
            "--cos-port",
            "0",
        ]
        command += ["--data-dir", str(self._folder)]
        for setting in (*QUICK, *self._settings, *settings):
            command += ["--set", setting]
        with (self._folder.parent / "emulator.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (self._folder.parent / "emulator.log").read_text()
        self.info = json.loads(line)

    def end(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.communicate(timeout=60)

    def again(self, number: signal.Signals = signal.SIGKILL, *settings: str) -> None:
        self.end(number)
        self.start(*settings)

    def _profile(self) -> ClientProfile:
        endpoint = urlsplit(self.info["endpoint"]).netloc
        return ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=endpoint))

    def batch(self, action: str, **params: Any) -> Any:
        credential = Credential(self.info["secret_id"], self.info["secret_key"])
        client = batch_client.BatchClient(credential, self.info["region"], self._profile())
        return getattr(client, action)(request_of(batch_models, action, params))

    def tdmq(self, action: str, **params: Any) -> Any:
        credential = Credential(self.info["secret_id"], self.info["secret_key"])
        client = tdmq_client.TdmqClient(credential, self.info["region"], self._profile())
        return getattr(client, action)(request_of(tdmq_models, action, params))

    def cmq(self, action: str, **params: Any) -> dict[str, Any]:
        url = self.info["cmq_endpoint"] + cmq_signing.PATH
        full = {name: str(value) for name, value in params.items()}
        full |= {
            "Action": action,
            "SecretId": self.info["secret_id"],
            "Timestamp": str(int(time.time())),
            "Nonce": "1",
            "SignatureMethod": "HmacSHA256",
        }
        text = cmq_signing.source("POST", urlsplit(url).netloc, full)
        full["Signature"] = cmq_signing.signature(self.info["secret_key"], text, sha256=True)
        answer: dict[str, Any] = requests.post(url, data=full, timeout=40).json()
        return answer

    def cos(self) -> CosS3Client:
        address = urlsplit(self.info["cos_endpoint"])
        keys = {"SecretId": self.info["secret_id"], "SecretKey": self.info["secret_key"]}
        config = CosConfig(Region=self.info["region"], Scheme="http", IP=address.hostname, Port=address.port, **keys)
        return CosS3Client(config, retry=0)

    def wait(self, job_id: str) -> str:
        url = f"{self.info['endpoint']}/_emulator/jobs/{job_id}/wait?timeout=60"
        return str(requests.get(url, timeout=90).json()["state"])

    def state(self, job_id: str) -> str:
        return str(self.batch("DescribeJob", JobId=job_id).JobState)

    def instance(self, job_id: str) -> tuple[str, str]:
        (found,) = self.batch("DescribeTask", JobId=job_id, TaskName="main").TaskInstanceSet
        return found.TaskInstanceState, found.StateReason

    def bodies(self, queue: str) -> list[str]:
        """All messages of a queue, deleted as they are received."""
        found = []
        while (answer := self.cmq("ReceiveMessage", queueName=queue, pollingWaitSeconds=0))["code"] == 0:
            found.append(answer["msgBody"])
            self.cmq("DeleteMessage", queueName=queue, receiptHandle=answer["receiptHandle"])
        return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "data"
    folder.mkdir()
    service = Served(folder)
    service.start()
    try:
        yield service
    finally:
        service.end(signal.SIGKILL)


def env_data() -> dict[str, Any]:
    return {"InstanceTypes": ["S5.MEDIUM4"], "ImageId": "img-m4q71qnf"}


def create_env(served: Served, nodes: int = 1, **members: Any) -> str:
    spec = {"EnvName": "kept", "DesiredComputeNodeCount": nodes, "EnvData": env_data(), **members}
    answer = served.batch("CreateComputeEnv", Placement={"Zone": "ap-guangzhou-3"}, ComputeEnv=spec, ClientToken="one")
    return str(answer.EnvId)


# -- everything at once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_all_is_there_again(served: Served, number: signal.Signals, tmp_path: Path) -> None:
    """The README's sequence works twice: keys, jobs, messages, templates and environments are as they were."""
    pids = tmp_path / "pids"
    running_job = submission(task(f"echo begun; echo $$ >> {pids}; sleep 600"), token="run-1")
    ended = served.batch("SubmitJob", **submission(task("echo done"))).JobId
    assert served.wait(ended) == "SUCCEED"
    running = served.batch("SubmitJob", **running_job).JobId
    wait_for("it runs", lambda: served.state(running) == "RUNNING" and pids.exists(), timeout=60)
    template = {"TaskTemplateName": "kept", "TaskTemplateInfo": task("true")}
    template_id = served.batch("CreateTaskTemplate", **template).TaskTemplateId
    env_id = create_env(served)
    served.tdmq("CreateCmqQueue", QueueName="kept")
    served.cmq("SendMessage", queueName="kept", msgBody="first")
    served.cmq("SendMessage", queueName="kept", msgBody="second")
    before = served.info
    submitted = json.loads(served.batch("DescribeJobSubmitInfo", JobId=running).to_json_string())
    for again in range(2):
        served.again(number)
        assert {name: served.info[name] for name in ("secret_id", "secret_key", "control_token")} == {
            name: before[name] for name in ("secret_id", "secret_key", "control_token")
        }
        # A request that was sent again after the restart has made nothing twice.
        assert served.batch("SubmitJob", **running_job).JobId == running
        assert create_env(served) == env_id
        assert served.wait(running) == "FAILED"
        assert served.instance(running) == ("FAILED", LOST)
        assert [(job.JobId, job.JobState) for job in served.batch("DescribeJobs").JobSet] == [
            (running, "FAILED"),
            (ended, "SUCCEED"),
        ]
        log = served.batch("DescribeTaskLogs", JobId=ended, TaskName="main").TaskInstanceLogSet[0]
        assert base64.b64decode(log.StdoutLog) == b"done\n"
        now = json.loads(served.batch("DescribeJobSubmitInfo", JobId=running).to_json_string())
        assert {**now, "RequestId": ""} == {**submitted, "RequestId": ""}
        (kept,) = served.batch("DescribeTaskTemplates").TaskTemplateSet
        assert (kept.TaskTemplateId, kept.TaskTemplateName) == (template_id, "kept")
        env = served.batch("DescribeComputeEnv", EnvId=env_id)
        assert (env.EnvName, len(env.ComputeNodeSet)) == ("kept", 1)
        if not again:
            assert served.bodies("kept") == ["first", "second"]
            served.cmq("SendMessage", queueName="kept", msgBody="third")
    assert served.bodies("kept") == ["third"]
    for pid in pids.read_text().split():
        wait_for("nothing of it runs", lambda pid=pid: not alive(int(pid)), timeout=60)  # type: ignore[misc]
    served.batch("DeleteJob", JobId=running)
    served.batch("DeleteTaskTemplates", TaskTemplateIds=[template_id])
    served.again(number)
    assert [job.JobId for job in served.batch("DescribeJobs").JobSet] == [ended]
    assert not served.batch("DescribeTaskTemplates").TaskTemplateSet


# -- jobs ----------------------------------------------------------------------------------------------------


def test_a_lost_machine_is_retried_and_told(served: Served, tmp_path: Path) -> None:
    """MaxRetryCount counts what was lost with the emulator, and the events of it reach those who asked for them."""
    mark = tmp_path / "mark"
    command = f"test -e {mark} && exit 0; touch {mark}; sleep 600"
    names = ("JOB_SUCCEED", "JOB_FAILED", "TASK_INSTANCE_FAILED")
    events: list[dict[str, Any]] = [{"EventName": name, "EventVars": []} for name in names]
    notifications = [{"TopicName": "airflow-batch", "EventConfigs": events}]
    again = served.batch("SubmitJob", **submission(task(command, MaxRetryCount=1), Notifications=notifications)).JobId
    wait_for("it runs", mark.exists, timeout=60)
    once = served.batch("SubmitJob", **submission(task("sleep 600"), Notifications=notifications)).JobId
    wait_for("it runs", lambda: served.state(once) == "RUNNING", timeout=60)
    served.again()
    assert (served.wait(again), served.wait(once)) == ("SUCCEED", "FAILED")
    assert served.instance(once) == ("FAILED", LOST)
    told = sorted(
        body.partition("JOB_")[2][:7] + body.partition("TASK_INSTANCE_")[2][:6]
        for body in served.bodies("airflow-batch-base")
    )
    assert told == ["FAILED", 'FAILED"', "SUCCEED"]
    # What is FAILED can be repaired as ever.
    served.batch("RetryJobs", JobIds=[once])
    wait_for("it runs again", lambda: served.state(once) == "RUNNING", timeout=60)


def test_what_waited_goes_on(served: Served) -> None:
    """Jobs in all states before STARTING: not parsed, waiting for another task, waiting for room."""
    served.again(signal.SIGTERM, "mode=simulate", "simulated_seconds=600", "capacity=1", "terminate_seconds=600")
    first = served.batch("SubmitJob", **submission(task("x"))).JobId
    wait_for("it runs", lambda: served.state(first) == "RUNNING", timeout=60)
    second = served.batch("SubmitJob", **submission(task("x"))).JobId
    wait_for("it waits", lambda: served.state(second) == "RUNNABLE", timeout=60)
    edges = [{"StartTask": "main", "EndTask": "then"}]
    chain = submission(task("x"), task("x", "then", TaskInstanceNum=3), Dependences=edges)
    third = served.batch("SubmitJob", **chain).JobId
    wait_for("it waits", lambda: served.state(third) == "RUNNABLE", timeout=60)
    doomed = served.batch("SubmitJob", **submission(task("x"))).JobId
    wait_for("it waits", lambda: served.state(doomed) == "RUNNABLE", timeout=60)
    served.batch("TerminateJob", JobId=doomed)
    served.again(
        signal.SIGKILL, "mode=simulate", "simulated_seconds=600", "submitted_seconds=600", "runnable_seconds=600"
    )
    fourth = served.batch("SubmitJob", **submission(task("x"))).JobId
    assert (served.state(second), served.state(third), served.state(fourth)) == ("RUNNABLE", "RUNNABLE", "SUBMITTED")
    assert served.wait(doomed) == "FAILED"
    served.again(signal.SIGKILL, "mode=simulate", "simulated_seconds=0")
    assert served.wait(first) == "FAILED"
    assert [served.wait(job_id) for job_id in (second, third, fourth)] == ["SUCCEED"] * 3
    instances = served.batch("DescribeTask", JobId=third, TaskName="then").TaskInstanceSet
    assert [item.TaskInstanceState for item in instances] == ["SUCCEED"] * 3


def test_a_node_goes_with_what_ran_on_it(served: Served) -> None:
    env_id = create_env(served, 2)

    def nodes() -> dict[str, str]:
        found = served.batch("DescribeComputeEnv", EnvId=env_id).ComputeNodeSet
        return {node.ComputeNodeInstanceId: node.ComputeNodeState for node in found}

    wait_for("both run", lambda: list(nodes().values()) == ["RUNNING"] * 2, timeout=60)
    on_env = task("sleep 600", EnvId=env_id)
    del on_env["ComputeEnv"]
    job_id = served.batch("SubmitJob", **submission(on_env)).JobId
    wait_for("it runs", lambda: served.state(job_id) == "RUNNING", timeout=60)
    before = nodes()
    served.again()
    assert served.wait(job_id) == "FAILED"
    wait_for("another takes its place", lambda: list(nodes().values()) == ["RUNNING"] * 2, timeout=60)
    assert len(before.keys() & nodes().keys()) == 1
    # The machine that was idle, and the new one, take jobs.
    quick = [
        served.batch("SubmitJob", **submission({**on_env, "Application": task("true")["Application"]})).JobId
        for _ in "ab"
    ]
    assert [served.wait(item) for item in quick] == ["SUCCEED"] * 2
    served.batch("ModifyComputeEnv", EnvId=env_id, DesiredComputeNodeCount=0)
    served.again()
    wait_for("they go", lambda: not nodes(), timeout=60)


def test_what_was_answered_is_there_whenever_it_is_killed(served: Served) -> None:
    """Killed amid requests: nothing that was answered is missing, nothing that was deleted comes again."""
    served.again(signal.SIGTERM, "mode=simulate", "simulated_seconds=0", "capacity=1000")
    known: dict[str, str] = {}
    sent: set[str] = set()
    deleted: set[str] = set()
    # Their deletion was asked for, and perhaps done without an answer.
    doubtful: set[str] = set()

    def work(kind: int) -> None:
        for number in itertools.count():
            token = f"{served.info['pid']}-{kind}-{number}"
            try:
                if kind:
                    known[token] = served.batch("SubmitJob", **submission(task("x"), token=token)).JobId
                    continue
                if served.cmq("SendMessage", queueName="kept", msgBody=token)["code"] == 0:
                    sent.add(token)
                answer = served.cmq("ReceiveMessage", queueName="kept", pollingWaitSeconds=0)
                if answer["code"] == 0 and number % 2:
                    handle = answer["receiptHandle"]
                    doubtful.add(answer["msgBody"])
                    if served.cmq("DeleteMessage", queueName="kept", receiptHandle=handle)["code"] == 0:
                        deleted.add(answer["msgBody"])
            except (requests.RequestException, TencentCloudSDKException):
                # It was killed; whether this was done nobody knows.
                return

    served.tdmq("CreateCmqQueue", QueueName="kept", VisibilityTimeout=1)
    for _ in range(3):
        before = len(known) + len(deleted)
        with ThreadPoolExecutor(3) as pool:
            ends = [pool.submit(work, kind) for kind in (0, 1, 2)]
            wait_for("much is under way", lambda before=before: len(known) + len(deleted) > before + 40, timeout=60)  # type: ignore[misc]
            served.end(signal.SIGKILL)
            for end in ends:
                end.result()
        served.start("mode=simulate", "simulated_seconds=0", "capacity=1000")
        for token, job_id in known.items():
            assert served.batch("SubmitJob", **submission(task("x"), token=token)).JobId == job_id
            assert served.wait(job_id) in ("SUCCEED", "FAILED")
    left: set[str] = set()
    while not left >= sent - doubtful:
        answer = served.cmq("ReceiveMessage", queueName="kept", pollingWaitSeconds=30)
        left.add(answer["msgBody"])
        served.cmq("DeleteMessage", queueName="kept", receiptHandle=answer["receiptHandle"])
    assert not left & deleted


# -- messages ------------------------------------------------------------------------------------------------


def test_messages_are_where_they_were(served: Served) -> None:
    """A handle stays valid, what is invisible reappears, what was deleted does not, what is delayed comes."""
    served.tdmq("CreateCmqQueue", QueueName="kept", VisibilityTimeout=2, RewindSeconds=3600)
    served.tdmq("CreateCmqTopic", TopicName="told")
    served.tdmq(
        "CreateCmqSubscribe",
        TopicName="told",
        SubscriptionName="sub",
        Protocol="queue",
        Endpoint="kept",
        NotifyStrategy="EXPONENTIAL_DECAY_RETRY",
        NotifyContentFormat="SIMPLIFIED",
        FilterTag=["wanted"],
    )
    for body in ("deleted", "received", "forgotten"):
        served.cmq("SendMessage", queueName="kept", msgBody=body)
    served.cmq("SendMessage", queueName="kept", msgBody="delayed", delaySeconds=3)
    taken = [served.cmq("ReceiveMessage", queueName="kept", pollingWaitSeconds=0) for _ in range(3)]
    served.cmq("DeleteMessage", queueName="kept", receiptHandle=taken[0]["receiptHandle"])
    served.tdmq("ModifyCmqQueueAttribute", QueueName="kept", VisibilityTimeout=43200)
    served.tdmq("CreateCmqQueue", QueueName="gone")
    served.tdmq("DeleteCmqQueue", QueueName="gone")
    served.again()
    late = served.cmq("ReceiveMessage", queueName="kept", pollingWaitSeconds=30)
    assert served.cmq("PublishMessage", topicName="told", msgBody="other", **{"msgTag.1": "no"})["code"] == 6030
    published = served.cmq("PublishMessage", topicName="told", msgBody="published", **{"msgTag.1": "wanted"})
    found = {late["msgBody"]: late}
    while len(found) < 4:
        answer = served.cmq("ReceiveMessage", queueName="kept", pollingWaitSeconds=30)
        found[answer["msgBody"]] = answer
    assert sorted(found) == ["delayed", "forgotten", "published", "received"]
    # No message has the number of one that was there before.
    assert published["msgId"] not in {answer["msgId"] for answer in (*taken, late)}
    names = {queue.QueueName for queue in served.tdmq("DescribeCmqQueues").QueueList}
    assert names == {"kept", "airflow-batch-base"}
    handle = found["received"]["receiptHandle"]
    served.again()
    assert served.cmq("DeleteMessage", queueName="kept", receiptHandle=handle)["code"] == 0
    detail = served.tdmq("DescribeCmqQueueDetail", QueueName="kept").QueueDescribe
    assert (detail.ActiveMsgNum, detail.InactiveMsgNum, detail.RewindMsgNum, detail.VisibilityTimeout) == (
        0,
        3,
        2,
        43200,
    )


# -- objects -------------------------------------------------------------------------------------------------


def test_an_object_whose_file_was_removed_is_lost_alone(served: Served, tmp_path: Path) -> None:
    bucket = served.info["bucket"]
    served.cos().put_object(bucket, b"gone", "gone")
    (path,) = (tmp_path / "data" / "objects").iterdir()
    served.cos().put_object(bucket, b"kept", "kept")
    path.unlink()
    served.again()
    assert [item["Key"] for item in served.cos().list_objects(bucket)["Contents"]] == ["kept"]
    served.cos().put_object(bucket, b"new", "gone")
    served.again()
    assert served.cos().get_object(bucket, "gone")["Body"].get_raw_stream().read() == b"new"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_objects_are_as_they_were(served: Served, number: signal.Signals, tmp_path: Path) -> None:
    """Contents, headers, tags and versions; an upload in parts that had begun goes on."""
    bucket, part = served.info["bucket"], b"p" * 1024 * 1024
    output = {"StdoutRedirectPath": f"cos://{bucket}.cos.ap-guangzhou.myqcloud.com/logs/"}
    job_id = served.batch("SubmitJob", **submission(task("echo told", RedirectInfo=output))).JobId
    assert served.wait(job_id) == "SUCCEED"
    cos = served.cos()
    put = cos.put_object(
        bucket, b"first", "a/b c+\u00e9/", ContentType="text/x-own", Metadata={"x-cos-meta-owner": "me"}
    )
    cos.put_object(bucket, b"x" * 3_000_000, "large")
    cos.put_object_tagging(bucket, "large", {"TagSet": {"Tag": [{"Key": "k", "Value": "v"}]}})
    cos.copy_object(bucket, "copy", {"Bucket": bucket, "Key": "large", "Region": "ap-guangzhou"})
    for name in ("gone", "gone too", "gone as well"):
        cos.put_object(bucket, b"gone", name)
    cos.delete_object(bucket, "gone")
    cos.delete_objects(bucket, {"Object": [{"Key": "gone too"}, {"Key": "gone as well"}]})
    cos.put_object(bucket, b"old", "overwritten")
    cos.put_object(bucket, b"new", "overwritten")
    cos.create_bucket("versions-1250000000")
    cos.put_bucket_versioning("versions-1250000000", "Enabled")
    versions = [cos.put_object("versions-1250000000", body, "x")["x-cos-version-id"] for body in (b"1", b"2")]
    cos.delete_object("versions-1250000000", "x")
    cos.create_bucket("gone-1250000000")
    cos.delete_bucket("gone-1250000000")
    upload = cos.create_multipart_upload(bucket, "parts", ContentType="text/x-parts")["UploadId"]
    etags = [cos.upload_part(bucket, "parts", part, 1, upload)["ETag"]]
    whole = cos.create_multipart_upload(bucket, "whole")["UploadId"]
    done = {"Part": [{"ETag": cos.upload_part(bucket, "whole", part, 1, whole)["ETag"], "PartNumber": 1}]}
    whole_etag = cos.complete_multipart_upload(bucket, "whole", whole, done)["ETag"]
    dropped = cos.create_multipart_upload(bucket, "dropped")["UploadId"]
    cos.abort_multipart_upload(bucket, "dropped", dropped)
    listed = {item["Key"]: item for item in cos.list_objects(bucket)["Contents"]}
    # What a killed emulator had not finished.
    (tmp_path / "data" / "objects" / "half").write_bytes(b"half")
    for _ in range(2):
        served.again(number)
        cos = served.cos()
        assert {item["Key"]: item for item in cos.list_objects(bucket)["Contents"]} == listed
        found = cos.get_object(bucket, "a/b c+\u00e9/")
        assert found["Body"].get_raw_stream().read() == b"first"
        assert (found["ETag"], found["Content-Type"], found["x-cos-meta-owner"]) == (put["ETag"], "text/x-own", "me")
        assert cos.get_object(bucket, "overwritten")["Body"].get_raw_stream().read() == b"new"
        assert cos.get_object(bucket, "copy")["Body"].get_raw_stream().read() == b"x" * 3_000_000
        assert cos.get_object(bucket, f"logs/stdout.{job_id}.main.0.log")["Body"].get_raw_stream().read() == b"told\n"
        assert cos.get_object_tagging(bucket, "large")["TagSet"]["Tag"] == [{"Key": "k", "Value": "v"}]
        assert cos.head_object(bucket, "whole")["ETag"] == whole_etag
        assert cos.bucket_exists("versions-1250000000")
        assert not cos.bucket_exists("gone-1250000000")
        for version, body in zip(versions, (b"1", b"2"), strict=True):
            got = cos.get_object("versions-1250000000", "x", VersionId=version)
            assert got["Body"].get_raw_stream().read() == body
        assert not cos.object_exists("versions-1250000000", "x")
        if len(etags) == 1:
            etags.append(cos.upload_part(bucket, "parts", b"end", 2, upload)["ETag"])
    parts = [{"ETag": etag, "PartNumber": index} for index, etag in enumerate(etags, 1)]
    cos.complete_multipart_upload(bucket, "parts", upload, {"Part": parts})
    # One file for each content that there is: what was replaced or deleted has gone.
    assert len(list((tmp_path / "data" / "objects").iterdir())) == len(listed) + 1 + len(versions)
    served.again(number)
    found = served.cos().get_object(bucket, "parts")
    assert (found["Body"].get_raw_stream().read(), found["Content-Type"]) == (part + b"end", "text/x-parts")


# -- the folder ----------------------------------------------------------------------------------------------


def test_one_emulator_at_a_time(tmp_path: Path) -> None:
    second = Emulator(data_dir=tmp_path)
    with Emulator(data_dir=tmp_path), pytest.raises(OSError, match="is in use") as caught:
        second.start()
    assert caught.value.strerror == (
        f"the data folder {tmp_path} is in use by another emulator (process {os.getpid()}); stop it, or name another "
        "--data-dir"
    )
    with Emulator(data_dir=tmp_path):
        pass


def test_a_folder_of_another_version(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from airflow_provider_tcbatch.emulator.cli import main

    with Emulator(data_dir=tmp_path):
        pass
    path = tmp_path / "state.sqlite3"
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    assert main(["serve", "--port", "0", "--cos-port", "0", "--data-dir", str(tmp_path)]) == 2
    assert capfd.readouterr().err == (
        f"tcbatch-emulator: {path} was written by a newer version of the emulator (format 7; this one reads 1); use "
        "that version of airflow-provider-tcbatch, or name another --data-dir\n"
    )
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(OSError, match=r"cannot be read or written: .*file is not a database; name another --data-dir"):
        Emulator(data_dir=tmp_path).start()


def test_a_reset_is_kept_too(tmp_path: Path) -> None:
    with Emulator(data_dir=tmp_path) as first:
        first.on_loop(lambda services: services.cmq.broker.send(services.cmq.broker.queues["airflow-batch-base"], "x"))
        first.reset()
    with Emulator(data_dir=tmp_path) as second:
        assert second.on_loop(lambda services: services.cmq.broker.queues["airflow-batch-base"].size) == 0


def test_a_clock_that_ran_ahead_does_not_go_back(tmp_path: Path) -> None:
    from airflow_provider_tcbatch.emulator import Settings

    def noted(services: Services) -> float:
        services.host.ledger.note("emulator", "test", 1)
        return services.host.now()

    with Emulator(Settings(speed=1e6), data_dir=tmp_path) as first:
        wait_for(
            "days have passed",
            lambda: first.on_loop(lambda services: services.host.now()) > time.time() + 100_000,
            timeout=60,
        )
        shown = first.on_loop(noted)
    with Emulator(data_dir=tmp_path) as second:
        assert second.on_loop(lambda services: services.host.now()) >= shown
