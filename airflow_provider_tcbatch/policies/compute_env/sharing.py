"""Who may take a compute environment away, when several runs use one: nobody counts, everybody looks.

Nothing here can be changed on condition that it still is what it was: not Airflow's XComs, not the name of an
environment. A counter would be wrong after the first crash, or the first two runs that change it at once. So a user is
whoever says that he is one, and whose tear-down has not begun:

- A **set-up** first tells which environment it is going to use, then looks whether that is still *open*, by its name.
- A **tear-down** first *closes* the environment, by renaming it, then looks who uses it. If there is nobody, it may go.

Whatever the order of these four steps, either the set-up sees that the environment is closed and takes another, or the
tear-down sees the user and leaves the environment to him. What is closed is never opened again: of two tear-downs at
once one would open what the other one, having looked a moment later, is about to delete. Before it closes, a tear-down
looks whether there is a user; so environments that are in use are not closed, but for rare coincidences.

The two sides are generators that yield what they want to be done and are sent what came of it. So the tests drive the
very same code through every order of steps, and through crashes between them.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, TCBatchError
from airflow_provider_tcbatch.policies.ownership.marks import Owner

__all__ = [
    "SHARED",
    "Close",
    "Create",
    "IsOpen",
    "ListOpen",
    "Step",
    "Tell",
    "Use",
    "Users",
    "belongs",
    "closed_name",
    "holds",
    "join",
    "let_go",
    "name_for",
    "uses_of",
]

#: Stands for the run in the owner of an environment that several runs share: no run is called so.
SHARED = "@shared"

_CLOSED = "-closed"

#: Longest TaskTemplateName. That of an EnvName is not documented; it is taken to be the same.
_NAME = 60

#: Rounds of a set-up; each but the last met a tear-down in the same second.
_ROUNDS = 10

# -- names -----------------------------------------------------------------------------------------------


def _ending(owner: Owner) -> str:
    """Twelve hex digits that stand for an owner."""
    return "-" + owner.prefix().split("-")[1]


def name_for(base: str, owner: Owner) -> str:
    """The name of what an owner makes: whose it is can be read from it, whatever else the keys may write.

    :param base: the name as the user wrote it.
    :raises InvalidRequest: if there is no room for the rest.
    """
    longest = _NAME - len(_ending(owner)) - len(_CLOSED)
    if not 1 <= len(base) <= longest:
        raise InvalidRequest(
            f"The name {base!r} has {len(base)} characters; write 1 to {longest}: what tells the owner is put after it"
        )
    return base + _ending(owner)


def closed_name(name: str) -> str:
    """What an environment is called once nobody new shall find it."""
    return name if name.endswith(_CLOSED) else name + _CLOSED


def belongs(name: str | None, owner: Owner) -> bool:
    """Whether something of this name is the owner's, open or closed."""
    return (name or "").removesuffix(_CLOSED).endswith(_ending(owner))


# -- users -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """A set-up and its tear-down in one run.

    :param setup: state of the set-up; ``None`` if it has none, at first or after a clear.
    :param teardown: state of the tear-down.
    """

    dag_id: str
    run_id: str
    map_index: int
    setup: str | None
    teardown: str | None

    @property
    def is_open(self) -> bool:
        """Whether anything of it may still use an environment.

        A tear-down gets a state when all tasks before it are done. Even where the set-up has failed some may not be: a
        user who clears a task has the set-up run again, while others go on.
        """
        return self.teardown is None


def uses_of(dag_id: str, states: Mapping[str, Mapping[str, Any]], setup: str, teardown: str) -> list[Use]:
    """Read what Airflow's ``get_task_states`` returned for the two tasks.

    States are keyed ``task_id``, or ``task_id_<map_index>`` for mapped tasks.
    """
    uses = []
    for run_id, run in states.items():
        for ending in sorted({key.removeprefix(task) for task in (setup, teardown) for key in run}):
            index = -1 if not ending else int(ending[1:]) if re.fullmatch(r"_\d+", ending) else None
            if index is not None:
                first, last = (run.get(task + ending) for task in (setup, teardown))
                uses.append(Use(dag_id, run_id, index, *(state and str(state) for state in (first, last))))
    return uses


def holds(use: Use, told: Sequence[str] | None, env_id: str) -> bool:
    """Whether an environment is in use.

    :param told: what the set-up has told that it uses; ``None`` if it has told nothing.
    """
    if not use.is_open:
        return False
    if told is None:
        # A set-up that was cleared and has begun again has not told yet what it goes on with, or died before it could;
        # other tasks of its run may be using that. One that was never begun has no state.
        return use.setup not in (None, "success")
    return env_id in told


# -- the two sides ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListOpen:
    """Which environments of the name are there? Ids, the oldest first."""


@dataclass(frozen=True)
class Create:
    """Make one; its id."""


@dataclass(frozen=True)
class Tell:
    """Let others know which environments this run uses.

    :param env_ids: instead of what was told before.
    """

    env_ids: tuple[str, ...]


@dataclass(frozen=True)
class IsOpen:
    """Does it exist, and under the name under which others find it?"""

    env_id: str


@dataclass(frozen=True)
class Users:
    """Does any other run use it?"""

    env_id: str


@dataclass(frozen=True)
class Close:
    """Rename it, so that nobody new finds it; harmless if it is closed or gone."""

    env_id: str


Step = ListOpen | Create | Tell | IsOpen | Users | Close


def join(known: str | None = None) -> Generator[Step, Any, tuple[str, tuple[str, ...]]]:
    """What a set-up does; returns the environment, and others that nobody uses and that are to be deleted.

    :param known: the environment that an earlier try of this set-up came to, if it still exists. Tasks of this run may
        be using it although the set-up was cleared: it is told in any case.
    """
    kept = () if known is None else (known,)
    surplus: list[str] = []
    if known is not None:
        yield Tell(kept)
        if (yield IsOpen(known)):
            return known, ()
    for _ in range(_ROUNDS):
        there = [env_id for env_id in (yield ListOpen()) if env_id not in kept]
        made = None if there else (yield Create())
        choice = made or there[0]
        yield Tell((*kept, choice))
        is_open = yield IsOpen(choice)
        if is_open and made is not None:
            # Another set-up may have made one at the same moment. All take the oldest.
            older = [env_id for env_id in (yield ListOpen()) if env_id not in kept][:1]
            if older and older[0] != made:
                yield Tell((*kept, made, older[0]))
                if (yield IsOpen(older[0])):
                    yield Tell((*kept, older[0]))
                    choice = older[0]
                    if (yield from let_go(made)):
                        surplus.append(made)
                else:
                    yield Tell((*kept, made))
        if is_open:
            return choice, tuple(surplus)
        yield Tell(kept)
        # The tear-down that closed it may have seen this run as its user, and left it to us.
        if (yield from let_go(choice)):
            surplus.append(choice)
    raise TCBatchError(f"{_ROUNDS} environments were closed before they could be used: tear-downs come too often")


def let_go(env_id: str) -> Generator[Step, Any, bool]:
    """What a tear-down does about an environment; whether it is to be deleted."""
    if (yield Users(env_id)):
        return False
    yield Close(env_id)
    return not (yield Users(env_id))
