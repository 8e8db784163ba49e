#!/usr/bin/env python3
"""Rewrite the constraint files by resolving the project with real interpreters.

``constraints-<python>.txt`` holds what the project is developed and tested with, ``oldest-<python>.txt`` the oldest
Airflow that it supports and what its tests need there, ``airflow-3.2-<python>.txt`` the same for the Airflow in
between, ``bench-<python>.txt`` what the benchmarks need: the peer's
clients ask for older versions than the tests use.

``make constraints`` calls this. It needs nothing but the standard library and pip, so that it runs before any
virtual environment exists. Each interpreter resolves for itself: markers, wheels and ``requires-python`` differ
between versions, and a file that only one of them had resolved would break on the others.

The files hold ``name==version`` lines and no addresses: from where the packages come is the business of the
machine that installs them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: What is chosen and not resolved: by the beginning of the file's name, Airflow's version, the project's extra, and
#: what Airflow's own requirements leave out.
CHOICES = {
    "constraints": ("3.3.2", "test", ()),
    "oldest": ("3.1.8", "oldest", ()),
    # 3.2 can't be imported with a newer FastAPI; Airflow 3.3 asks for an older one itself.
    "airflow-3.2": ("3.2.2", "oldest", ("fastapi<0.137",)),
    "bench": ("3.3.2", "bench", ()),
}

#: What builds the packages that come without a wheel, the project itself included. Pinned too: a new release
#: of a build backend can break an install as well as any other.
BUILD_TOOLS = ("hatchling", "editables", "setuptools", "wheel")

#: What installs the rest: the pip that comes with an older Python takes twice as long.
INSTALLER = "pip"


def version_of(python: str) -> str:
    """``3.12`` for an interpreter."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def canonical(name: str) -> str:
    """A package's name as every tool compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(python: str, airflow: str, extra: str, bounds: Iterable[str]) -> list[str]:
    """Return the sorted ``name==version`` lines of one interpreter's resolution."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        # Only a resolution, nothing installed; --ignore-installed because what the fresh environment brings
        # along (pip, older Pythons' setuptools) must be in the report as well.
        command = [f"{folder}/venv/bin/python", "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", str(report), f"{HERE.parent}[{extra}]"]
        subprocess.run([*command, f"apache-airflow=={airflow}", *bounds, *BUILD_TOOLS, INSTALLER], check=True)
        items = json.loads(report.read_text())["install"]
    project = canonical("airflow-provider-tcbatch")
    pins = {canonical(item["metadata"]["name"]): item["metadata"]["version"] for item in items}
    return sorted(f"{name}=={version}" for name, version in pins.items() if name != project)


def main() -> int:
    """Resolve for every interpreter named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", nargs="+", help="interpreter to resolve with, for instance python3.12")
    for python in parser.parse_args().python:
        version = version_of(python)
        for name, (airflow, extra, bounds) in CHOICES.items():
            lines = resolve(python, airflow, extra, bounds)
            path = HERE / f"{name}-{version}.txt"
            header = f"# Python {version}, Airflow {airflow}. Written by `make constraints`.\n"
            path.write_text(header + "\n".join(lines) + "\n")
            print(f"{path.name}: {len(lines)} packages", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
