"""Processes end together with everything they started, however they resist."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ReservedPort, ServiceError, ServiceProcess, clean_environment, stop_all, wait_for

#: Forks a child into a process group of its own, which forks a grandchild; all of them are deaf to SIGTERM.
STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for generation in range(2):
    if os.fork():
        break
    os.setpgid(0, 0)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[ServiceProcess]]:
    services: list[ServiceProcess] = []
    yield services
    stop_all(services, grace=0)


def start(services: list[ServiceProcess], folder: Path, program: str) -> ServiceProcess:
    service = ServiceProcess(
        "service",
        [sys.executable, "-c", program],
        env=clean_environment(folder),
        log=folder / "log",
        cwd=folder,
    )
    services.append(service)
    return service


def test_whole_families_end(started: list[ServiceProcess], tmp_path: Path) -> None:
    service = start(started, tmp_path, STUBBORN)
    wait_for("all are up", lambda: service.log.read_text().count("up") == 3, timeout=20)
    members = service.members()
    assert len({os.getpgid(process.pid) for process in members}) == 3
    stop_all([service], grace=0.1)
    assert service.is_gone()
    # An orphan may stay a zombie until init looks at it; it is dead all the same.
    assert not [process for process in members if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_orphans_end_as_well(started: list[ServiceProcess], tmp_path: Path) -> None:
    service = start(started, tmp_path, STUBBORN)
    wait_for("all are up", lambda: service.log.read_text().count("up") == 3, timeout=20)
    service.send(signal.SIGKILL)
    wait_for("the first is dead", lambda: service.returncode() is not None, timeout=5)
    assert len(service.members()) == 2
    stop_all([service], grace=0.1)
    assert service.members() == []


def test_a_polite_process_is_only_asked(started: list[ServiceProcess], tmp_path: Path) -> None:
    program = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\nprint('up', flush=True)\n"
    service = start(started, tmp_path, program + "while True: signal.pause()")
    wait_for("it is up", lambda: "up" in service.log.read_text(), timeout=20)
    stop_all([service])
    assert service.returncode() == 7


def test_a_death_is_told_with_the_log(started: list[ServiceProcess], tmp_path: Path) -> None:
    service = start(started, tmp_path, "import sys; sys.exit('no database')")
    with pytest.raises(ServiceError, match=r"service ended with status 1\n(.|\n)*no database"):
        wait_for("it is up", lambda: False, timeout=20, check=service.check)


def test_nothing_is_inherited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "Nonsense")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid")
    env = clean_environment(tmp_path, AIRFLOW_HOME="here")
    assert "AIRFLOW__CORE__EXECUTOR" not in env
    assert "https_proxy" not in env
    assert (env["HOME"], env["AIRFLOW_HOME"]) == (str(tmp_path), "here")


def test_a_reserved_port_is_free_for_its_owner_only() -> None:
    port = ReservedPort()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port.number))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port.number))
        server.listen()
        with socket.create_connection(server.getsockname(), timeout=5):
            pass
    port.release()


def test_waiting_has_an_end() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"the moon: not after 0\.3 s"):
        wait_for("the moon", lambda: False, timeout=0.3)
    assert time.monotonic() - begun < 60
