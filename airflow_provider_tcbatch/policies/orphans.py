"""Which marked jobs and compute environments nobody owns any more.

A wrong "orphan" ends somebody's work, a wrong "spared" costs money until somebody reads the list. So a thing is an
orphan only if everything that speaks for an owner has been looked at and is silent; where that can't be done it is
spared, and said so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from enum import Enum

from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED, belongs, closed_name
from airflow_provider_tcbatch.policies.ownership.marks import KEEP_VARIABLE, Owner
from airflow_provider_tcbatch.policies.ownership.on_kill import state_of

__all__ = [
    "AT_WORK",
    "GRACE_SECONDS",
    "KEEP_TAG",
    "KEEP_VARIABLE",
    "Fate",
    "Finding",
    "Kind",
    "Run",
    "Thing",
    "instant_of",
    "judge_things",
    "marks_of",
    "tag_mark",
    "teardown_of",
]

#: Key of a tag that keeps a job or an environment from being ended, whatever its value. Where tags may not be used, an
#: environment's description may hold it.
KEEP_TAG = "airflow-tcbatch-keep"

#: What is younger than this is spared: answers may be on their way, and clocks differ by minutes.
GRACE_SECONDS = 3600.0

#: States in which a run goes no further by itself.
_RUN_OVER = ("success", "failed")

#: States in which a task instance goes no further by itself.
_TASK_OVER = ("success", "failed", "skipped", "upstream_failed", "removed")

#: States in which a task instance goes on, whatever its run is.
AT_WORK = ("scheduled", "queued", "running", "deferred", "restarting", "up_for_retry", "up_for_reschedule")

#: States of a task instance that has not done what it was to do, such as taking an environment away.
_UNDONE = ("failed", "upstream_failed", "removed")


class Kind(str, Enum):
    """What was found."""

    JOB = "job"
    ENVIRONMENT = "environment"


class Fate(str, Enum):
    """What is to become of it."""

    #: Nobody owns it: it may be ended.
    ORPHAN = "orphan"
    #: Somebody owns it, or it is meant to stay.
    SPARED = "spared"
    #: That can't be told: it is left alone, and somebody should look at it.
    UNSURE = "unsure"


@dataclass(frozen=True)
class Thing:
    """A job that has not ended, or a compute environment, that carries a mark.

    :param thing_id: its id.
    :param name: its name.
    :param state: the job's state, or how an environment's nodes are.
    :param owner: the task instance that it belongs to; ``None`` if the mark does not tell.
    :param generation: what tells the things apart that one task makes after another.
    :param created_at: unix seconds; ``None`` if that can't be read.
    :param kept: whether it says that it is to be kept.
    :param empty: whether it is an environment that has no nodes, and shall have none.
    """

    kind: Kind
    thing_id: str
    name: str
    state: str
    owner: Owner | None
    generation: str
    created_at: float | None
    kept: bool = False
    empty: bool = False


@dataclass(frozen=True)
class Run:
    """What Airflow says about a DAG run, or about all runs of the DAGs that share an environment.

    :param state: its state; ``None`` if there is no such run.
    :param tasks: states of its task instances, keyed as Airflow's ``get_task_states`` does. Of all runs: only the
        tear-downs that have succeeded in any.
    :param siblings: whether there is any run of the DAG at all. An Airflow that knows none may be the wrong one.
    :param others: whether another run of the DAG has not ended. Of all runs: whether any has not, or a task of it.
    :param trouble: why Airflow could not be asked; empty if it could.
    """

    state: str | None = None
    tasks: Mapping[str, str | None] = field(default_factory=dict)
    siblings: bool = True
    others: bool = False
    trouble: str = ""


@dataclass(frozen=True)
class Finding:
    """A thing, what is to become of it, and why."""

    thing: Thing
    fate: Fate
    why: str


def instant_of(text: str | None) -> float | None:
    """Unix seconds of a time as the service writes it; ``None`` if it can't be read.

    Environments have it with a ``T`` and a ``Z``, or without either. The latter is taken for UTC: if it is China's
    time, the environment looks younger than it is, and is spared for longer.
    """
    try:
        instant = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=timezone.utc)).timestamp()


def judge_things(
    things: Iterable[Thing],
    runs: Mapping[tuple[str, str], Run],
    *,
    deployment: str,
    now: float,
    grace: float = GRACE_SECONDS,
) -> list[Finding]:
    """Say of each thing whether it is an orphan.

    :param things: what was found; what belongs to another deployment is left out of the answer.
    :param runs: what Airflow says, by DAG and run.
    :param deployment: whose things may be ended.
    :param now: unix seconds.
    :param grace: seconds of age under which everything is spared.
    """
    mine = [thing for thing in things if thing.owner is None or thing.owner.deployment == deployment]
    newest = _newest_jobs(mine)
    findings = []
    for thing in mine:
        run = None if thing.owner is None else runs.get((thing.owner.dag_id, thing.owner.run_id))
        fate, why = _fate(thing, run or Run(trouble="it was not asked"), newest, now - grace)
        findings.append(Finding(thing, fate, why))
    return findings


def _newest_jobs(things: Iterable[Thing]) -> dict[Owner, Thing]:
    newest: dict[Owner, Thing] = {}
    for thing in things:
        if thing.kind is Kind.JOB and thing.owner is not None and thing.created_at is not None:
            known = newest.get(thing.owner)
            if known is None or (known.created_at or 0.0) < thing.created_at:
                newest[thing.owner] = thing
    return newest


def _fate(thing: Thing, run: Run, newest: Mapping[Owner, Thing], born_before: float) -> tuple[Fate, str]:
    owner = thing.owner
    if thing.kept:
        return Fate.SPARED, "it says that it is to be kept"
    if owner is None:
        return Fate.UNSURE, "its mark is a digest, and whose it is can't be told from here"
    if thing.created_at is None:
        return Fate.UNSURE, "when it was made can't be read"
    if thing.created_at > born_before:
        return Fate.SPARED, "it is younger than the grace period"
    if run.trouble:
        return Fate.UNSURE, f"Airflow could not tell about its run: {run.trouble}"
    if owner.run_id == SHARED:
        return _of_runs(thing, owner, run)
    if run.state is None:
        return _without_run(thing, run)
    if _is_superseded(thing, newest.get(owner)):
        return Fate.ORPHAN, f"its task goes on with {newest[owner].thing_id}, which was submitted later"
    if run.state not in _RUN_OVER:
        return _during_run(thing, owner, run)
    return _after_run(thing, owner, run)


def _is_superseded(thing: Thing, newest: Thing | None) -> bool:
    """Whether its task has submitted another job since; the service tells times in whole seconds."""
    return (
        thing.kind is Kind.JOB
        and newest is not None
        and newest.generation != thing.generation
        and (newest.created_at or 0.0) > (thing.created_at or 0.0)
    )


def _of_runs(thing: Thing, owner: Owner, run: Run) -> tuple[Fate, str]:
    """An environment that runs share: it is an orphan when none of them goes on, unless it may have been kept."""
    if not run.siblings:
        return Fate.UNSURE, "Airflow knows no run of the DAGs that share it: is this the Airflow that made it?"
    if run.others:
        return Fate.SPARED, "a run of those that share it goes on"
    # A tear-down that is to delete it closes it first. One that is to keep it does not.
    if thing.name != closed_name(thing.name) and run.tasks.get(teardown_of(owner)) == "success":
        words = f"a tear-down of them has succeeded and may have kept it; tag it {KEEP_TAG} if so, delete it if not"
        return Fate.UNSURE, f"no run of those that share it goes on, but {words}"
    return Fate.ORPHAN, "no run of those that share it goes on"


def _without_run(thing: Thing, run: Run) -> tuple[Fate, str]:
    if not run.siblings:
        return Fate.UNSURE, "Airflow knows no run of its DAG: is this the Airflow that made it?"
    if thing.kind is Kind.ENVIRONMENT:
        # Old runs are cleaned away, while what others share may be meant to stay for years.
        return Fate.UNSURE, "its run does not exist any more, so whether it was to stay can't be told"
    return Fate.ORPHAN, "its run does not exist any more"


def _during_run(thing: Thing, owner: Owner, run: Run) -> tuple[Fate, str]:
    """The run goes on: what it uses is spared, but for a job that only keeps its tear-downs from their work.

    A tear-down waits until nothing runs on its environment, and the run is not over before its tear-downs are.
    """
    spared = Fate.SPARED, f"its run is {run.state}"
    state = run.tasks.get(_key(owner))
    if thing.kind is not Kind.JOB or state not in _TASK_OVER:
        return spared
    unfinished = [task for task, state in run.tasks.items() if state not in _TASK_OVER]
    if not unfinished or not all(_is_teardown(task, run.tasks) for task in unfinished):
        return spared
    return Fate.ORPHAN, f"its task is {state}, and all that its run waits for is {unfinished[0]}"


def marks_of(owner: Owner) -> tuple[str, str]:
    """What environments carry of their owner, without the generation: in a description, and in a tag.

    Either may be a digest, from which the names can't be read: so it is compared with those of all there are.
    """
    return owner.prefix(), tag_mark(owner.tag("0" * 8))


def tag_mark(value: str) -> str:
    """An ownership tag's value without the generation, which has eight characters."""
    return value.rpartition("/")[0]


