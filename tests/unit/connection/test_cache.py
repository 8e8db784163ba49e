"""Many waits that begin together read their connection once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_tcbatch.connection import cache as shared_settings
from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook


class Connections:
    """Airflow's connections, as far as a hook asks for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: list[str] = []
        self.zone = "ap-guangzhou-3"
        self.broken = False
        self.answer = asyncio.Event()
        self.answer.set()
        monkeypatch.setattr(TencentCloudHook, "aget_connection", self._get)

    async def _get(self, conn_id: str) -> Any:
        from airflow.sdk import Connection

        self.reads.append(conn_id)
        await self.answer.wait()
        region = "" if self.broken else "ap-guangzhou"
        extra = f'{{"region": "{region}", "zone": "{self.zone}"}}'
        return Connection(
            conn_id=conn_id, conn_type="tencentcloud", login="AKIDexample", password="secret", extra=extra
        )


@pytest.fixture
async def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    return Connections(monkeypatch)


async def test_all_who_ask_together_share_one_reading(connections: Connections) -> None:
    connections.answer.clear()
    asked = [asyncio.create_task(TencentCloudHook().asettings()) for _ in range(50)]
    await asyncio.sleep(0)
    connections.answer.set()
    first, *others = await asyncio.gather(*asked)
    assert all(settings is first for settings in others)
    assert connections.reads == ["tencentcloud_default"]


async def test_another_connection_or_region_is_read_for_itself(connections: Connections) -> None:
    await TencentCloudHook().asettings()
    assert (await TencentCloudHook(region="ap-shanghai").asettings()).api.region == "ap-shanghai"
    await TencentCloudHook("other").asettings()
    assert connections.reads == ["tencentcloud_default", "tencentcloud_default", "other"]


async def test_a_connection_that_was_changed_is_read_again_after_some_seconds(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    await TencentCloudHook().asettings()
    connections.zone = "ap-guangzhou-4"
    assert (await TencentCloudHook().asettings()).zone == "ap-guangzhou-3"
    monkeypatch.setattr(shared_settings, "FRESH_SECONDS", 0.0)
    assert (await TencentCloudHook().asettings()).zone == "ap-guangzhou-4"


async def test_an_error_is_not_kept(connections: Connections) -> None:
    connections.broken = True
    with pytest.raises(ConfigurationError, match="region"):
        await TencentCloudHook().asettings()
    connections.broken = False
    assert (await TencentCloudHook().asettings()).api.region == "ap-guangzhou"


async def test_one_that_is_cancelled_while_it_reads_leaves_it_to_the_next(connections: Connections) -> None:
    connections.answer.clear()
    first = asyncio.create_task(TencentCloudHook().asettings())
    second = asyncio.create_task(TencentCloudHook().asettings())
    await asyncio.sleep(0)
    first.cancel()
    connections.answer.set()
    assert (await second).zone == "ap-guangzhou-3"
    assert first.cancelled()
    assert len(connections.reads) == 2
