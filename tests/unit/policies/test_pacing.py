from __future__ import annotations

import pytest

from airflow_provider_tcbatch.policies.pacing import pace


@pytest.mark.parametrize(("age", "slowest", "expected"), [(0, 30, 1), (10, 30, 5), (1000, 30, 30), (0, 0.2, 0.2)])
def test_young_waits_are_quick_and_old_ones_bounded(age: float, slowest: float, expected: float) -> None:
    assert pace(age, slowest) == expected
