"""The file of a data folder that an emulator's state is in: SQLite, so that it is whole whenever the process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: Kind and name of a record, and its value; without a value it is removed. A name that ends with a slash stands for all
#: names that begin with it, which can be removed only.
Row = tuple[str, str, Any]

#: Goes up whenever a record of today could not be read by an emulator of yesterday, or the other way round.
FORMAT = 1

_TABLE = """
CREATE TABLE IF NOT EXISTS record (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (kind, name)
)
"""
# A record that is written again keeps its number, so that numbers tell in which order things were made.
_WRITE = (
    "INSERT INTO record (kind, name, value) VALUES (?, ?, ?) "
    "ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value"
)


class Database:
    """Records by kind and name. May be used from any thread.

    A commit is in the system's hands when :meth:`write` returns: it survives the end of the process however it comes,
    but the newest ones are lost when the machine's power goes (``synchronous=NORMAL``). The file stays whole then, too.

    :param path: the file; made when it is not there, readable by its owner alone.
    :raises OSError: when it cannot be opened, or is no file that this emulator can read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        # Requests hold passwords and keys of registries, which are nobody else's business.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._problems():
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            with self._problems():
                (found,) = self._connection.execute("PRAGMA user_version").fetchone()
                empty = not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if found != FORMAT and not (found == 0 and empty):
                    raise OSError(errno.EINVAL, _other_format(path, found))
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = NORMAL")
                with self._transaction():
                    self._connection.execute(_TABLE)
                    self._connection.execute(f"PRAGMA user_version = {FORMAT}")
        except BaseException:
            self._connection.close()
            raise

    @contextlib.contextmanager
    def _problems(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise OSError(
                errno.EIO,
                f"the emulator's state cannot be read or written: {self._path}: {error}; name another --data-dir, or "
                "remove this file to begin with an empty one",
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def read(self, kind: str) -> list[tuple[str, Any]]:
        """All records of a kind, by name, in the order in which they were first written."""
        with self._lock, self._problems():
            found = self._connection.execute("SELECT name, value FROM record WHERE kind = ? ORDER BY number", (kind,))
            return [(name, json.loads(value)) for name, value in found]

    def write(self, rows: Iterable[Row]) -> None:
        """Write and remove records, all or none.

        :raises OSError: when they cannot be written.
        """
        with self._lock, self._problems(), self._transaction():
            for kind, name, value in rows:
                if value is not None:
                    self._connection.execute(_WRITE, (kind, name, json.dumps(value, separators=(",", ":"))))
                elif name.endswith("/"):
                    # The character after the slash is 0.
                    self._connection.execute(
                        "DELETE FROM record WHERE kind = ? AND name >= ? AND name < ?", (kind, name, f"{name[:-1]}0")
                    )
                else:
                    self._connection.execute("DELETE FROM record WHERE kind = ? AND name = ?", (kind, name))

    def clear(self) -> None:
        """Remove all records but those of the emulator itself."""
        with self._lock, self._problems(), self._transaction():
            self._connection.execute("DELETE FROM record WHERE kind != 'emulator'")

    def close(self) -> None:
        """Close the file; without effect when it is closed."""
        with self._lock:
            self._connection.close()


def _other_format(path: Path, found: int) -> str:
    age = "a newer" if found > FORMAT else "another"
    return (
        f"{path} was written by {age} version of the emulator (format {found}; this one reads {FORMAT}); use that "
        "version of airflow-provider-tcbatch, or name another --data-dir"
    )


class FolderLock:
    """Sees to it that one emulator at a time uses a data folder.

    The system gives the lock back when the process ends, however it ends.

    :param folder: the data folder.
    :raises OSError: when another emulator has it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._file, 20).decode("ascii", "replace").strip()
            os.close(self._file)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise OSError(
                errno.EBUSY,
                f"the data folder {folder} is in use by another emulator{f' (process {owner})' if owner else ''}; stop "
                "it, or name another --data-dir",
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let another emulator have the folder."""
        os.close(self._file)
