from __future__ import annotations

import itertools

import pytest

from airflow_provider_tcbatch.client.limits import RateLimiter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sent_within(limiter: RateLimiter, clock: Clock, action: str, seconds: float) -> int:
    """How many requests get out in a time, each waiting as long as it is told."""
    until, count = clock.now + seconds, 0
    while True:
        clock.now += limiter.reserve(action)
        if clock.now >= until:
            return count
        count += 1


@pytest.mark.parametrize(("action", "rate"), [("DescribeJobs", 5), ("DescribeJob", 25), ("Unheard", 1)])
def test_the_rate_is_the_documented_one_times_the_share(action: str, rate: float) -> None:
    clock = Clock()
    count = sent_within(RateLimiter(share=0.5, clock=clock), clock, action, 100)
    assert count == pytest.approx(100 * rate / 1.1, rel=0.03)


@pytest.mark.parametrize(("limit", "share"), [(10, 1.0), (10, 0.5), (2, 1.0), (2, 0.5), (20, 0.3), (3, 0.97), (5, 0.5)])
def test_no_window_of_a_second_holds_more_than_the_share(limit: int, share: float) -> None:
    """Nor does one after a rest: a service that counts in windows would refuse what is saved up."""
    clock = Clock()
    limiter = RateLimiter({"DescribeJobs": limit}, share, clock)
    sent: list[float] = []
    for rest in (0.0, 100.0, 0.3, 0.0):
        clock.now += rest
        for _ in range(3 * limit):
            clock.now += limiter.reserve("DescribeJobs")
            sent.append(clock.now)
    most = max(1, int(limit * share))
    assert all(later - earlier > 1.0 for earlier, later in zip(sent, sent[most:], strict=False))


def test_places_that_are_given_back_are_taken_by_others() -> None:
    """Thousands of waits may be cancelled at once: those that remain do not wait for them."""
    clock = Clock()
    limiter = RateLimiter({"DescribeJobs": 10}, 1.0, clock)
    sent = [limiter.reserve("DescribeJobs") for _ in range(10)]
    waits = [limiter.reserve("DescribeJobs") for _ in range(100)]
    left = [at for number, at in enumerate(waits) if number % 10]
    for at in reversed(left):
        limiter.give_back("DescribeJobs", at)
    sent += waits[::10]
    clock.now = 0.5
    assert limiter.pause("DescribeJobs") == pytest.approx(left[0] - 0.5)
    again = [clock.now + limiter.reserve("DescribeJobs") for _ in range(95)]
    assert again[:90] == pytest.approx(left)
    assert again[90] > waits[-1]
    sent = sorted(sent + again)
    assert all(later - earlier > 1.0 for earlier, later in zip(sent, sent[10:], strict=False))


def test_a_place_that_was_given_back_is_not_taken_when_its_time_is_over() -> None:
    clock = Clock()
    limiter = RateLimiter({"DescribeJobs": 2}, 1.0, clock)
    waits = [limiter.reserve("DescribeJobs") for _ in range(4)]
    limiter.give_back("DescribeJobs", waits[2])
    clock.now = waits[2] + 0.1
    assert clock.now + limiter.reserve("DescribeJobs") == pytest.approx(waits[2] + 1.1)


def test_who_can_gather_sends_evenly() -> None:
    clock = Clock()
    limiter = RateLimiter({"DescribeJobs": 10}, 1.0, clock)
    sent = []
    for _ in range(30):
        clock.now += limiter.pause("DescribeJobs")
        assert limiter.reserve("DescribeJobs") == pytest.approx(0, abs=1e-9)
        sent.append(clock.now)
    assert sent[0] == 0
    assert all(later - earlier == pytest.approx(0.11) for earlier, later in itertools.pairwise(sent))


def test_a_pause_takes_no_place_in_the_line() -> None:
    limiter = RateLimiter({"DescribeJobs": 2}, 1.0, Clock())
    for _ in range(10):
        assert limiter.pause("DescribeJobs") == 0


def test_a_throttle_halves_the_rate_and_time_restores_it() -> None:
    clock = Clock()
    limiter = RateLimiter(share=1.0, clock=clock)
    before = sent_within(limiter, clock, "DescribeJobs", 10)
    limiter.throttled("DescribeJobs")
    after = sent_within(limiter, clock, "DescribeJobs", 5)
    assert after == pytest.approx(before / 4, rel=0.25)  # half the rate in half the time
    clock.now += 60
    assert sent_within(limiter, clock, "DescribeJobs", 10) == pytest.approx(before, abs=before * 0.1)


def test_one_action_does_not_slow_another() -> None:
    limiter = RateLimiter(share=1.0, clock=Clock())
    for _ in range(50):
        limiter.reserve("DescribeJobs")
    assert limiter.reserve("SubmitJob") == 0


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        RateLimiter(share=share)
