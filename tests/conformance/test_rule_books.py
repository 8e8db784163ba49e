"""What the provider refuses when a DAG is parsed, the emulator refuses as well, and the other way round.

A table is generated from requests of each action that makes something, which together hold every member that the SDK
knows: each is left out, and takes values of other types, empty ones, ones beyond every bound, long ones and ones of
other characters. docs/rules.md has the rules for people to read, with their sources.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import schema
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.exceptions import InvalidRequest
from airflow_provider_tcbatch.models.actions import SubmitJob
from airflow_provider_tcbatch.models.env_actions import CreateComputeEnv
from airflow_provider_tcbatch.models.template_actions import CreateTaskTemplate

COS = "cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/a/"
ENV: dict[str, Any] = {
    "EnvType": "MANAGED",
    "EnvData": {
        "InstanceType": "S1.SMALL1",
        "ImageId": "img-12345678",
        "SystemDisk": {"DiskType": "CLOUD_BASIC", "DiskSize": 50},
        "DataDisks": [{"DiskType": "CLOUD_BASIC", "DiskSize": 50}],
        "InternetAccessible": {"InternetMaxBandwidthOut": 10, "PublicIpAssigned": True},
        "LoginSettings": {"Password": "Abc12345"},
        "SecurityGroupIds": ["sg-1"],
        "EnhancedService": {"MonitorService": {"Enabled": True}},
        "InstanceChargeType": "SPOTPAID",
        "InstanceMarketOptions": {
            "MarketType": "spot",
            "SpotOptions": {"MaxPrice": "0.5", "SpotInstanceType": "one-time"},
        },
        "VirtualPrivateCloud": {"VpcId": "vpc-1", "SubnetId": "subnet-1"},
        "InstanceName": "n",
    },
    "MountDataDisks": [{"LocalPath": "/data", "FileSystemType": "EXT4"}],
}
TASK: dict[str, Any] = {
    "TaskName": "t",
    "TaskInstanceNum": 1,
    "Application": {
        "DeliveryForm": "PACKAGE",
        "Command": "true",
        "PackagePath": COS + "p.tgz",
        "Docker": {"Image": "i", "User": "u", "Password": "p", "Server": "s", "MaxRetryCount": 1, "DelayOnRetry": 1},
    },
    "ComputeEnv": ENV,
    "RedirectInfo": {
        "StdoutRedirectPath": COS,
        "StderrRedirectPath": COS,
        "StdoutRedirectFileName": "o",
        "StderrRedirectFileName": "e",
    },
    "RedirectLocalInfo": {"StdoutLocalPath": "/a/", "StdoutLocalFileName": "o"},
    "InputMappings": [{"SourcePath": COS, "DestinationPath": "in", "MountType": "COSFS"}],
    "OutputMappings": [
        {"SourcePath": "out", "DestinationPath": COS, "OutputMappingOption": {"Workspace": "BATCH_WORKSPACE"}}
    ],
    "OutputMappingConfigs": [{"Scene": "COS", "WorkerNum": 1, "WorkerPartSize": 1}],
    "EnvVars": [{"Name": "A", "Value": "b"}],
    "Authentications": [{"Scene": "COS", "SecretId": "a", "SecretKey": "b"}],
    "FailedAction": "TERMINATE",
    "MaxRetryCount": 1,
    "Timeout": 60,
    "MaxConcurrentNum": 1,
    "RestartComputeNode": True,
    "ResourceMaxRetryCount": 1,
}
#: The members that exclude those of the first, and what it leaves out.
OTHER_ENV: dict[str, Any] = {
    "EnvType": "MANAGED",
    "EnvData": {
        "InstanceTypes": ["S1.SMALL1", "S1.SMALL2"],
        "SystemDisk": {"DiskId": "disk-1", "CdcId": "c", "DiskName": "n", "Encrypt": False, "KmsKeyId": "k"},
        "DataDisks": [
            {
                "DiskSize": 50,
                "DiskId": "disk-1",
                "DeleteWithInstance": True,
                "SnapshotId": "snap-1",
                "Encrypt": False,
                "KmsKeyId": "k",
                "ThroughputPerformance": 1,
                "CdcId": "c",
                "BurstPerformance": False,
                "DiskName": "n",
            }
        ],
        "InternetAccessible": {
            "InternetChargeType": "TRAFFIC_POSTPAID_BY_HOUR",
            "BandwidthPackageId": "bwp-1",
            "InternetServiceProvider": "BGP",
            "IPv4AddressType": "WanIP",
            "IPv6AddressType": "EIPv6",
            "AntiDDoSPackageId": "b",
        },
        "LoginSettings": {"KeyIds": ["skey-1"], "KeepImageLogin": "FALSE"},
        "EnhancedService": {"SecurityService": {"Enabled": True}, "AutomationService": {"Enabled": True}},
        "Zones": ["ap-guangzhou-3"],
    },
    "AgentRunningMode": {"Scene": "WINDOWS", "User": "u", "Session": "s"},
}
THIRD_ENV: dict[str, Any] = {
    "EnvData": {
        "InstanceTypeOptions": {"CPU": 1, "Memory": 1, "InstanceCategories": ["ALL"]},
        "VirtualPrivateClouds": [
            {
                "VpcId": "vpc-1",
                "SubnetId": "subnet-1",
                "AsVpcGateway": False,
                "PrivateIpAddresses": ["10.0.0.1"],
                "Ipv6AddressCount": 0,
            }
        ],
    }
}
OTHER_TASK: dict[str, Any] = {
    "Application": {
        "DeliveryForm": "LOCAL",
        "Commands": [{"Command": "true"}],
        "Docker": {"Image": "i", "DockerRunOption": "--init"},
    },
    "ComputeEnv": OTHER_ENV,
    "RedirectLocalInfo": {"StderrLocalPath": "/a/", "StderrLocalFileName": "e"},
    "InputMappings": [{"SourcePath": COS, "DestinationPath": "in", "MountOptionParameter": "-o ro"}],
}
TEMPLATED: dict[str, Any] = {"Application": {"DeliveryForm": "LOCAL", "Command": "true"}, "EnvId": "env-12345678"}
NOTE = [
    {
        "TopicName": "airflow-batch",
        "EventConfigs": [{"EventName": "JOB_FAILED", "EventVars": [{"Name": "a", "Value": "b"}]}],
    }
]
ENOTE = [
    {
        "TopicName": "airflow-batch",
        "EventConfigs": [{"EventName": "COMPUTE_ENV_CREATED", "EventVars": [{"Name": "a", "Value": "b"}]}],
    }
]
PL = {"Zone": "ap-guangzhou-3", "ProjectId": 0}
OTHER_PL = {
    "Zone": "ap-guangzhou-3",
    "HostIds": ["host-1"],
    "HostId": "host-1",
    "DedicatedResourcePackTenancy": "t",
    "DedicatedResourcePackIds": ["p"],
    "RackId": "r",
}
REQUESTS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "SubmitJob": (
        SubmitJob,
        [
            {
                "Placement": PL,
                "ClientToken": "x",
                "Job": {
                    "JobName": "j",
                    "JobDescription": "d",
                    "Priority": 1,
                    "Tasks": [TASK, {**TEMPLATED, "TaskName": "u", "EnvId": "ENV"}],
                    "Dependences": [{"StartTask": "t", "EndTask": "u"}],
                    "Notifications": NOTE,
                    "TaskExecutionDependOn": "PRE_TASK_SUCCEED",
                    "StateIfCreateCvmFailed": "FAILED",
                    "Tags": [{"Key": "k", "Value": "v"}],
                    "NotificationTarget": "TDMQ_CMQ",
                },
            },
            {"Placement": OTHER_PL, "Job": {"Tasks": [OTHER_TASK]}},
            {"Placement": PL, "Job": {"Tasks": [{**OTHER_TASK, "ComputeEnv": THIRD_ENV}]}},
        ],
    ),
    "CreateComputeEnv": (
        CreateComputeEnv,
        [
            {
                "Placement": PL,
                "ClientToken": "x",
                "ComputeEnv": {
                    **ENV,
                    "EnvName": "n",
                    "DesiredComputeNodeCount": 0,
                    "EnvDescription": "d",
                    "ActionIfComputeNodeInactive": "RECREATE",
                    "ResourceMaxRetryCount": 1,
                    "Tags": [{"Key": "k", "Value": "v"}],
                    "NotificationTarget": "TDMQ_CMQ",
                    "Notifications": ENOTE,
                    "InputMappings": TASK["InputMappings"],
                    "Authentications": TASK["Authentications"],
                },
            },
            *(
                {
                    "Placement": OTHER_PL,
                    "ComputeEnv": {
                        **env,
                        "EnvName": "n",
                        "DesiredComputeNodeCount": 0,
                        "InputMappings": OTHER_TASK["InputMappings"],
                    },
                }
                for env in (OTHER_ENV, THIRD_ENV)
            ),
        ],
    ),
    "CreateTaskTemplate": (
        CreateTaskTemplate,
        [
            {
                "TaskTemplateName": "n",
                "TaskTemplateDescription": "d",
                "TaskTemplateInfo": TASK,
                "Tags": [{"Key": "k", "Value": "v"}],
            },
            *(
                {"TaskTemplateName": "n", "TaskTemplateInfo": task}
                for task in (OTHER_TASK, {**OTHER_TASK, "ComputeEnv": THIRD_ENV}, TEMPLATED)
            ),
        ],
    ),
}

#: Error codes of what only the service can know, and why a DAG file can't.
ONLY_THE_SERVICE_KNOWS = {
    "InvalidParameterValue.InvalidZoneMismatchRegion": "the region of a request comes from the connection",
    "InvalidZone.MismatchRegion": "which zones there are",
    "InvalidParameter.EnvIdMalformed": "which environments there are; the form of their ids is not documented",
    "ResourceNotFound.ComputeEnv": "which environments there are",
    "InvalidParameterValue.InstanceType": "which types of machines there are",
    "InvalidParameter.NotificationTopicName": "which topics there are",
}
#: What the provider fills in where a DAG file leaves it out: the API wants the list even when it is empty.
FILLED_IN = ("EventVars", "missing")
MISSING = object()


def leaves(v: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(v, dict):
        for k, x in v.items():
            yield from leaves(x, (*path, k))
        if path:
            yield path
    elif isinstance(v, list):
        yield path
        for i, x in enumerate(v):
            yield from leaves(x, (*path, i))
    else:
        yield path


def at(v: Any, path: tuple[Any, ...]) -> Any:
    for p in path:
        v = v[p]
    return v


def variants(v: Any) -> list[Any]:
    if isinstance(v, bool):
        return [False, "TRUE", "true", "yes", "maybe", "", 1, 0, 2]
    if isinstance(v, int):
        return [0, -1, 1, "1", "", "x", 1.0, 1.5, True, 100, 101, 2000, 2001, 10001, 2**63, "1.0", " 1"]
    if isinstance(v, str):
        return ["", "a b", "a/b", "..", "é", "x" * 61, "x" * 201, "x" * 65, "a\nb", "a\0b", 5, True, "-", "1a", "env-1"]
    if isinstance(v, list):
        return [[], v * 11, v * 2, {}, "x"]
    return [{}, [], "x"]


def put(base: Any, path: tuple[Any, ...], value: Any) -> Any:
    r = copy.deepcopy(base)
    if value is MISSING:
        del at(r, path[:-1])[path[-1]]
    else:
        at(r, path[:-1])[path[-1]] = value
    return r


def table(action: str, env_id: str) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Each member, the value that it takes, and the request."""
    for base in REQUESTS[action][1]:
        base = json.loads(json.dumps(base).replace('"ENV"', f'"{env_id}"'))
        token = {"ClientToken": base.pop("ClientToken")} if "ClientToken" in base else {}
        yield "", "", base
        for value in variants(token.get("ClientToken", "x")) if token else ():
            yield "ClientToken", value, {**base, "ClientToken": value}
        for path in leaves(base):
            for value in [*variants(at(base, path)), *([MISSING] if isinstance(path[-1], str) else [])]:
                yield ".".join(map(str, path)), "missing" if value is MISSING else value, put(base, path, value)


