"""Carrying out InputMappings and OutputMappings: COS prefixes as folders of an instance.

The service mounts a prefix; here its objects are copied into a folder before the command runs, and a folder's files
into the bucket after it. An absolute path is a folder beside the instance's working folder, shown at that path to the
command alone.
"""

from __future__ import annotations

import json
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator import files
from airflow_provider_tcbatch.emulator.batch.jobs.entities import Task
from airflow_provider_tcbatch.emulator.batch.machine import private_mounts
from airflow_provider_tcbatch.emulator.batch.machine.mapping_rules import check_mappings
from airflow_provider_tcbatch.emulator.batch.machine.paths import parse_cos
from airflow_provider_tcbatch.emulator.errors import ApiError, CosError
from airflow_provider_tcbatch.emulator.schema import printable

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.service import BatchService


class MappingError(Exception):
    """A mapping cannot be carried out; the text becomes the instance's StateReason."""


@dataclass
class Workspace:
    """Where the paths of one attempt's mappings really are.

    :param folder: the attempt's folder; the command works in its folder ``work``.
    """

    folder: Path
    #: Folders to be shown at absolute paths, by that path.
    absolute: dict[str, Path] = field(default_factory=dict)

    def place(self, path: str) -> Path:
        """The folder for a local path of a mapping."""
        if not path.startswith("/"):
            return self.folder / "work" / posixpath.normpath(path)
        clean = "/" + posixpath.normpath(path).lstrip("/")
        # "/data" may be mapped in and "/data/part" out: the second is in the first then.
        for shown, real in self.absolute.items():
            if f"{clean}/".startswith(f"{shown}/"):
                return real / clean[len(shown) :].lstrip("/")
        real = self.folder / "mounts" / str(len(self.absolute))
        self.absolute[clean] = real
        return real

    def launcher(self) -> list[str]:
        """What to put in front of the command so that it sees absolute paths."""
        if not self.absolute:
            return []
        spec = {
            "root": str(self.folder / "root"),
            "stash": str(self.folder / "stash"),
            "cwd": str(self.folder / "work"),
            "error": str(self.error_file),
            "mounts": [[str(real), path] for path, real in self.absolute.items()],
        }
        path = self.folder / "mounts.json"
        files.write(path, json.dumps(spec).encode())
        return private_mounts.launcher(str(path))

    @property
    def error_file(self) -> Path:
        """Where a launcher that fails says why."""
        return self.folder / "mount-error"

    def error(self) -> str:
        """What a launcher that failed said, as far as it can be read."""
        try:
            return files.read(self.error_file, 4096).decode("utf-8", "replace")
        except OSError as error:
            return str(error)

    def reset(self) -> None:
        """Make the launcher usable for another command."""
        for name in ("root", "stash"):
            place = self.folder / name
            if place.is_dir():
                for entry in place.iterdir():
                    entry.rmdir()
                place.rmdir()


def mappings_of(batch: BatchService, task: Task, kind: str) -> list[dict[str, Any]]:
    """InputMappings or OutputMappings of a task, those of its environment first."""
    env = batch.envs.get(task.spec.get("EnvId", ""))
    return [*(env.spec.get(kind, ()) if env is not None else ()), *task.spec.get(kind, ())]


def prepare(batch: BatchService, task: Task, folder: Path) -> Workspace:
    """Make the folders of all mappings and fill those of the inputs.

    :raises MappingError: for objects whose names are no paths, too many bytes, or paths that were accepted when jobs
        were only simulated.
    :raises CosError: when a bucket does not exist.
    """
    space = Workspace(folder)
    inputs = mappings_of(batch, task, "InputMappings")
    outputs = mappings_of(batch, task, "OutputMappings")
    try:
        contained = "Docker" in task.spec["Application"]
        check_mappings(batch.host, {"InputMappings": inputs, "OutputMappings": outputs}, "Task", contained=contained)
    except ApiError as error:
        raise MappingError(error.message) from None
    # Shorter paths first, so that one within another finds it.
    for path in sorted(
        [*(item["DestinationPath"] for item in inputs), *(item["SourcePath"] for item in outputs)], key=len
    ):
        space.place(path)
    left = batch.host.settings.max_mapping_bytes
    for item in inputs:
        place = space.place(item["DestinationPath"])
        _make_folder(folder, place, "InputMappings")
        left = _fetch(batch, item["SourcePath"], place, left)
    for real in space.absolute.values():
        real.mkdir(parents=True, exist_ok=True)
    for item in outputs:
        # The command creates relative ones itself, a file maybe.
        if item["SourcePath"].startswith("/"):
            _make_folder(folder, space.place(item["SourcePath"]), "OutputMappings")
    return space


