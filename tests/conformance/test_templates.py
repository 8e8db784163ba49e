"""Task templates through the official SDK."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException

from airflow_provider_tcbatch.emulator import Emulator, Settings
from tests.conformance.conftest import Call, task

PACE = Settings(task_template_quota=1000)


@pytest.fixture(scope="module")
def _own() -> Iterator[Emulator]:
    with Emulator(PACE) as emulator:
        yield emulator


@pytest.fixture
def emulator(_own: Emulator) -> Iterator[Emulator]:
    """This module's own emulator with its settings put back afterwards."""
    yield _own
    _own.configure(**PACE.model_dump())


def code(caught: pytest.ExceptionInfo[TencentCloudSDKException]) -> str:
    return str(caught.value.get_code())


def create(batch: Call, name: str = "t", **params: Any) -> str:
    return str(
        batch(
            "CreateTaskTemplate", **{"TaskTemplateName": name, "TaskTemplateInfo": task("true"), **params}
        ).TaskTemplateId
    )


def test_everything_comes_back(batch: Call, emulator: Emulator) -> None:
    info = task(
        "true",
        "rendering",
        Timeout=259200,
        OutputMappings=[
            {"SourcePath": "out", "DestinationPath": "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/r/"}
        ],
    )
    template_id = create(batch, TaskTemplateInfo=info, TaskTemplateDescription="d", Tags=[{"Key": "k", "Value": "v"}])
    assert template_id.startswith("task-tmpl-")
    view = batch("DescribeTaskTemplates", TaskTemplateIds=[template_id]).TaskTemplateSet[0]
    assert (view.TaskTemplateName, view.TaskTemplateDescription, view.Tags[0].Value) == ("t", "d", "v")
    assert view.CreateTime.endswith("Z")
    assert (view.TaskTemplateInfo.TaskName, view.TaskTemplateInfo.Timeout) == ("rendering", 259200)
    assert view.TaskTemplateInfo.OutputMappings[0].SourcePath == "out"


def test_listing(batch: Call, emulator: Emulator) -> None:
    name = f"listed-{uuid.uuid4().hex[:6]}"
    ids = [create(batch, name, Tags=[{"Key": "n", "Value": str(number)}]) for number in range(3)]

    def listed(**params: Any) -> tuple[int, list[str]]:
        answer = batch("DescribeTaskTemplates", **params)
        return answer.TotalCount, [item.TaskTemplateId for item in answer.TaskTemplateSet]

    by_name = {"Name": "task-template-name", "Values": [name]}
    assert listed(Filters=[by_name], Limit=2) == (3, [ids[2], ids[1]])
    assert listed(Filters=[by_name], Offset=2) == (3, [ids[0]])
    assert listed(Filters=[by_name, {"Name": "tag-value", "Values": ["1", "2"]}]) == (2, [ids[2], ids[1]])
    assert listed(TaskTemplateIds=[ids[0], "task-tmpl-00000000"]) == (1, [ids[0]])
    with pytest.raises(TencentCloudSDKException) as caught:
        listed(TaskTemplateIds=ids, Filters=[by_name])
    assert code(caught) == "InvalidParameter.InvalidParameterCombination"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, "InvalidParameterAtLeastOneAttribute"),
        # Thirty-one characters, but more than sixty bytes.
        ({"TaskTemplateName": "模" * 31}, "InvalidParameter.TaskTemplateNameTooLong"),
        ({"TaskTemplateDescription": "模" * 67}, "InvalidParameter.TaskTemplateDescriptionTooLong"),
        ({"TaskTemplateName": "a\0b"}, "InvalidParameter.TaskTemplateName"),
        ({"TaskTemplateInfo": task("true", "x" * 61)}, "InvalidParameter.TaskNameTooLong"),
        ({"TaskTemplateInfo": task("true", EnvId="env-0")}, "AllowedOneAttributeInEnvIdAndComputeEnv"),
    ],
)
def test_refused_changes(batch: Call, emulator: Emulator, change: dict[str, Any], expected: str) -> None:
    emulator.configure(task_name_length=60, undocumented_values="refuse")
    template_id = create(batch)
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("ModifyTaskTemplate", TaskTemplateId=template_id, **change)
    assert code(caught) == expected
    view = batch("DescribeTaskTemplates", TaskTemplateIds=[template_id]).TaskTemplateSet[0]
    assert (view.TaskTemplateName, view.TaskTemplateInfo.Application.Command) == ("t", "true")


def test_modify_and_delete(batch: Call, emulator: Emulator) -> None:
    first, second = create(batch), create(batch)
    batch("ModifyTaskTemplate", TaskTemplateId=first, TaskTemplateName="n", TaskTemplateInfo=task("false"))
    view = batch("DescribeTaskTemplates", TaskTemplateIds=[first]).TaskTemplateSet[0]
    assert (view.TaskTemplateName, view.TaskTemplateInfo.Application.Command) == ("n", "false")
    with pytest.raises(TencentCloudSDKException) as caught:
        batch("DeleteTaskTemplates", TaskTemplateIds=[first, "task-tmpl-00000000"])
    assert code(caught) == "ResourceNotFound.TaskTemplate"
    batch("DeleteTaskTemplates", TaskTemplateIds=[first, second])
    assert batch("DescribeTaskTemplates", TaskTemplateIds=[first, second]).TotalCount == 0


def test_quota(batch: Call, emulator: Emulator) -> None:
    create(batch)
    emulator.configure(task_template_quota=1)
    with pytest.raises(TencentCloudSDKException) as caught:
        create(batch)
    assert code(caught) == "LimitExceeded.TaskTemplateQuota"


def test_environment_of_a_template_need_not_exist(batch: Call, emulator: Emulator) -> None:
    info = {**task("true"), "EnvId": "env-00000000"}
    del info["ComputeEnv"]
    create(batch, TaskTemplateInfo=info)
    info["EnvId"] = "nonsense"
    with pytest.raises(TencentCloudSDKException) as caught:
        create(batch, TaskTemplateInfo=info)
    assert code(caught) == "InvalidParameter.EnvIdMalformed"
