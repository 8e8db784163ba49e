from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit

INSTANTS = st.none() | st.floats(0, 4e9)
DEADLINES = st.builds(Deadlines, timeout=INSTANTS, queue_timeout=INSTANTS, execution_timeout=INSTANTS)


@given(DEADLINES)
def test_they_survive_the_way_through_json(deadlines: Deadlines) -> None:
    assert Deadlines.from_json(json.loads(json.dumps(deadlines.to_json()))) == deadlines


def test_what_is_not_set_is_not_stored() -> None:
    assert Deadlines(queue_timeout=0.0).to_json() == {"queue_timeout": 0.0}
    assert Deadlines.from_json(None) == Deadlines.from_json({}) == Deadlines()


@given(DEADLINES, st.floats(0, 4e9), st.booleans())
def test_a_limit_is_reached_from_the_earliest_instant_on(deadlines: Deadlines, now: float, started: bool) -> None:
    instants = deadlines.to_json()
    if started:
        instants.pop("queue_timeout", None)
    reached = deadlines.reached(now, started=started)
    assert (reached is not None) == any(now >= at for at in instants.values())
    if reached is not None:
        assert instants[reached.value] == min(instants.values())


@given(DEADLINES, st.booleans())
def test_the_next_instant_is_the_one_that_is_reached(deadlines: Deadlines, started: bool) -> None:
    following = deadlines.next(started=started)
    if following is None:
        assert deadlines.reached(1e12, started=started) is None
    else:
        at, limit = following
        assert deadlines.reached(at, started=started) is limit
        assert at == 0 or deadlines.reached(at * (1 - 1e-12) - 1e-6, started=started) is None


def test_a_job_that_has_started_has_left_the_queue() -> None:
    deadlines = Deadlines(timeout=100.0, queue_timeout=10.0)
    assert deadlines.reached(50.0, started=False) is Limit.QUEUE_TIMEOUT
    assert deadlines.reached(50.0, started=True) is None
    assert deadlines.reached(100.0, started=True) is Limit.TIMEOUT


def test_durations_count_from_the_submission_or_from_the_try() -> None:
    made = Deadlines.of(submitted_at=1000.0, try_started_at=5000.0, timeout=7.0, queue_timeout=3.0, execution_timeout=2)
    assert made == Deadlines(timeout=1007.0, queue_timeout=1003.0, execution_timeout=5002.0)


def test_without_a_beginning_or_a_duration_there_is_no_limit() -> None:
    assert Deadlines.of(submitted_at=None, try_started_at=None, timeout=1, queue_timeout=1, execution_timeout=1) == (
        Deadlines()
    )
    assert Deadlines.of(submitted_at=1.0, try_started_at=1.0) == Deadlines()
