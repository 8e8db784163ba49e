from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.job.outcome import Counts, SuccessPolicy, Verdict, judge


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_verdict(state: State) -> None:
    expected = {
        State.SUCCEED: Verdict.SUCCESS,
        State.FAILED: Verdict.FAILURE,
        State.FAILED_INTERRUPTED: Verdict.FAILURE,
    }.get(state, Verdict.ACTIVE)
    assert judge(state).verdict is expected
    assert judge(state.value) == judge(state)


def test_the_old_spelling_of_success_is_understood() -> None:
    assert judge("SUCCEEDED").verdict is Verdict.SUCCESS


def test_an_unknown_state_is_not_taken_for_an_end() -> None:
    assert not judge("RESTING").is_final


# -- what counts as success ------------------------------------------------------------------------------


@st.composite
def counts(draw: st.DrawFn, total: st.SearchStrategy[int] | None = None) -> Counts:
    """Counts of a job that may still run."""
    whole = draw(total or st.integers(1, 200))
    ended = draw(st.integers(0, whole))
    failed = draw(st.integers(0, ended))
    return Counts(whole, ended - failed, failed, draw(st.integers(ended, whole)))


#: A share as a user writes it, and the number that it stands for.
SHARES = st.integers(1, 10**6).map(lambda millionths: (millionths / 10**6, Fraction(millionths, 10**6)))
WANTED = st.none() | st.integers(1, 250) | SHARES.map(lambda share: share[0])


@given(SHARES, st.integers(1, 10**8))
@example((0.07, Fraction(7, 100)), 100)
@example((0.95, Fraction(95, 100)), 10_000)
@example((0.000001, Fraction(1, 10**6)), 1)
@example((0.1, Fraction(1, 10)), 3)
def test_a_share_is_what_it_says_in_exact_arithmetic(share: tuple[float, Fraction], total: int) -> None:
    written, exact = share
    needed = SuccessPolicy(written).needed(total)
    assert Fraction(needed, total) >= exact
    assert Fraction(needed - 1, total) < exact


@given(st.floats(0, 1, exclude_min=True), st.integers(1, 10**6))
@example(1e-9, 10)
@example(0.999999999, 10)
def test_a_share_always_asks_for_one_instance_and_never_for_more_than_there_are(share: float, total: int) -> None:
    assert 1 <= SuccessPolicy(share).needed(total) <= total


@pytest.mark.parametrize("wrong", [0, -1, 0.0, 1.01, -0.5, float("nan"), float("inf"), True, "2", "0.5"])
def test_a_wrong_min_success_is_named(wrong: Any) -> None:
    with pytest.raises(ValueError, match="min_success"):
        SuccessPolicy(wrong)


@pytest.mark.parametrize("wanted", [None, 1, 1000, 0.001, 1.0])
def test_a_right_min_success_is_taken(wanted: Any) -> None:
    assert SuccessPolicy(wanted).min_success == wanted


@given(counts(), WANTED, st.booleans())
def test_a_success_of_the_service_is_one_unless_a_number_is_missed(
    seen: Counts, wanted: int | float | None, fail_fast: bool
) -> None:
    outcome = judge("SUCCEED", seen, SuccessPolicy(wanted, fail_fast))
    if isinstance(wanted, int) and seen.succeeded < wanted:
        assert outcome.verdict is Verdict.FAILURE
    else:
        assert outcome.verdict is Verdict.SUCCESS
    assert not outcome.early


@given(counts(), WANTED)
@pytest.mark.parametrize("state", ["FAILED", "FAILED_INTERRUPTED"])
def test_a_failure_of_the_service_is_a_success_where_enough_succeeded(
    state: str, seen: Counts, wanted: int | float | None
) -> None:
    policy = SuccessPolicy(wanted)
    enough = wanted is not None and seen.succeeded >= policy.needed(seen.total)
    assert judge(state, seen, policy).verdict is (Verdict.SUCCESS if enough else Verdict.FAILURE)


@pytest.mark.parametrize("state", list(State))
def test_without_counts_only_the_state_is_judged(state: State) -> None:
    assert judge(state, None, SuccessPolicy(1, fail_fast=True)) == judge(state)


def test_a_job_without_instances_has_not_enough() -> None:
    assert judge("FAILED", Counts(0, 0, 0, 0), SuccessPolicy(0.5)).verdict is Verdict.FAILURE


RUNNING = st.sampled_from(["SUBMITTED", "RUNNABLE", "RUNNING", "RESTING"])


@given(RUNNING, counts(), WANTED)
def test_fail_fast_ends_only_what_can_not_succeed_any_more(
    state: str, seen: Counts, wanted: int | float | None
) -> None:
    """The best that can come: all that have not ended succeed."""
    policy = SuccessPolicy(wanted, fail_fast=True)
    outcome = judge(state, seen, policy)
    best = Counts(seen.total, seen.total - seen.failed, seen.failed, seen.total)
    at_best = judge("FAILED" if seen.failed else "SUCCEED", best, policy)
    if outcome.early:
        assert outcome.verdict is Verdict.FAILURE
        assert at_best.verdict is Verdict.FAILURE
    else:
        assert outcome.verdict is Verdict.ACTIVE
        # It ends as soon as that is known: what goes on has failed nowhere, or can still succeed.
        assert not seen.failed or at_best.verdict is Verdict.SUCCESS


@given(RUNNING, counts(), WANTED)
def test_without_fail_fast_a_running_job_is_waited_for(state: str, seen: Counts, wanted: int | float | None) -> None:
    assert judge(state, seen, SuccessPolicy(wanted)).verdict is Verdict.ACTIVE
