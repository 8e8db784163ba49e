"""The rules for SubmitJob that go beyond names and types of members."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs.rules import check_anonymous, check_env_id
from airflow_provider_tcbatch.emulator.batch.events import JOB_EVENTS, NODE_EVENTS
from airflow_provider_tcbatch.emulator.batch.machine.mapping_rules import check_mappings, check_remote
from airflow_provider_tcbatch.emulator.batch.machine.paths import (
    check_file_name,
    check_key_part,
    parse_cos,
    relative_local,
)
from airflow_provider_tcbatch.emulator.batch.rules import (
    check_activated,
    check_choice,
    check_client_token,
    check_length,
    check_no_nul,
    check_not_negative,
    check_notifications,
    check_tags,
    check_zone,
)
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.host import Host
from airflow_provider_tcbatch.emulator.schema import printable

#: What every system takes; which other names an instance takes is not documented.
_PORTABLE_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_VARIABLE_NAME = re.compile(r"[^=\0]+")

_ENUMS = {
    "TaskExecutionDependOn": ("PRE_TASK_SUCCEED", "PRE_TASK_AT_LEAST_PARTLY_SUCCEED", "PRE_TASK_FINISHED"),
    "StateIfCreateCvmFailed": ("FAILED", "RUNNABLE"),
    "NotificationTarget": ("CMQ", "TDMQ_CMQ"),
    "FailedAction": ("TERMINATE", "INTERRUPT", "FAST_INTERRUPT"),
}
_UNSIGNED = ("TaskInstanceNum", "MaxRetryCount", "Timeout", "MaxConcurrentNum", "ResourceMaxRetryCount")


def check_submission(batch: BatchService, request: dict[str, Any]) -> None:
    """Refuse a job that the service would refuse.

    Tasks without a name are given one, in the request itself.

    :raises ApiError: with the documented code of the first rule that is broken.
    """
    host = batch.host
    check_activated(host)
    check_zone(host, request["Placement"]["Zone"], "Placement.Zone")
    check_client_token(request)
    job = request["Job"]
    check_length(job, "JobName", 60, "InvalidParameter.JobNameTooLong", "Job.")
    check_length(job, "JobDescription", 200, "InvalidParameter.JobDescriptionTooLong", "Job.")
    priority = job.get("Priority", 0)
    if priority < 0:
        raise ApiError("InvalidParameterValue.Negative", "The parameter `Job.Priority` must not be negative.")
    if priority > 100:
        raise ApiError("InvalidParameterValue", "The parameter `Job.Priority` must be 0 to 100.")
    for name in ("TaskExecutionDependOn", "StateIfCreateCvmFailed", "NotificationTarget"):
        check_choice(job, name, _ENUMS[name], f"Job.{name}")
    check_tags(job, "Job.Tags")
    tasks = job["Tasks"]
    if not tasks:
        raise ApiError("MissingParameter", "The request is missing a required parameter `Job.Tasks.0`.")
    if len(tasks) > host.settings.max_tasks:
        raise ApiError("InvalidParameterValue.LimitExceeded", f"A job has at most {host.settings.max_tasks} tasks.")
    for index, task in enumerate(tasks):
        check_task(batch, task, f"Job.Tasks.{index}", index)
    names = [task["TaskName"] for task in tasks]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ApiError(
            "InvalidParameter.TaskName",
            f"The TaskName {printable(twice, 60)!r} is used by more than one of `Job.Tasks`.",
        )
    check_dependences(names, job.get("Dependences", ()))
    check_notifications(batch, job.get("Notifications", ()), JOB_EVENTS | NODE_EVENTS, "Job.Notifications")


def check_task(
    batch: BatchService, task: dict[str, Any], where: str, index: int = 0, *, env_must_exist: bool = True
) -> None:
    """One Task of a job or a template."""
    host = batch.host
    name = task.setdefault("TaskName", f"task-{index}")
    check_task_name(host, name, f"{where}.TaskName")
    for number in _UNSIGNED:
        if task.get(number, 0) < 0:
            raise ApiError("InvalidParameterValue.Negative", f"The parameter `{where}.{number}` must not be negative.")
    # Whether 0 is refused, or stands for the default, is not documented.
    least = 1 if host.settings.undocumented_values == "refuse" else 0
    if not least <= task.get("TaskInstanceNum", 1) <= host.settings.max_task_instances:
        raise ApiError(
            "InvalidParameterValue.TaskInstanceNum",
            f"The parameter `{where}.TaskInstanceNum` must be {least} to {host.settings.max_task_instances}.",
        )
    for number, limit in (("MaxRetryCount", host.settings.max_retry_count), ("ResourceMaxRetryCount", 100)):
        if task.get(number, 0) > limit:
            raise ApiError(
                "InvalidParameterValue.MaxRetryCount", f"The parameter `{where}.{number}` must be at most {limit}."
            )
    check_choice(task, "FailedAction", _ENUMS["FailedAction"], f"{where}.FailedAction")
    _check_application(host, task["Application"], f"{where}.Application")
    if ("EnvId" in task) == ("ComputeEnv" in task):
        raise ApiError(
            "AllowedOneAttributeInEnvIdAndComputeEnv",
            f"Exactly one of `{where}.EnvId` and `{where}.ComputeEnv` must be given.",
        )
    if "EnvId" in task:
        check_env_id(task["EnvId"], f"{where}.EnvId")
        env = batch.envs.get(task["EnvId"])
        if env_must_exist and (env is None or env.next_action):
            raise ApiError(
                "ResourceNotFound.ComputeEnv", f"The compute environment {task['EnvId']} of `{where}` does not exist."
            )
    else:
        check_anonymous(host, task["ComputeEnv"], f"{where}.ComputeEnv")
    _check_redirects(host, task, where)
    for position, variable in enumerate(task.get("EnvVars", ())):
        strict = host.settings.undocumented_values == "refuse"
        names = _PORTABLE_NAME if strict else _VARIABLE_NAME
        if not names.fullmatch(variable["Name"]) or "\0" in variable["Value"]:
            raise ApiError(
                "InvalidParameterValue", f"The parameter `{where}.EnvVars.{position}` is no environment variable."
            )
    check_mappings(host, task, where, contained="Docker" in task["Application"])


def check_task_name(host: Host, name: str, where: str) -> None:
    """Refuse what cannot be the name of a task."""
    if len(name) > (longest := host.settings.task_name_length):
        raise ApiError("InvalidParameter.TaskNameTooLong", f"The parameter `{where}` is longer than {longest}.")
    pattern = host.settings.task_name_pattern
    # No environment variable can hold a NUL, and BATCH_TASK_NAME is to hold it.
    if not re.fullmatch(pattern, name) or "\0" in name:
        raise ApiError(
            "InvalidParameter.TaskName",
            f"The parameter `{where}` must match {printable(pattern, 60)}, not {printable(name, 60)!r}.",
        )


def _check_application(host: Host, application: dict[str, Any], where: str) -> None:
    form = application["DeliveryForm"]
    if form not in ("LOCAL", "PACKAGE"):
        raise ApiError("InvalidParameterValue", f"The parameter `{where}.DeliveryForm` must be LOCAL or PACKAGE.")
    if ("Command" in application) == ("Commands" in application):
        raise ApiError(
            "InvalidParameter.InvalidParameterCombination",
            f"Exactly one of `{where}.Command` and `{where}.Commands` must be given.",
        )
    if "Commands" in application and not application["Commands"]:
        raise ApiError("MissingParameter", f"The request is missing a required parameter `{where}.Commands.0`.")
    for command in [item["Command"] for item in application.get("Commands", ())] or [application["Command"]]:
        if "\0" in command:
            raise ApiError("InvalidParameterValue", f"A command of `{where}` holds a NUL.")
        if not command and host.settings.undocumented_values == "refuse":
            raise ApiError("InvalidParameterValue", f"A command of `{where}` is empty.")
    if "Docker" in application and not application["Docker"]["Image"].strip():
        raise ApiError("InvalidParameterValue", f"The parameter `{where}.Docker.Image` is empty.")
    check_no_nul(application.get("Docker", {}), ("Image", "User", "Server", "DockerRunOption"), f"{where}.Docker")
    for number in ("MaxRetryCount", "DelayOnRetry"):
        check_not_negative(application.get("Docker", {}), number, f"{where}.Docker.{number}")
    if form == "PACKAGE":
        path = application.get("PackagePath")
        if not path:
            raise ApiError("MissingParameter", f"The request is missing a required parameter `{where}.PackagePath`.")
        if not path.startswith(("http://", "https://")):
            parse_cos(path, f"{where}.PackagePath", folder=False)


def _check_redirects(host: Host, task: dict[str, Any], where: str) -> None:
    for title in ("Stdout", "Stderr"):
        redirect = task.get("RedirectInfo", {})
        if redirect.get(f"{title}RedirectPath"):
            check_remote(host, redirect[f"{title}RedirectPath"], f"{where}.RedirectInfo.{title}RedirectPath")
        if redirect.get(f"{title}RedirectFileName"):
            check_key_part(
                redirect[f"{title}RedirectFileName"],
                f"{where}.RedirectInfo.{title}RedirectFileName",
                folders=host.settings.undocumented_values == "accept",
            )
        local = task.get("RedirectLocalInfo", {})
        check_no_nul(local, (f"{title}LocalPath", f"{title}LocalFileName"), f"{where}.RedirectLocalInfo")
        if host.settings.mode == "simulate" and host.settings.undocumented_values == "accept":
            continue
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
