"""Asking whether machines can be had, before anything is sent that needs them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import ComputeEnvFailed, InvalidRequest
from airflow_provider_tcbatch.policies.compute_env.instance_types import Availability, availability_of

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.policies.compute_env.instance_types import InstanceTypeCheck, Machines

__all__ = ["check_machines"]

log = logging.getLogger(__name__)


def check_machines(hook: TCBatchHook, wanted: Mapping[str, Machines]) -> None:
    """Make sure that machines can be had: one of the types, in one of the zones, for each that asks.

    :param wanted: machines, by what asks for them. What can't be asked for by type is not in it.
    :raises InvalidRequest: if something asks only for types that are not offered there.
    :raises ComputeEnvFailed: if something finds all of its types sold out: that may pass.
    """
    answers: dict[Machines, list[InstanceTypeCheck]] = {}
    problems: dict[Availability, list[str]] = {}
    for name, machines in wanted.items():
        if machines not in answers:
            answers[machines] = [
                check
                for zone in machines.zones
                for check in hook.check_instance_types(zone, machines.types, charge_type=machines.charge_type)
            ]
            for check in answers[machines]:
                log.info("Preflight (%s): %s", machines.charge_type, check)
        checks = answers[machines]
        availability = availability_of(checks)
        if availability is not Availability.AVAILABLE:
            text = "; ".join(map(str, checks))
            problems.setdefault(availability, []).append(f"{name}: {text} ({machines.charge_type})")
    if not problems:
        return
    everything = [line for lines in problems.values() for line in lines]
    message = "No machine can be had (preflight): " + "\n".join(everything)
    if Availability.UNKNOWN in problems:
        raise InvalidRequest(message, problems=everything)
    raise ComputeEnvFailed(message, env_id="")
