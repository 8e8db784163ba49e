from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.compute_env import EnvData
from airflow_provider_tcbatch.models.machine_actions import InstanceTypeQuotaItem
from airflow_provider_tcbatch.policies.compute_env.instance_types import (
    Availability,
    InstanceTypeCheck,
    Machines,
    Offer,
    availability_of,
    check_types,
    machines_of,
    offer_of,
    size_of,
)

ZONE = "ap-x-1"

OFFERS = [
    Offer("S5.MEDIUM4", 2, 4, price=0.42),
    Offer("S5.MEDIUM8", 2, 8, price=0.62),
    Offer("SA2.MEDIUM4", 2, 4, price=0.36),
    Offer("SA3.MEDIUM4", 2, 4, price=0.36, sold_out=True),
    Offer("S5.SMALL2", 1, 2, price=0.21),
    Offer("S6.LARGE8", 4, 8, price=0.30),
    Offer("GN7.2XLARGE32", 8, 32, gpu=1, price=9.0),
    Offer("GN10X.2XLARGE40", 8, 40, gpu=1, price=11.0, sold_out=True, reason="none left"),
    Offer("S5.8XLARGE64", 32, 64, price=8.0),
    Offer("X1.MEDIUM4", 2, 4),
]


def instead(name: str, count: int = 3) -> list[str]:
    [check] = check_types([name], OFFERS, zone="ap-x-1", alternatives=count)
    return [offer.instance_type for offer in check.alternatives]


def test_what_can_be_had_needs_no_alternative() -> None:
    [check] = check_types(["S5.MEDIUM4"], OFFERS, zone="ap-x-1")
    assert check.available
    assert check.alternatives == ()
    assert str(check) == "S5.MEDIUM4 (2 CPU, 4 GB, 0.42 CNY/hour) is available in ap-x-1"


def test_sold_out_and_the_cheapest_that_are_no_smaller() -> None:
    [check] = check_types(["SA3.MEDIUM4"], OFFERS, zone="ap-x-1")
    assert check.availability is Availability.SOLD_OUT
    assert [offer.instance_type for offer in check.alternatives] == ["S6.LARGE8", "SA2.MEDIUM4", "S5.MEDIUM4"]


def test_what_costs_nobody_knows_how_much_comes_last() -> None:
    assert instead("SA3.MEDIUM4", 10)[-1] == "X1.MEDIUM4"


def test_a_gpu_is_replaced_by_a_gpu() -> None:
    [check] = check_types(["GN10X.2XLARGE40"], [*OFFERS, Offer("GN9.2XLARGE40", 8, 40, gpu=1, price=12)], zone="z")
    assert str(check) == (
        "GN10X.2XLARGE40 (8 CPU, 40 GB, 1 GPU, 11 CNY/hour) is sold out in z: none left. "
        "Instead: GN9.2XLARGE40 (8 CPU, 40 GB, 1 GPU, 12 CNY/hour)"
    )


def test_an_unknown_type_is_as_large_as_its_name_says() -> None:
    assert instead("S9.MEDIUM8") == ["S6.LARGE8", "S5.MEDIUM8", "S5.8XLARGE64"]


def test_a_misspelt_name_brings_the_closest() -> None:
    assert instead("S5-MEDIUM4")[0] == "S5.MEDIUM4"


def test_nothing_fits() -> None:
    [check] = check_types(["S9.99XLARGE512"], OFFERS, zone="ap-x-1")
    assert str(check) == "S9.99XLARGE512 is unknown in ap-x-1"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("S5.SMALL2", (1, 2)),
        ("S5.MEDIUM4", (2, 4)),
        ("S5.LARGE8", (4, 8)),
        ("GN2.14XLARGE112", (56, 112)),
        ("S5", None),
    ],
)
def test_sizes_by_name(name: str, size: tuple[int, int] | None) -> None:
    assert size_of(name) == size


@given(st.lists(st.sampled_from([offer.instance_type for offer in OFFERS] + ["S9.LARGE8", "?"])), st.integers(0, 5))
def test_every_type_has_its_answer(wanted: list[str], count: int) -> None:
    checks = check_types(wanted, OFFERS, zone="z", alternatives=count)
    assert [check.instance_type for check in checks] == wanted
    for check in checks:
        assert len(check.alternatives) <= count
        prices = [offer.price for offer in check.alternatives if offer.price is not None]
        assert check.instance_type == "?" or prices == sorted(prices)
        for offer in check.alternatives:
            assert not offer.sold_out
            size = size_of(check.instance_type)
            assert size is None or (offer.cpu >= size[0] and offer.memory >= size[1])


@pytest.mark.parametrize(
    ("charge", "price", "amount", "unit"),
    [
        ("POSTPAID_BY_HOUR", {"UnitPrice": 0.5, "UnitPriceDiscount": 0.4, "ChargeUnit": "HOUR"}, 0.4, "HOUR"),
        ("SPOTPAID", {"UnitPrice": 0.5, "UnitPriceDiscount": 0.1}, 0.1, "HOUR"),
        ("POSTPAID_BY_HOUR", {"UnitPrice": 0.5}, 0.5, "HOUR"),
        ("PREPAID", {"OriginalPrice": 200.0, "DiscountPrice": 150.0}, 150.0, "MONTH"),
        ("POSTPAID_BY_HOUR", {"UnitPrice": 0.0}, None, "HOUR"),
        ("POSTPAID_BY_HOUR", None, None, "HOUR"),
    ],
)
def test_prices(charge: str, price: dict[str, Any] | None, amount: float | None, unit: str) -> None:
    item = {"InstanceType": "S5.MEDIUM4", "InstanceChargeType": charge, "Cpu": 2, "Memory": 4, "Price": price}
    offer = offer_of(InstanceTypeQuotaItem.parse_response(item))
    assert (offer.price, offer.unit, offer.cpu, offer.memory) == (amount, unit, 2, 4)


def checks(*kinds: Availability) -> list[InstanceTypeCheck]:
    return [InstanceTypeCheck("S5.MEDIUM4", ZONE, kind) for kind in kinds]


def test_one_type_that_can_be_had_will_do() -> None:
    sold_out, unknown, available = Availability.SOLD_OUT, Availability.UNKNOWN, Availability.AVAILABLE
    assert availability_of(checks(unknown, sold_out, available)) is available
    assert availability_of(checks(unknown, sold_out)) is sold_out, "it may come back"
    assert availability_of(checks(unknown)) is unknown


@pytest.mark.parametrize(
    ("data", "machines"),
    [
        ({"InstanceType": "A"}, Machines(("A",), (ZONE,))),
        ({"InstanceTypes": ["A", "B"], "InstanceChargeType": "SPOTPAID"}, Machines(("A", "B"), (ZONE,), "SPOTPAID")),
        ({"InstanceType": "A", "Zones": ["ap-x-1", "ap-x-2"]}, Machines(("A",), ("ap-x-1", "ap-x-2"))),
        ({"InstanceType": "A", "VirtualPrivateClouds": [{"VpcId": "v", "SubnetId": "s"}]}, None),
        ({"InstanceTypeOptions": {"CPU": 1, "Memory": 1}}, None),
        ({}, None),
    ],
)
def test_what_is_asked_for_by_type(data: dict[str, Any], machines: Machines | None) -> None:
    assert machines_of(EnvData.parse(data), ZONE) == machines
    assert machines_of(None, ZONE) is None
