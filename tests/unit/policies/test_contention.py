from __future__ import annotations

from statistics import mean

import pytest

from airflow_provider_tcbatch.policies.contention import ContendedRate
from tests.unit.policies.contention_model import storm

#: What its processes do without turns: each could be on a machine of its own.
SEEDS = range(10)


@pytest.mark.parametrize(
    ("processes", "floors", "requests"), [(2, 1.0, 1.1), (16, 1.5, 1.2), (32, 1.5, 1.35), (64, 1.4, 1.6)]
)
def test_processes_that_know_nothing_of_each_other_share_a_rate(processes: int, floors: float, requests: float) -> None:
    storms = [storm(processes, 10, seed=seed) for seed in SEEDS]
    jobs = processes * 10
    assert mean(one.seconds for one in storms) <= floors * jobs / 20
    assert mean(one.requests for one in storms) <= requests * jobs


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_process_that_is_alone_comes_to_the_whole_rate(share: float) -> None:
    alone = storm(1, 400, share=share)
    assert alone.seconds <= 1.15 * 400 / 20
    assert alone.requests == 400


def test_nobody_starves() -> None:
    for seed in SEEDS[:3]:
        # Whoever holds a place has work for more than 200 seconds.
        assert storm(40, 100, seed=seed).longest < 150


@pytest.mark.parametrize("rate", [0.5, 1, 2, 3])
def test_a_low_rate_is_kept(rate: float) -> None:
    now, sent = 0.0, []
    client = ContendedRate(rate, 0.5, lambda: 0.5)
    for _ in range(20):
        while pause := client.wait(now):
            now += pause
        sent.append(now)
        client.accepted(client.claim(now), now)
    window, most = max(1.0, 1 / rate), max(1, int(rate))
    assert all(later - earlier >= window - 1e-3 for earlier, later in zip(sent, sent[most:], strict=False))
    assert now <= 1.1 * 20 / rate + 1


def refuse(client: ContendedRate, now: float, *, in_turn: bool = False) -> None:
    assert client.wait(now) == 0
    client.refused(client.claim(now), now, in_turn=in_turn)


def test_who_is_refused_and_holds_nothing_comes_back_after_some_seconds() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    refuse(client, 10.0)
    assert client.wait(10.0) == pytest.approx(5.5)
    assert client.wait(15.5) == 0


def test_who_holds_places_uses_them_again_a_second_later() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    for at in (10.0, 10.1):
        client.accepted(client.claim(at), at)
    refuse(client, 10.2)
    assert client.wait(10.2) == pytest.approx(0.8)
    client.accepted(client.claim(11.0), 11.0)
    assert client.wait(11.0) == pytest.approx(0.1)


def test_who_gets_one_more_takes_all_that_it_can_get() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    refuse(client, 0.0)
    for place in range(10):
        at = 5.5 + place / 100
        assert client.wait(at) == 0
        client.accepted(client.claim(at), at)


def test_a_stray_refusal_among_those_who_take_turns_changes_nothing() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    refuse(client, 0.0, in_turn=True)
    assert client.wait(0.0) == 0
    refuse(client, 0.1, in_turn=True)
    assert client.wait(0.1) > 1


def test_after_a_while_nothing_is_known_of_others() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    refuse(client, 0.0)
    assert client.wait(3.0) > 0
    assert client.wait(60.1) == 0
    for place in range(9):
        client.claim(60.1 + place / 100)
    assert client.wait(60.2) == 0


def test_requests_on_their_way_count() -> None:
    client = ContendedRate(4, 0.5, lambda: 0.5)
    claims = [client.claim(0.0), client.claim(0.0)]
    assert 0 < client.wait(0.0) <= 0.05
    client.accepted(claims[0], 0.0)
    client.accepted(claims[1], 0.0)
    assert client.wait(0.0) == 0  # it grows as long as nothing is refused


@pytest.mark.parametrize("rate", [0.5, 1, 4])
def test_a_request_of_which_nothing_is_heard_any_more_holds_no_place(rate: float) -> None:
    """Whoever claimed the place was interrupted before he could give it back."""
    client = ContendedRate(rate, 0.5, lambda: 0.5, lease=60.0)
    lost = [client.claim(0.0)]
    while client.wait(0.0) == 0:
        lost.append(client.claim(0.0))
    assert client.wait(60.0) > 0, "it may be on its way"
    now = 60.0 + max(1.0, 1 / rate)
    assert client.wait(now) == 0
    client.accepted(lost[0], now)  # late
    client.accepted(client.claim(now), now)
    assert client.wait(now + max(1.0, 1 / rate)) == 0


def test_what_tells_nothing_of_the_rate_holds_a_place_and_changes_nothing_else() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    for _ in range(10):
        assert client.wait(0.0) == 0
        client.unsure(client.claim(0.0), 0.0)
    assert client.wait(0.0) == pytest.approx(1.0)
    assert used_at_once(client, 5.0) == 10


def test_after_an_outage_as_much_is_known_as_before_it() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    client.accepted(client.claim(0.0), 0.0)
    refuse(client, 0.1)
    now = 1.0
    while now < 300:
        now += client.wait(now)
        client.unsure(client.claim(now), now + 0.1)
        now += 0.1
    now += 2
    assert used_at_once(client, now) <= 2


def test_who_asks_for_more_in_an_outage_does_not_ask_again_at_once() -> None:
    client = ContendedRate(20, 0.5, lambda: 0.5)
    refuse(client, 0.0)
    client.unsure(client.claim(5.5), 5.6)
    assert client.wait(5.6) > 0
    assert client.wait(7.0) == pytest.approx(4.1)
    assert client.wait(11.2) == 0


def used_at_once(client: ContendedRate, now: float) -> int:
    """How many requests may be sent at a moment."""
    for sent in range(100):
        if client.wait(now) > 0:
            return sent
        client.claim(now)
    raise AssertionError("it has no end")
