from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.unit.operators.test_compute_env import FAST_LIMITS, PACE

SOURCE = Path(__file__).parents[3] / "example_dags" / "spot_with_fallback.py"


@pytest.fixture
def example(airflow_home: Path, connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example as a module of Airflow's folder."""
    info = json.loads(emulator.info.airflow_conn_json)
    extra = info["extra"] if isinstance(info["extra"], dict) else json.loads(info["extra"])
    info["extra"] = {**extra, "api_limits": json.dumps(FAST_LIMITS)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    emulator.configure(**PACE)
    path = airflow_home / "dags" / SOURCE.name
    shutil.copy(SOURCE, path)
    spec = importlib.util.spec_from_file_location("spot_with_fallback", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    path.unlink()


@pytest.mark.parametrize("stock", [False, True], ids=["nothing on the spot market", "enough"])
def test_it_takes_what_can_be_had(
    example: Any, emulator: Emulator, capfd: pytest.CaptureFixture[str], stock: bool
) -> None:
    """Where there are no spot machines (of either type, for either node) the same are paid by the hour."""
    emulator.on_loop(lambda services: services.batch.failures_used.clear())  # another test may have used it up
    emulator.configure(cvm_failures={} if stock else {"*": "no_stock*4"})
    run = example.DAG.test()
    assert str(run.state) == "success"
    out = capfd.readouterr().out
    types = "['S5.MEDIUM4', 'SA2.MEDIUM4']"
    taken = "SPOTPAID" if stock else "POSTPAID_BY_HOUR"
    assert f"{taken} {types}: environment env-" in out
    assert (f"SPOTPAID {types}: nodes failed" in out) is not stock
    assert ("ResourcesSoldOut.SpecifiedInstanceType" in out) is not stock
    assert out.count("stdout] 1000000") == 2
    assert not [view for view in TCBatchHook().describe_compute_envs() if str(view.env_name).startswith("spot-")]
