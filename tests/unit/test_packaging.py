"""What a release consists of: sdist and wheel, made as ``make dist`` makes them."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
import yaml

from airflow_provider_tcbatch import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_tcbatch"
METADATA = f"{PACKAGE}-{__version__}.dist-info"

#: What a checkout has and a release has not: who has an sdist neither lands changes nor reports to other projects.
LEFT_OUT = (".ci/", "findings/")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sdist and wheel."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def wheel(dist: Path) -> dict[str, bytes]:
    """The wheel's files by name."""
    with zipfile.ZipFile(dist / f"{PACKAGE}-{__version__}-py3-none-any.whl") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def metadata(wheel: dict[str, bytes]) -> Message:
    return email.message_from_bytes(wheel[f"{METADATA}/METADATA"])


def test_the_wheel_holds_the_package_and_nothing_else(wheel: dict[str, bytes]) -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
    assert {f"{PACKAGE}/get_provider_info.py", f"{PACKAGE}/emulator/cli.py"} <= modules
    about = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")
    assert wheel.keys() == {*modules, f"{PACKAGE}/py.typed", *(f"{METADATA}/{name}" for name in about)}


def test_the_wheel_says_what_airflow_pytest_and_the_shell_find_in_it(wheel: dict[str, bytes]) -> None:
    text = wheel[f"{METADATA}/entry_points.txt"].decode()
    assert dict(re.findall(r"^\[(\w+)\]\n(.+)$", text, re.MULTILINE)) == {
        "apache_airflow_provider": f"provider_info = {PACKAGE}.get_provider_info:get_provider_info",
        "console_scripts": f"tcbatch-emulator = {PACKAGE}.emulator.cli:main",
        "pytest11": f"tcbatch = {PACKAGE}.testing",
    }


def test_the_metadata_say_whose_it_is_and_what_it_may_be_used_for(wheel: dict[str, bytes], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "NOTICE"]
    for name in ("LICENSE", "NOTICE"):
        assert wheel[f"{METADATA}/licenses/{name}"] == (ROOT / name).read_bytes()
    assert "Apache License\n                        Version 2.0" in (ROOT / "LICENSE").read_text()
    assert metadata["Author"] == "airflow_provider_tcbatch contributors"
    urls = dict(entry.split(", ") for entry in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    classifiers = metadata.get_all("Classifier", [])
    assert {"Framework :: Apache Airflow :: Provider", "Typing :: Typed"} <= set(classifiers)
    # Beside a license expression they are refused by PyPI.
    assert not [name for name in classifiers if name.startswith("License ::")]


def test_the_metadata_name_the_pythons_there_are_constraints_for(metadata: Message) -> None:
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(metadata.get_all("Classifier", [])), re.MULTILINE)
    files = (ROOT / "constraints").glob("constraints-*.txt")
    assert sorted(named) == sorted(path.stem.removeprefix("constraints-") for path in files)


def test_the_sdist_holds_what_a_checkout_holds(dist: Path) -> None:
    """Nothing that git ignores (environments, caches, results), and all the rest."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    top = f"{PACKAGE}-{__version__}/"
    with tarfile.open(dist / f"{PACKAGE}-{__version__}.tar.gz") as archive:
        found = {member.name.removeprefix(top) for member in archive.getmembers() if member.isfile()}
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    present = {name for name in listed if name and (ROOT / name).is_file() and not name.startswith(LEFT_OUT)}
    assert found == present | {"PKG-INFO"}


def test_a_commit_is_checked_by_the_tools_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    tools = [line.removesuffix(" .") for line in re.findall(r"\$\(BIN\)/(.+)", recipe[1])]
    [repo] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local", "nothing is downloaded"
    hooks = [hook["entry"].removeprefix(".venv/bin/").replace(" --force-exclude", "") for hook in repo["hooks"]]
    assert hooks == tools == ["ruff check", "ruff format --check", "mypy", "lint-imports"]
