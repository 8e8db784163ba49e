"""What one wait does about an outage, and what its task's log is told."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.client.errors import api_error
from airflow_provider_tcbatch.connection.deployment import api_patience
from airflow_provider_tcbatch.policies.outage import Outage
from airflow_provider_tcbatch.waits import log_turns
from airflow_provider_tcbatch.waits.job import JobWait
from airflow_provider_tcbatch.waits.patience import FLUKES, Patience
from airflow_provider_tcbatch.watching.subscription import Subscription, Watch

DOWN = api_error("ServerNetworkError", "<html>\n<title>503 Service Unavailable</title>\n</html>", action="DescribeJob")


class Log:
    """What is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, form: str, *arguments: object) -> None:
        self.lines.append(form % arguments)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody's turn has come."""
    monkeypatch.setattr(log_turns, "turns", SimpleNamespace(take=lambda after: time.time()))


def away(patience: Patience, asker: Any = None, times: int = FLUKES) -> Patience:
    for _ in range(times):
        assert not patience.failed(DOWN, asker)
    return patience


@pytest.mark.usefixtures("at_once")
def test_it_says_once_that_the_api_is_away_and_once_that_it_is_back(log: Log) -> None:
    patience = Patience(log)
    for _ in range(10):
        away(patience)
        assert patience.over(None) is None
    patience.answered()
    patience.answered()
    assert patience.over(None) is None
    assert len(log.lines) == 2
    assert log.lines[0].startswith("The API of Batch can't be asked since ")
    assert log.lines[0].endswith(
        "503 Service Unavailable. What to do: check field endpoint of the connection and the network"
    )
    assert "\n" not in log.lines[0]
    assert log.lines[1].startswith("The API of Batch can be asked again: it could not from ")
    assert patience.untold() is None


@pytest.mark.usefixtures("at_once")
def test_a_fluke_is_no_outage(log: Log) -> None:
    patience = away(Patience(log), times=FLUKES - 1)
    patience.answered()
    assert patience.over(None) is None
    assert (log.lines, patience.untold()) == ([], None)


def test_a_throttle_only_costs_time(log: Log) -> None:
    patience = Patience(log)
    for _ in range(10):
        assert not patience.failed(api_error("RequestLimitExceeded", "x", action="DescribeJob"))
    assert patience.outage is None


def test_what_is_wrong_with_a_request_ends_the_wait(log: Log) -> None:
    assert Patience(log).failed(api_error("UnauthorizedOperation", "x", action="DescribeJob"))


@pytest.mark.usefixtures("at_once")
def test_it_is_over_when_all_who_ask_get_answers(log: Log) -> None:
    patience = away(away(Patience(log), "job-1"), "job-2")
    patience.answered("job-1")
    assert patience.outage is not None
    patience.answered("job-2")
    assert patience.outage is None
    patience.over(None)
    assert len(log.lines) == 1, "its end is told, and its beginning in the same line"


def test_how_long_it_lasts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "0")
    patience = away(Patience(log))
    assert patience.over(time.time() + 1) is None, "the wait has a limit of its own"
    assert patience.over(None) is patience.outage
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "60")
    patience.answered()
    away(patience)
    assert patience.over(None) is None
    assert patience.outage is not None
    alarm = patience.alarm(None)
    assert alarm is not None
    assert alarm <= patience.outage.since + 60


def test_pauses_grow_while_it_is_away(log: Log) -> None:
    patience = Patience(log)
    assert patience.pause(1.5) == 1.5
    longer = [away(patience, times=1).pause(1.5) for _ in range(6)]
    assert longer[0] < 6 < longer[2] < longer[5] <= 75


def test_thousands_of_waits_speak_one_after_the_other(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_turns, "turns", log_turns.LogTurns(lines=20, together=2))
    outage = Outage(time.time() - 12, "x")
    waits = [Patience(log) for _ in range(10_000)]
    for patience in waits:
        patience.heed(SimpleNamespace(outage=outage))  # type: ignore[arg-type]
    moments = Counter(at for patience in waits if (at := patience.alarm(1e12)) is not None)
    assert sum(moments.values()) == 10_000
    assert max(moments.values()) <= 40
    assert not log.lines
    # What was not said when the wait has ended is left to the worker.
    waits[-1].heed(SimpleNamespace(outage=None))  # type: ignore[arg-type]
    told = waits[-1].untold()
    assert told is not None
    assert (told["since"], told["until"]) == (outage.since, pytest.approx(time.time(), abs=30))


@pytest.mark.parametrize("wrong", ["soon", "-1", "nan"])
def test_a_misspelt_option_is_told_and_does_not_fail(
    wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", wrong)
    assert api_patience() == 3600
    words = f"[tcbatch] api_patience of Airflow's configuration is {wrong!r}; write seconds from 0 on, or leave it out"
    assert words in caplog.text


def test_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_patience() == 3600
    monkeypatch.setenv("AIRFLOW__TCBATCH__API_PATIENCE", "90.5")
    assert api_patience() == 90.5


async def test_what_airflow_enforces_itself_is_no_alarm_that_rings_for_ever() -> None:
    """After an outage a wait on a worker would otherwise keep the loop from Airflow's own timer."""
    timeouts: list[float | None] = []

    class Over(Exception):
        pass

    class Subscription:
        nudged = False
        outage: Outage | None = Outage(time.time() - 60)

        async def next(self, timeout: float | None) -> None:
            timeouts.append(timeout)
            self.outage = None
            if len(timeouts) > 5:
                raise Over

    wait = JobWait("job-1", enforced=time.time() - 10)
    with pytest.raises(Over):
        await wait._follow(SimpleNamespace(jobs=1), Subscription(), None)  # type: ignore[arg-type]
    assert timeouts[-1] is None or timeouts[-1] > 0


async def test_who_asks_for_snapshots_without_a_pause_lets_others_go_on() -> None:
    poller: Any = SimpleNamespace(unsubscribe=lambda *_: None)
    subscription: Any = Subscription(poller, Watch("job-1", 0.0))
    others: list[int] = []

    async def other() -> None:
        others.append(1)

    task = asyncio.ensure_future(other())
    await subscription.next(0)
    assert others == [1]
    await task