def parsed(action: str, request: Any) -> bool:
    try:
        REQUESTS[action][0].parse(copy.deepcopy(request))
    except InvalidRequest:
        return False
    return True


def refusal(emulator: Emulator, action: str, request: Any) -> str | None:
    """The error code with which the emulator refuses a request, if it does."""

    def make(services: Services) -> str | None:
        try:
            known = schema("batch").check(f"{action}Request", copy.deepcopy(request), lenient=True)
            HANDLERS[action](services.batch, known)
        except ApiError as error:
            return error.code
        return None

    return emulator.on_loop(make)


@pytest.fixture(scope="module")
def roomy() -> Iterator[Emulator]:
    """An emulator without quotas, in which nothing runs."""
    many = ("job_quota", "compute_env_quota", "task_template_quota", "max_task_instances")
    with Emulator(Settings.model_validate({"mode": "simulate", "capacity": 1, **dict.fromkeys(many, 10**6)})) as own:
        yield own


@pytest.fixture(scope="module")
def env_id(roomy: Emulator) -> str:
    """An environment for the tasks that run in one."""
    request = {"Placement": PL, "ComputeEnv": {**ENV, "EnvName": "n", "DesiredComputeNodeCount": 0}}
    env_id: str = roomy.on_loop(lambda services: HANDLERS["CreateComputeEnv"](services.batch, request))["EnvId"]
    return env_id


