"""The machine types that the emulated region sells: names, sizes and prices that could be real.

A type's name says its size: ``S5.2XLARGE32`` is of the family S5, has eight cores (four for each X) and 32 GiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

#: Hours of a month as monthly prices count them; a month costs half of what its hours do.
_MONTH = 730 * 0.5
#: What a spot machine costs of the full price, in percent.
SPOT_DISCOUNT = 20.0

_NAME = re.compile(
    r"^(?P<family>[A-Z][A-Za-z0-9]{0,9})\.(?P<size>SMALL|MEDIUM|LARGE|(?P<times>\d{1,3})XLARGE)(?P<mem>\d{1,5})$"
)
_CORES = {"SMALL": 1, "MEDIUM": 2, "LARGE": 4}


@dataclass(frozen=True)
class Family:
    """Machines of one build. ``sizes`` are those that are listed; others of the same spelling exist all the same."""

    name: str
    category: str | None
    title: str
    processor: str
    frequency: str
    sizes: tuple[str, ...]
    core_price: float = 0.12
    gpu_per_core: float = 0.0
    scarce: bool = False


@dataclass(frozen=True)
class MachineType:
    """A machine that can be rented. Prices are in yuan per hour."""

    name: str
    family: Family
    cpu: int
    mem: int

    @property
    def price(self) -> float:
        """The price by the hour."""
        return round(self.cpu * self.family.core_price + self.mem * 0.05 + self.gpu * 8, 2)

    @property
    def spot_price(self) -> float:
        """The market's price for a spot machine by the hour."""
        return round(self.price * SPOT_DISCOUNT / 100, 4)

    @property
    def monthly_price(self) -> float:
        """The price for a month in advance."""
        return round(self.price * _MONTH, 2)

    @property
    def gpu(self) -> int:
        """Number of GPUs."""
        return max(1, int(self.cpu * self.family.gpu_per_core)) if self.family.gpu_per_core else 0


# Sizes, one of the name's forms after the other.
_STANDARD = (
    "SMALL1 SMALL2 SMALL4 MEDIUM2 MEDIUM4 MEDIUM8 LARGE8 LARGE16 "
    "2XLARGE16 2XLARGE32 4XLARGE32 4XLARGE64 8XLARGE64 8XLARGE128"
)
_MEMORY = "SMALL8 MEDIUM16 LARGE32 2XLARGE64 4XLARGE128 8XLARGE256"
_COMPUTE = "LARGE8 LARGE16 2XLARGE16 2XLARGE32 4XLARGE32 4XLARGE64 8XLARGE64"
_STORAGE = "MEDIUM8 LARGE16 2XLARGE32 4XLARGE64"

_INTEL = {
    "S1": ("Intel Xeon E5-2670 v3", "2.3GHz"),
    "2": ("Intel Xeon E5-2680 v4", "2.4GHz"),
    "3": ("Intel Xeon Gold 6133", "2.5GHz"),
    "4": ("Intel Xeon Cascade Lake 8255C", "2.5GHz"),
    "5": ("Intel Xeon Cascade Lake 8255C", "2.5GHz"),
    "6": ("Intel Xeon Ice Lake", "2.7GHz"),
    "8": ("Intel Xeon Sapphire Rapids", "2.6GHz"),
}


def _family(name: str, category: str | None, title: str, sizes: str, core_price: float = 0.12) -> Family:
    if name.startswith("SA"):
        processor, frequency = "AMD EPYC", "2.6GHz"
    else:
        digit = next((char for char in name if char.isdigit()), "5")
        processor, frequency = _INTEL.get(name) or _INTEL.get(digit) or _INTEL["5"]
    return Family(name, category, f"{title} {name}", processor, frequency, tuple(sizes.split()), core_price)


def _gpu_family(name: str, processor: str, frequency: str, sizes: str, gpu_per_core: float) -> Family:
    return Family(
        name, None, f"GPU Compute {name}", processor, frequency, tuple(sizes.split()), 0.15, gpu_per_core, scarce=True
    )