def _make_folder(folder: Path, place: Path, kind: str) -> None:
    # A package may have brought links.
    if not place.resolve().is_relative_to(folder.resolve()):
        raise MappingError(f"{kind}: {place.name} leads out of the instance's folder")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MappingError(f"{kind}: {error}") from error


def _fetch(batch: BatchService, source: str, place: Path, left: int) -> int:
    """Copy all objects of a prefix into a folder.

    :return: how many more bytes may be brought.
    """
    prefix = parse_cos(source, "SourcePath", folder=True)
    for key in _keys(batch, prefix.bucket, prefix.key):
        relative = key[len(prefix.key) :]
        if relative == "":
            continue
        parts = relative.rstrip("/").split("/")
        if any(part in ("", ".", "..") or not part.isprintable() or len(part.encode()) > 255 for part in parts):
            raise MappingError(f"InputMappings: the object {printable(key)!r} has no name for a file")
        target = place.joinpath(*parts)
        folder = target if relative.endswith("/") else target.parent
        if not folder.resolve().is_relative_to(place.resolve()) or target.is_symlink():
            raise MappingError(f"InputMappings: the object {printable(key)!r} leads out of its folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not relative.endswith("/"):
                data = batch.objects.get(prefix.bucket, key)
                left -= len(data)
                if left < 0:
                    raise MappingError(f"InputMappings: more than {batch.host.settings.max_mapping_bytes} bytes")
                files.write(target, data)
        except OSError as error:
            raise MappingError(f"InputMappings: the object {printable(key)!r} cannot be a file: {error}") from error
    return left


def _keys(batch: BatchService, bucket: str, prefix: str) -> list[str]:
    backend = batch.objects.load()
    if bucket not in backend.buckets:
        raise CosError(404, "NoSuchBucket", f"The bucket {bucket} does not exist.")
    return sorted(key for key in list(backend.buckets[bucket].keys) if key.startswith(prefix))


def store(batch: BatchService, task: Task, space: Workspace) -> None:
    """Copy the files of all outputs into their buckets.

    :raises MappingError: when a source does not exist or there are too many bytes.
    :raises CosError: when a bucket does not exist.
    """
    left = batch.host.settings.max_mapping_bytes
    for item in mappings_of(batch, task, "OutputMappings"):
        target = parse_cos(item["DestinationPath"], "DestinationPath", folder=True)
        place = space.place(item["SourcePath"])
        # What links lead to is the command's business, not that of the account's buckets.
        if not place.resolve().is_relative_to(space.folder.resolve()) or not place.exists():
            raise MappingError(f"OutputMappings: there is no {printable(item['SourcePath'], 60)}")
        for path, name in _files(place):
            try:
                data = files.read(path, left + 1)
            except OSError as error:
                raise MappingError(f"OutputMappings: {printable(name)}: {error.strerror}") from error
            left -= len(data)
            if left < 0:
                raise MappingError(f"OutputMappings: more than {batch.host.settings.max_mapping_bytes} bytes")
            batch.objects.put(target.bucket, target.key + name, data)


def _files(place: Path) -> Iterator[tuple[Path, str]]:
    """All plain files of a folder, or the one that it is, with the names that their objects get."""
    if stat.S_ISREG(place.lstat().st_mode):
        yield place, place.name
        return
    for folder, folders, names in os.walk(place):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            if stat.S_ISREG(path.lstat().st_mode):
                yield path, os.fsencode(path.relative_to(place)).decode("utf-8", "replace")
