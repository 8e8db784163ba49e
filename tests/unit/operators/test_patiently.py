"""A step that can't be done while the API answers other questions. With a clock of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.operators._base import operator as base
from airflow_provider_tcbatch.triggers import api

START = 1_000_000.0


class Deferred(BaseException):
    pass


class Clock:
    now = START

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Worker(base.Patient):
    """What Airflow does with a deferrable task, which only has one step after the other."""

    deferrable = True
    tencentcloud_conn_id = "tencentcloud_default"
    region = None

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.infos: list[str] = []
        self.log = SimpleNamespace(
            warning=lambda form, *words: self.warnings.append(form % words),
            info=lambda form, *words: self.infos.append(form % words),
        )
        self.rounds = 0

    def defer(self, *, trigger: Any, method_name: str) -> None:
        raise Deferred(trigger)

    def run(self, *steps: Callable[[], Any], limit: float | None = None, event: Any = None) -> Any:
        event = event or {"status": "again"}
        while True:
            self.tell_outage(event.get("outage"))
            try:
                return [self.patiently(step, event, limit=limit) for step in steps]
            except Deferred as deferred:
                self.rounds += 1
                assert self.rounds < 200, "it does not end"
                event = asyncio.run(_event(deferred.args[0]))


async def _event(trigger: Any) -> Any:
    again = api.TCBatchApiTrigger(**json.loads(json.dumps(trigger.serialize()[1])))
    [event] = [event.payload async for event in again.run()]
    return json.loads(json.dumps(event))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    async def probe(trigger: Any) -> bool:
        await clock.sleep(4)
        return True

    monkeypatch.setattr(base, "time", SimpleNamespace(time=lambda: clock.now))
    monkeypatch.setattr(api, "time", SimpleNamespace(time=lambda: clock.now, monotonic=lambda: clock.now))
    monkeypatch.setattr(api, "asyncio", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(api.TCBatchApiTrigger, "_answered", probe)
    return clock


def failing(action: str = "SubmitJob") -> Any:
    raise e.InfrastructureError("InternalError", code="InternalError", action=action, retryable=True)


@pytest.mark.parametrize(
    ("limit", "ends", "why"),
    [(None, 3600, "api_patience"), (600, 600, "a limit of the task"), (7200, 7200, "a limit of the task")],
)
@pytest.mark.parametrize("before", [(), (lambda: None,)], ids=["alone", "after one that can be done"])
def test_a_step_that_always_fails_ends_though_the_api_answers(
    clock: Clock, limit: float | None, ends: float, why: str, before: tuple[Callable[[], Any], ...]
) -> None:
    worker = Worker()
    with pytest.raises(e.ApiUnavailable, match=why):
        worker.run(*before, failing, limit=None if limit is None else START + limit)
    assert clock.now - START == pytest.approx(ends, abs=10)
    assert worker.rounds <= 8 + ends / 45, "the pauses grow"
    assert len(worker.warnings) == len(worker.infos) == 1, worker.warnings


def test_a_limit_that_was_over_before_does_not_cut_it_short(clock: Clock) -> None:
    worker = Worker()
    with pytest.raises(e.ApiUnavailable, match="api_patience"):
        worker.run(failing, limit=START - 5)
    assert clock.now - START == pytest.approx(3600, abs=10)


def test_what_failed_before_does_not_count_for_the_next_step(clock: Clock) -> None:
    worker = Worker()

    def first() -> None:
        if clock.now < START + 3000:
            failing()

    with pytest.raises(e.ApiUnavailable, match="3600 s"):
        worker.run(first, lambda: failing("DescribeJob"))
    assert clock.now - START == pytest.approx(6600, abs=140)
    assert len(worker.warnings) == 2


def test_an_outage_that_a_wait_has_seen_the_end_of_is_over(clock: Clock) -> None:
    worker = Worker()
    event = {"status": "again", "outage": {"since": START - 3000, "until": START - 1, "error": ""}}
    with pytest.raises(e.ApiUnavailable, match="api_patience"):
        worker.run(failing, event=event)
    assert clock.now - START == pytest.approx(3600, abs=10)
