from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.policies.ownership.marks import Owner, marked
from tests.unit.conftest import job

SOURCE = Path(__file__).parents[3] / "example_dags" / "orphans.py"


@pytest.fixture
def example(airflow_home: Path, connection: str, empty_emulator: Emulator) -> Iterator[Any]:
    """The example as a module of Airflow's folder."""
    path = airflow_home / "dags" / SOURCE.name
    shutil.copy(SOURCE, path)
    spec = importlib.util.spec_from_file_location("orphans_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    path.unlink()


def test_it_ends_something_only_if_it_is_told_to(example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__DEPLOYMENT_ID", "example")
    gate = tmp_path / "gate"
    wait = job(f"until [ -e {gate} ]; do sleep 0.05; done")
    for name in ("look", "end"):
        example.DAG.get_task(name).grace = 0.0

    def run(end: bool) -> tuple[str, dict[str, str]]:
        done = example.DAG.test(run_conf={"end": end})
        return done.run_id, {ti.task_id: str(ti.state) for ti in done.get_task_instances()}

    run_id, states = run(end=False)
    assert states == {"look": "success", "is_told_to_end": "success", "end": "skipped"}
    job_id = TCBatchHook().submit_job(marked(wait, Owner("example", "orphans", run_id, "look"), "a" * 32))
    _, states = run(end=True)
    assert states == {"look": "success", "is_told_to_end": "success", "end": "success"}
    assert str(TCBatchHook().describe_job(job_id).job_state) == "FAILED"
    gate.touch()
