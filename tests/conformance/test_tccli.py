"""Every action through Tencent's own command line tool, which insists on TLS."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import tccli
from tencentcloud.batch.v20170312 import models as batch_models
from tencentcloud.tdmq.v20200217 import models as tdmq_models

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.http.api3 import SERVICES, service_of
from airflow_provider_tcbatch.emulator.schema import schema
from tests.conformance.conftest import QUICK, submission, task
from tests.support.sdk_warnings import warnings_are_errors

MODELS = {"batch": batch_models, "tdmq": tdmq_models}
DRIVER = Path(__file__).with_name("tccli_driver.py")
EXAMPLES = Path(tccli.__path__[0]) / "services" / "batch" / "v20170312" / "examples.json"


class Tool:
    """The command line tool, talking to one emulator.

    :param emulator: an emulator with TLS.
    :param folder: takes the tool's home folder and the requests.
    """

    def __init__(self, emulator: Emulator, folder: Path) -> None:
        self.emulator = emulator
        self._folder = folder
        info = emulator.info
        self._process = subprocess.Popen(
            [sys.executable, DRIVER, str(info.ca_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={
                "HOME": str(folder),
                "PATH": os.environ["PATH"],
                "TENCENTCLOUD_SECRET_ID": info.secret_id,
                "TENCENTCLOUD_SECRET_KEY": info.secret_key,
                "TENCENTCLOUD_REGION": info.region,
            },
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        endpoint = urlsplit(self.emulator.info.endpoint).netloc
        print(json.dumps([*arguments, "--endpoint", endpoint]), file=self._process.stdin, flush=True)
        code, out, err = json.loads(self._process.stdout.readline())
        return code, out, err

    def call(self, service: str, action: str, **params: Any) -> dict[str, Any]:
        """The answer to one action."""
        file = self._folder / "request.json"
        file.write_text(json.dumps(params))
        code, out, err = self.run(service, action, "--cli-input-json", f"file://{file}")
        assert (code, err) == (0, "")
        answer: dict[str, Any] = json.loads(out)
        return answer

    def close(self) -> None:
        """End the tool."""
        self._process.communicate()


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    with Emulator(QUICK.updated({"compute_env_quota": 100}), tls=True) as emulator:
        tool = Tool(emulator, tmp_path_factory.mktemp("tccli"))
        yield tool
        tool.close()


class Things:
    """What actions are about, made as they are needed."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.count = 0

    def do(self, service: str, action: str, **params: Any) -> dict[str, Any]:
        """An action without the tool, which takes its time."""
        wire = json.loads(json.dumps(params))
        checked = schema(service).check(f"{action}Request", wire)
        return self.emulator.on_loop(
            lambda services: SERVICES[service][1][action](service_of(services, service), checked)
        )

    def name(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}-{self.count}"

    def job(self, command: str = "true", *, ended: bool = True) -> str:
        job_id: str = self.do("batch", "SubmitJob", **submission(task(command)))["JobId"]
        if ended:
            self.emulator.wait_job(job_id)
        return job_id

    def running_job(self) -> str:
        job_id = self.job("sleep 60", ended=False)
        while self.emulator.on_loop(lambda services: services.batch.jobs[job_id].state) != "RUNNING":
            time.sleep(0.01)
        return job_id

    def env(self, nodes: int = 0) -> str:
        answer = self.do("batch", "CreateComputeEnv", **environment(self.name("env"), nodes))
        env_id: str = answer["EnvId"]
        while self.do("batch", "DescribeComputeEnv", EnvId=env_id)["ComputeNodeMetrics"]["RunningCount"] < nodes:
            time.sleep(0.01)
        return env_id

    def node(self) -> dict[str, str]:
        env_id = self.env(nodes=1)
        nodes = self.do("batch", "DescribeComputeEnv", EnvId=env_id)["ComputeNodeSet"]
        return {"EnvId": env_id, "ComputeNodeId": nodes[0]["ComputeNodeId"]}

    def attached(self) -> tuple[str, str]:
        env_id, instance_id = self.env(), "ins-0123abcd"
        self.do("batch", "AttachInstances", EnvId=env_id, Instances=[{"InstanceId": instance_id}])
        return env_id, instance_id

    def template(self) -> str:
        name = self.name("template")
        answer = self.do("batch", "CreateTaskTemplate", TaskTemplateName=name, TaskTemplateInfo=task("true"))
        template_id: str = answer["TaskTemplateId"]
        return template_id

    def queue(self, **attributes: Any) -> str:
        name = self.name("queue")
        self.do("tdmq", "CreateCmqQueue", QueueName=name, **attributes)
        return name

    def topic(self) -> str:
        name = self.name("topic")
        self.do("tdmq", "CreateCmqTopic", TopicName=name)
        return name

    def subscription(self) -> dict[str, str]:
        subscription = {"TopicName": self.topic(), "SubscriptionName": "s"}
        self.do("tdmq", "CreateCmqSubscribe", **subscription, Protocol="queue", Endpoint=self.queue())
        return subscription


