"""What a client does about requests that are refused for their rate."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from typing import Any

import pytest

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.client.places import Places, shared_places
from airflow_provider_tcbatch.client.turns import Turns
from airflow_provider_tcbatch.models.actions import RetryJobs, SubmitJob, TerminateJob
from airflow_provider_tcbatch.policies import contention
from airflow_provider_tcbatch.watching.turn_release import Release, ReleaseRate
from tests.unit.client.test_api import SUBMIT, Answer, call, client_of, error, response, server

__all__ = ["call"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of hundredths of a second."""
    short = contention.Pauses(seek=0.02, grow=0.02, longest=0.02)
    monkeypatch.setattr(contention, "Pauses", lambda: short)


def throttling(times: int, then: Answer | None) -> Any:
    """Refuse the first requests for their rate."""
    count = itertools.count()
    return lambda *_: (200, "application/json", error("RequestLimitExceeded")) if next(count) < times else then


OK = (200, "application/json", response(JobId="job-1"))
FAST = {"limits": {"SubmitJob": 1000, "TerminateJob": 1000, "RetryJobs": 1000}}


@pytest.mark.parametrize(
    "action", [SubmitJob.parse(SUBMIT), TerminateJob(job_id="job-1"), RetryJobs(job_ids=["job-1"])], ids=type
)
async def test_what_is_refused_for_its_rate_waits_its_turn(call: Any, action: Any) -> None:
    """Ten times, which is more than an error is put up with; also a write that may not be carried out twice."""
    with server(throttling(10, OK)) as url:
        client = client_of(url, **FAST)
        await call(client, action)
    assert sum(client.sent.values()) == 11


async def test_patience_has_an_end(call: Any) -> None:
    with server(throttling(10**6, OK)) as url:
        client = client_of(url, **FAST)
        with pytest.raises(e.Throttled) as refused:
            await call(client, TerminateJob(job_id="job-1"), patience=0.3)
    assert client.sent["TerminateJob"] > 1
    assert refused.value.since is not None
    assert not refused.value.maybe_done


async def test_a_single_attempt_is_refused_at_once(call: Any) -> None:
    with server(throttling(10**6, OK)) as url:
        client = client_of(url, **FAST)
        with pytest.raises(e.Throttled):
            await call(client, TerminateJob(job_id="job-1"), attempts=1)
    assert client.sent == {"TerminateJob": 1}


async def test_a_refusal_after_a_lost_answer_knows_of_it(call: Any) -> None:
    answers = iter([None, (200, "application/json", error("RequestLimitExceeded"))])
    refused = (200, "application/json", error("LimitExceeded.JobQuota"))
    with server(lambda *_: next(answers, refused)) as url:
        with pytest.raises(e.QuotaExceeded) as lost:
            await call(client_of(url, **FAST), SubmitJob.parse({**SUBMIT, "ClientToken": "t-1"}))
        with pytest.raises(e.QuotaExceeded) as certain:
            await call(client_of(url, **FAST), SubmitJob.parse({**SUBMIT, "ClientToken": "t-2"}))
    assert lost.value.maybe_done
    assert not certain.value.maybe_done


async def test_what_was_never_sent_is_sent_again_whatever_it_is(call: Any) -> None:
    client = client_of("http://127.0.0.1:9", **FAST)
    with pytest.raises(e.InfrastructureError) as unreachable:
        await call(client, RetryJobs(job_ids=["job-1"]), attempts=2)
    assert client.sent == {"RetryJobs": 2}
    assert not unreachable.value.maybe_done


def test_all_clients_of_an_account_share_its_places() -> None:
    limits = {"SubmitJob": 20.0}
    assert shared_places("account", limits, 0.5) is shared_places("account", dict(limits), 0.5)
    assert shared_places("account", limits, 0.5) is not shared_places("another", limits, 0.5)
    one, other = (client_of("http://127.0.0.1:9", **FAST) for _ in range(2))
    assert one.places is other.places


async def test_first_come_first_served() -> None:
    places = Places("in order", {"SubmitJob": 200}, 1.0)
    order: list[int] = []

    async def one(number: int) -> None:
        place = await places.await_place("SubmitJob")
        order.append(number)
        places.accepted(place)

    await asyncio.gather(*map(one, range(30)))
    assert order == list(range(30))


async def test_who_waits_may_go() -> None:
    places = Places("cancelled", {"SubmitJob": 1}, 1.0)
    places.accepted(await places.await_place("SubmitJob"))
    waits = [asyncio.create_task(places.await_place("SubmitJob")) for _ in range(3)]
    await asyncio.sleep(0)
    for wait in waits[:2]:
        wait.cancel()
    assert (await waits[2]).action == "SubmitJob"


