"""The script that shows folders at absolute paths to one command alone."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

from airflow_provider_tcbatch.emulator.batch.machine import private_mounts


def run(folder: Path, command: str, *mounts: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    spec = folder / f"{uuid.uuid4().hex}.json"
    names = {name: str(folder / f"{spec.stem}-{name}") for name in ("root", "stash", "error")}
    spec.write_text(json.dumps({**names, "cwd": str(folder), "mounts": mounts}))
    result = subprocess.run(
        [*private_mounts.launcher(str(spec)), "/bin/sh", "-c", command], capture_output=True, text=True, timeout=30
    )
    error = Path(names["error"])
    result.stderr += error.read_text() if error.exists() else ""
    return result


def test_shows_folders_or_says_why_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("hello")
    place = f"/tcbatch-{uuid.uuid4().hex}"
    result = run(
        tmp_path, f"cat {place}/a/b/file; echo new > {place}/a/b/new; ls {tmp_path}", (str(source), f"{place}/a/b")
    )
    if not private_mounts.available():
        assert result.returncode == 125
        assert result.stderr
        return
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("hello")
    assert "source" in result.stdout
    assert (source / "new").read_text() == "new\n"
    assert not Path(place).exists()


def test_entries_beside_a_new_one_stay(tmp_path: Path) -> None:
    source, beside = tmp_path / "source", tmp_path / "beside"
    source.mkdir()
    beside.mkdir()
    (beside / "file").write_text("1")
    (beside / "link").symlink_to("file")
    (beside / "folder").mkdir()
    result = run(tmp_path, f"ls {beside}; cat {beside}/link; echo 2 > {beside}/file", (str(source), f"{beside}/new/er"))
    if private_mounts.available():
        assert result.stdout.split() == ["file", "folder", "link", "new", "1"], result.stderr
        # A file beside is the system's own still.
        assert (beside / "file").read_text() == "2\n"
    assert sorted(path.name for path in beside.iterdir()) == ["file", "folder", "link"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path, "true", (str(tmp_path), f"{tmp_path}/file/x"))
    assert result.returncode == 125
    if private_mounts.available():
        assert "is not a folder" in result.stderr