@pytest.fixture(scope="module")
def things(tool: Tool) -> Things:
    return Things(tool.emulator)


def environment(name: str, nodes: int) -> dict[str, Any]:
    """A request for a compute environment."""
    return {
        "ComputeEnv": {
            "EnvName": name,
            "EnvType": "MANAGED",
            "EnvData": {"InstanceTypes": ["S5.MEDIUM4"]},
            "DesiredComputeNodeCount": nodes,
        },
        "Placement": {"Zone": "ap-guangzhou-3"},
    }


Params = Callable[[Things], dict[str, Any]]


def _listed(env_id: str, item: str) -> tuple[str, list[str]]:
    return env_id, [item]


#: A request for each action.
REQUESTS: dict[str, Params] = {
    "SubmitJob": lambda make: submission(task("true")),
    "DescribeJob": lambda make: {"JobId": make.job()},
    "DescribeJobs": lambda make: {"JobIds": [make.job()], "Limit": 1},
    "DescribeTask": lambda make: {"JobId": make.job(), "TaskName": "main"},
    "DescribeTaskLogs": lambda make: {"JobId": make.job("echo hello"), "TaskName": "main", "TaskInstanceIndexes": [0]},
    "DescribeJobSubmitInfo": lambda make: {"JobId": make.job()},
    "TerminateJob": lambda make: {"JobId": make.running_job()},
    "TerminateTaskInstance": lambda make: {"JobId": make.running_job(), "TaskName": "main", "TaskInstanceIndex": 0},
    "RetryJobs": lambda make: {"JobIds": [make.job("false")]},
    "DeleteJob": lambda make: {"JobId": make.job()},
    "DescribeJobMonitorData": lambda make: {
        "JobId": make.job(),
        "TaskName": "main",
        "TaskInstanceIndex": 0,
        "MetricName": "CpuUsage",
    },
    "CreateComputeEnv": lambda make: environment(make.name("env"), 1),
    "ModifyComputeEnv": lambda make: {"EnvId": make.env(), "DesiredComputeNodeCount": 1},
    "DeleteComputeEnv": lambda make: {"EnvId": make.env()},
    "DescribeComputeEnv": lambda make: {"EnvId": make.env(nodes=1)},
    "DescribeComputeEnvs": lambda make: {"EnvIds": [make.env()]},
    "DescribeComputeEnvActivities": lambda make: {"EnvId": make.env(nodes=1)},
    "DescribeComputeEnvCreateInfo": lambda make: {"EnvId": make.env()},
    "DescribeComputeEnvCreateInfos": lambda make: {"EnvIds": [make.env()]},
    "AttachInstances": lambda make: {"EnvId": make.env(), "Instances": [{"InstanceId": "ins-89abcdef"}]},
    "DetachInstances": lambda make: dict(zip(("EnvId", "InstanceIds"), _listed(*make.attached()), strict=True)),
    "TerminateComputeNode": lambda make: make.node(),
    "TerminateComputeNodes": lambda make: dict(
        zip(("EnvId", "ComputeNodeIds"), _listed(*make.node().values()), strict=True)
    ),
    "CreateTaskTemplate": lambda make: {"TaskTemplateName": make.name("template"), "TaskTemplateInfo": task("true")},
    "ModifyTaskTemplate": lambda make: {"TaskTemplateId": make.template(), "TaskTemplateDescription": "new"},
    "DeleteTaskTemplates": lambda make: {"TaskTemplateIds": [make.template()]},
    "DescribeTaskTemplates": lambda make: {"TaskTemplateIds": [make.template()]},
    "DescribeAvailableCvmInstanceTypes": lambda make: {"Filters": [{"Name": "zone", "Values": ["ap-guangzhou-3"]}]},
    "DescribeCvmZoneInstanceConfigInfos": lambda make: {"Filters": [{"Name": "zone", "Values": ["ap-guangzhou-3"]}]},
    "DescribeInstanceCategories": lambda make: {},
    "CreateCmqQueue": lambda make: {"QueueName": make.name("queue"), "Tags": [{"TagKey": "a", "TagValue": "b"}]},
    "ModifyCmqQueueAttribute": lambda make: {"QueueName": make.queue(), "VisibilityTimeout": 5},
    "DeleteCmqQueue": lambda make: {"QueueName": make.queue()},
    "ClearCmqQueue": lambda make: {"QueueName": make.queue()},
    "RewindCmqQueue": lambda make: {
        "QueueName": make.queue(RewindSeconds=3600),
        "StartConsumeTime": int(make.emulator.on_loop(lambda services: services.cmq.broker.now())) - 60,
    },
    "UnbindCmqDeadLetter": lambda make: {
        "SourceQueueName": make.queue(DeadLetterQueueName=make.queue(), Policy=0, MaxReceiveCount=3)
    },
    "DescribeCmqQueues": lambda make: {"QueueNameList": [make.queue()]},
    "DescribeCmqQueueDetail": lambda make: {
        "QueueName": make.queue(DeadLetterQueueName=make.queue(), Policy=1, MaxTimeToLive=300, Transaction=1)
    },
    "SendCmqMsg": lambda make: {"QueueName": make.queue(), "MsgContent": "ünïcode", "DelaySeconds": 0},
    "CreateCmqTopic": lambda make: {"TopicName": make.name("topic"), "FilterType": 2},
    "ModifyCmqTopicAttribute": lambda make: {"TopicName": make.topic(), "MsgRetentionSeconds": 60},
    "DeleteCmqTopic": lambda make: {"TopicName": make.topic()},
    "DescribeCmqTopics": lambda make: {"TopicNameList": [make.topic()]},
    "DescribeCmqTopicDetail": lambda make: {"TopicName": make.topic()},
    "PublishCmqMsg": lambda make: {"TopicName": make.subscription()["TopicName"], "MsgContent": "m", "MsgTag": ["a"]},
    "CreateCmqSubscribe": lambda make: {
        "TopicName": make.topic(),
        "SubscriptionName": "s",
        "Protocol": "queue",
        "Endpoint": make.queue(),
        "FilterTag": ["a", "b"],
    },
    "ModifyCmqSubscriptionAttribute": lambda make: {**make.subscription(), "FilterTags": ["a"]},
    "ClearCmqSubscriptionFilterTags": lambda make: make.subscription(),
    "DeleteCmqSubscribe": lambda make: make.subscription(),
    "DescribeCmqSubscriptionDetail": lambda make: make.subscription(),
}


