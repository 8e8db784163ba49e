from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook

SOURCE = Path(__file__).parents[3] / "example_dags" / "pi_by_sampling.py"


def test_it_runs(airflow_home: Path, connection: str, emulator: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    path = airflow_home / "dags" / SOURCE.name
    shutil.copy(SOURCE, path)
    before = {view.job_id for view in TCBatchHook().describe_jobs()}
    try:
        spec = importlib.util.spec_from_file_location("pi_by_sampling", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        run = module.DAG.test(run_conf={"darts": 5000, "jobs": 2})
    finally:
        path.unlink()
    assert str(run.state) == "success"
    made = [view for view in TCBatchHook().describe_jobs() if view.job_id not in before]
    assert len(made) == 2
    assert all(str(view.job_name).startswith("pi_by_sampling-throw-") for view in made)
    out = capfd.readouterr().out
    assert out.count("{'SUCCEED': 4}") == 2
    assert out.count("pi is about 3.") == 8
