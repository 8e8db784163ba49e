from __future__ import annotations

import pytest

from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.outcome import Verdict, judge


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
