from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook

SOURCE = Path(__file__).parents[3] / "example_dags" / "from_template.py"


@pytest.fixture
def example(airflow_home: Path, connection: str) -> Iterator[Any]:
    """The example as a module of Airflow's folder."""
    path = airflow_home / "dags" / SOURCE.name
    shutil.copy(SOURCE, path)
    spec = importlib.util.spec_from_file_location("from_template", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    path.unlink()
    hook = TCBatchHook()
    for views in hook.task_templates_named([module.NAME]).values():
        hook.delete_task_templates([view.task_template_id for view in views])


def test_it_runs_twice_with_one_template(example: Any, emulator: Emulator, capfd: pytest.CaptureFixture[str]) -> None:
    hook = TCBatchHook()
    before = {view.job_id for view in hook.describe_jobs()}
    ids = set()
    for texts in (["one two three", "four"], ["five six"]):
        run = example.DAG.test(run_conf={"texts": texts})
        assert str(run.state) == "success"
        [view] = hook.task_templates_named([example.NAME])[example.NAME]
        ids.add(view.task_template_id)
    assert len(ids) == 1
    made = [view.job_id for view in hook.describe_jobs() if view.job_id not in before]
    variables = [
        {variable.name: variable.value for variable in task.env_vars or ()}
        for job_id in made
        for task in hook.describe_job_submit_info(job_id).tasks or ()
    ]
    assert sorted(each["TEXT"] for each in variables) == ["five six", "four", "one two three"]
    assert {each["LABEL"] for each in variables} == {"counted"}
    out = capfd.readouterr().out
    assert [out.count(f"counted: {number} words") for number in (1, 2, 3)] == [1, 1, 1]
    assert "nothing to change" in out, "the second run finds the template as it is wished"