@pytest.mark.parametrize("action", REQUESTS)
def test_parse_and_the_emulator_refuse_the_same(roomy: Emulator, env_id: str, action: str) -> None:
    counts: Counter[str] = Counter()
    at_parse_alone, by_the_emulator_alone = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for member, value, request in table(action, env_id):
            taken, code = parsed(action, request), refusal(roomy, action, request)
            counts["taken" if taken else "refused"] += 1
            if not taken and code is None:
                at_parse_alone.append((member, value))
            filled_in = (member.rpartition(".")[2], value) == FILLED_IN
            if taken and code is not None and code not in ONLY_THE_SERVICE_KNOWS and not filled_in:
                by_the_emulator_alone.append((member, value, code))
            assert member or code is None, f"the request that the table is made of is refused with {code}"
    assert at_parse_alone == []
    assert by_the_emulator_alone == []
    assert min(counts["taken"], counts["refused"]) > 100


@pytest.mark.parametrize("action", REQUESTS)
def test_the_table_holds_every_member(action: str) -> None:
    known, used = set(), set()

    def walk(model: str, values: list[Any]) -> None:
        for name, field in schema("batch").fields(model).items():
            known.add(f"{model}.{name}")
            inside = [value[name] for value in values if name in value]
            if inside:
                used.add(f"{model}.{name}")
            if field.is_object:
                walk(field.kind, [item for value in inside for item in (value if field.is_list else [value])])

    walk(f"{action}Request", REQUESTS[action][1])
    assert known - used == set()


