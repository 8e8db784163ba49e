"""Running a coroutine on a worker: Airflow's signals end it, wherever in the loop they come."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout
from airflow_provider_tcbatch.waits.blocking import run_here

#: What no wait of these tests should reach.
FOR_EVER = 60.0


@pytest.fixture
def on_alarm() -> Iterator[Callable[[Callable[..., object]], object]]:
    """Make something the handler of SIGALRM, as Airflow does, until the test has ended."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler: signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def time_out(*_: object) -> None:
    """What Airflow's own handler does."""
    raise AirflowTaskTimeout("Timeout")


class Alarming(asyncio.Protocol):
    """The signal comes while a transport calls it: asyncio keeps to itself what is raised there."""

    def data_received(self, data: bytes) -> None:
        """Take what is sent."""
        signal.raise_signal(signal.SIGALRM)


async def alarmed_in_a_transport(seen: list[str]) -> str:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(Alarming, sock=ours)
    theirs.send(b"data")
    try:
        await asyncio.sleep(FOR_EVER)
        return "went on"
    finally:
        seen.append("cleaned up")
        transport.close()
        theirs.close()


def test_a_signal_within_a_transport_is_not_lost(on_alarm: Callable[[Callable[..., object]], None]) -> None:
    on_alarm(time_out)
    seen: list[str] = []
    with pytest.raises(AirflowTaskTimeout, match="Timeout"):
        run_here(alarmed_in_a_transport(seen))
    assert seen == ["cleaned up"]
    assert signal.getsignal(signal.SIGALRM) is time_out


def test_a_timer_ends_a_loop_that_sleeps(on_alarm: Callable[[Callable[..., object]], None]) -> None:
    on_alarm(time_out)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(AirflowTaskTimeout):
        run_here(asyncio.sleep(FOR_EVER))


def test_what_a_handler_raises_counts_though_the_work_has_ended(
    on_alarm: Callable[[Callable[..., object]], None],
) -> None:
    on_alarm(time_out)

    async def ends() -> str:
        signal.raise_signal(signal.SIGALRM)
        return "ended"

    with pytest.raises(AirflowTaskTimeout):
        run_here(ends())


def test_a_handler_that_raises_nothing_ends_nothing(on_alarm: Callable[[Callable[..., object]], None]) -> None:
    heard = asyncio.Event()
    on_alarm(lambda *_: heard.set())

    async def goes_on() -> str:
        signal.raise_signal(signal.SIGALRM)
        await asyncio.wait_for(heard.wait(), FOR_EVER)
        return "went on"

    assert run_here(goes_on()) == "went on"


def test_a_wait_is_cancelled_from_elsewhere() -> None:
    def soon(end: Callable[[], None]) -> None:
        threading.Thread(target=end).start()

    with pytest.raises(asyncio.CancelledError):
        run_here(asyncio.sleep(FOR_EVER), soon)


def test_another_thread_than_the_main_one_waits_too() -> None:
    results: list[str] = []
    thread = threading.Thread(target=lambda: results.append(run_here(asyncio.sleep(0, "done"))))
    thread.start()
    thread.join(FOR_EVER)
    assert results == ["done"]
