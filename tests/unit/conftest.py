from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.credentials import StaticKeys
from airflow_provider_tcbatch.emulator import Emulator, Settings

QUICK = Settings(submitted_seconds=0.05, starting_seconds=0.02, terminate_seconds=0.02, cmq_name_block_seconds=0)


@pytest.fixture(scope="session")
def _running() -> Iterator[Emulator]:
    with Emulator(QUICK) as emulator:
        yield emulator


@pytest.fixture
def emulator(_running: Emulator) -> Iterator[Emulator]:
    """The session's emulator with its settings put back afterwards."""
    yield _running
    _running.configure(**QUICK.model_dump())


@pytest.fixture
def connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a connection to the emulator."""
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.info.airflow_conn_json)
    return "tencentcloud_default"


@pytest.fixture
def api(emulator: Emulator) -> ApiClient:
    """A client of the emulator."""
    info = emulator.info
    settings = ApiSettings(
        region=info.region, endpoints={"batch": info.endpoint, "tdmq": info.endpoint}, share=1.0, connection="conn 'x'"
    )
    return ApiClient(StaticKeys(info.secret_id, info.secret_key), settings)


def job(command: str, *, instances: int = 1, **task: Any) -> dict[str, Any]:
    """A job of one task in wire JSON."""
    return {
        "JobName": "test",
        "Tasks": [
            {
                "TaskName": "main",
                "TaskInstanceNum": instances,
                "Application": {"DeliveryForm": "LOCAL", "Command": command},
                "ComputeEnv": {"EnvData": {"InstanceType": "S1.SMALL1"}},
                **task,
            }
        ],
    }
