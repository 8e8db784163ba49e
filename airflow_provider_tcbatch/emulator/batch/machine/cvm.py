"""Renting a machine: which type it gets, and the reasons why it may get none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.machine import catalog
from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

#: What is rented when the request leaves the choice to the service.
DEFAULT_TYPE = "S5.MEDIUM4"
#: Short names of the usual reasons, in the setting cvm_failures.
REASONS = {
    "no_stock": "ResourcesSoldOut.SpecifiedInstanceType",
    "quota": "LimitExceeded.InstanceQuota",
    "image": "InvalidImageId.NotFound",
}
_SCRIPTED = re.compile(r"^(?P<reason>[^*]+?)(?:\*(?P<times>\d+))?$")
#: From which retry on it is waited how long, in seconds.
_WAITS = ((51, 3600), (11, 1800), (4, 900), (1, 600))


class CreationFailed(Exception):
    """No machine could be made; the text is the StateReason in the documented form ``InternalError.CallCvm:<code>``."""

    def __init__(self, code: str) -> None:
        super().__init__(f"InternalError.CallCvm:{code}")


def retry_wait(host: Host, number: int) -> float:
    """Seconds before the retry of this number (from 1), as documented and scaled by ``resource_retry_scale``."""
    wait = next(seconds for first, seconds in _WAITS if number >= first)
    return wait * host.settings.resource_retry_scale


def candidates(host: Host, data: dict[str, Any]) -> list[MachineType | str]:
    """The machines an EnvData asks for, in the order in which they are tried; a name that is no type stays a name.

    An empty list means that InstanceTypeOptions fit nothing.
    """
    if "InstanceTypeOptions" in data:
        options = data["InstanceTypeOptions"]
        return list(catalog.matching(options["CPU"], options["Memory"], options.get("InstanceCategories", [])))
    names: Iterable[str] = data.get("InstanceTypes") or [data.get("InstanceType") or DEFAULT_TYPE]
    if host.settings.unknown_instance_types == "accept":
        return [catalog.find(name) or catalog.invent(name) for name in names]
    return [catalog.find(name) or name for name in names]


def rent(batch: BatchService, data: dict[str, Any], zone: str) -> MachineType:
    """Rent one machine: the first type that can be had.

    :param data: an EnvData object.
    :raises CreationFailed: with the reason of the first type, when none can be had.
    """
    reasons: list[str] = []
    for candidate in candidates(batch.host, data):
        reason = _refusal(batch, candidate, data, zone)
        if reason is None:
            assert isinstance(candidate, MachineType)
            return candidate
        reasons.append(reason)
    raise CreationFailed(reasons[0] if reasons else "InvalidParameterValue.InsufficientOffering")


def _refusal(batch: BatchService, candidate: MachineType | str, data: dict[str, Any], zone: str) -> str | None:
    host = batch.host
    name = candidate if isinstance(candidate, str) else candidate.name
    fault = host.faults.machine("fail_creation", (name, zone))
    if fault is not None:
        return fault.code or REASONS["no_stock"]
    for key in (name, data.get("ImageId", ""), zone, "*"):
        if key in host.settings.cvm_failures:
            scripted = _scripted(batch, key, host.settings.cvm_failures[key])
            if scripted == "ok":
                break
            if scripted is not None:
                return scripted
    if isinstance(candidate, str):
        return "InvalidInstanceType.Malformed"
    if name in host.settings.sold_out_types and host.settings.cvm_failures.get(name) != "ok":
        return REASONS["no_stock"]
    if data.get("InstanceChargeType") == "SPOTPAID" and "InstanceMarketOptions" in data:
        offered = float(data["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"])
        if offered < candidate.spot_price:
            return "InvalidParameterValue.InsufficientPrice"
    return None


def _scripted(batch: BatchService, key: str, script: str) -> str | None:
    """The reason that a setting gives this time, if it gives one."""
    match = _SCRIPTED.match(script)
    if match is None:
        return script
    if match["times"] is not None:
        # Counted by key and text, so that setting another text begins anew.
        used = batch.failures_used
        if used[key, script] >= int(match["times"]):
            return None
        used[key, script] += 1
    return REASONS.get(match["reason"], match["reason"])


def default_machine() -> MachineType:
    """The type that is taken when nothing says which."""
    machine = catalog.find(DEFAULT_TYPE)
    assert machine is not None
    return machine