FAMILIES = {
    family.name: family
    for family in (
        _family("S1", "GENERAL", "Standard", _STANDARD),
        _family("M1", "GENERAL", "Memory Optimized", _MEMORY),
        _family("I1", "GENERAL", "High IO", _STORAGE, 0.15),
        _family("S2", "GENERAL_2", "Standard", _STANDARD),
        _family("S2ne", "GENERAL_2", "Standard Network Optimized", _STANDARD, 0.14),
        _family("I2", "GENERAL_2", "High IO", _STORAGE, 0.15),
        _family("D1", "GENERAL_2", "Big Data", _STORAGE, 0.2),
        _family("M2", "GENERAL_2", "Memory Optimized", _MEMORY),
        _family("S3", "GENERAL_3", "Standard", _STANDARD),
        _family("SN3ne", "GENERAL_3", "Standard Network Optimized", _STANDARD, 0.14),
        _family("S4", "GENERAL_3", "Standard", _STANDARD),
        _family("S5", "GENERAL_3", "Standard", _STANDARD, 0.11),
        _family("S6", "GENERAL_3", "Standard", _STANDARD, 0.11),
        _family("S8", "GENERAL_3", "Standard", _STANDARD, 0.11),
        _family("SA2", "GENERAL_3", "Standard", _STANDARD, 0.08),
        _family("SA3", "GENERAL_3", "Standard", _STANDARD, 0.08),
        _family("SA5", "GENERAL_3", "Standard", _STANDARD, 0.09),
        _family("I3", "GENERAL_3", "High IO", _STORAGE, 0.15),
        _family("M3", "GENERAL_3", "Memory Optimized", _MEMORY),
        _family("M4", "GENERAL_3", "Memory Optimized", _MEMORY),
        _family("M5", "GENERAL_3", "Memory Optimized", _MEMORY),
        _family("C1", "COMPUTE", "Compute", _COMPUTE, 0.16),
        _family("C2", "COMPUTE_2", "Compute", _COMPUTE, 0.16),
        _family("C3", "COMPUTE_3", "Compute", _COMPUTE, 0.16),
        _family("CN3", "COMPUTE_3", "Compute Network Optimized", _COMPUTE, 0.18),
        _family("C4", "COMPUTE_3", "Compute", _COMPUTE, 0.16),
        _family("C5", "COMPUTE_3", "Compute", _COMPUTE, 0.16),
        _family("C6", "COMPUTE_3", "Compute", _COMPUTE, 0.16),
        _gpu_family("GN2", "Intel Xeon E5-2680 v4", "2.4GHz", "7XLARGE56 14XLARGE112", 1 / 28),
        _gpu_family("GN7", "Intel Xeon Platinum 8255C", "2.5GHz", "2XLARGE32 5XLARGE80", 1 / 10),
        _gpu_family("GN10X", "Intel Xeon Gold 6133", "2.5GHz", "2XLARGE40", 1 / 8),
    )
}

#: What DescribeInstanceCategories lists, in its order.
CATEGORIES = {
    name: tuple(family.name for family in FAMILIES.values() if family.category == name)
    for name in ("COMPUTE_3", "COMPUTE_2", "COMPUTE", "GENERAL_3", "GENERAL_2", "GENERAL")
}
_UNKNOWN = Family("", None, "Unknown", "Unknown", "2.5GHz", ())


# Names come from clients, so not all of them are kept.
@lru_cache(maxsize=4096)
def find(name: str) -> MachineType | None:
    """The type of a name, or None when there is no such type."""
    match = _NAME.fullmatch(name)
    if match is None or match["family"] not in FAMILIES:
        return None
    cpu = _CORES.get(match["size"]) or 4 * int(match["times"])
    mem = int(match["mem"])
    # Real machines have between one and thirty-two GiB for each core.
    if not (0 < cpu <= 512 and cpu <= mem <= 32 * cpu):
        return None
    return MachineType(name, FAMILIES[match["family"]], cpu, mem)


def invent(name: str) -> MachineType:
    """A machine for a name that is no type, for those who want every name to work."""
    return MachineType(name, _UNKNOWN, 2, 4)


@cache
def listed() -> tuple[MachineType, ...]:
    """All types that listings show."""
    return tuple(_listed())


def _listed() -> Iterator[MachineType]:
    for family in FAMILIES.values():
        for size in family.sizes:
            machine = find(f"{family.name}.{size}")
            assert machine is not None, size
            yield machine


def matching(cpu: int, mem: int, categories: list[str]) -> list[MachineType]:
    """Types of exactly a size in the wanted categories, the cheapest first: InstanceTypeOptions."""
    everything = not categories or "ALL" in categories
    return sorted(
        (
            machine
            for machine in listed()
            if (machine.cpu, machine.mem) == (cpu, mem)
            and machine.family.category is not None
            and (everything or machine.family.category in categories)
        ),
        key=lambda machine: machine.price,
    )
