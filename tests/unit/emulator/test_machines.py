"""Machine types, waiting for nodes, measurements: the parts that need no server."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.emulator.batch.envs.entities import RUNNING, ComputeEnv, EnvironmentGone, Node
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Instance, Job, Task
from airflow_provider_tcbatch.emulator.batch.jobs.monitor_actions import _points
from airflow_provider_tcbatch.emulator.batch.machine import catalog, cvm
from airflow_provider_tcbatch.emulator.batch.machine.monitor import Sample, Series
from airflow_provider_tcbatch.emulator.settings import Settings


def host_with(**settings: Any) -> Any:
    no_faults = SimpleNamespace(machine=lambda kind, names: None)
    return SimpleNamespace(settings=Settings(**settings), faults=no_faults)


def batch_with(**settings: Any) -> Any:
    return SimpleNamespace(host=host_with(**settings), failures_used=Counter())


@pytest.mark.parametrize(
    ("name", "cpu", "mem"),
    [
        ("S1.SMALL1", 1, 1),
        ("S5.MEDIUM4", 2, 4),
        ("SA5.LARGE16", 4, 16),
        ("S2.12XLARGE96", 48, 96),
        ("GN2.14XLARGE112", 56, 112),
    ],
)
def test_sizes_are_in_the_name(name: str, cpu: int, mem: int) -> None:
    machine = catalog.find(name)
    assert machine is not None
    assert (machine.cpu, machine.mem) == (cpu, mem)
    assert 0 < machine.spot_price < machine.price < machine.monthly_price


@pytest.mark.parametrize(
    "name", ["", "S5", "S5.SMALL", "X9.SMALL1", "S5.SMALL999", "S5.0XLARGE8", "S5.SMALL1\n", "s5.SMALL1"]
)
def test_names_that_are_no_types(name: str) -> None:
    assert catalog.find(name) is None


@given(st.text(max_size=30))
def test_any_name_can_be_asked_for(name: str) -> None:
    machine = catalog.find(name)
    assert machine is None or machine.cpu > 0


def test_listed_types_and_categories() -> None:
    listed = catalog.listed()
    assert len({machine.name for machine in listed}) == len(listed) > 100
    families = [name for names in catalog.CATEGORIES.values() for name in names]
    assert len(set(families)) == len(families)
    assert set(families) < set(catalog.FAMILIES)
    cheap = catalog.matching(2, 4, [])
    assert cheap == sorted(cheap, key=lambda machine: machine.price)
    assert {machine.family.category for machine in catalog.matching(2, 4, ["GENERAL_2"])} == {"GENERAL_2"}
    assert catalog.matching(3, 5, ["ALL"]) == []


@pytest.mark.parametrize(("retries", "seconds"), [(1, 600), (3, 1800), (8, 6300), (50, 3 * 600 + 7 * 900 + 40 * 1800)])
def test_documented_waits(retries: int, seconds: int) -> None:
    host = host_with(resource_retry_scale=1)
    assert sum(cvm.retry_wait(host, number) for number in range(1, retries + 1)) == seconds
    assert cvm.retry_wait(host, 51) == cvm.retry_wait(host, 1000) == 3600


def test_scripted_failures() -> None:
    def rent(batch: Any, **data: Any) -> str:
        try:
            return cvm.rent(batch, data, "ap-guangzhou-3").name
        except cvm.CreationFailed as error:
            return str(error).partition(":")[2]

    batch = batch_with(cvm_failures={"S5.SMALL1": "quota*2", "img-00000000": "image", "S5.SMALL2": "Some.Code"})
    assert [rent(batch, InstanceType="S5.SMALL1") for _ in range(3)] == ["LimitExceeded.InstanceQuota"] * 2 + [
        "S5.SMALL1"
    ]
    assert rent(batch, ImageId="img-00000000") == "InvalidImageId.NotFound"
    assert rent(batch, InstanceType="S5.SMALL2") == "Some.Code"
    assert rent(batch) == cvm.DEFAULT_TYPE
    batch = batch_with(cvm_failures='{"*": "no_stock", "GN10X.2XLARGE40": "ok"}')
    assert rent(batch, InstanceType="S5.SMALL1") == "ResourcesSoldOut.SpecifiedInstanceType"
    assert rent(batch, InstanceTypes=["S5.SMALL1", "GN10X.2XLARGE40"]) == "GN10X.2XLARGE40"
    assert (
        rent(batch_with(), InstanceTypeOptions={"CPU": 3, "Memory": 5}) == "InvalidParameterValue.InsufficientOffering"
    )
    spot = {"InstanceType": "S5.SMALL1", "InstanceChargeType": "SPOTPAID"}
    for price, expected in (("0.001", "InvalidParameterValue.InsufficientPrice"), ("10", "S5.SMALL1")):
        assert rent(batch_with(), **spot, InstanceMarketOptions={"SpotOptions": {"MaxPrice": price}}) == expected


def env_with(count: int) -> tuple[ComputeEnv, list[Node]]:
    env = ComputeEnv("env-0", {"ComputeEnv": {}, "Placement": {"Zone": "z"}}, 0.0, "e", "", count, {})
    nodes = [Node(f"node-{number}", env, state=RUNNING) for number in range(count)]
    return env, nodes


def an_instance() -> Instance:
    job = Job("job-0", {"Job": {}}, "r", 0.0, None)  # type: ignore[arg-type]
    return Instance(Task(job, "t", {}), 0)


async def test_nodes_are_given_by_priority_then_order() -> None:
    env, (node,) = env_with(1)
    order: list[str] = []

    async def work(name: str, priority: int) -> None:
        taken = await env.take_node(an_instance(), priority)
        order.append(name)
        assert not taken.free
        await asyncio.sleep(0)
        taken.instance = None
        env.offer(taken)

    items = (("low", 0), ("high", 9), ("late", 0), ("gone", 9))
    tasks = [asyncio.create_task(work(*item)) for item in items]
    await asyncio.sleep(0)
    tasks[3].cancel()
    env.offer(node)
    await asyncio.gather(*tasks[:3])
    assert order == ["high", "low", "late"]
    assert node.free


async def test_a_node_given_to_somebody_who_left_goes_to_the_next() -> None:
    env, (node,) = env_with(1)
    first, second = (asyncio.create_task(env.take_node(an_instance(), 0)) for _ in range(2))
    await asyncio.sleep(0)
    env.offer(node)
    # The node is on its way to the first one now.
    first.cancel()
    assert await second is node
    assert first.cancelled()


async def test_lost_nodes_are_not_given_and_deletion_sends_everybody_away() -> None:
    env, (good, bad) = env_with(2)
    env.offer(bad)
    env.offer(good)
    bad.state = "ABNORMAL"
    assert await env.take_node(an_instance(), 0) is good
    waiting = asyncio.create_task(env.take_node(an_instance(), 0))
    await asyncio.sleep(0)
    env.dismiss()
    with pytest.raises(EnvironmentGone):
        await waiting
    assert len({env.new_address() for _ in range(1000)}) == 1000


def test_points_between_attempts_are_null() -> None:
    def series(*times: float) -> Series:
        result = Series()
        result.samples.extend(Sample(time, (time,)) for time in times)
        return result

    short = _points([series(100.2, 100.7, 101.1), series(104.0)], 0, 100, 110, 1)
    assert short == {"Timestamps": [100, 101, 102, 103, 104], "Values": [100.45, 101.1, None, None, 104.0]}
    far = _points([series(100), series(1000)], 0, 0, 2000, 1)
    assert far["Values"].count(None) == 10
    assert far["Timestamps"] == sorted(set(far["Timestamps"]))
    coarse = _points([series(*range(120))], 0, 0, 120, 60)
    assert coarse == {"Timestamps": [0, 60], "Values": [29.5, 89.5]}
