"""Did it succeed, and if not, why: the one place where a job is judged.

Operator, trigger and sensor all ask here; nobody else compares states.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_provider_tcbatch.models.states import State

__all__ = ["Outcome", "Verdict", "judge"]


class Verdict(Enum):
    """What a job's state means for the one who waits for it."""

    ACTIVE = "active"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True)
class Outcome:
    """Verdict on a job.

    :param verdict: what to do.
    :param state: the state it was judged by.
    """

    verdict: Verdict
    state: str

    @property
    def is_final(self) -> bool:
        """Whether waiting is over."""
        return self.verdict is not Verdict.ACTIVE


def judge(state: State | str) -> Outcome:
    """Judge a job by its state.

    A state that this version does not know is taken as "still active": no documented final state is
    unknown, and a deadline ends the wait if it never moves on.

    :param state: ``JobState`` as the API returned it.
    """
    try:
        known = State(state)
    except ValueError:
        return Outcome(Verdict.ACTIVE, str(state))
    if not known.is_terminal:
        return Outcome(Verdict.ACTIVE, known.value)
    return Outcome(Verdict.SUCCESS if known.is_success else Verdict.FAILURE, known.value)
