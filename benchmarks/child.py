"""Each case runs in a process of its own, so that none pays for, or profits from, what another has imported."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MARK", "ROOT", "run"]

#: The project's folder.
ROOT = Path(__file__).resolve().parents[1]

_PACKAGE = "airflow_provider_tcbatch"

#: What a case prints before its result.
MARK = "benchmark result: "


def run(
    case: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    beside: Path | None = None,
    patience: float = 900.0,
) -> dict[str, Any]:
    """Run a case and return what it measured.

    :param case: a module of :mod:`benchmarks.cases`; its function ``main`` takes the parameters.
    :param parameters: plain JSON.
    :param environment: variables of the process, on top of a few of this one's.
    :param beside: another checkout, whose provider is measured instead of this one's.
    :param patience: seconds after which it is given up.
    :raises RuntimeError: with what it printed, if it fails.
    """
    with tempfile.TemporaryDirectory(prefix="tcbatch-bench-") as home:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR") if name in os.environ}
        variables = {
            **kept,
            "HOME": home,
            "AIRFLOW_HOME": home,
            "NO_PROXY": "*",
            "PYTHONPATH": str(ROOT),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            **(environment or {}),
        }
        if beside is not None:
            # The folder that a program is started in comes before all others.
            (Path(home) / _PACKAGE).symlink_to((beside / _PACKAGE).resolve(strict=True))
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.child", case],
            input=json.dumps(dict(parameters or {})),
            env=variables,
            cwd=home,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
    for line in reversed(ended.stdout.splitlines()):
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return result
    raise RuntimeError(
        f"case {case} ended with status {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    )


def main() -> None:
    """Run the case named on the command line in this process."""
    case = sys.argv[1]
    result = importlib.import_module(f"benchmarks.cases.{case}").main(json.load(sys.stdin))
    print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
