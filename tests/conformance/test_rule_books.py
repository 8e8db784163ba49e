"""Where the provider refuses a value when a DAG is parsed, the emulator refuses it as well.

A table is generated from one request of each action that makes something: every member takes values of other types,
empty ones, ones beyond every bound, long ones and ones of other characters.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator, Settings
from airflow_provider_tcbatch.emulator.batch.actions import HANDLERS
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import schema
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
BASES: dict[str, tuple[Any, Any]] = {
    "SubmitJob": (
        SubmitJob,
        {
            "Placement": PL,
            "ClientToken": "x",
            "Job": {
                "JobName": "j",
                "JobDescription": "d",
                "Priority": 1,
                "Tasks": [TASK],
                "Dependences": [],
                "Notifications": NOTE,
                "TaskExecutionDependOn": "PRE_TASK_SUCCEED",
                "StateIfCreateCvmFailed": "FAILED",
                "Tags": [{"Key": "k", "Value": "v"}],
                "NotificationTarget": "TDMQ_CMQ",
            },
        },
    ),
    "CreateComputeEnv": (
        CreateComputeEnv,
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
    ),
    "CreateTaskTemplate": (
        CreateTaskTemplate,
        {
            "TaskTemplateName": "n",
            "TaskTemplateDescription": "d",
            "TaskTemplateInfo": TASK,
            "Tags": [{"Key": "k", "Value": "v"}],
        },
    ),
}


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
    at(r, path[:-1])[path[-1]] = value
    return r


@pytest.fixture(scope="module")
def roomy() -> Iterator[Emulator]:
    """An emulator without quotas, in which nothing runs."""
    many = {"job_quota": 10**6, "compute_env_quota": 10**6, "task_template_quota": 10**6}
    with Emulator(Settings.model_validate({"mode": "simulate", "capacity": 1, **many})) as own:
        yield own


@pytest.mark.parametrize("action", BASES)
def test_what_is_refused_at_parse_is_refused_by_the_emulator(roomy: Emulator, action: str) -> None:
    model, base = BASES[action]

    def parsed(request: Any) -> bool:
        try:
            model.parse(copy.deepcopy(request))
        except InvalidRequest:
            return False
        return True

    def taken(request: Any) -> bool:
        def make(core: Any) -> bool:
            try:
                known = schema("batch").check(f"{action}Request", copy.deepcopy(request), lenient=True)
                HANDLERS[action](core, known)
            except ApiError:
                return False
            return True

        return roomy.on_loop(make)

    refused, wrong = 0, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in leaves({key: value for key, value in base.items() if key != "ClientToken"}):
            for value in variants(at(base, path)) if path else ():
                request = put({key: value for key, value in base.items() if key != "ClientToken"}, path, value)
                if not parsed(request):
                    refused += 1
                    if taken(request):
                        wrong.append((".".join(map(str, path)), value))
    assert refused > 100
    assert wrong == []
