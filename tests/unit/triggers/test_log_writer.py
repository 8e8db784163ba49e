from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_provider_tcbatch.triggers._base.log_writer import CompactBatch, CompactEvent, LogWriterMixin

pytestmark = pytest.mark.oldest

name = contextvars.ContextVar("name", default="nobody")


class Pipe:
    """A log that can't be written for a while, as a pipe that nobody reads."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.lines: list[tuple[str, str]] = []

    def info(self, form: str, *args: object) -> None:
        assert self.open.wait(20)
        self.lines.append((name.get(), form % args))


class Trigger(LogWriterMixin):
    def __init__(self, log: Any) -> None:
        super().__init__()
        self.log = log


async def test_who_writes_to_a_full_pipe_stops_nobody_else() -> None:
    pipe = Pipe()
    first, second = Trigger(pipe), Trigger(pipe)

    async def run(trigger: Trigger, called: str) -> None:
        name.set(called)
        for number in range(3):
            trigger.log_line("line %d", number)
            await asyncio.sleep(0)
        await trigger.drain_log()

    running = [asyncio.create_task(run(first, "a")), asyncio.create_task(run(second, "b"))]
    for _ in range(10):
        await asyncio.sleep(0.01)  # the loop turns meanwhile
    assert not any(task.done() for task in running), "a trigger ends when its last line is written"
    assert pipe.lines == []
    pipe.open.set()
    await asyncio.wait_for(asyncio.gather(*running), 60)
    for called in "ab":
        assert [line for who, line in pipe.lines if who == called] == ["line 0", "line 1", "line 2"]


async def test_who_has_said_nothing_waits_for_nobody() -> None:
    pipe = Pipe()
    Trigger(pipe).log_line("on its way")
    await asyncio.wait_for(Trigger(pipe).drain_log(), 60)
    pipe.open.set()


async def test_a_line_that_can_not_be_written_ends_no_wait() -> None:
    trigger = Trigger(Pipe())
    trigger.log.open.set()
    trigger.log_line("%d", "not a number")
    trigger.log_line("%d", 1)
    await trigger.drain_log()
    assert trigger.log.lines == [("nobody", "1")]


def test_a_forked_process_writes_too() -> None:
    script = """
import asyncio, os, logging, sys
from airflow_provider_tcbatch.triggers._base.log_writer import LogWriterMixin

class Trigger(LogWriterMixin):
    log = logging.getLogger()

async def speak(word):
    trigger = Trigger()
    trigger.log_line("%s", word)
    await asyncio.wait_for(trigger.drain_log(), 60)

logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
asyncio.run(speak("parent"))
if (child := os.fork()) == 0:
    asyncio.run(speak("child"))
    os._exit(0)
os.waitpid(child, 0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["parent", "child"], done.stderr


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ({"status": "ended", "state": "FAILED", "limit": None, "observed_at": 1.5}, "ended FAILED"),
        ({"status": "timeout", "state": "RUNNING", "limit": "execution_timeout"}, "timeout RUNNING execution_timeout"),
        ({"status": "error", "states": {"job-1": "RUNNING"}, "message": "ValueError: no"}, "error ValueError: no"),
    ],
)
def test_a_log_shows_of_an_event_how_it_ended(told: dict[str, Any], shown: str) -> None:
    """A triggerer ends waits at the pace at which the lines of their events come through its log."""
    event = TriggerEvent(CompactEvent(told))  # type: ignore[no-untyped-call]
    assert repr(event) == f"TriggerEvent<{shown}>"


def test_airflow_stores_all_of_it() -> None:
    from airflow.sdk.execution_time.comms import _RequestFrame

    told = {"status": "ended", "state": "SUCCEED", "limit": None, "nested": {"a": [1, None]}}
    event = TriggerEvent(CompactEvent(told))  # type: ignore[no-untyped-call]
    assert event.model_dump() == {"payload": told}
    assert type(event.model_dump()["payload"]) is dict
    frame = _RequestFrame(id=1, body=event.model_dump()).as_bytes()
    assert b"SUCCEED" in frame
    assert b"nested" in frame


def test_an_event_of_many_messages_shows_how_many_they_are() -> None:
    payload = {"messages": [{"body": "x" * 200_000}] * 3}
    event = TriggerEvent(CompactBatch(payload))  # type: ignore[no-untyped-call]
    assert "3 messages" in str(event)
    assert len(str(event)) < 100
    assert event.payload == payload