@pytest.mark.parametrize(
    ("service", "action"), [(service, action) for service, (_, handlers) in SERVICES.items() for action in handlers]
)
def test_action(tool: Tool, things: Things, service: str, action: str) -> None:
    answer = tool.call(service, action, **REQUESTS[action](things))
    # The tool prints an answer as the official models deserialised it, members that are null included.
    assert answer.keys() == schema(service).fields(f"{action}Response").keys()
    with warnings_are_errors():
        getattr(MODELS[service], f"{action}Response")()._deserialize(answer)


def test_error(tool: Tool) -> None:
    code, out, err = tool.run("batch", "DescribeJob", "--JobId", "job-00000000")
    assert (code, out) == (255, "")
    assert "code:ResourceNotFound.Job" in err


def _examples() -> list[str]:
    return [item["input"] for item in json.loads(EXAMPLES.read_text())["actions"]["SubmitJob"]]


@pytest.mark.parametrize("text", _examples(), ids=["plain", "with dependencies"])
def test_the_tools_own_example_jobs_are_accepted(tool: Tool, text: str) -> None:
    arguments = []
    for name, value in re.findall(r"^&([\w.]+)=(.*)$", text, re.MULTILINE):
        # This emulator is in Guangzhou.
        arguments += [f"--{name}", value.replace("ap-beijing-2", "ap-guangzhou-2")]
    code, out, err = tool.run("batch", "SubmitJob", "--cli-unfold-argument", *arguments)
    assert (code, err) == (0, "")
    job_id = json.loads(out)["JobId"]
    job = tool.call("batch", "DescribeJob", JobId=job_id)
    assert [item["TaskName"] for item in job["TaskSet"]] in (["hello2"], ["pre_task", "post_task"])
