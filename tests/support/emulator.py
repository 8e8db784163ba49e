"""The emulator as a process of its own, as a user would start it."""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from typing_extensions import Self

from tests.support.processes import ServiceError, ServiceProcess, clean_environment, stop_all

#: Seconds the emulator may take to print its line.
START_TIMEOUT = 60.0

ANY_PORTS = ("--port", "0", "--cos-port", "0")


class EmulatorProcess:
    """``tcbatch-emulator serve`` on free ports.

    :param folder: takes the emulator's data and its log.
    :param settings: how it behaves, for instance ``{"mode": "simulate"}``.
    :param command: the command line that starts it, without options; another program may play the emulator.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, command: Sequence[str] | None = None
    ) -> None:
        self.folder = folder
        self._command = command or (str(Path(sys.executable).parent / "tcbatch-emulator"), "serve", *ANY_PORTS)
        self._settings = settings or {}
        #: The line the emulator prints when it is ready.
        self.info: dict[str, Any] = {}
        self._process: ServiceProcess | None = None
        self._client: httpx.Client | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait for its line."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        command = list(self._command)
        for name, value in self._settings.items():
            command += ["--set", f"{name}={value}"]
        self._process = ServiceProcess(
            "emulator",
            [*command, "--data-dir", str(self.folder / "data")],
            env=self.environment(home),
            log=self.folder / "emulator.log",
            cwd=self.folder,
            capture_stdout=True,
        )
        try:
            self.info = json.loads(self._first_line(self._process))
        except BaseException:
            self.stop()
            raise

    def environment(self, home: Path) -> dict[str, str]:
        """What the process finds around it."""
        return clean_environment(home)

    @staticmethod
    def _first_line(process: ServiceProcess) -> bytes:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            ready, _, _ = select.select([process.stdout], [], [], 0.5)
            if ready and (line := process.stdout.readline()):
                return line
            process.check()
        raise ServiceError(f"the emulator printed nothing in {START_TIMEOUT:g} s\n{process.log_tail()}")

    def stop(self) -> None:
        """End it and the jobs it runs."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            stop_all([self._process])

    @property
    def process(self) -> ServiceProcess:
        """The running process."""
        if self._process is None:
            raise ServiceError("the emulator has not been started")
        return self._process

    @property
    def connection(self) -> str:
        """The Airflow connection to this emulator, as JSON."""
        value = self.info["airflow_conn_json"]
        return value if isinstance(value, str) else json.dumps(value)

    def control(self, path: str, *, method: str = "GET", body: Any = None) -> Any:
        """Call the emulator's own control interface, below ``/_emulator/``."""
        if self._client is None:
            # Making one takes longer than a call.
            self._client = httpx.Client(base_url=self.info["endpoint"], trust_env=False, timeout=10)
        response = self._client.request(
            method, f"/_emulator/{path}", json=body, headers={"X-Emulator-Token": self.info["control_token"]}
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def counts(self) -> dict[str, int]:
        """How often each action was called so far, for instance ``{"batch.SubmitJob": 1}``."""
        counts: dict[str, int] = self.control("calls")["counts"]
        return counts

    def timeline(self, job_id: str) -> dict[str, list[dict[str, Any]]]:
        """State changes and published events of one job."""
        timeline: dict[str, list[dict[str, Any]]] = self.control(f"jobs/{job_id}/timeline")
        return timeline
