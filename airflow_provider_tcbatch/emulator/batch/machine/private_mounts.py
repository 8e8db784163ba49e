"""Running a command in a file system of its own, so that absolute paths of a job are there and nowhere else.

Started as a script: ``private_mounts.py SPEC -- COMMAND…`` with a JSON file that names the folders to show and where::

    {"root": "/folder/to/make/for/the/root", "stash": "/another/folder/to/make", "cwd": "/start/here",
     "error": "/tell/problems/here", "mounts": [["/folder/of/the/instance", "/mnt/input"]]}

It makes mount (and, where it has to, user) namespaces of its own, builds a root folder from the system's entries, lays
the folders over it and becomes the command. The system itself is not touched: where a mount point does not exist, the
folder above it is replaced, for this process only, by one in memory that shows the same entries and the new one.
Nothing but Python is needed. ``private_mounts.py --probe FOLDER`` tells by its exit status whether this works here.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from typing import NoReturn

_NEWNS, _NEWUSER = 0x00020000, 0x10000000
_BIND, _REC, _PRIVATE = 4096, 16384, 1 << 18
_MOST_ENTRIES = 5000
_FAILED = 125


@cache
def available() -> bool:
    """Whether this system lets this user have private mounts."""
    if not sys.platform.startswith("linux"):
        return False
    with tempfile.TemporaryDirectory(prefix="tcbatch-probe-") as folder:
        command = [sys.executable, "-I", "-S", __file__, "--probe", folder]
        try:
            return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def launcher(spec: str) -> list[str]:
    """What to put in front of a command."""
    return [sys.executable, "-I", "-S", __file__, spec, "--"]


class _Mounts:
    """Mount calls of this process."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def _check(self, result: int, what: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{what}: {os.strerror(number)}")

    def enter(self) -> None:
        """Leave the system's mounts for a copy of them."""
        user, group = os.geteuid(), os.getegid()
        if user != 0 or self._libc.unshare(_NEWNS) != 0:
            self._check(self._libc.unshare(_NEWUSER | _NEWNS), "unshare")
            with contextlib.suppress(OSError):
                _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{user} {user} 1")
            _write("/proc/self/gid_map", f"{group} {group} 1")
        # Or else mounts would show in the system, and the system's here.
        self._mount(None, "/", None, _REC | _PRIVATE)

    def bind(self, source: str, target: str) -> None:
        """Show a file or folder, with all that is mounted below it, at another place."""
        self._mount(source, target, None, _BIND | _REC)

    def memory(self, target: str, mode: int) -> None:
        """An empty folder in memory."""
        self._mount("tmpfs", target, "tmpfs", 0, f"mode={mode:o}")

    def _mount(self, source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
        encoded = [text.encode() if text is not None else None for text in (source, target, kind, data)]
        self._check(
            self._libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]),
            f"mount on {target}",
        )


class _Root:
    """A root folder that shows what the system's root shows, and can be changed."""

    def __init__(self, mounts: _Mounts, root: str, stash: str) -> None:
        self._mounts = mounts
        self._root = root
        self._stash = stash
        self._count = 0
        self._own = {""}
        mounts.memory(root, 0o755)
        self._copy("/", root)

    def show(self, source: str, path: str) -> None:
        """Show a folder at an absolute path, which need not exist."""
        # Links on the way there are the system's: /var/run is /run.
        real = os.path.realpath(path)
        current = ""
        for part in real.strip("/").split("/"):
            parent, current = current, f"{current}/{part}"
            place = self._root + current
            if not os.path.lexists(place):
                if parent not in self._own:
                    self._replace(parent)
                os.mkdir(place)
                self._own.add(current)
            elif not os.path.isdir(place):
                raise OSError(f"{current} is not a folder")
        self._mounts.bind(source, self._root + real)

    def _replace(self, path: str) -> None:
        """Put a folder in memory over one of the system, with the same entries."""
        place = self._root + path
        self._count += 1
        stash = f"{self._stash}/{self._count}"
        os.mkdir(stash)
        mode = os.stat(place).st_mode & 0o7777
        self._mounts.bind(place, stash)
        self._mounts.memory(place, mode)
        self._copy(stash, place)
        self._own.add(path)

    def _copy(self, source: str, target: str) -> None:
        names = os.listdir(source)
        if len(names) > _MOST_ENTRIES:
            raise OSError(f"{source} has too many entries to show them all beside a new one")
        for name in names:
            old, new = os.path.join(source, name), os.path.join(target, name)
            if os.path.islink(old):
                os.symlink(os.readlink(old), new)
            elif os.path.isdir(old):
                os.mkdir(new)
                self._mounts.bind(old, new)
            else:
                with open(new, "wb"):
                    pass
                self._mounts.bind(old, new)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _build(root: str, stash: str, wanted: list[list[str]]) -> None:
    mounts = _Mounts()
    mounts.enter()
    new = _Root(mounts, root, stash)
    for source, path in wanted:
        new.show(source, path)
    os.chroot(root)


def _probe(folder: str) -> None:
    folders = [os.path.join(folder, name) for name in ("root", "stash", "source")]
    for name in folders:
        os.mkdir(name)
    _build(folders[0], folders[1], [[folders[2], "/tcbatch-probe/a"]])
    os.listdir("/tcbatch-probe/a")


def _become(spec_path: str, command: list[str]) -> NoReturn:
    with open(spec_path) as file:
        spec = json.load(file)
    try:
        os.mkdir(spec["root"])
        os.mkdir(spec["stash"])
        _build(spec["root"], spec["stash"], spec["mounts"])
        os.chdir(spec["cwd"])
    except OSError as error:
        # The command's own output is not the place for this.
        with open(spec["error"], "w") as file:
            file.write(str(error))
        sys.exit(_FAILED)
    os.execv(command[0], command)


if __name__ == "__main__":
    if sys.argv[1] == "--probe":
        _probe(sys.argv[2])
    else:
        _become(sys.argv[1], sys.argv[3:])
