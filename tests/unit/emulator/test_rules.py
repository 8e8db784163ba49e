"""The pure parts: states, paths, packages, schema, settings."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.batch.filters import page
from airflow_provider_tcbatch.emulator.batch.jobs.entities import FINAL, RANK, STATES, aggregate
from airflow_provider_tcbatch.emulator.batch.jobs.rules import check_dependences
from airflow_provider_tcbatch.emulator.batch.machine.capacity import Capacity
from airflow_provider_tcbatch.emulator.batch.machine.package import PackageError, fetch_http, unpack
from airflow_provider_tcbatch.emulator.batch.machine.paths import (
    check_file_name,
    fill_placeholders,
    parse_cos,
    relative_local,
)
from airflow_provider_tcbatch.emulator.errors import ApiError
from airflow_provider_tcbatch.emulator.schema import schema
from airflow_provider_tcbatch.emulator.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("counts", "current", "expected"),
    [
        ({"SUCCEED": 3}, "RUNNING", "SUCCEED"),
        ({"SUCCEED": 3, "FAILED": 1}, "RUNNING", "FAILED"),
        ({"FAILED": 1, "FAILED_INTERRUPTED": 1}, "RUNNING", "FAILED_INTERRUPTED"),
        ({"FAILED": 1, "RUNNABLE": 1}, "RUNNING", "RUNNING"),
        ({"PENDING": 1, "STARTING": 1}, "PENDING", "STARTING"),
        ({"SUCCEED": 1, "PENDING": 1}, "FAILED", "PENDING"),
    ],
)
def test_aggregate(counts: dict[str, int], current: str, expected: str) -> None:
    assert aggregate(Counter(counts), current) == expected


@given(
    st.lists(st.sampled_from(STATES), min_size=1), st.sampled_from([state for state in STATES if state not in FINAL])
)
def test_aggregate_is_final_only_when_all_parts_are_and_never_steps_back(parts: list[str], current: str) -> None:
    result = aggregate(Counter(parts), current)
    assert (result in FINAL) == all(part in FINAL for part in parts)
    assert RANK[result] >= RANK[current]


@pytest.mark.parametrize(
    ("counts", "at_end", "worst", "expected"),
    [
        ({"FAILED": 1, "RUNNING": 1}, False, "FAILED_INTERRUPTED", "FAILED"),
        ({"FAILED_INTERRUPTED": 1, "PENDING": 1}, False, "FAILED", "FAILED_INTERRUPTED"),
        ({"FAILED": 1, "FAILED_INTERRUPTED": 1, "PENDING": 1}, False, "FAILED_INTERRUPTED", "FAILED_INTERRUPTED"),
        ({"FAILED": 1, "FAILED_INTERRUPTED": 1, "PENDING": 1}, True, "FAILED_INTERRUPTED", "RUNNING"),
        ({"FAILED": 1, "FAILED_INTERRUPTED": 1}, True, "FAILED", "FAILED"),
        ({"SUCCEED": 1, "RUNNING": 1}, False, "FAILED", "RUNNING"),
    ],
)
def test_aggregate_in_its_other_ways(counts: dict[str, int], at_end: bool, worst: str, expected: str) -> None:
    assert aggregate(Counter(counts), "RUNNING", at_end=at_end, worst=worst) == expected


def test_cos_paths() -> None:
    path = parse_cos("cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/a/b/", "p", folder=True)
    assert (path.bucket, path.key) == ("b-1250000000", "a/b/")
    assert parse_cos("cos://b-1250000000.cosgz.myqcloud.com/", "p", folder=True).key == ""
    for host in ("b-1250000000.cos.accelerate", "b-appid.cosgz", "b-appid.ap-guangzhou"):
        assert parse_cos(f"cos://{host}.myqcloud.com/k/", "p", folder=True).bucket == host.partition(".")[0]
    for bad in (
        "cos://b.cos.ap-guangzhou.myqcloud.com/a/",
        "cos://b-1250000000.file.myqcloud.com/a/",
        "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/a",
        "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/a\0/",
        "cos://b-1250000000.cos.ap-guangzhou.myqcloud.com@evil/a/",
    ):
        with pytest.raises(ApiError, match="RemoteStoragePath"):
            parse_cos(bad, "p", folder=True)
    with pytest.raises(ApiError, match="name an object"):
        parse_cos("cos://b-1250000000.cos.ap-guangzhou.myqcloud.com/", "p", folder=False)


@given(st.text(max_size=60))
def test_local_paths_stay_inside(text: str) -> None:
    try:
        relative = relative_local(text, "p")
    except ApiError:
        return
    root = Path("/root/of/instance")
    assert not relative.startswith("/")
    assert ".." not in (root / relative).parts


def test_file_names() -> None:
    template = "${BATCH_JOB_ID}-${BATCH_TASK_NAME}-${BATCH_TASK_INSTANCE_INDEX}-${X}"
    assert fill_placeholders(template, "j", "t", 3) == "j-t-3-${X}"
    for bad in ("", "a/b", "..", "x\0", "x" * 256):
        with pytest.raises(ApiError):
            check_file_name(bad, "p", code="InvalidParameterValue.LocalPath")


def archive(*members: tarfile.TarInfo) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return data.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    info.mode = 0o4755
    return info


def test_unpack(tmp_path: Path) -> None:
    unpack(archive(member("d/file"), member("d/link", tarfile.SYMTYPE, "file")), tmp_path)
    assert (tmp_path / "d" / "link").read_bytes() == b"x"
    assert (tmp_path / "d" / "file").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "members",
    [
        [member("../out")],
        [member("a/../../out")],
        [member("/tmp/out")],
        [member("link", tarfile.SYMTYPE, "/etc")],
        [member("link", tarfile.SYMTYPE, "../..")],
        [member("d/link", tarfile.LNKTYPE, "../out")],
        [member("link", tarfile.SYMTYPE, "d"), member("link/x")],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("device", tarfile.CHRTYPE)],
    ],
)
def test_hostile_packages_write_nothing(tmp_path: Path, members: list[tarfile.TarInfo]) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    with pytest.raises(PackageError):
        unpack(archive(member("good"), *members), folder)
    assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [folder]


def test_package_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PackageError):
        unpack(b"not a tar archive", tmp_path)


@pytest.mark.parametrize("url", ["http://example.com/a.tgz", "https://10.0.0.1/a.tgz", "http://127.0.0.1@example.com/"])
def test_packages_come_from_this_machine_only(url: str) -> None:
    with pytest.raises(PackageError, match="this machine"):
        fetch_http(url)


def test_dependences() -> None:
    def edges(*pairs: str) -> list[dict[str, str]]:
        return [{"StartTask": pair[0], "EndTask": pair[1]} for pair in pairs]

    check_dependences(list("abcd"), edges("ab", "ac", "bd", "cd", "ab"))
    with pytest.raises(ApiError, match="DependenceUnfeasible"):
        check_dependences(list("abc"), edges("ab", "bc", "ca"))
    with pytest.raises(ApiError, match=r"Dependences\.1\.EndTask"):
        check_dependences(list("ab"), edges("ab", "ax"))


def test_paging() -> None:
    items = list(range(30))
    assert page(items, {}, default=20, largest=100) == items[:20]
    assert page(items, {"Offset": 25, "Limit": 10}, default=20, largest=100) == items[25:]
    for bad in ({"Limit": 101}, {"Limit": -1}, {"Offset": -1}):
        with pytest.raises(ApiError):
            page(items, bad, default=20, largest=100)


def test_schema_reads_every_type_of_the_sdk() -> None:
    for service in ("batch", "tdmq"):
        known = schema(service)
        # TDMQ's SDK has products that are not emulated, some with members it gives no type.
        actions = [action for action in known.actions() if service == "batch" or "Cmq" in action]
        models = [f"{action}{half}" for action in actions for half in ("Request", "Response")]
        seen: set[str] = set()
        while models:
            model = models.pop()
            if model not in seen:
                seen.add(model)
                models.extend(field.kind for field in known.fields(model).values() if field.is_object)
        assert len(seen) > 2 * len(actions)
    assert len(list(schema("batch").actions())) == 30


def test_schema_refuses_an_answer_with_a_made_up_member() -> None:
    with pytest.raises(KeyError, match="Nonsense"):
        schema("batch").complete("DescribeJobResponse", {"Nonsense": 1})


def test_settings() -> None:
    assert Settings().updated({"capacity": "3"}).capacity == 3
    for bad in ({"capacity": 0}, {"events": "perhaps"}, {"unknown": 1}):
        with pytest.raises(SettingsError):
            Settings().updated(bad)


#: What the command line says, too.


def settings(**values: Any) -> Settings:
    """Settings of any name, as a user may misspell them."""
    return Settings(**values)


MISSPELT = "capactiy: there is no such setting, did you mean 'capacity'? 'tcbatch-emulator settings' lists them"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: settings(capactiy=3), MISSPELT),
        (lambda: Settings.model_validate({"capactiy": "3"}), MISSPELT),
        (lambda: Settings().updated({"capactiy": 3}), MISSPELT),
        (lambda: setattr(Settings(), "capactiy", 3), MISSPELT),
        (lambda: setattr(Settings(), "capacity", 0), "capacity: Input should be greater than 0"),
        (
            lambda: settings(xyz=1, capacity=0),
            "capacity: Input should be greater than 0; "
            "xyz: there is no such setting; 'tcbatch-emulator settings' lists them",
        ),
        (lambda: Emulator(regoin="x"), "regoin: there is no such argument, did you mean 'region'?"),
        (
            lambda: Emulator(capacity=3),
            "capacity: it is a setting: Emulator(Settings(capacity=...)), or configure(capacity=...) while it runs",
        ),
        (
            lambda: Emulator(capactiy=3),
            "capactiy: there is no such argument, did you mean Emulator(Settings(capacity=...))?",
        ),
        (lambda: Emulator(port=-1), "port: Input should be greater than or equal to 0"),
    ],
)
def test_a_misspelt_setting_gives_one_sentence(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make()
    assert str(caught.value) == told
    assert caught.value.__cause__ is None


async def test_capacity_serves_priority_then_order() -> None:
    size = 1
    capacity = Capacity(lambda: size)
    await capacity.acquire(0)
    order: list[str] = []

    async def work(name: str, priority: int) -> None:
        await capacity.acquire(priority)
        order.append(name)
        capacity.release()

    waiting = [asyncio.create_task(work(*item)) for item in (("low", 0), ("high", 9), ("late", 0), ("gone", 9))]
    await asyncio.sleep(0)
    waiting[3].cancel()
    await asyncio.sleep(0)
    assert order == []
    capacity.release()
    await asyncio.gather(*waiting[:3])
    assert order == ["high", "low", "late"]
    assert capacity.used == 0

    await capacity.acquire(0)
    second = asyncio.create_task(capacity.acquire(0))
    await asyncio.sleep(0)
    assert not second.done()
    size = 2
    capacity.serve()
    await second
    assert capacity.used == 2


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), "inf", "1e999"])
def test_numbers_are_finite(value: object) -> None:
    # No action that is played takes a float.
    request = {"InstanceId": "i", "SendReceiveRatio": value}
    with pytest.raises(ApiError, match=r"`SendReceiveRatio`.*finite") as caught:
        schema("tdmq").check("ModifyRocketMQInstanceRequest", request, lenient=True)
    assert caught.value.code == "InvalidParameter"
    assert schema("tdmq").check("ModifyRocketMQInstanceRequest", {**request, "SendReceiveRatio": 0.5})
