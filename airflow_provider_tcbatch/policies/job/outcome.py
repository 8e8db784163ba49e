"""Did it succeed, and if not, why: the one place where a job is judged.

Operator, trigger and sensor all ask here; nobody else compares states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_tcbatch.models.states import State

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.job_reading import DescribeJobResult

__all__ = ["Counts", "Outcome", "SuccessPolicy", "Verdict", "counts_of", "judge"]


class Verdict(Enum):
    """What a job's state means for the one who waits for it."""

    ACTIVE = "active"
    SUCCESS = "success"
    SKIP = "skip"
    FAILURE = "failure"


class Counts(NamedTuple):
    """How far the instances of a job are.

    :param total: all instances.
    :param succeeded: those that ended well.
    :param failed: those that ended badly.
    :param started: those that have begun to run, the ended ones included.
    :param active: those that use a machine now.
    """

    total: int
    succeeded: int
    failed: int
    started: int
    active: int = 0

    @property
    def done(self) -> int:
        """Those that have ended."""
        return self.succeeded + self.failed


def counts_of(view: DescribeJobResult) -> Counts | None:
    """How far a job's instances are, ``None`` if the service does not say."""
    metrics = view.task_instance_metrics
    if metrics is None or not metrics.total:
        return None
    ended = metrics.succeed_count + metrics.failed
    active = metrics.starting_count + metrics.running_count + metrics.failed_interrupted_count
    return Counts(metrics.total, metrics.succeed_count, metrics.failed, metrics.running_count + ended, active)


def share_of(share: float, total: int) -> int:
    """How many of ``total`` a share of them is, rounded up.

    :param share: above 0 and at most 1.
    """
    # As it is written: 0.07 * 100 is a little above 7 in binary, and must not ask for an eighth.
    return math.ceil(Fraction(str(float(share))) * total)


@dataclass(frozen=True, slots=True)
class SuccessPolicy:
    """What counts as success.

    :param min_success: instances of the job that must succeed: a number, or a share above 0 and at most 1 as a float;
        ``None`` for what the service itself calls a success.
    :param skip_on_exit_code: a failed job whose failed instances all ended with one of these codes had nothing to do.
    :param fail_fast: whether a job is a failure as soon as it can't succeed any more, although it still runs.
    """

    min_success: int | float | None = None
    fail_fast: bool = False
    skip_on_exit_code: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        wanted = self.min_success
        if wanted is None:
            return
        if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
            raise ValueError(f"min_success is {wanted!r}: write a number of instances, or a share such as 0.95")
        if isinstance(wanted, float) and not 0 < wanted <= 1:
            raise ValueError(f"min_success is {wanted!r}: a share is above 0 and at most 1; write a count as an int")
        if wanted < 1 and isinstance(wanted, int):
            raise ValueError(f"min_success is {wanted!r}: at least one instance must succeed")

    def needed(self, total: int) -> int:
        """How many of ``total`` instances must succeed."""
        if self.min_success is None:
            return total
        return share_of(self.min_success, total) if isinstance(self.min_success, float) else self.min_success


#: What the service itself calls a success.
DEFAULT = SuccessPolicy()


class Outcome(NamedTuple):
    """Verdict on a job.

    :param verdict: what to do.
    :param state: the state it was judged by.
    :param early: the verdict is there although the job still runs: it has to be ended.
    """

    verdict: Verdict
    state: str
    early: bool = False

    @property
    def is_final(self) -> bool:
        """Whether waiting is over."""
        return self.verdict is not Verdict.ACTIVE


def judge(
    state: State | str,
    counts: Counts | None = None,
    policy: SuccessPolicy = DEFAULT,
    exit_codes: Sequence[int | None] = (),
) -> Outcome:
    """Judge a job.

    A state that this version does not know is taken as "still active": no documented final state is
    unknown, and a deadline ends the wait if it never moves on.

    :param state: ``JobState`` as the API returned it.
    :param counts: how far its instances are; without them only the state is judged.
    :param policy: what counts as success.
    :param exit_codes: exit codes of all failed instances; matter with ``skip_on_exit_code`` only.
    """
    try:
        known = State(state)
    except ValueError:
        return _running(str(state), counts, policy)
    if not known.is_terminal:
        return _running(known.value, counts, policy)
    if known.is_success:
        success = True
        if counts is not None and isinstance(policy.min_success, int):
            # A count may ask for more than the job has: that is a mistake to be told, not to be hidden.
            success = counts.succeeded >= policy.min_success
    else:
        success = policy.min_success is not None and counts is not None and _enough(counts, policy)
        if not success and policy.min_success is not None and counts is not None and _may_still(counts, policy):
            # Whether a job is FAILED at its first failed instance or at its last one is not documented.
            return Outcome(Verdict.ACTIVE, known.value)
        if not success and exit_codes and set(exit_codes) <= policy.skip_on_exit_code:
            return Outcome(Verdict.SKIP, known.value)
    return Outcome(Verdict.SUCCESS if success else Verdict.FAILURE, known.value)


def _enough(counts: Counts, policy: SuccessPolicy) -> bool:
    return counts.total > 0 and counts.succeeded >= policy.needed(counts.total)


def _may_still(counts: Counts, policy: SuccessPolicy) -> bool:
    return counts.active > 0 and counts.total - counts.failed >= policy.needed(counts.total)


def _running(state: str, counts: Counts | None, policy: SuccessPolicy) -> Outcome:
    hopeless = counts is not None and counts.failed and counts.total - counts.failed < policy.needed(counts.total)
    if policy.fail_fast and hopeless:
        return Outcome(Verdict.FAILURE, state, early=True)
    return Outcome(Verdict.ACTIVE, state)
