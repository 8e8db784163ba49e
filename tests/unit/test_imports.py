"""What a DAG file pays for importing this provider."""

from __future__ import annotations

import json
import subprocess
import sys

SCRIPT = """
import importlib, json, sys
import airflow.sdk, airflow.triggers.base, airflow.configuration
before = set(sys.modules)
from airflow_provider_tcbatch.get_provider_info import get_provider_info
info = get_provider_info()
for kind in ("operators", "sensors", "triggers"):
    for entry in info.get(kind, []):
        for module in entry["python-modules"]:
            importlib.import_module(module)
importlib.import_module("airflow_provider_tcbatch.resources")
importlib.import_module("airflow_provider_tcbatch.events")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


#: What happens at execution, and is nothing but a few lines while a DAG file is read.
LIGHT = {
    "execution.airflow_calls",
    "execution.changes",
    "execution.errors",
    "execution.job",
    "execution.job.failure",
    "execution.job.instance_failure",
}

ENVS = ("compute_env.sharing", "compute_env.plan")


def test_a_dag_file_newly_imports_no_client_and_no_answer_models() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=True)
    new = json.loads(done.stdout.splitlines()[-1])
    assert "airflow_provider_tcbatch.operators.job" in new, "the check itself must see what is imported"
    libraries = {name.split(".")[0] for name in new}
    assert not libraries & {"tencentcloud", "qcloud_cos", "boto3", "botocore", "httpx", "requests", "moto"}
    ours = {name.removeprefix("airflow_provider_tcbatch.") for name in new}
    assert not ours & {"models.views", "models.actions", "models.events", "models.cmq"}
    beyond = ("client.", "connection.", "emulator", "execution.", "hooks.", "waits.", "watching.")
    assert {name for name in ours if name.startswith(beyond)} <= LIGHT
    assert not ours & {f"policies.{name}" for name in ("job.submission", "deadlines", "orphans", *ENVS)}