def teardown_of(owner: Owner) -> str:
    """Task id of the tear-down of a set-up, as :mod:`airflow_provider_tcbatch.resources` names it."""
    return f"{owner.task_id}_teardown"


def _is_teardown(key: str, tasks: Mapping[str, str | None]) -> bool:
    """Whether a task is the tear-down of a set-up."""
    match = re.fullmatch(r"(.+)_teardown(_\d+)?", key)
    return match is not None and match[1] + (match[2] or "") in tasks


def _key(owner: Owner) -> str:
    """What Airflow's ``get_task_states`` calls a task instance."""
    return owner.task_id if owner.map_index < 0 else f"{owner.task_id}_{owner.map_index}"


def _after_run(thing: Thing, owner: Owner, run: Run) -> tuple[Fate, str]:
    """The run is over: what it left is an orphan, unless some task is still at work, or it was left on purpose."""
    going = [task for task, state in run.tasks.items() if state is not None and state not in _TASK_OVER]
    if going:
        return Fate.SPARED, f"its run is {run.state}, but task {going[0]} of it is {run.tasks[going[0]]}"
    state = state_of({owner.run_id: run.tasks}, owner.run_id, owner.task_id, owner.map_index)
    if _key(owner) not in run.tasks:
        state = "gone"
    elif state is None:
        return Fate.SPARED, f"its run is {run.state}, but its task was cleared"
    words = f"its run is {run.state}, its task {state}"
    if thing.kind is Kind.JOB:
        return Fate.ORPHAN, words
    if run.tasks.get(_key(replace(owner, task_id=teardown_of(owner)))) == "success":
        if thing.empty:
            return Fate.SPARED, "its tear-down has left it without nodes, which costs nothing"
        # Or it was made after that, by a set-up that somebody cleared or that was thought to be dead.
        words = f"tag it {KEEP_TAG} if it was to be kept, delete it if not"
        return Fate.UNSURE, f"its tear-down succeeded, and it has nodes; {words}"
    if run.state == "success" and state == "success" and not any(state in _UNDONE for state in run.tasks.values()):
        return Fate.UNSURE, f"its run succeeded and left it; tag it {KEEP_TAG} if others use it, delete it if not"
    if run.others and not belongs(thing.name, owner):
        # What resources make is named after its run. Another name may be that of an environment for all runs.
        return Fate.UNSURE, f"{words}, but another run of its DAG goes on and may use it by its name"
    return Fate.ORPHAN, words
