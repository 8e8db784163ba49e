from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from tests.unit.operators.test_compute_env import FAST_LIMITS, PACE

FOLDER = Path(__file__).parents[3] / "example_dags"


@pytest.fixture
def example(
    airflow_home: Path, connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    """An example as a module of Airflow's folder."""
    info = json.loads(emulator.info.airflow_conn_json)
    extra = info["extra"] if isinstance(info["extra"], dict) else json.loads(info["extra"])
    info["extra"] = {**extra, "api_limits": json.dumps(FAST_LIMITS)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    emulator.configure(**PACE)
    written: list[Path] = []

    def load(name: str) -> Any:
        path = airflow_home / "dags" / f"{name}.py"
        shutil.copy(FOLDER / path.name, path)
        written.append(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield load
    for path in written:
        path.unlink()


def left(prefix: str) -> list[str]:
    views = TCBatchHook().describe_compute_envs()
    return [view.env_id for view in views if str(view.env_name).startswith(prefix)]


def test_the_shared_environment(example: Callable[[str], Any], capfd: pytest.CaptureFixture[str]) -> None:
    run = example("shared_environment").DAG.test(run_conf={"sources": ["orders", "returns"]})
    assert str(run.state) == "success"
    out = capfd.readouterr().out
    assert [out.count(f"stdout] {words}") for words in ("extracted orders", "extracted returns", "loaded")] == [1, 1, 1]
    assert left("etl-") == []


def test_the_elastic_environment(example: Callable[[str], Any], capfd: pytest.CaptureFixture[str]) -> None:
    run = example("elastic_environment").DAG.test(run_conf={"parts": 3})
    assert str(run.state) == "success"
    out = capfd.readouterr().out
    assert [out.count(f"stdout] computed part {part}") for part in range(3)] == [1, 1, 1]
    assert out.count("stdout] merged") == 1
    assert "2 of 2 nodes run" in out
    assert "1 of 1 nodes run" in out
    assert left("elastic-") == []
