"""The rules for SubmitJob that go beyond names and types of members."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from airflow_provider_tcbatch.emulator.batch.events import JOB_EVENTS, NODE_EVENTS
from airflow_provider_tcbatch.emulator.batch.paths import check_file_name, parse_cos, relative_local
from airflow_provider_tcbatch.emulator.core import Core
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

_TASK_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
_ENV_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_TOPIC_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]*$")
_ZONE = re.compile(r"^(?P<region>[a-z]{2,}(?:-[a-z0-9]+)+?)-(?P<number>\d{1,2})$")
_IMAGE_ID = re.compile(r"^img-[0-9a-z]{8}$")
_ENV_ID = re.compile(r"^env-[0-9a-z]+$")

_ENUMS = {
    "TaskExecutionDependOn": ("PRE_TASK_SUCCEED", "PRE_TASK_AT_LEAST_PARTLY_SUCCEED", "PRE_TASK_FINISHED"),
    "StateIfCreateCvmFailed": ("FAILED", "RUNNABLE"),
    "NotificationTarget": ("CMQ", "TDMQ_CMQ"),
    "FailedAction": ("TERMINATE", "INTERRUPT", "FAST_INTERRUPT"),
}
_UNSIGNED = ("TaskInstanceNum", "MaxRetryCount", "Timeout", "MaxConcurrentNum", "ResourceMaxRetryCount")


def check_submission(core: Core, request: dict[str, Any]) -> None:
    """Refuse a job that the service would refuse.

    Tasks without a name are given one, in the request itself.

    :raises ApiError: with the documented code of the first rule that is broken.
    """
    check_zone(core.identity.region, request["Placement"]["Zone"], "Placement.Zone")
    token = request.get("ClientToken")
    if token is not None and not (0 < len(token) <= 64 and token.isascii()):
        raise ApiError("InvalidParameterValue", "The parameter `ClientToken` must be 1 to 64 ASCII characters.")
    job = request["Job"]
    _check_length(job, "JobName", 60, "InvalidParameter.JobNameTooLong")
    _check_length(job, "JobDescription", 200, "InvalidParameter.JobDescriptionTooLong")
    priority = job.get("Priority", 0)
    if priority < 0:
        raise ApiError("InvalidParameterValue.Negative", "The parameter `Job.Priority` must not be negative.")
    if priority > 100:
        raise ApiError("InvalidParameterValue", "The parameter `Job.Priority` must be 0 to 100.")
    for name in ("TaskExecutionDependOn", "StateIfCreateCvmFailed", "NotificationTarget"):
        _check_enum(job, name, f"Job.{name}")
    if len(job.get("Tags", ())) > 10:
        raise ApiError("InvalidParameterValue.LimitExceeded", "A job has at most 10 `Job.Tags`.")
    tasks = job["Tasks"]
    if not tasks:
        raise ApiError("MissingParameter", "The request is missing a required parameter `Job.Tasks.0`.")
    if len(tasks) > core.settings.max_tasks:
        raise ApiError("InvalidParameterValue.LimitExceeded", f"A job has at most {core.settings.max_tasks} tasks.")
    for index, task in enumerate(tasks):
        check_task(core, task, f"Job.Tasks.{index}", index)
    names = [task["TaskName"] for task in tasks]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ApiError("InvalidParameter.TaskName", f"The TaskName {twice} is used by more than one of `Job.Tasks`.")
    check_dependences(names, job.get("Dependences", ()))
    check_notifications(core, job.get("Notifications", ()))


def check_zone(region: str, zone: str, where: str) -> None:
    """A zone must exist and belong to the region of the request."""
    match = _ZONE.match(zone)
    if match is None:
        raise ApiError("InvalidZone.MismatchRegion", f"The zone {printable(zone)} of `{where}` does not exist.")
    if match["region"] != region:
        raise ApiError(
            "InvalidParameterValue.InvalidZoneMismatchRegion",
            f"The zone {zone} of `{where}` is not in the region {region}.",
        )
    if not 1 <= int(match["number"]) <= 20:
        raise ApiError("InvalidZone.MismatchRegion", f"The zone {zone} of `{where}` does not exist.")


def check_task(core: Core, task: dict[str, Any], where: str, index: int) -> None:
    """One Task of a job or a template."""
    name = task.setdefault("TaskName", f"task-{index}")
    if len(name) > 60:
        raise ApiError("InvalidParameter.TaskNameTooLong", f"The parameter `{where}.TaskName` is longer than 60.")
    if not _TASK_NAME.match(name):
        raise ApiError(
            "InvalidParameter.TaskName",
            f"The parameter `{where}.TaskName` may hold letters, digits, _ and -, not {printable(name, 60)!r}.",
        )
    for number in _UNSIGNED:
        if task.get(number, 0) < 0:
            raise ApiError("InvalidParameterValue.Negative", f"The parameter `{where}.{number}` must not be negative.")
    instances = task.get("TaskInstanceNum", 1)
    if not 1 <= instances <= core.settings.max_task_instances:
        raise ApiError(
            "InvalidParameterValue.TaskInstanceNum",
            f"The parameter `{where}.TaskInstanceNum` must be 1 to {core.settings.max_task_instances}.",
        )
    for number, limit in (("MaxRetryCount", core.settings.max_retry_count), ("ResourceMaxRetryCount", 100)):
        if task.get(number, 0) > limit:
            raise ApiError(
                "InvalidParameterValue.MaxRetryCount", f"The parameter `{where}.{number}` must be at most {limit}."
            )
    _check_enum(task, "FailedAction", f"{where}.FailedAction")
    _check_application(task["Application"], f"{where}.Application")
    if ("EnvId" in task) == ("ComputeEnv" in task):
        raise ApiError(
            "AllowedOneAttributeInEnvIdAndComputeEnv",
            f"Exactly one of `{where}.EnvId` and `{where}.ComputeEnv` must be given.",
        )
    if "EnvId" in task:
        if not _ENV_ID.match(task["EnvId"]):
            raise ApiError("InvalidParameter.EnvIdMalformed", f"The parameter `{where}.EnvId` is malformed.")
        raise ApiError("ResourceNotFound.ComputeEnv", f"The compute environment {task['EnvId']} does not exist.")
    _check_compute_env(core, task["ComputeEnv"], f"{where}.ComputeEnv")
    _check_redirects(task, where)
    for position, variable in enumerate(task.get("EnvVars", ())):
        if not _ENV_NAME.match(variable["Name"]) or "\0" in variable["Value"]:
            raise ApiError(
                "InvalidParameterValue", f"The parameter `{where}.EnvVars.{position}` is no environment variable."
            )
    for member in ("InputMappings", "OutputMappings"):
        if task.get(member):
            raise ApiError(
                "UnsupportedOperation",
                f"The emulator has no mounts: read and write COS in the command instead of `{where}.{member}`.",
            )


def _check_application(application: dict[str, Any], where: str) -> None:
    form = application["DeliveryForm"]
    if form not in ("LOCAL", "PACKAGE"):
        raise ApiError("InvalidParameterValue", f"The parameter `{where}.DeliveryForm` must be LOCAL or PACKAGE.")
    if ("Command" in application) == ("Commands" in application):
        raise ApiError(
            "InvalidParameter.InvalidParameterCombination",
            f"Exactly one of `{where}.Command` and `{where}.Commands` must be given.",
        )
    if "Commands" in application:
        raise ApiError("UnsupportedOperation", f"The emulator does not run tightly coupled tasks (`{where}.Commands`).")
    if not application["Command"] or "\0" in application["Command"]:
        raise ApiError("InvalidParameterValue", f"The parameter `{where}.Command` is empty or holds a NUL.")
    if form == "PACKAGE":
        path = application.get("PackagePath")
        if not path:
            raise ApiError("MissingParameter", f"The request is missing a required parameter `{where}.PackagePath`.")
        if not path.startswith(("http://", "https://")):
            parse_cos(path, f"{where}.PackagePath", folder=False)


def _check_compute_env(core: Core, env: dict[str, Any], where: str) -> None:
    if env.get("EnvType", "MANAGED") not in ("MANAGED", "THPC_QUEUE"):
        raise ApiError("InvalidParameterValue.ComputeEnv", f"The parameter `{where}.EnvType` must be MANAGED.")
    data = env.get("EnvData", {})
    for group in (
        ("InstanceType", "InstanceTypes", "InstanceTypeOptions"),
        ("VirtualPrivateCloud", "Zones", "VirtualPrivateClouds"),
    ):
        given = [name for name in group if name in data]
        if len(given) > 1:
            raise ApiError(
                "InvalidParameter.InvalidParameterCombination",
                f"`{where}.EnvData` holds {' and '.join(given)}, which exclude each other.",
            )
    types = data.get("InstanceTypes", [])
    if len(types) > 10:
        raise ApiError(
            "InvalidParameterValue.LimitExceeded", f"`{where}.EnvData.InstanceTypes` has at most 10 entries."
        )
    if len(set(types)) != len(types):
        raise ApiError(
            "InvalidParameterValue.InstanceTypeDuplicate", f"`{where}.EnvData.InstanceTypes` names a type twice."
        )
    if "ImageId" in data and not _IMAGE_ID.match(data["ImageId"]):
        raise ApiError("InvalidParameter.ImageIdMalformed", f"The parameter `{where}.EnvData.ImageId` is malformed.")
    charge = data.get("InstanceChargeType", "POSTPAID_BY_HOUR")
    if charge not in ("POSTPAID_BY_HOUR", "SPOTPAID"):
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter `{where}.EnvData.InstanceChargeType` must be POSTPAID_BY_HOUR or SPOTPAID.",
        )
    if "InstanceMarketOptions" in data:
        price = data["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"]
        try:
            float(price)
        except ValueError:
            raise ApiError(
                "InvalidParameterValue.NotFloat",
                f"The parameter `{where}.EnvData.InstanceMarketOptions.SpotOptions.MaxPrice` is not a number.",
            ) from None
    for index, zone in enumerate(data.get("Zones", ())):
        check_zone(core.identity.region, zone, f"{where}.EnvData.Zones.{index}")


def _check_redirects(task: dict[str, Any], where: str) -> None:
    for title in ("Stdout", "Stderr"):
        redirect = task.get("RedirectInfo", {})
        if redirect.get(f"{title}RedirectPath"):
            parse_cos(redirect[f"{title}RedirectPath"], f"{where}.RedirectInfo.{title}RedirectPath", folder=True)
        if redirect.get(f"{title}RedirectFileName"):
            check_file_name(
                redirect[f"{title}RedirectFileName"],
                f"{where}.RedirectInfo.{title}RedirectFileName",
                code="InvalidParameterValue.RemoteStoragePath",
            )
        local = task.get("RedirectLocalInfo", {})
        if local.get(f"{title}LocalPath"):
            relative_local(local[f"{title}LocalPath"], f"{where}.RedirectLocalInfo.{title}LocalPath")
        if local.get(f"{title}LocalFileName"):
            check_file_name(
                local[f"{title}LocalFileName"],
                f"{where}.RedirectLocalInfo.{title}LocalFileName",
                code="InvalidParameterValue.LocalPath",
            )


def check_dependences(names: list[str], dependences: Iterable[dict[str, str]]) -> None:
    """Edges must join known tasks and make no cycle."""
    successors: dict[str, set[str]] = {name: set() for name in names}
    for index, edge in enumerate(dependences):
        for member in ("StartTask", "EndTask"):
            if edge[member] not in successors:
                raise ApiError(
                    "InvalidParameterValue.DependenceNotFoundTaskName",
                    f"`Job.Dependences.{index}.{member}` names the unknown task {printable(edge[member], 60)!r}.",
                )
        successors[edge["StartTask"]].add(edge["EndTask"])
    # Take away tasks that nothing comes before, again and again; what cannot be taken away is in or behind a cycle.
    incoming = dict.fromkeys(names, 0)
    for targets in successors.values():
        for target in targets:
            incoming[target] += 1
    free = [name for name, count in incoming.items() if count == 0]
    done = 0
    while free:
        done += 1
        for target in successors[free.pop()]:
            incoming[target] -= 1
            if incoming[target] == 0:
                free.append(target)
    if done != len(incoming):
        raise ApiError("InvalidParameterValue.DependenceUnfeasible", "`Job.Dependences` has a cycle.")


def check_notifications(core: Core, notifications: Iterable[dict[str, Any]]) -> None:
    """Topics must exist and have a subscription; events must be known and named once each."""
    for index, notification in enumerate(notifications):
        where = f"Job.Notifications.{index}"
        topic_name = notification["TopicName"]
        if len(topic_name) > 64:
            raise ApiError(
                "InvalidParameter.NotificationTopicNameTooLong", f"The parameter `{where}.TopicName` is longer than 64."
            )
        topic = core.broker.topic(topic_name) if _TOPIC_NAME.match(topic_name) else None
        if topic is None or not topic.subscriptions:
            reason = "does not exist" if topic is None else "has no subscription"
            raise ApiError(
                "InvalidParameter.NotificationTopicName",
                f"The topic {printable(topic_name)!r} of `{where}.TopicName` {reason}.",
            )
        seen: set[str] = set()
        for position, event in enumerate(notification["EventConfigs"]):
            name = event["EventName"]
            if name not in JOB_EVENTS and name not in NODE_EVENTS:
                raise ApiError(
                    "InvalidParameterValue",
                    f"`{where}.EventConfigs.{position}.EventName` {printable(name, 60)!r} is no event of a job.",
                )
            if name in seen:
                raise ApiError(
                    "InvalidParameter.NotificationEventNameDuplicate",
                    f"`{where}.EventConfigs` names the event {name} twice.",
                )
            seen.add(name)


def _check_length(source: dict[str, Any], name: str, limit: int, code: str) -> None:
    if len(source.get(name, "")) > limit:
        raise ApiError(code, f"The parameter `Job.{name}` is longer than {limit} characters.")


def _check_enum(source: dict[str, Any], name: str, where: str) -> None:
    if name in source and source[name] not in _ENUMS[name]:
        raise ApiError(
            "InvalidParameterValue",
            f"The parameter `{where}` must be one of {', '.join(_ENUMS[name])}, not {printable(source[name], 60)!r}.",
        )
