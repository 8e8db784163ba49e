"""A real Airflow on one machine: API server, scheduler, DAG processor and triggerer as processes of their own.

``airflow standalone`` would start the same parts, but ending it leaves most of them running, and its servers listen
on all interfaces. Here each part leads a session (see :mod:`tests.support.processes`), everything listens on
127.0.0.1 only, and everything Airflow writes lies below one folder.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psutil
from typing_extensions import Self

from tests.support.airflow_api import AirflowApi
from tests.support.processes import (
    ReservedPort,
    ServiceError,
    ServiceProcess,
    clean_environment,
    stop_all,
    wait_for,
)

if TYPE_CHECKING:
    from tests.support.airflow_rows import AirflowRows

#: The parts of Airflow and how each is started. Log servers are left out: Airflow binds them to all interfaces and
#: gives no choice, and the API server reads the logs from the common folder anyway.
PARTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}

#: Seconds for all parts to answer.
START_TIMEOUT = 180.0

USERNAME = "admin"

Config = Mapping[str, Mapping[str, str]]

#: Airflow's defaults suit a cluster: a dead triggerer is noticed after 30 s, a dead worker after 5 min. Here a test
#: waits for it.
QUICK: dict[str, dict[str, str]] = {
    "scheduler": {
        "scheduler_idle_sleep_time": "0.7",
        "scheduler_heartbeat_sec": "2",
        "job_heartbeat_sec": "2",
        "orphaned_tasks_check_interval": "5",
        "task_instance_heartbeat_timeout": "20",
        "task_instance_heartbeat_timeout_detection_interval": "3",
        "trigger_timeout_check_interval": "3",
    },
    "triggerer": {
        "job_heartbeat_sec": "2",
        "triggerer_health_check_threshold": "8",
        "runner_health_check_threshold": "20",
    },
    # Also how long a worker may stay after its task has deferred. Meanwhile Airflow takes the worker's end for the end
    # of the resumed task and fails it, if the trigger was quicker (apache/airflow#72716).
    "workers": {"min_heartbeat_interval": "1"},
    "dag_processor": {
        # New files are found soon; what has been parsed is not parsed again, which takes two seconds of a core.
        "refresh_interval": "5",
        "min_file_process_interval": "3600",
        "bundle_refresh_check_interval": "2",
        "parsing_processes": "1",
    },
    # Four worker processes are forked when the scheduler starts; more only cost memory.
    "core": {"parallelism": "4", "min_serialized_dag_update_interval": "1"},
    "api": {"workers": "1", "log_fetch_timeout_sec": "1"},
}


class AirflowStack:
    """Airflow with LocalExecutor, from an empty folder.

    :param folder: takes everything Airflow writes; must be empty or missing.
    :param dags: folder with the DAG files.
    :param connections: ``{connection id: connection in Airflow's JSON form}``, stored in the database.
    :param config: ``{section: {option: value}}`` on top of :data:`QUICK`.
    :param variables: added to every part's environment.
    :param database: SQLAlchemy address; an SQLite file in the folder if not given.
    :param triggerers: how many there are from the start: ``triggerer``, ``triggerer 2`` and so on.
    :param parts: those of :data:`PARTS` that are started.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: Path,
        connections: Mapping[str, Mapping[str, Any]] | None = None,
        config: Config | None = None,
        variables: Mapping[str, str] | None = None,
        database: str | None = None,
        triggerers: int = 1,
        parts: Sequence[str] = tuple(PARTS),
    ) -> None:
        self.folder = folder
        self.home = folder / "airflow"
        self.logs = folder / "parts"
        self.password = secrets.token_urlsafe(12)
        self._dags = dags
        self._connections = connections or {}
        self._config = config or {}
        self._variables = dict(variables or {})
        self._database = database or f"sqlite:///{self.home / 'airflow.db'}"
        self._triggerers = triggerers
        self._wanted = parts
        self._port: ReservedPort | None = None
        self._parts: dict[str, ServiceProcess] = {}
        self._api: AirflowApi | None = None
        self._rows: AirflowRows | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Life

    def start(self) -> None:
        """Write the configuration, make the database, start all parts and wait until they answer."""
        for path in (self.home, self.logs, self.folder / "home"):
            path.mkdir(parents=True, exist_ok=True)
        self._port = ReservedPort()
        self._write_config(self._port.number)
        try:
            self._prepare_database()
            for part in self._wanted:
                self.start_part(part)
            for number in range(2, self._triggerers + 1):
                self.start_part("triggerer", name=f"triggerer {number}")
            if "api-server" not in self._wanted:
                return
            self._api = AirflowApi(self.url, USERNAME, self.password, check=self.check, rows=self._make_rows())
            wait_for("Airflow up", self._api.is_up, timeout=START_TIMEOUT, check=self.check)
        except BaseException as error:
            self.stop()
            if isinstance(error, TimeoutError):
                raise ServiceError(f"{error}\n{self.log_tails()}") from error
            raise

    def stop(self) -> None:
        """End all parts and everything they started; harmless if nothing runs."""
        # First, because the API server would wait for its open connections before it ends.
        if self._api is not None:
            self._api.close()
            self._api = None
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        try:
            stop_all(list(self._parts.values()))
        finally:
            self._parts.clear()
            if self._port is not None:
                self._port.release()
                self._port = None

    def check(self) -> None:
        """Raise :class:`ServiceError` if a part has died by itself."""
        for part in self._parts.values():
            part.check()

    # Parts

    def start_part(self, part: str, name: str | None = None) -> None:
        """Start one part; used by :meth:`start`, and by tests that have killed it.

        :param name: what it is called here, if there is one of its kind already.
        """
        name = name or part
        self._parts[name] = ServiceProcess(
            name,
            [sys.executable, "-m", "airflow", *PARTS[part]],
            env=self.environment(),
            log=self.logs / f"{name}.log",
            cwd=self.folder,
        )

    def stop_part(self, part: str) -> None:
        """End one part in good order."""
        stop_all([self._parts.pop(part)])

    def kill_part(self, part: str) -> None:
        """Kill one part and everything it started at once, as when its machine is lost."""
        process = self._parts.pop(part)
        process.send_all(signal.SIGKILL)
        stop_all([process])

    def revive(self) -> list[str]:
        """Start the parts again that have ended by themselves, as a supervisor such as systemd would.

        Scheduler, DAG processor and triggerers end when the database is away for more than some seconds, and count on
        being started again. While it is away they end once more: call this again, or when it is back.

        :return: their names.
        """
        dead = [name for name, part in self._parts.items() if part.returncode() is not None]
        for name in dead:
            self.stop_part(name)  # workers outlive their scheduler
            self.start_part(name.partition(" ")[0], name)
        return dead

    def pid(self, part: str) -> int:
        """Process id of a running part."""
        return self._parts[part].pid

    @property
    def parts(self) -> dict[str, ServiceProcess]:
        """The running parts by name."""
        return dict(self._parts)

    # Access

    @property
    def url(self) -> str:
        """Address of the UI and the REST interface."""
        if self._port is None:
            raise ServiceError("Airflow has not been started")
        return f"http://127.0.0.1:{self._port.number}"

    @property
    def api(self) -> AirflowApi:
        """The REST interface, logged in."""
        if self._api is None:
            raise ServiceError("Airflow has not been started")
        return self._api

    def environment(self) -> dict[str, str]:
        """The environment of every part, and of any ``airflow …`` command that belongs to this stack."""
        return clean_environment(self.folder / "home", AIRFLOW_HOME=str(self.home), **self._variables)

    def busy_workers(self) -> list[str]:
        """Titles of the worker processes that hold a task right now, from the process table.

        LocalExecutor's workers name themselves ``airflow worker -- LocalExecutor: <idle>``, or with the task instead.
        """
        titles = []
        for process in self._parts["scheduler"].members():
            title = " ".join(_command_line(process))
            if title.startswith("airflow worker -- LocalExecutor") and "<idle>" not in title:
                titles.append(title.partition("LocalExecutor:")[2].strip())
        return titles

    def task_process(self, ti_id: str) -> psutil.Process | None:
        """The process that executes a task instance right now; it calls itself ``airflow worker -- <id>``."""
        for process in self._parts["scheduler"].members():
            if " ".join(_command_line(process)).strip() == f"airflow worker -- {ti_id}":
                return process
        return None

    @contextlib.contextmanager
    def second_triggerer(self) -> Iterator[None]:
        """Run another triggerer beside the first one."""
        self.start_part("triggerer", name="triggerer 2")
        try:
            yield
        finally:
            self.stop_part("triggerer 2")

    def log_tails(self, lines: int = 20) -> str:
        """The last lines of every part's log."""
        return "\n".join(part.log_tail(lines) for part in self._parts.values())

    # Set-up

    def _write_config(self, port: int) -> None:
        """Write ``airflow.cfg``: what is not said here keeps Airflow's default."""
        passwords = self.home / "passwords.json"
        url = f"http://127.0.0.1:{port}"
        own: dict[str, dict[str, str]] = {
            "core": {
                "executor": "LocalExecutor",
                "dags_folder": str(self._dags),
                "load_examples": "False",
                "dags_are_paused_at_creation": "False",
                "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                "simple_auth_manager_users": f"{USERNAME}:admin",
                "simple_auth_manager_passwords_file": str(passwords),
                "execution_api_server_url": f"{url}/execution/",
            },
            "database": {"sql_alchemy_conn": self._database},
            "api": {
                "host": "127.0.0.1",
                "port": str(port),
                "base_url": url,
                "secret_key": secrets.token_hex(16),
            },
            "api_auth": {"jwt_secret": secrets.token_hex(32)},
            "logging": {"base_log_folder": str(self.home / "logs")},
            "usage_data_collection": {"enabled": "False"},
        }
        # Airflow reads the file with interpolation: a percent sign must be doubled.
        parser = configparser.ConfigParser(interpolation=None)
        for layer in (own, QUICK, self._config):
            for section, options in layer.items():
                if not parser.has_section(section):
                    parser.add_section(section)
                for option, value in options.items():
                    parser.set(section, option, value.replace("%", "%%"))
        with (self.home / "airflow.cfg").open("w") as file:
            parser.write(file)
        passwords.write_text(json.dumps({USERNAME: self.password}))
        for path in (self.home / "airflow.cfg", passwords):
            path.chmod(0o600)

    def _make_rows(self) -> AirflowRows | None:
        if self._database.startswith("postgresql"):
            # Imported here: the demo needs no PostgreSQL.
            from tests.support.airflow_rows import AirflowRows

            self._rows = AirflowRows(self._database)
        return self._rows

    def _prepare_database(self) -> None:
        program = Path(__file__).with_name("prepare_airflow.py")
        done = subprocess.run(
            [sys.executable, str(program)],
            input=json.dumps({name: dict(value) for name, value in self._connections.items()}),
            env=self.environment(),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"Airflow's database could not be made\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")


def _command_line(process: psutil.Process) -> list[str]:
    """A process's command line, empty if it has just ended."""
    try:
        line: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return line
