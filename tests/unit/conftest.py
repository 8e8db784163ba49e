from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client import places
from airflow_provider_tcbatch.client.api import ApiClient, ApiSettings
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.emulator import Emulator
from tests.support.in_process import empty_emulator, emulator, own_emulator, running_emulator
from tests.support.outages import api_outage, quick_pauses

__all__ = ["api_outage", "empty_emulator", "emulator", "own_emulator", "quick_pauses", "running_emulator"]


@pytest.fixture(autouse=True)
def nothing_learned() -> None:
    """What other tests' requests were refused for is not known."""
    places.forget()


@pytest.fixture
def connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a connection to the emulator."""
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", emulator.info.airflow_conn_json)
    return "tencentcloud_default"


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' own Airflow, with a database and a folder ``dags``."""
    home = Path(os.environ["AIRFLOW_HOME"])
    # It takes ten seconds of a core to make the tables: one of the processes that run tests does it for all.
    folder = tmp_path_factory.getbasetemp()
    common = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "airflow.db"
    with common.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not common.exists():
            migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
            subprocess.run(migrate, check=True, capture_output=True, timeout=180)
            _copy_database(home / "airflow.db", common)
    _copy_database(common, home / "airflow.db")
    (home / "dags").mkdir(exist_ok=True)
    return home


def _copy_database(source: Path, target: Path) -> None:
    """Copy an SQLite database, with what is still in its journal."""
    with contextlib.closing(sqlite3.connect(source)) as read, contextlib.closing(sqlite3.connect(target)) as write:
        read.backup(write)


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
