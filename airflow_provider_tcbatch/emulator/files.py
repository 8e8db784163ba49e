"""Files in folders that a job may write to.

A job may put anything in a file's place: a pipe would hold whoever opens it for ever, a link would lead to files that
are none of its own. So such files are opened without waiting and without following, and only if they are files.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_SAFE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_to_read(path: Path) -> BinaryIO:
    """Open a regular file.

    :raises OSError: also for anything else that has its name.
    """
    return os.fdopen(_open(path, os.O_RDONLY), "rb")


def open_to_append(path: Path) -> BinaryIO:
    """Open a regular file to write at its end; it is made if there is none.

    :raises OSError: also for anything else that has its name.
    """
    return os.fdopen(_open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def write(path: Path, data: bytes) -> None:
    """Put data into a regular file, in place of what it held; it is made if there is none.

    :raises OSError: also for anything else that has its name.
    """
    with os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT), "wb") as file:
        file.truncate()
        file.write(data)


def read(path: Path, most: int = -1) -> bytes:
    """What a regular file holds.

    :param most: how many bytes at most; negative: all.
    :raises OSError: also for anything else that has its name.
    """
    with open_to_read(path) as file:
        return file.read(most)


def _open(path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | _SAFE, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "This is no regular file", str(path))
