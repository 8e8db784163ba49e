"""The rules for InputMappings, OutputMappings and what belongs to them."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.machine.paths import parse_cos
from airflow_provider_tcbatch.emulator.batch.machine.private_mounts import available
from airflow_provider_tcbatch.emulator.batch.rules import check_choice, check_not_negative
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.host import Host

#: Without these no program starts, so nothing may lie over them; nothing can be put into the first three.
_KERNEL = ("/proc", "/sys", "/dev")
_SYSTEM = (
    "/",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/etc",
    "/nix",
)


def check_mappings(host: Host, spec: dict[str, Any], where: str, *, contained: bool) -> None:
    """The mappings of a Task or a NamedComputeEnv.

    :param contained: whether commands run in a container, which has a file system of its own.
    """
    for index, mapping in enumerate(spec.get("InputMappings", ())):
        path = f"{where}.InputMappings.{index}"
        check_remote(host, mapping["SourcePath"], f"{path}.SourcePath")
        check_local(host, mapping["DestinationPath"], f"{path}.DestinationPath", contained=contained)
        check_choice(mapping, "MountType", ("COSFS", "GooseFS-Lite"), f"{path}.MountType")
    for index, mapping in enumerate(spec.get("OutputMappings", ())):
        path = f"{where}.OutputMappings.{index}"
        check_local(host, mapping["SourcePath"], f"{path}.SourcePath", contained=contained)
        check_remote(host, mapping["DestinationPath"], f"{path}.DestinationPath")
        check_choice(
            mapping.get("OutputMappingOption", {}),
            "Workspace",
            ("BATCH_WORKSPACE", "GLOBAL_WORKSPACE"),
            f"{path}.OutputMappingOption.Workspace",
        )
    for index, config in enumerate(spec.get("OutputMappingConfigs", ())):
        path = f"{where}.OutputMappingConfigs.{index}"
        check_choice(config, "Scene", ("COS",), f"{path}.Scene")
        for name in ("WorkerNum", "WorkerPartSize"):
            check_not_negative(config, name, f"{path}.{name}")


def check_remote(host: Host, path: str, where: str) -> None:
    """A folder in COS, or on a file server: the emulator has none, so only what is simulated may name one.

    :raises ApiError: RemoteStorageSchemeType or RemoteStoragePath.
    """
    if path.startswith(("cfs://", "nfs://")):
        if host.settings.mode != "simulate":
            raise ApiError(
                "InvalidParameterValue.RemoteStorageSchemeType",
                f"The parameter `{where}` names a file server; the emulator has COS only, unless its mode is simulate.",
            )
        if not path.endswith("/"):
            raise ApiError("InvalidParameterValue.RemoteStoragePath", f"The parameter `{where}` must end with a slash.")
        return
    parse_cos(path, where, folder=True)


def check_local(host: Host, path: str, where: str, *, contained: bool) -> None:
    """A path on the machine, relative to the instance's folder or absolute.

    What is refused besides an empty one and a NUL keeps this machine from harm; nothing is mounted in mode simulate.
    """
    if not path or "\0" in path:
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` is empty or holds a NUL.")
    if host.settings.mode == "simulate" and host.settings.undocumented_values == "accept":
        return
    parts = path.split("/")
    if not path.isprintable() or len(path.encode()) > 1024 or any(len(part) > 255 for part in parts):
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` is not a usable path.")
    if ".." in parts:
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` must not contain `..`.")
    if not path.startswith("/"):
        return
    clean = "/" + posixpath.normpath(path).lstrip("/")
    if clean in _SYSTEM or clean in _KERNEL or clean.startswith(tuple(f"{folder}/" for folder in _KERNEL)):
        raise ApiError("InvalidParameterValue.LocalPath", f"The parameter `{where}` would hide {printable(clean, 60)}.")
    if contained:
        return
    if f"{host.data_dir}/".startswith(f"{clean}/"):
        raise ApiError(
            "InvalidParameterValue.LocalPath", f"The parameter `{where}` would hide the emulator's own folder."
        )
    if host.settings.private_mounts == "off" or not available():
        raise ApiError(
            "InvalidParameterValue.LocalPath",
            f"The parameter `{where}` is absolute, and this system lets the emulator make no private mounts "
            "(user and mount namespaces); name a path relative to the instance's folder instead.",
        )
