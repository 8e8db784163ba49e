from __future__ import annotations

import gc
from collections.abc import Iterator

import httpx
import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import DescribeJobs


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def answers_in_memory() -> int:
    # Not isinstance: some libraries have objects that pass for others and import them when they are asked.
    return sum(type(thing) is httpx.Response for thing in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
async def test_no_answer_of_the_api_is_left_to_the_garbage_collector(api: ApiClient) -> None:
    before = answers_in_memory()
    for _ in range(3):
        await api.acall(DescribeJobs(limit=1))
        await api.acall(DescribeJobs(limit=1), attempts=1)
    assert answers_in_memory() == before
    await api.aclose()


@pytest.mark.usefixtures("no_collector")
async def test_no_answer_of_cmq_is_left_to_the_garbage_collector(emulator: Emulator) -> None:
    info = emulator.info
    cmq = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
    before = answers_in_memory()
    for _ in range(3):
        await cmq.areceive(f"{info.topic}-base", wait=0)
    assert answers_in_memory() == before
    await cmq.aclose()
