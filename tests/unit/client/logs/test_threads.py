"""Threads that read what may never come."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from airflow_provider_tcbatch.client.logs.threads import Readers

#: A process that is through while a read of it is not.
HANGS = """
import threading
from airflow_provider_tcbatch.client.logs.stream import _readers

begun = threading.Event()

def hang():
    begun.set()
    threading.Event().wait()

_readers().submit(hang)
begun.wait()
print("through", flush=True)
"""


def test_no_process_stays_for_a_read_that_hangs() -> None:
    ended = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "through\n"


def test_no_more_of_them_at_a_time_than_may() -> None:
    readers, gates = Readers(2, "test"), [threading.Event() for _ in range(3)]
    begun = [threading.Event() for _ in range(3)]

    def read(number: int) -> int:
        begun[number].set()
        assert gates[number].wait(60)
        return number

    reads = [readers.submit(read, number) for number in range(3)]
    assert begun[0].wait(60)
    assert begun[1].wait(60)
    assert not begun[2].is_set()
    gates[1].set()
    assert begun[2].wait(60)
    for gate in gates:
        gate.set()
    assert [read.result(60) for read in reads] == [0, 1, 2]


def test_an_error_is_the_readers_and_the_thread_goes_on() -> None:
    readers = Readers(1, "test")
    failed = readers.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        failed.result(60)
    assert readers.submit(int, "7").result(60) == 7


def test_what_nobody_waits_for_is_not_begun() -> None:
    readers, gate, begun = Readers(1, "test"), threading.Event(), threading.Event()
    first = readers.submit(gate.wait, 60)
    second = readers.submit(begun.set)
    assert second.cancel()
    gate.set()
    assert first.result(60)
    assert readers.submit(lambda: 1).result(60) == 1
    assert not begun.is_set()
