from __future__ import annotations

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
    assert count == pytest.approx(100 * rate, rel=0.05)


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
