"""What a DAG file loads."""

from __future__ import annotations

import subprocess
import sys


def test_jobs_and_environments_do_not_bring_requests_answers_or_events() -> None:
    program = """
import sys
import airflow_provider_tcbatch.models.job
import airflow_provider_tcbatch.models.wire
prefix = "airflow_provider_tcbatch.models."
print(*sorted(name.removeprefix(prefix) for name in sys.modules if name.startswith(prefix)))
"""
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == ["base", "compute_env", "job", "notification", "states", "storage", "values", "wire"]
