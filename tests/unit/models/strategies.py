"""Valid API objects of any type, as wire JSON, for property tests."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, SecretStr
from pydantic.fields import FieldInfo

from airflow_provider_tcbatch.models.storage import Placeholder

Wire = dict[str, Any]

#: Every secret begins like this, so that one that leaked is easily found.
SECRET = "s3cr3t-"

_PLAIN = st.text(alphabet="abcxyz019", min_size=1, max_size=8)
#: No braces: Jinja is put in by the tests that are about it.
_ANY_TEXT = st.text(alphabet=st.characters(exclude_characters="{}", exclude_categories=["Cs"]), max_size=12)
_FOLDERS = st.sampled_from(
    ["cos://logs-1250000000.cos.ap-guangzhou.myqcloud.com/a/b/", "cfs://10.0.0.1/shared/", "nfs://10.0.0.2/x/"]
)
_PACKAGES = st.sampled_from(
    ["cos://code-1250000000.cos.ap-beijing.myqcloud.com/a.tgz", "https://example.com/a.tar.gz", "http://10.0.0.1/a.tgz"]
)


@functools.cache
def wire(model: type[BaseModel]) -> st.SearchStrategy[Wire]:
    """Wire JSON that satisfies all rules of a type."""
    required: dict[str, st.SearchStrategy[Wire]] = {}
    optional: dict[str, st.SearchStrategy[Wire]] = {}
    for name, info in model.model_fields.items():
        target = required if info.is_required() or model.__name__ == "EventConfig" else optional
        target[info.alias or name] = _of(info.annotation, tuple(info.metadata))
    return st.fixed_dictionaries(required, optional=optional).map(functools.partial(_fit, model))


def _of(annotation: Any, rules: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        for rule in more:
            rules += tuple(rule.metadata) if isinstance(rule, FieldInfo) else (rule,)
        return _of(inner, rules)
    if origin in (Union, types.UnionType):
        return _of(get_args(annotation)[0], rules)
    sizes: dict[type, Any] = {type(rule): rule for rule in rules if isinstance(rule, (Ge, Le, MinLen, MaxLen))}
    least = sizes[MinLen].min_length if MinLen in sizes else 0
    most = sizes[MaxLen].max_length if MaxLen in sizes else 1000
    if origin is list:
        checked = any(isinstance(rule, AfterValidator) for rule in rules)
        items = _of(get_args(annotation)[0], ())
        return st.lists(items, min_size=least, max_size=2, unique=checked)
    if issubclass(annotation, BaseModel):
        return wire(annotation)
    if issubclass(annotation, Enum):
        return st.sampled_from([member.value for member in annotation])
    if annotation is bool:
        return st.booleans()
    if annotation in (int, float):
        low = sizes[Ge].ge if Ge in sizes else -5
        high = sizes[Le].le if Le in sizes else low + 2**40
        if annotation is float:
            return st.floats(low, high)
        tens = any(isinstance(rule, AfterValidator) for rule in rules)
        return st.integers(low, high // 10).map(lambda number: number * 10) if tens else st.integers(low, high)
    return _text(annotation, rules, most)


def _text(annotation: type, rules: tuple[Any, ...], most: int) -> st.SearchStrategy[str]:
    for rule in rules:
        if isinstance(rule, Placeholder):
            if "://" not in rule.value:
                return st.just(rule.value)
            return _PACKAGES if rule.value.endswith("tgz") else _FOLDERS
    if issubclass(annotation, SecretStr):
        return _PLAIN.map(lambda text: SECRET + text)
    if any(isinstance(rule, AfterValidator) or getattr(rule, "pattern", None) for rule in rules):
        return _PLAIN.map(lambda text: f"n{text}")
    return _ANY_TEXT.filter(lambda text: len(text) <= most)


# -- rules between fields ----------------------------------------------------------------------------


def _only_one(data: Wire, *names: str) -> None:
    for name in [name for name in names if name in data][1:]:
        del data[name]


def _application(data: Wire) -> None:
    _only_one(data, "Command", "Commands")
    if "Commands" not in data:
        data.setdefault("Command", "true")
    if data["DeliveryForm"] == "PACKAGE":
        data.setdefault("PackagePath", "https://example.com/a.tgz")


def _task(data: Wire) -> None:
    _only_one(data, "EnvId", "ComputeEnv")
    if "ComputeEnv" not in data:
        data.setdefault("EnvId", "env-12345678")


def _env_data(data: Wire) -> None:
    _only_one(data, "InstanceType", "InstanceTypes", "InstanceTypeOptions")
    _only_one(data, "VirtualPrivateCloud", "VirtualPrivateClouds", "Zones")


def _job(data: Wire) -> None:
    tasks = data["Tasks"]
    for number, task in enumerate(tasks):
        task["TaskName"] = f"task{number}"
    if "Dependences" in data:
        edges = [{"StartTask": "task0", "EndTask": "task1"}] if len(tasks) > 1 else []
        data["Dependences"] = edges * min(1, len(data["Dependences"]))


def _notification(data: Wire) -> None:
    data["EventConfigs"] = list({config["EventName"]: config for config in data["EventConfigs"]}.values())


def _template(data: Wire) -> None:
    if len(data) == 1:
        data["TaskTemplateName"] = "name"


def _page(data: Wire) -> None:
    if "Offset" in data:
        data.setdefault("Limit", 1)


def _queue(data: Wire) -> None:
    data.pop("Policy", None)
    data.pop("MaxTimeToLive", None)


def _subscription(data: Wire) -> None:
    if data["Protocol"] == "http":
        data["Endpoint"] = "http://example.com"
    else:
        data.pop("NotifyContentFormat", None)


def _instances(data: Wire) -> None:
    for number, instance in enumerate(data["Instances"]):
        instance["InstanceId"] = f"ins-{number}"


_RULES: dict[str, Callable[[Wire], None]] = {
    "Application": _application,
    "Task": _task,
    "EnvData": _env_data,
    "LoginSettings": lambda data: _only_one(data, "Password", "KeyIds"),
    "Job": _job,
    "Notification": _notification,
    "DescribeJobs": lambda data: _only_one(data, "JobIds", "Filters"),
    "DescribeComputeEnvs": lambda data: _only_one(data, "EnvIds", "Filters"),
    "DescribeComputeEnvCreateInfos": lambda data: _only_one(data, "EnvIds", "Filters"),
    "DescribeTaskTemplates": lambda data: _only_one(data, "TaskTemplateIds", "Filters"),
    "DescribeTaskLogs": lambda data: _only_one(data, "TaskInstanceIndexes", "Offset"),
    "ModifyTaskTemplate": _template,
    "AttachInstances": _instances,
    "DescribeCmqQueues": _page,
    "DescribeCmqTopics": _page,
    "DescribeCmqSubscriptionDetail": _page,
    "CreateCmqQueue": _queue,
    "ModifyCmqQueueAttribute": _queue,
    "CreateCmqSubscribe": _subscription,
}


def _fit(model: type[BaseModel], data: Wire) -> Wire:
    if rule := _RULES.get(model.__name__):
        rule(data)
    return data