@pytest.mark.parametrize(
    ("action", "member", "value"),
    [
        ("SubmitJob", "Job.Tasks.0.TaskInstanceNum", 0),
        ("SubmitJob", "Job.Tasks.0.Application.Command", ""),
        ("SubmitJob", "Job.Tasks.0.EnvVars.0.Name", "a b"),
        ("SubmitJob", "Job.Tasks.0.ComputeEnv.EnvType", "x"),
        ("SubmitJob", "Job.Tasks.0.ComputeEnv.MountDataDisks.0.LocalPath", "data"),
        ("SubmitJob", "Job.Tasks.0.RedirectInfo.StdoutRedirectFileName", "a/b"),
        ("SubmitJob", "Job.Tasks.0.InputMappings.0.DestinationPath", ".."),
        ("CreateComputeEnv", "ComputeEnv.ActionIfComputeNodeInactive", "x"),
        ("CreateTaskTemplate", "TaskTemplateName", ""),
    ],
)
def test_what_is_open_can_be_refused(roomy: Emulator, env_id: str, action: str, member: str, value: Any) -> None:
    path = tuple(int(part) if part.isdigit() else part for part in member.split("."))
    base = json.loads(json.dumps(REQUESTS[action][1][0]).replace('"ENV"', f'"{env_id}"'))
    request = put({key: item for key, item in base.items() if key != "ClientToken"}, path, value)
    assert refusal(roomy, action, request) is None
    roomy.configure(undocumented_values="refuse")
    try:
        assert refusal(roomy, action, request)
    finally:
        roomy.configure(undocumented_values="accept")
