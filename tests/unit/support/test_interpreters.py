from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import interpreters

SHIM = "#!/bin/sh\necho 'pyenv: this command exists in other versions only' >&2; exit 127\n"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python yet: ``bin`` is on PATH, ``pyenv`` may hold more."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def python(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def real(version: str) -> str:
    """A program that answers as an interpreter of this version would."""
    return f"#!/bin/sh\necho {version}\n"


def test_a_name_that_stands_for_nothing_is_passed_over(machine: Path) -> None:
    python(machine / "bin/python3.12", SHIM)
    python(machine / "bin/python3.11", real("3.11"))
    python(machine / "bin/python3.10", real("3.9"))
    behind = python(machine / "pyenv/versions/3.12.1/bin/python3.12", real("3.12"))
    assert interpreters.found() == {"3.11": machine / "bin/python3.11", "3.12": behind}


def test_without_any_nothing_is_found(machine: Path) -> None:
    assert interpreters.found() == {}


def test_where_versions_are_pinned_is_known() -> None:
    assert interpreters.pinned("3.13")
    assert not interpreters.pinned("3.9")


def test_this_interpreter_runs() -> None:
    assert interpreters.runs(Path(sys.executable), HERE)
    assert not interpreters.runs(Path(sys.executable), "3.9")


@pytest.mark.parametrize(("besides", "newest"), [("3.11", "3.13"), ("3.13", "3.11"), ("3.12", "3.13")])
def test_the_newest_besides_one(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], besides: str, newest: str
) -> None:
    for version in ("3.11", "3.13", "3.14"):
        python(machine / f"bin/python{version}", real(version))
    (machine / "constraints").mkdir()
    for version in ("3.11", "3.12", "3.13"):
        (machine / f"constraints/constraints-{version}.txt").touch()
    monkeypatch.setattr(interpreters, "CONSTRAINTS", machine / "constraints")
    monkeypatch.setattr(sys, "argv", ["interpreters", "--newest-besides", besides])
    assert interpreters.main() == 0
    assert capsys.readouterr() == (f"{machine}/bin/python{newest}\n", ""), "nothing is pinned for 3.14"


def test_what_is_missing_is_said(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python(machine / "bin/python3.13", real("3.13"))
    monkeypatch.setattr(sys, "argv", ["interpreters"])
    assert interpreters.main() == 0
    assert capsys.readouterr().err == "Not on this machine: Python 3.10, 3.11, 3.12, 3.14\n"
