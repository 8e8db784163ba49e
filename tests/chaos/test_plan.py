"""A seed is a storm: always the same one, and such as the page says."""

from __future__ import annotations

import pytest

from tests.chaos.plan import FATAL, LONG, MACHINES, PARTS, SERVICE, Plan, brief, whole
from tests.chaos.weather import CONTROLLED, fault_of

SEEDS = range(1, 61)


def kinds(plan: Plan) -> set[str]:
    return {act.kind for act in plan.acts}


@pytest.mark.parametrize("make", [brief, whole])
def test_the_same_seed_is_the_same_storm(make: type[Plan]) -> None:
    assert make(7) == make(7)  # type: ignore[call-arg]
    assert str(make(7)) == str(make(7))  # type: ignore[call-arg]
    assert make(7) != make(8)  # type: ignore[call-arg]


def test_all_that_can_happen_happens_in_some_storm() -> None:
    acts = [act for seed in SEEDS for act in whole(seed).acts]
    assert {act.kind for act in acts} == {*SERVICE, *MACHINES}
    for kind in MACHINES:
        assert {act.target for act in acts if act.kind == kind} == set(PARTS)
    outages = [act for act in acts if act.kind == "outage"]
    assert {act.options["kind"] for act in outages} == {"http_error", "drop", "error"}
    assert {act.target for act in outages} == {"batch", "*"}
    events = {act.options["kind"] for act in acts if act.kind == "events"}
    assert events == {"lose_event", "duplicate_event", "delay_event", "reorder_event"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_whole_storm(seed: int) -> None:
    plan = whole(seed)
    assert plan.early
    assert all(0 <= act.at <= plan.length for act in plan.acts)
    # Nobody who loses everything with one try stands where tries are taken.
    if any(work.dag_id == "single" for work in plan.work):
        assert not kinds(plan) & set(MACHINES)
    if seed % 3 != 2:
        [outage, *_] = [act for act in plan.acts if act.kind in ("outage", "frozen") and act.seconds >= 30]
        assert 30 <= outage.seconds <= 180
        assert seed % 2 == 0 or outage.seconds >= LONG[0]
    if seed % 3:
        assert kinds(plan) >= set(MACHINES)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_brief_storm(seed: int) -> None:
    plan = brief(seed)
    assert kinds(plan) >= {"outage", "throttled", "events", "lost_answers", "revoked", "killed", "stopped"}
    # What loses its only try loses it by the provider's doing.
    assert not any(act.target in FATAL for act in plan.acts if act.kind in MACHINES)


def test_acts_upon_the_service_are_faults_of_the_emulator() -> None:
    from airflow_provider_tcbatch.emulator.faults import Fault

    for act in [act for seed in SEEDS for act in (*whole(seed).acts, *brief(seed).acts)]:
        if act.kind in CONTROLLED and act.kind != "revoked":
            Fault.model_validate(fault_of(act))
