"""The services that are waited for, each in a process of its own: the emulator, and a stub of the peer's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

__all__ = ["Emulator", "PeerApi", "emulator", "peer_api"]

#: Jobs come to RUNNING at once, and as many as anybody wants may run.
_SETTINGS: dict[str, Any] = {
    "mode": "simulate",
    "capacity": 10_000_000,
    "job_quota": 10_000_000,
    "submitted_seconds": 0,
    "pending_seconds": 0,
    "starting_seconds": 0,
}


@contextmanager
def _server(command: list[str]) -> Iterator[dict[str, Any]]:
    """A server, started; the JSON that it prints when it is ready."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"{' '.join(command)} ended with status {process.wait()} before it was ready")
            yield {"pid": process.pid, **json.loads(line)}
        finally:
            process.terminate()


class _Server:
    def __init__(self, info: dict[str, Any]) -> None:
        self.info = info

    @property
    def cpu(self) -> float:
        """Seconds of processor time that it has used so far."""
        with open(f"/proc/{self.info['pid']}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        headers = {"X-Emulator-Token": self.info.get("control_token", "")}
        with httpx.Client(base_url=self.info["endpoint"], trust_env=False, timeout=120, headers=headers) as client:
            answer = client.request(method, path, json=body)
            answer.raise_for_status()
            return answer.json()


class Emulator(_Server):
    """A running emulator.

    :param info: its ready line.
    """

    def control(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call its control interface, below ``/_emulator/``."""
        return self._ask(f"/_emulator/{path}", method, body)

    def configure(self, **settings: Any) -> None:
        """Change its settings."""
        self.control("settings", "PATCH", settings)

    def calls(self) -> dict[str, int]:
        """How often each action was called so far."""
        counts: dict[str, int] = self.control("calls")["counts"]
        return counts

    def call_log(self) -> list[dict[str, Any]]:
        """The last calls, each with its action, code and job ids."""
        log: list[dict[str, Any]] = self.control("calls")["calls"]
        return log

    def ends(self) -> dict[str, float]:
        """When each job that has ended did, in unix seconds."""
        jobs = self.control("jobs")["jobs"]
        return {job["job_id"]: job["ended_at"] for job in jobs if job["ended_at"] is not None}

    def connection(self, *, events: bool = False, **extra: Any) -> str:
        """An Airflow connection to it, as JSON.

        :param events: whether waits hear of events.
        :param extra: further fields of Extra.
        """
        value = json.loads(self.info["airflow_conn_json"])
        if not events:
            del value["extra"]["event_topic"]
        value["extra"] |= extra
        return json.dumps(value)


class PeerApi(_Server):
    """A running stub of the peer's API.

    :param info: its ready line.
    """

    def requests(self) -> int:
        """How many requests it has answered."""
        return int(self._ask("/_stub/requests")["requests"])

    def succeed(self) -> None:
        """All jobs have succeeded from now on."""
        self._ask("/_stub/succeed", "POST")

    @property
    def connection(self) -> str:
        """An Airflow connection to it, as JSON."""
        extra = {"region_name": "eu-central-1", "endpoint_url": self.info["endpoint"]}
        return json.dumps({"conn_type": "aws", "login": "AKIDSTUB", "password": "stub", "extra": extra})


@contextmanager
def emulator(settings: Mapping[str, Any] | None = None) -> Iterator[Emulator]:
    """Run an emulator in mode ``simulate``.

    :param settings: on top of those of every benchmark.
    """
    command = ["-m", "airflow_provider_tcbatch.emulator.cli", "serve", "--port", "0", "--cos-port", "0"]
    for name, value in {**_SETTINGS, **(settings or {})}.items():
        command += ["--set", f"{name}={value}"]
    with _server([*command, "--log-level", "warning"]) as info:
        yield Emulator(info)


@contextmanager
def peer_api() -> Iterator[PeerApi]:
    """Run a stub of AWS Batch."""
    with _server(["-m", "benchmarks.peer_stub"]) as info:
        yield PeerApi(info)
