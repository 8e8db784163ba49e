from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.policies.job.quorum import TARGETS, InstanceNow, Quorum, QuorumVerdict, judge_quorum

#: All that can be seen of an instance, in the order in which it can come about, end by end.
WAY = [
    InstanceNow("SUBMITTED"),
    InstanceNow("PENDING"),
    InstanceNow("RUNNABLE"),
    InstanceNow("STARTING", launched=True),
    InstanceNow("RUNNING", launched=True, ran=True),
]
SUCCEED = InstanceNow("SUCCEED", launched=True, ran=True)
FAILED = InstanceNow("FAILED", launched=True, ran=True)
NO_MACHINE = InstanceNow("FAILED", launched=True)
NEVER_BEGAN = InstanceNow("FAILED")
INTERRUPTED = InstanceNow("FAILED_INTERRUPTED", launched=True, ran=True)
ALL = [*WAY, SUCCEED, FAILED, NO_MACHINE, NEVER_BEGAN, INTERRUPTED]

instances_of = st.lists(st.sampled_from(ALL), min_size=1, max_size=5)
wanted_states = st.sets(st.sampled_from([str(state) for state in TARGETS]), min_size=1)
quorums = st.one_of(st.sampled_from(["all", "any"]), st.integers(1, 6), st.floats(0.01, 1.0, allow_nan=False)).map(
    Quorum
)


def after(instance: InstanceNow) -> list[InstanceNow]:
    """All that an instance may become by itself, itself included."""
    if instance is INTERRUPTED:
        return [INTERRUPTED, FAILED]
    if instance not in WAY:
        return [instance]
    place = WAY.index(instance)
    ends = [SUCCEED, FAILED, INTERRUPTED]
    if place < 4:
        ends.append(NO_MACHINE)
    if place < 3:
        ends.append(NEVER_BEGAN)
    return [*WAY[place:], *ends]


@given(instances_of, wanted_states, quorums)
def test_what_is_reached_stays_reached_and_hopeless_is_never_reached(
    now: list[InstanceNow], wanted: set[str], quorum: Quorum
) -> None:
    verdict = judge_quorum(now, wanted, quorum, len(now)).verdict
    leaves = "FAILED_INTERRUPTED" in wanted and "FAILED" not in wanted  # for FAILED, when its job is terminated
    if verdict is QuorumVerdict.WAITING or (leaves and verdict is QuorumVerdict.REACHED):
        return
    for later in itertools.islice(itertools.product(*map(after, now)), 300):
        assert judge_quorum(later, wanted, quorum, len(now)).verdict is verdict


@given(instances_of, wanted_states, quorums)
def test_who_waits_has_something_to_wait_for(now: list[InstanceNow], wanted: set[str], quorum: Quorum) -> None:
    """Each instance comes to a state that is wanted if it can, and then the quorum is there."""
    if judge_quorum(now, wanted, quorum, len(now)).verdict is QuorumVerdict.HOPELESS:
        return
    best = [next((later for later in after(one) if later.was(wanted)), after(one)[-1]) for one in now]
    assert judge_quorum(best, wanted, quorum, len(now)).verdict is QuorumVerdict.REACHED


@given(instances_of, wanted_states, quorums, st.integers(0, 3))
def test_when_the_job_is_over_nobody_waits(
    now: list[InstanceNow], wanted: set[str], quorum: Quorum, unlisted: int
) -> None:
    kept = [one for one in now if one is not INTERRUPTED]
    counts = judge_quorum(kept, wanted, quorum, len(kept) + unlisted, over=True)
    assert counts.have + counts.never == counts.total
    assert counts.verdict is not QuorumVerdict.WAITING


@pytest.mark.parametrize(
    ("written", "total", "needed", "text"),
    [
        ("all", 7, 7, "all"),
        ("ANY", 7, 1, "any"),
        (3, 7, 3, "3"),
        ("3", 7, 3, "3"),
        (0.95, 40, 38, "95 %"),
        ("95 %", 40, 38, "95 %"),
        ("0.5", 7, 4, "50 %"),
        (".5", 7, 4, "50 %"),
        ("12.5%", 8, 1, "12.5 %"),
        (0.07, 100, 7, "7 %"),
        (1.0, 3, 3, "100 %"),
        (9, 3, 9, "9"),
    ],
)
def test_how_a_quorum_is_written(written: object, total: int, needed: int, text: str) -> None:
    quorum = Quorum.parse(written)
    assert quorum.needed(total) == needed
    assert str(quorum) == text


@pytest.mark.parametrize("written", [0, -1, 0.0, 1.5, "120 %", "0 %", "most", "", True, None, [1]])
def test_what_is_no_quorum(written: object) -> None:
    with pytest.raises(ValueError, match="write 'all', 'any'"):
        Quorum.parse(written)


def test_the_numbers_are_told() -> None:
    counts = judge_quorum([SUCCEED, FAILED, WAY[4]], {"SUCCEED"}, Quorum(2), 4)
    assert counts.verdict is QuorumVerdict.WAITING
    assert str(counts) == "1 of 4 instances, 1 can't any more; 2 are needed"


def test_a_number_that_is_more_than_there_are_is_hopeless_at_once() -> None:
    assert judge_quorum([WAY[0]], {"SUCCEED"}, Quorum(2), 1).verdict is QuorumVerdict.HOPELESS


@pytest.mark.parametrize(
    ("instance", "wanted", "was"),
    [
        (SUCCEED, "RUNNING", True),
        (FAILED, "RUNNING", True),
        (NO_MACHINE, "RUNNING", False),
        (NO_MACHINE, "STARTING", True),
        (NEVER_BEGAN, "STARTING", False),
        # One that is run again after it has failed.
        (InstanceNow("RUNNABLE", launched=True, ran=True), "RUNNING", True),
        (WAY[4], "SUCCEED", False),
        (InstanceNow("SOMETHING_NEW"), "RUNNING", False),
    ],
)
def test_what_is_short_is_seen_all_the_same(instance: InstanceNow, wanted: str, was: bool) -> None:
    assert instance.was({wanted}) is was
