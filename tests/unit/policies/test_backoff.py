from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.backoff import pace, quota_pause


@pytest.mark.parametrize(("age", "slowest", "expected"), [(0, 30, 1), (10, 30, 5), (1000, 30, 30), (0, 0.2, 0.2)])
def test_young_waits_are_quick_and_old_ones_bounded(age: float, slowest: float, expected: float) -> None:
    assert pace(age, slowest) == expected


@pytest.mark.parametrize(("attempts", "shortest", "longest"), [(1, 7.5, 15), (2, 15, 30), (6, 240, 480), (7, 300, 600)])
def test_a_quota_is_asked_about_ever_less_often(attempts: int, shortest: float, longest: float) -> None:
    assert (quota_pause(attempts, 0), quota_pause(attempts, 1)) == (shortest, longest)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_a_pause_for_a_quota_is_bounded_and_never_gets_shorter(attempts: int, spread: float) -> None:
    pause = quota_pause(attempts, spread)
    assert 7.5 <= pause <= 600
    assert pause <= quota_pause(attempts + 1, spread)
    assert quota_pause(attempts, 0) <= pause <= quota_pause(attempts, 1)
