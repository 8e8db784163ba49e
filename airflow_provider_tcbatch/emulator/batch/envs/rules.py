"""The rules for compute environments, those of a job's own machines included."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.events import ENV_EVENTS, NODE_EVENTS
from airflow_provider_tcbatch.emulator.batch.machine import catalog
from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
from airflow_provider_tcbatch.emulator.batch.machine.cvm import candidates
from airflow_provider_tcbatch.emulator.batch.machine.mapping_rules import check_mappings
from airflow_provider_tcbatch.emulator.batch.rules import (
    check_activated,
    check_choice,
    check_client_token,
    check_length,
    check_not_negative,
    check_notifications,
    check_open,
    check_tags,
    check_zone,
)
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host


_IMAGE_ID = re.compile(r"img-[0-9A-Za-z]+")
#: An absolute path or a drive; that a relative one is refused is not documented.
_DISK_PATH = re.compile(r"(/[^\0]*|[A-Za-z]:\\{0,2}[^\0]*)")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ENV_TYPES = ("MANAGED", "THPC_QUEUE")
_CATEGORIES = ("ALL", "GENERAL", "GENERAL_2", "GENERAL_3", "COMPUTE", "COMPUTE_2", "COMPUTE_3")
_ENV_ID = re.compile(r"^env-[0-9a-z]+$")


def check_creation(batch: BatchService, request: dict[str, Any]) -> None:
    """Refuse a CreateComputeEnv that the service would refuse.

    :raises ApiError: with the documented code of the first rule that is broken.
    """
    host = batch.host
    check_activated(host)
    check_zone(host, request["Placement"]["Zone"], "Placement.Zone")
    check_client_token(request)
    env = request["ComputeEnv"]
    check_names(host, env, "ComputeEnv.")
    desired = env["DesiredComputeNodeCount"]
    check_not_negative(env, "DesiredComputeNodeCount", "ComputeEnv.DesiredComputeNodeCount")
    if desired > host.settings.max_nodes:
        raise ApiError(
            "InvalidParameterValue.ComputeEnv",
            f"The parameter `ComputeEnv.DesiredComputeNodeCount` must be at most {host.settings.max_nodes}.",
        )
    check_choice(env, "EnvType", _ENV_TYPES, "ComputeEnv.EnvType", "InvalidParameterValue.ComputeEnv")
    check_anonymous(host, env, "ComputeEnv")
    data = env.get("EnvData", {})
    found = candidates(host, data)
    if not found or any(not isinstance(machine, MachineType) for machine in found):
        raise ApiError(
            "InvalidParameterValue.InstanceType", "`ComputeEnv.EnvData` asks for an instance type that does not exist."
        )
    check_open(host, env, "ActionIfComputeNodeInactive", ("RECREATE",), "ComputeEnv.ActionIfComputeNodeInactive")
    check_choice(env, "NotificationTarget", ("CMQ", "TDMQ_CMQ"), "ComputeEnv.NotificationTarget")
    check_not_negative(env, "ResourceMaxRetryCount", "ComputeEnv.ResourceMaxRetryCount")
    if env.get("ResourceMaxRetryCount", 0) > 100:
        raise ApiError(
            "InvalidParameterValue.ComputeEnv", "The parameter `ComputeEnv.ResourceMaxRetryCount` must be at most 100."
        )
    check_mappings(host, env, "ComputeEnv", contained=False)
    check_tags(env, "ComputeEnv.Tags")
    check_notifications(batch, env.get("Notifications", ()), ENV_EVENTS | NODE_EVENTS, "ComputeEnv.Notifications")


def check_env_id(env_id: str, where: str) -> None:
    """Refuse what cannot be the id of an environment."""
    if not _ENV_ID.fullmatch(env_id):
        raise ApiError("InvalidParameter.EnvIdMalformed", f"The parameter `{where}` is malformed.")


def check_names(host: Host, source: Mapping[str, Any], where: str) -> None:
    """Name and description of an environment."""
    check_length(source, "EnvName", host.settings.env_name_length, "InvalidParameter.EnvNameTooLong", where)
    longest = host.settings.env_description_length
    check_length(source, "EnvDescription", longest, "InvalidParameter.EnvDescriptionTooLong", where)


def check_anonymous(host: Host, env: dict[str, Any], where: str) -> None:
    """What an AnonymousComputeEnv and a NamedComputeEnv have in common."""
    check_open(host, env, "EnvType", _ENV_TYPES, f"{where}.EnvType", "InvalidParameterValue.ComputeEnv")
    _check_data(host, env.get("EnvData", {}), f"{where}.EnvData")
    for index, disk in enumerate(env.get("MountDataDisks", ())):
        path = disk["LocalPath"]
        relative = not _DISK_PATH.fullmatch(path) and host.settings.undocumented_values == "refuse"
        if not path or "\0" in path or relative:
            raise ApiError(
                "InvalidParameterValue.LocalPath",
                f"`{where}.MountDataDisks.{index}.LocalPath` is no path.",
            )
        check_choice(disk, "FileSystemType", ("EXT3", "EXT4", "NTFS"), f"{where}.MountDataDisks.{index}.FileSystemType")


def check_types(host: Host, types: list[str], where: str) -> None:
    """A list of instance types, tried in order: at most ten, each once."""
    if len(types) > 10:
        raise ApiError("InvalidParameterValue.LimitExceeded", f"`{where}` has at most 10 entries.")
    if len(set(types)) != len(types):
        raise ApiError("InvalidParameterValue.InstanceTypeDuplicate", f"`{where}` names a type twice.")


def check_known_types(host: Host, types: list[str], where: str) -> None:
    """All types must exist."""
    for name in types:
        if catalog.find(name) is None and host.settings.unknown_instance_types == "fail":
            raise ApiError(
                "InvalidParameterValue.InstanceType", f"`{where}` names {printable(name, 60)!r}, which does not exist."
            )


def _check_data(host: Host, data: dict[str, Any], where: str) -> None:
    for group in (
        ("InstanceType", "InstanceTypes", "InstanceTypeOptions"),
        ("VirtualPrivateCloud", "Zones", "VirtualPrivateClouds"),
    ):
        given = [name for name in group if name in data]
        if len(given) > 1:
            raise ApiError(
                "InvalidParameter.InvalidParameterCombination",
                f"`{where}` holds {' and '.join(given)}, which exclude each other.",
            )
    check_types(host, data.get("InstanceTypes", []), f"{where}.InstanceTypes")
    for category in data.get("InstanceTypeOptions", {}).get("InstanceCategories", ()):
        if category not in _CATEGORIES:
            raise ApiError(
                "InvalidParameterValue",
                f"`{where}.InstanceTypeOptions.InstanceCategories` must be of {', '.join(_CATEGORIES)}.",
            )
    # Tencent's own sample has an empty one, for the user to fill in.
    if data.get("ImageId") and not _IMAGE_ID.fullmatch(data["ImageId"]):
        raise ApiError("InvalidParameter.ImageIdMalformed", f"The parameter `{where}.ImageId` is malformed.")
    for name in ("CPU", "Memory"):
        check_not_negative(data.get("InstanceTypeOptions", {}), name, f"{where}.InstanceTypeOptions.{name}")
    check_choice(data, "InstanceChargeType", ("POSTPAID_BY_HOUR", "SPOTPAID"), f"{where}.InstanceChargeType")
    if "InstanceMarketOptions" in data:
        _check_market(data["InstanceMarketOptions"], f"{where}.InstanceMarketOptions")
    for index, zone in enumerate(data.get("Zones", ())):
        check_zone(host, zone, f"{where}.Zones.{index}")
    _check_cvm(data, where)


def _check_market(options: dict[str, Any], where: str) -> None:
    price = options["SpotOptions"]["MaxPrice"]
    # Python's float() takes "inf", "nan" and "1_0" too.
    if not _DECIMAL.fullmatch(price) or not math.isfinite(float(price)):
        raise ApiError(
            "InvalidParameterValue.NotFloat", f"The parameter `{where}.SpotOptions.MaxPrice` is not a number."
        )
    if float(price) < 0:
        raise ApiError("InvalidParameterValue.Negative", f"The parameter `{where}.SpotOptions.MaxPrice` is negative.")
    check_choice(options, "MarketType", ("spot",), f"{where}.MarketType")
    check_choice(options["SpotOptions"], "SpotInstanceType", ("one-time",), f"{where}.SpotOptions.SpotInstanceType")


def _check_cvm(data: dict[str, Any], where: str) -> None:
    """What CVM itself would refuse."""
    problem = None
    login = data.get("LoginSettings", {})
    if sum(bool(login.get(name)) for name in ("Password", "KeyIds")) > 1:
        problem = "`LoginSettings.Password` and `LoginSettings.KeyIds` exclude each other"
    if data.get("SystemDisk", {}).get("DiskSize", 50) < 0:
        problem = "`SystemDisk.DiskSize` is negative"
    for index, disk in enumerate(data.get("DataDisks", ())):
        if disk["DiskSize"] < 0 or disk["DiskSize"] % 10:
            problem = f"`DataDisks.{index}.DiskSize` must be a multiple of 10"
        if disk.get("ThroughputPerformance", 0) < 0:
            problem = f"`DataDisks.{index}.ThroughputPerformance` is negative"
    for network in (data.get("VirtualPrivateCloud", {}), *data.get("VirtualPrivateClouds", ())):
        if network.get("Ipv6AddressCount", 0) < 0:
            problem = "`Ipv6AddressCount` is negative"
    if data.get("InternetAccessible", {}).get("InternetMaxBandwidthOut", 0) < 0:
        problem = "`InternetAccessible.InternetMaxBandwidthOut` is negative"
    if problem:
        raise ApiError("InvalidParameter.CvmParameters", f"In `{where}`: {problem}.")
