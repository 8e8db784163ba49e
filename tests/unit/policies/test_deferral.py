from __future__ import annotations

import pytest

from airflow_provider_tcbatch.policies.deferral import Deferral, hold_until

IDLE = Deferral(slowest_call=0.05, process="here.1.2")
BUSY = Deferral(slowest_call=4.0, slowdown=11.0, process="here.1.2")


@pytest.mark.parametrize(
    ("deferral", "gone", "until"),
    [
        (IDLE, 100.0, 101.55),  # it was gone when the trigger started
        (IDLE, 105.0, 106.55),  # its supervisor slept for a heartbeat
        (BUSY, 100.0, 110.5),  # the scheduler's rounds take long, too
        (BUSY, 118.0, 128.5),
    ],
)
def test_where_the_process_is_seen_its_end_counts(deferral: Deferral, gone: float, until: float) -> None:
    assert hold_until(deferral, started=100.0, gone=gone, seen=True) == pytest.approx(until)


def test_while_the_process_is_seen_the_hold_is_not_over() -> None:
    assert hold_until(IDLE, started=0.0, least=3.0, seen=True) is None


@pytest.mark.parametrize(
    ("deferral", "until"),
    [
        (Deferral(), 106.0),  # nothing is known of the worker: Airflow's defaults
        (Deferral(slowest_call=0.05), 106.1),
        (Deferral(slowest_call=4.0), 114.0),
        (Deferral(slowdown=11.0), 111.0),
        (Deferral(slowdown=1e9), 135.5),  # whatever was measured, it comes to an end
        (Deferral(slowdown=0.0), 106.0),
        (Deferral(heartbeat=1.0), 102.0),
        (Deferral(heartbeat=30.0), 131.0),
    ],
)
def test_where_it_is_not_seen_as_much_time_passes_as_it_may_take(deferral: Deferral, until: float) -> None:
    assert hold_until(deferral, started=100.0) == pytest.approx(until)


@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("least", [0.0, 2.0, 60.0])
def test_the_least_is_a_floor_and_no_ceiling(least: float, seen: bool) -> None:
    without = hold_until(IDLE, started=0.0, gone=0.0, seen=seen)
    assert without is not None
    assert hold_until(IDLE, started=0.0, gone=0.0, seen=seen, least=least) == max(least, without)


@pytest.mark.parametrize(
    ("deferral", "text"),
    [
        (Deferral(), "0.00 1.0 5"),
        (Deferral(1.234, 2.5, 0.5, "0123456789ab.4711.99887766"), "1.23 2.5 0.5 0123456789ab.4711.99887766"),
    ],
)
def test_it_travels_as_a_short_text(deferral: Deferral, text: str) -> None:
    assert deferral.to_text() == text
    back = Deferral.from_text(text)
    assert (back.slowdown, back.heartbeat, back.process) == (
        deferral.slowdown,
        deferral.heartbeat,
        deferral.process,
    )
    assert back.slowest_call == pytest.approx(deferral.slowest_call, abs=0.01)


@pytest.mark.parametrize("text", [None, "", "1.0", "1 5", "nan 1 5", "1 1 inf", "-1 1 5", "a b c d", "1 1 x"])
def test_another_text_says_what_is_true_of_any_worker(text: str | None) -> None:
    assert Deferral.from_text(text) == Deferral()