class Held:
    """Places whose clock stands still."""

    def __init__(self) -> None:
        self.now = 0.0
        self.places = Places(object(), {"TerminateJob": 20}, 0.1, lambda: self.now)

    def at_once(self) -> int:
        """How many requests may be sent at once, some time later."""
        self.now += 10
        rate = self.places._line("TerminateJob").rate
        for sent in range(100):
            if rate.wait(self.now) > 0:
                return sent
            rate.claim(self.now)
        raise AssertionError("it has no end")


@pytest.mark.parametrize(
    ("answer", "grows"),
    [
        ((200, "application/json", response()), True),
        ((200, "application/json", error("ResourceNotFound.Job")), True),
        ((200, "application/json", error("UnsupportedOperation")), True),
        ((200, "application/json", error("InternalError")), False),
        ((200, "application/json", error("AuthFailure.SignatureFailure")), False),
        ((503, "text/plain", b"down"), False),
        (None, False),
    ],
)
async def test_only_what_says_that_there_is_room_makes_a_process_take_more(
    call: Any, answer: Answer | None, grows: bool
) -> None:
    held = Held()
    with server(lambda *_: answer) as url:
        client = client_of(url, **FAST)
        client.places = held.places
        for _ in range(2):
            with contextlib.suppress(e.ApiError):
                await call(client, TerminateJob(job_id="job-1"), attempts=1)
    assert held.at_once() == 2 + grows


def test_what_is_interrupted_gives_its_claim_back() -> None:
    class Interrupted(BaseException):
        pass

    def interrupt() -> None:
        raise Interrupted

    held = Held()
    client = client_of("http://127.0.0.1:9", **FAST)
    client.places = held.places
    for _ in range(2):
        with pytest.raises(Interrupted):
            client.call(TerminateJob(job_id="job-1"), before_send=interrupt)
    assert held.at_once() == 2


def test_what_is_interrupted_before_it_can_give_its_claim_back_leaves_no_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The handler of a signal may raise anywhere: also between the claim and what would give it back."""

    class Interrupted(BaseException):
        pass

    held = Held()
    client = client_of("http://127.0.0.1:9", **FAST)
    client.places = held.places
    claim = Places.wait

    def interrupted(self: Places, action: str, until: float | None = None) -> Any:
        claim(self, action, until)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(Places, "wait", interrupted)
        for _ in range(2):
            with pytest.raises(Interrupted):
                client.call(TerminateJob(job_id="job-1"))
    assert held.at_once() == 0
    held.now += 60
    assert held.at_once() == 2


async def test_what_is_cancelled_gives_its_claim_back() -> None:
    held, arrived, goes_on = Held(), threading.Event(), threading.Event()

    def answer(*_: Any) -> None:
        arrived.set()
        goes_on.wait(60)

    with server(answer) as url:
        client = client_of(url, **FAST)
        client.places = held.places
        for _ in range(2):
            arrived.clear()
            calling = asyncio.create_task(client.acall(TerminateJob(job_id="job-1")))
            assert await asyncio.to_thread(arrived.wait, 60)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
        goes_on.set()
        await client.aclose()
    assert held.at_once() == 2


@pytest.mark.parametrize("way", ["cancelled", "a signal"])
async def test_a_turn_whose_wait_is_interrupted_is_given_back(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Signal(BaseException):
        pass

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(seconds: float) -> None:
            raise Signal

    account = f"turns of {way}"
    others = Turns((account, "TerminateJob"), 0.05)
    first = others.take()
    places = Places(account, {"TerminateJob": 0.05}, 1.0)
    if way == "cancelled":
        waiting = asyncio.create_task(places.await_place("TerminateJob"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    else:
        monkeypatch.setattr("airflow_provider_tcbatch.client.places.time", Clock)
        with pytest.raises(Signal):
            places.wait("TerminateJob")
    second = others.take()
    assert first.number is not None
    assert second.number == first.number + 1


async def test_the_triggerer_lets_through_in_order() -> None:
    release = Release({"SubmitJob": 1000}, 1.0)
    order: list[int] = []

    async def one(number: int) -> None:
        assert await release.let_through("SubmitJob", 60)
        order.append(number)

    waits = [asyncio.create_task(one(number)) for number in range(20)]
    await asyncio.sleep(0)
    waits[5].cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    assert order == [number for number in range(20) if number != 5]
    assert not await release.let_through("Unheard", 0.01)
    await release.aclose()


def test_the_triggerer_learns_how_many_to_let_through() -> None:
    rate = ReleaseRate(20, 0.5)
    assert rate.pause() == pytest.approx(0.1)
    for _ in range(30):
        rate.pause()
    assert rate.pause() == pytest.approx(0.05), "while nobody comes back it grows up to the whole rate"
    for now in (10.0, 10.1, 10.9):
        rate.come(now)
    assert rate.pause() == pytest.approx(0.1), "halved once a second"
    for now in range(20, 40):
        rate.come(now)
    assert rate.pause() == pytest.approx(0.4), "never less than a quarter of the share"
