"""Whether a job, or a task of it, has come to a state that is waited for: pure decisions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.job.quorum import TARGETS, InstanceNow

__all__ = ["TargetVerdict", "Targets", "states_of"]


class TargetVerdict(Enum):
    """What a state means for the wait."""

    WAITING = "waiting"
    REACHED = "reached"
    FAILED = "failed"


@dataclass(frozen=True)
class Targets:
    """States to wait for.

    :param wanted: one of these is enough.
    :param failures: one of these ends the wait, unless it is reached.
    """

    wanted: tuple[str, ...] = (State.SUCCEED.value,)
    failures: tuple[str, ...] = (State.FAILED.value, State.FAILED_INTERRUPTED.value)

    @classmethod
    def parse(cls, wanted: object, failures: object = None) -> Targets:
        """Read what a user wrote: one state, or several.

        :param failures: ``None`` for all final states that are not wanted.
        :raises ValueError: saying what to write instead.
        """
        targets = states_of("target_states", wanted)
        if not targets:
            raise ValueError(f"target_states is empty; write one or more of {_names(TARGETS)}")
        if failures is None:
            others = tuple(state.value for state in State if state.is_terminal and state.value not in targets)
            return cls(targets, others)
        given = states_of("failure_states", failures)
        if both := [state for state in given if state in targets]:
            raise ValueError(f"{_names(both)} is in target_states and in failure_states; leave it out of one of them")
        return cls(targets, given)

    def judge(self, state: str, *, over: bool = False) -> TargetVerdict:
        """Judge a state.

        :param state: state of a job or a task. One that has SUCCEEDed has been RUNNING, whether or not anybody looked.
        :param over: whether nothing of its job begins any more. (It counts where there are failures at all.)
        """
        now = InstanceNow(state)
        if now.was(self.wanted):
            return TargetVerdict.REACHED
        if state in self.failures or (over and self.failures and now.never(self.wanted, over=True)):
            return TargetVerdict.FAILED
        return TargetVerdict.WAITING

    def __str__(self) -> str:
        return " or ".join(self.wanted)


def states_of(name: str, given: object) -> tuple[str, ...]:
    """States as a user wrote them, in the API's spelling, each once.

    :param name: the argument, for the message.
    :raises ValueError: saying what to write instead.
    """
    items: Collection[object] = [given] if isinstance(given, str) or not isinstance(given, Collection) else given
    found: list[str] = []
    for item in items:
        try:
            state = State(item)
        except ValueError:
            state = None
        if state not in TARGETS:
            raise ValueError(f"{name} holds {item!r}; write one or more of {_names(TARGETS)}")
        found.append(state.value)
    return tuple(dict.fromkeys(found))


def _names(states: Iterable[str]) -> str:
    return ", ".join(str(state) for state in states)
