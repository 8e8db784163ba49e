"""The actions of the Batch API that list machine types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.batch.filters import Filters
from airflow_provider_tcbatch.emulator.batch.machine import catalog
from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
from airflow_provider_tcbatch.emulator.batch.rules import check_zone
from airflow_provider_tcbatch.emulator.errors import ApiError

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService
    from airflow_provider_tcbatch.emulator.host import Host

Params = dict[str, Any]

CHARGE_TYPES = ("POSTPAID_BY_HOUR", "SPOTPAID")
#: Zones of a listing that asks for none in particular.
_ZONES = (1, 2, 3, 4, 6, 7)


@dataclass(frozen=True)
class _Offer:
    machine: MachineType
    zone: str
    charge: str


def describe_available_cvm_instance_types(batch: BatchService, params: Params) -> Params:
    """DescribeAvailableCvmInstanceTypes: what can be had, sold out types not among it."""
    host = batch.host
    filters = params.get("Filters", ())
    known: dict[str, Any] = {"zone": lambda offer: offer.zone, "instance-family": _family}
    offers = Filters[_Offer](filters, known, unknown=host.settings.unknown_filter_error).select(
        _Offer(machine, zone, "")
        for zone in _zones(host, filters)
        for machine in catalog.listed()
        if machine.name not in host.settings.sold_out_types
    )
    return {
        "InstanceTypeConfigSet": [
            {
                "Mem": offer.machine.mem,
                "Cpu": offer.machine.cpu,
                "InstanceType": offer.machine.name,
                "Zone": offer.zone,
                "InstanceFamily": offer.machine.family.name,
            }
            for offer in offers
        ]
    }


def describe_cvm_zone_instance_config_infos(batch: BatchService, params: Params) -> Params:
    """DescribeCvmZoneInstanceConfigInfos: every type with its stock and prices, by the hour and on the spot market."""
    host = batch.host
    filters = params.get("Filters", ())
    for item in filters:
        if item["Name"] == "instance-charge-type" and not set(item["Values"]) <= set(CHARGE_TYPES):
            raise ApiError(
                "InvalidParameterValue.UnsupportedBatchInstanceChargeType",
                f"The filter instance-charge-type takes {' and '.join(CHARGE_TYPES)}.",
            )
    known: dict[str, Any] = {
        "zone": lambda offer: offer.zone,
        "instance-family": _family,
        "instance-type": lambda offer: offer.machine.name,
        "instance-charge-type": lambda offer: offer.charge,
    }
    offers = Filters[_Offer](filters, known, unknown=host.settings.unknown_filter_error).select(
        _Offer(machine, zone, charge)
        for zone in _zones(host, filters)
        for machine in catalog.listed()
        for charge in CHARGE_TYPES
    )
    return {"InstanceTypeQuotaSet": [_quota_item(host, offer) for offer in offers]}


def describe_instance_categories(batch: BatchService, params: Params) -> Params:
    """DescribeInstanceCategories."""
    return {
        "InstanceCategorySet": [
            {"InstanceCategory": name, "InstanceFamilySet": list(families)}
            for name, families in catalog.CATEGORIES.items()
        ]
    }


def _family(offer: _Offer) -> str:
    return offer.machine.family.name


def _zones(host: Host, filters: list[Params]) -> list[str]:
    """Zones to list: those that are asked for, or some."""
    wanted = [zone for item in filters if item["Name"] == "zone" for zone in item["Values"]]
    for zone in wanted[:100]:
        check_zone(host, zone, "Filters")
    if wanted:
        return list(dict.fromkeys(wanted))
    zones = [f"{host.identity.region}-{number}" for number in _ZONES]
    return [zone for zone in zones if zone not in host.settings.unavailable_zones]


def _quota_item(host: Host, offer: _Offer) -> Params:
    machine, family = offer.machine, offer.machine.family
    sold_out = machine.name in host.settings.sold_out_types
    stock = "UnderStock" if family.scarce else "EnoughStock"
    return {
        "Zone": offer.zone,
        "InstanceType": machine.name,
        "InstanceChargeType": offer.charge,
        "NetworkCard": 25,
        "Externals": {"ReleaseAddress": True, "UnsupportNetworks": ["BASIC", "VPC1.0"]},
        "Cpu": machine.cpu,
        "Memory": machine.mem,
        "InstanceFamily": family.name,
        "TypeName": family.title,
        "LocalDiskTypeList": [],
        "Status": "SOLD_OUT" if sold_out else "SELL",
        "Price": _price(offer),
        "SoldOutReason": "Sold out in this zone" if sold_out else "",
        "InstanceBandwidth": round(min(1.5 + machine.cpu * 0.25, 25.0), 2),
        "InstancePps": 20 + 5 * machine.cpu,
        "StorageBlockAmount": 0,
        "CpuType": family.processor,
        "Gpu": machine.gpu,
        "Fpga": 0,
        "Remark": "",
        "GpuCount": float(machine.gpu),
        "Frequency": family.frequency,
        "StatusCategory": "WithoutStock" if sold_out else stock,
    }


def _price(offer: _Offer) -> Params:
    """An ItemPrice: what is not sold that way costs 0, as in Tencent's sample."""
    machine = offer.machine
    spot = offer.charge == "SPOTPAID"
    year = round(machine.monthly_price * 12, 2)
    price: Params = {
        "UnitPrice": machine.price,
        "UnitPriceDiscount": machine.spot_price if spot else machine.price,
        "ChargeUnit": "HOUR",
        "Discount": catalog.SPOT_DISCOUNT if spot else 100.0,
        "OriginalPrice": 0.0 if spot else machine.monthly_price,
        "DiscountPrice": 0.0 if spot else machine.monthly_price,
        "OriginalPriceOneYear": 0.0 if spot else year,
        "DiscountPriceOneYear": 0.0 if spot else round(year * 0.83, 2),
        "DiscountOneYear": 0.0 if spot else 83.0,
    }
    for name in (
        "UnitPriceSecondStep",
        "UnitPriceThirdStep",
        "UnitPriceDiscountSecondStep",
        "UnitPriceDiscountThirdStep",
    ):
        price[name] = 0.0
    for name in ("OriginalPrice", "DiscountPrice", "Discount"):
        price[f"{name}ThreeYear"] = price[f"{name}FiveYear"] = 0.0
    return price


HANDLERS = {
    "DescribeAvailableCvmInstanceTypes": describe_available_cvm_instance_types,
    "DescribeCvmZoneInstanceConfigInfos": describe_cvm_zone_instance_config_infos,
    "DescribeInstanceCategories": describe_instance_categories,
}
