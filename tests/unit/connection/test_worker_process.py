from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_tcbatch.connection.worker_process import is_there, slowdown, this_process

#: Says its name, and lives until its input ends.
PROGRAM = """
import sys
from airflow_provider_tcbatch.connection.worker_process import this_process
print(this_process(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_this_process_is_there() -> None:
    assert is_there(this_process()) is True


def test_another_process_is_there_until_its_parent_takes_notice(other: subprocess.Popen[str]) -> None:
    assert other.stdout is not None
    name = other.stdout.readline().strip()
    assert is_there(name) is True
    other.send_signal(signal.SIGKILL)
    # It has ended now, and nobody has asked for its exit code: that is how long a supervisor may sleep on.
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert is_there(name) is True
    other.wait()
    assert is_there(name) is False


def test_a_number_that_another_process_has_got_meanwhile_is_none_of_ours() -> None:
    place, pid, start = this_process().split(".")
    assert is_there(f"{place}.{pid}.{int(start) - 1}") is False


@pytest.mark.parametrize(
    "name",
    [
        lambda place, pid, start: f"000000000000.{pid}.{start}",  # another machine, container or user
        lambda place, pid, start: "",
        lambda place, pid, start: f"{place}",
        lambda place, pid, start: f"{place}.x.{start}",
        lambda place, pid, start: f"{place}.0.{start}",
        lambda place, pid, start: f"{place}.{10**30}.{start}",
    ],
)
def test_of_others_nothing_is_said(name: Callable[[str, str, str], str]) -> None:
    assert is_there(name(*this_process().split("."))) is None


def test_a_fork_has_a_name_of_its_own() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, this_process().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        place, child, _ = stream.read().split(".")
    assert place == this_process().split(".")[0]
    assert child == str(pid)


#: Works for a second of CPU, and says what it took; its priority and how many others work are the test's.
WORK = """
import os, sys, time
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from airflow_provider_tcbatch.connection.worker_process import slowdown
until = time.process_time() + float(sys.argv[1])
while time.process_time() < until:
    pass
print(slowdown())
"""


def test_who_shares_its_cpu_is_slowed_down() -> None:
    # All on one CPU: each gets a third of it at most.
    workers = [subprocess.Popen([sys.executable, "-c", WORK, "2"], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    factors = [float(worker.communicate(timeout=150)[0]) for worker in workers]
    assert max(factors) > 1.5


def test_sleeping_is_no_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert slowdown() >= 1.0
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: "1000 0 5\n")
    assert slowdown() == 1.0
    monkeypatch.setattr("pathlib.Path.read_text", lambda self: "no such thing\n")
    assert slowdown() == 1.0
