"""Which instance types can be had in a zone, and what to take instead: pure, from what the API lists."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.compute_env import EnvData
    from airflow_provider_tcbatch.models.machine_actions import InstanceTypeQuotaItem

__all__ = [
    "Availability",
    "InstanceTypeCheck",
    "Machines",
    "Offer",
    "availability_of",
    "check_types",
    "machines_of",
    "offer_of",
    "size_of",
]

_SOLD_OUT = "SOLD_OUT"

#: A type's name says its size: ``S5.2XLARGE32`` has eight cores and 32 GB.
_SIZE = re.compile(r"\.(?:(?P<word>SMALL|MEDIUM|LARGE)|(?P<times>\d+)XLARGE)(?P<memory>\d+)$")
_CORES = {"SMALL": 1, "MEDIUM": 2, "LARGE": 4}


class Availability(str, Enum):
    """Whether a type can be had."""

    AVAILABLE = "available"
    SOLD_OUT = "sold_out"
    #: The zone does not offer it (under this way of paying), or there is no such type.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Offer:
    """An instance type in a zone.

    :param memory: in GB.
    :param price: in yuan, after discount; ``None`` where the service tells none.
    :param unit: what the price is for: ``HOUR``, or ``MONTH``.
    :param reason: why it is sold out, in the service's words.
    """

    instance_type: str
    cpu: int = 0
    memory: int = 0
    gpu: float = 0.0
    sold_out: bool = False
    price: float | None = None
    unit: str = "HOUR"
    reason: str = ""

    def __str__(self) -> str:
        gpu = f", {self.gpu:g} GPU" if self.gpu else ""
        price = "" if self.price is None else f", {self.price:g} CNY/{self.unit.lower()}"
        return f"{self.instance_type} ({self.cpu} CPU, {self.memory} GB{gpu}{price})"


@dataclass(frozen=True)
class InstanceTypeCheck:
    """What is to be said of a type in a zone.

    :param offer: the type, if the zone knows it.
    :param alternatives: types that can be had, of the same size or larger, the cheapest first.
    """

    instance_type: str
    zone: str
    availability: Availability
    offer: Offer | None = None
    alternatives: Sequence[Offer] = field(default_factory=tuple)

    @property
    def available(self) -> bool:
        """Whether it can be had."""
        return self.availability is Availability.AVAILABLE

    def __str__(self) -> str:
        if self.available:
            return f"{self.offer} is available in {self.zone}"
        known = self.offer is not None
        reason = f": {self.offer.reason}" if self.offer is not None and self.offer.reason else ""
        text = f"{self.offer if known else self.instance_type} is {'sold out' if known else 'unknown'} in {self.zone}"
        if not self.alternatives:
            return f"{text}{reason}"
        return f"{text}{reason}. Instead: {'; '.join(map(str, self.alternatives))}"


@dataclass(frozen=True)
class Machines:
    """Machines that something asks for by their types.

    :param types: instance types; one of them will do.
    :param zones: availability zones; one of them will do.
    :param charge_type: how they are paid.
    """

    types: tuple[str, ...]
    zones: tuple[str | None, ...]
    charge_type: str = "POSTPAID_BY_HOUR"


def machines_of(data: EnvData | None, zone: str | None) -> Machines | None:
    """What ``EnvData`` asks for; ``None`` where that can't be told: no types, or zones that only its subnets know.

    :param zone: zone of the ``Placement``.
    """
    if data is None or data.virtual_private_clouds:
        return None
    types = tuple(data.instance_types or filter(None, [data.instance_type]))
    charge = data.instance_charge_type or "POSTPAID_BY_HOUR"
    return Machines(types, tuple(data.zones or [zone]), charge) if types else None


def availability_of(checks: Sequence[InstanceTypeCheck]) -> Availability:
    """Whether one of several types can be had; ``UNKNOWN`` if the service knows none of them."""
    found = {check.availability for check in checks}
    for availability in (Availability.AVAILABLE, Availability.SOLD_OUT):
        if availability in found:
            return availability
    return Availability.UNKNOWN


def offer_of(item: InstanceTypeQuotaItem) -> Offer:
    """An offer from an answer of the API."""
    price, unit = item.price, "HOUR"
    amount: float | None = None
    if price is not None:
        if item.instance_charge_type == "PREPAID":
            amount, unit = price.discount_price or price.original_price, "MONTH"
        else:
            amount, unit = price.unit_price_discount or price.unit_price, price.charge_unit or "HOUR"
    return Offer(
        item.instance_type or "",
        item.cpu or 0,
        item.memory or 0,
        item.gpu_count or float(item.gpu or 0),
        item.status == _SOLD_OUT,
        # What is not sold in a way is listed at 0.
        amount or None,
        unit,
        item.sold_out_reason or "",
    )


def size_of(instance_type: str) -> tuple[int, int] | None:
    """Cores and memory (GB) that a type's name promises; ``None`` if it is not of the usual form."""
    found = _SIZE.search(instance_type)
    if found is None:
        return None
    cores = _CORES[found["word"]] if found["word"] else 4 * int(found["times"])
    return cores, int(found["memory"])


def check_types(
    wanted: Sequence[str], offers: Iterable[Offer], *, zone: str, alternatives: int = 3
) -> list[InstanceTypeCheck]:
    """Say of each type whether it can be had.

    :param wanted: the types.
    :param offers: what the zone offers, under one way of paying.
    :param zone: the zone, for messages.
    :param alternatives: how many alternatives to name.
    :returns: one check for each type, in order.
    """
    known = {offer.instance_type: offer for offer in offers}
    on_sale = [offer for offer in known.values() if not offer.sold_out]
    checks = []
    for name in wanted:
        offer = known.get(name)
        if offer is not None and not offer.sold_out:
            checks.append(InstanceTypeCheck(name, zone, Availability.AVAILABLE, offer))
            continue
        availability = Availability.UNKNOWN if offer is None else Availability.SOLD_OUT
        others = _instead(name, offer, on_sale)
        checks.append(InstanceTypeCheck(name, zone, availability, offer, tuple(others[:alternatives])))
    return checks


def _instead(name: str, offer: Offer | None, on_sale: Sequence[Offer]) -> list[Offer]:
    size = (offer.cpu, offer.memory) if offer is not None else size_of(name)
    gpu = 0.0 if offer is None else offer.gpu
    if size is None:
        # Nothing is known but the name: maybe it is misspelt.
        by_name = {other.instance_type.upper(): other for other in on_sale}
        return [by_name[close] for close in difflib.get_close_matches(name.upper(), by_name, n=10)]
    fit = [other for other in on_sale if other.cpu >= size[0] and other.memory >= size[1] and other.gpu >= gpu]
    return sorted(fit, key=lambda other: _order(other, size, name))


def _order(other: Offer, size: tuple[int, int], name: str) -> tuple[float, float, bool, str]:
    """The cheapest first; among equals the smallest, and one of the same family."""
    surplus = (other.cpu - size[0]) + (other.memory - size[1]) / 4
    same = other.instance_type.split(".")[0] == name.split(".")[0]
    return (float("inf") if other.price is None else other.price, surplus, not same, other.instance_type)
