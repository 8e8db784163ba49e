"""Prints the Pythons of this machine that the package supports, one path a line, oldest first.

``make matrix`` and ``.ci/run`` use it before any environment exists: it needs the standard library alone. A name on
``PATH`` may be a version manager's that stands for nothing; what is printed has been run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

#: Versions that the package is for.
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")

#: Where there is a file of pinned versions for each version of Python that has been resolved.
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints"

_PROBE = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"


def candidates(version: str) -> Iterator[Path]:
    """Where an interpreter of this version may be: on ``PATH``, then among pyenv's."""
    for folder in os.get_exec_path():
        yield Path(folder) / f"python{version}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}*/bin/python{version}"), reverse=True)


def runs(python: Path, version: str) -> bool:
    """Whether it is there, is of this version, and can make environments."""
    if not os.access(python, os.X_OK):
        return False
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def found() -> dict[str, Path]:
    """Version and path of every interpreter that runs."""
    result: dict[str, Path] = {}
    for version in VERSIONS:
        python = next((path for path in candidates(version) if runs(path, version)), None)
        if python is not None:
            result[version] = python
    return result


def pinned(version: str) -> bool:
    """Whether the versions to install for it have been resolved: without a file they are what is newest that day."""
    return (CONSTRAINTS / f"constraints-{version}.txt").is_file()


def main() -> int:
    """Print all of them, or the newest one of another version than that to leave out which has pinned versions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--newest-besides",
        metavar="VERSION",
        help="only the newest one of another version than this, among those with a file in constraints/",
    )
    options = parser.parse_args()
    pythons = found()
    if options.newest_besides is not None:
        others = [path for version, path in pythons.items() if version != options.newest_besides and pinned(version)]
        pythons = {"": others[-1]} if others else {}
    else:
        missing = [version for version in VERSIONS if version not in pythons]
        if missing:
            print(f"Not on this machine: Python {', '.join(missing)}", file=sys.stderr)
    for path in pythons.values():
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
