"""How many instances of a task must have come to a state: pure decisions that sensor and trigger share."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.policies.job.outcome import share_of

__all__ = ["TARGETS", "InstanceNow", "Quorum", "QuorumCounts", "QuorumVerdict", "judge_quorum"]

#: States that can be waited for. Whether an instance that is further was ever in an earlier one can't be seen.
TARGETS = (State.STARTING, State.RUNNING, State.SUCCEED, State.FAILED, State.FAILED_INTERRUPTED)


@dataclass(frozen=True)
class Quorum:
    """How many instances.

    :param wanted: ``all``, ``any``, a number of instances, or a share of them above 0 and at most 1 as a float.
    """

    wanted: str | int | float = "all"

    def __post_init__(self) -> None:
        wanted = self.wanted
        if isinstance(wanted, str):
            fine = wanted in ("all", "any")
        elif isinstance(wanted, float):
            fine = 0 < wanted <= 1
        else:
            fine = not isinstance(wanted, bool) and isinstance(wanted, int) and wanted >= 1
        if not fine:
            raise ValueError(
                f"the quorum is {wanted!r}: write 'all', 'any', a number of instances from 1, or a share such as 0.95 "
                "or '95 %'"
            )

    @classmethod
    def parse(cls, value: object) -> Quorum:
        """Read what a user wrote: also ``"95 %"``, and numbers as text, as templates make them.

        :raises ValueError: saying what to write instead.
        """
        if not isinstance(value, str):
            return cls(value)  # type: ignore[arg-type]
        text = value.strip().lower()
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text):
            return cls(float(match[1]) / 100)
        if re.fullmatch(r"\d+", text):
            return cls(int(text))
        if re.fullmatch(r"\d*\.\d+", text):
            return cls(float(text))
        return cls(text)

    def needed(self, total: int) -> int:
        """How many of ``total`` instances; may be more than there are, where a number was asked for."""
        if self.wanted == "all":
            return total
        if self.wanted == "any":
            return 1
        return share_of(self.wanted, total) if isinstance(self.wanted, float) else int(self.wanted)

    def __str__(self) -> str:
        if isinstance(self.wanted, float):
            return f"{self.wanted * 100:g} %"
        return str(self.wanted)


class InstanceNow(NamedTuple):
    """An instance at one moment.

    :param state: its state.
    :param launched: whether its machine has begun to start, ever (LaunchTime).
    :param ran: whether it has begun to run, ever (RunningTime).
    """

    state: str
    launched: bool = False
    ran: bool = False

    def was(self, wanted: Collection[str]) -> bool:
        """Whether it is in one of these states, or has provably been in one that it leaves by itself.

        What is short is seldom seen: an instance that has SUCCEEDed has been RUNNING, whether or not anybody looked.
        """
        ran = self.ran or self.state == State.SUCCEED
        launched = ran or self.launched or self.state == State.RUNNING
        passed = (State.STARTING,) * launched + (State.RUNNING,) * ran
        return any(state in wanted for state in (self.state, *passed))

    def never(self, wanted: Collection[str], *, over: bool) -> bool:
        """Whether it can't come to one of these states any more, by itself.

        :param over: whether its job has ended, so that nothing of it begins any more.
        """
        if self.was(wanted):
            return False
        if self.state == State.FAILED_INTERRUPTED:
            # Its job is terminated sooner or later, and it is FAILED then.
            return State.FAILED not in wanted
        return over or self.state in (State.SUCCEED, State.FAILED)


class QuorumVerdict(Enum):
    """What the instances mean for the wait."""

    WAITING = "waiting"
    REACHED = "reached"
    #: So many can't come to it any more that the others are too few.
    HOPELESS = "hopeless"


class QuorumCounts(NamedTuple):
    """A verdict and the numbers behind it.

    :param verdict: the verdict.
    :param have: instances that are, or have been, in one of the states.
    :param never: instances that can't come to one any more.
    :param needed: how many must.
    :param total: how many are looked at.
    """

    verdict: QuorumVerdict
    have: int
    never: int
    needed: int
    total: int

    def __str__(self) -> str:
        more = f", {self.never} can't any more" if self.never else ""
        return f"{self.have} of {self.total} instances{more}; {self.needed} are needed"


def judge_quorum(
    instances: Iterable[InstanceNow], wanted: Collection[str], quorum: Quorum, total: int, *, over: bool = False
) -> QuorumCounts:
    """Judge a wait for instances.

    :param instances: those of the instances that the service has listed so far.
    :param wanted: states out of :data:`TARGETS`; one of them is enough.
    :param quorum: how many must come to one.
    :param total: how many are looked at, whether or not they are listed yet.
    :param over: whether their job has ended. Those that are not listed then never were.
    """
    have = never = listed = 0
    for instance in instances:
        listed += 1
        have += instance.was(wanted)
        never += instance.never(wanted, over=over)
    if over:
        never += total - listed
    needed = quorum.needed(total)
    if have >= needed:
        verdict = QuorumVerdict.REACHED
    elif total - never < needed:
        verdict = QuorumVerdict.HOPELESS
    else:
        verdict = QuorumVerdict.WAITING
    return QuorumCounts(verdict, have, never, needed, total)
