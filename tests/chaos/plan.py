"""What happens in a storm, from its seed alone: the same number is the same weather.

A plan is a list of pieces of work (runs of the DAGs of :mod:`tests.chaos.dags.storm`), of the acts of the weather, and
of what users do, each with its second. When processes get to something in that storm is up to them and the machine.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

#: Kinds of acts of the weather around the service.
SERVICE = ("outage", "frozen", "throttled", "events", "lost_answers", "slow_answers", "revoked")

#: Kinds of acts of the weather around Airflow.
MACHINES = ("killed", "stopped")

#: Parts of Airflow that are killed and stopped. ``task``: the process of some task; ``worker``: with its supervisor.
PARTS = ("scheduler", "scheduler 2", "triggerer", "triggerer 2", "api-server", "dag-processor", "task", "worker")

#: Parts without which a task may not come through its try, whatever a provider does: Airflow itself fails that try.
#: A triggerer and the DAG processor are not among them.
FATAL = frozenset({"scheduler", "scheduler 2", "api-server", "task", "worker"})

SCHEDULERS = ("scheduler", "scheduler 2")

#: For how many seconds an outage must last, by kind. The waits of 278feb6 gave up after 63 to 67 s.
LONG, SHORT = (90.0, 180.0), (30.0, 60.0)


@dataclass(frozen=True, order=True)
class Work:
    """One run of a DAG.

    :param at: second of the storm in which it is triggered; 0: the storm begins when its job runs.
    :param run_id: its id.
    :param dag_id: its DAG.
    :param seconds: how long its jobs run.
    """

    at: float
    run_id: str
    dag_id: str
    seconds: float


@dataclass(frozen=True, order=True)
class Act:
    """Something that goes wrong.

    :param at: second of the storm in which it begins.
    :param seconds: how long it lasts; of a killed part: until it is started again.
    :param kind: one of :data:`SERVICE` and :data:`MACHINES`.
    :param target: the part; of the service: what is met.
    :param options: members of the emulator's fault.
    """

    at: float
    seconds: float
    kind: str
    target: str = ""
    options: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def until(self) -> float:
        """Second in which it is over."""
        return self.at + self.seconds

    def __str__(self) -> str:
        more = " ".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.at:6.1f} s: {' '.join(filter(None, (self.kind, self.target, more)))} for {self.seconds:.1f} s"


@dataclass(frozen=True, order=True)
class Clear:
    """A user clears the task ``job`` of a run.

    :param at: second of the storm.
    :param run_id: the run.
    """

    at: float
    run_id: str


@dataclass(frozen=True)
class Plan:
    """A storm.

    :param seed: where it is from.
    :param length: seconds of bad weather.
    :param settle: seconds in which everything must have come to its end afterwards.
    :param work: what is done.
    :param acts: what goes wrong.
    :param clears: what users do.
    """

    seed: int
    length: float
    settle: float
    work: tuple[Work, ...]
    acts: tuple[Act, ...]
    clears: tuple[Clear, ...]

    @property
    def fatal(self) -> bool:
        """Whether anything is done to Airflow that takes tries along."""
        return any(act.kind in MACHINES and act.target in FATAL for act in self.acts)

    @property
    def early(self) -> tuple[Work, ...]:
        """The work that is under way when the storm begins."""
        return tuple(work for work in self.work if work.at == 0)

    def __str__(self) -> str:
        lines = [f"storm of seed {self.seed}: {self.length:g} s, then {self.settle:g} s to settle"]
        lines += [f"{work.at:6.1f} s: run {work.run_id} of {work.dag_id}, {work.seconds:g} s" for work in self.work]
        lines += [str(act) for act in self.acts]
        lines += [f"{clear.at:6.1f} s: a user clears the job of {clear.run_id}" for clear in self.clears]
        return "\n".join(lines)


#: Work of a whole storm: ids of DAGs.
WORK = (
    *("deferred", "deferred", "deferred", "blocking", "blocking", "deferred_role", "blocking_role"),
    *("flaky", "repaired", "doomed", "loud", "sensed", "machines", "deferred", "deferred", "deferred_role"),
)

#: Work of a short one: DAG, second, seconds that its jobs run.
LESS_WORK = (
    ("single", 0, 30),  # its job ends in the outage
    ("blocking", 0, 40),
    ("deferred_role", 0, 80),
    ("repaired", 0, 10),  # in the outage it fails, and is to be repaired
    ("loud", 0, 20),
    ("sensed", 0, 50),
    ("doomed", 0, 20),
    ("deferred", 10, 2),  # is submitted in the outage
    ("machines", 50, 5),
)


def whole(seed: int) -> Plan:
    """A storm of some minutes. A third of the seeds leave Airflow alone: then nothing may cost a try."""
    dice = random.Random(seed)
    character = ("service", "both", "machines")[seed % 3]
    acts: list[Act] = []
    length = 100.0
    if character != "machines":
        # An outage longer than what waits used to survive in every second of these storms.
        seconds = dice.uniform(*(LONG if seed % 2 else SHORT))
        acts.append(_outage(dice, dice.uniform(8, 20), seconds))
        length = acts[0].until + 30
        acts.append(Act(acts[0].until + dice.uniform(2, 6), 20.0, "throttled", "batch", {"probability": 0.5}))
        acts += _trouble(dice, length)
    else:
        length = dice.uniform(100, 140)
        acts += _trouble(dice, length, frozen=False)
    if character != "service":
        acts += _losses(dice, length)
    work = _work(dice, WORK if character != "service" else (*WORK, "single", "single", "single"), length)
    return Plan(seed, math.ceil(length), 420.0, work, _ordered(acts), _clears(dice, work, length))


def brief(seed: int) -> Plan:
    """A storm for every day: one outage that is longer than what waits used to survive, and one of each other act."""
    dice = random.Random(seed)
    outage = Act(2.0, 73.0, "outage", "batch", {"kind": "http_error", "status": 503})
    acts = [
        outage,
        Act(outage.until + 0.5, 8.0, "throttled", "batch", {"probability": 0.4}),
        Act(0.0, 85.0, "events", "*", {"kind": dice.choice(["lose_event", "duplicate_event"]), "probability": 0.5}),
        Act(outage.until - 1, 9.0, "lost_answers", "SubmitJob", {"probability": 0.5}),
        Act(outage.until, 0.0, "revoked", "role"),
        Act(dice.uniform(15, 20), 4.0, "killed", dice.choice(["triggerer", "triggerer 2"])),
        Act(dice.uniform(40, 45), 15.0, "stopped", dice.choice(["triggerer", "triggerer 2"])),
    ]
    work = [Work(float(at), f"w{n:02}", dag_id, float(seconds)) for n, (dag_id, at, seconds) in enumerate(LESS_WORK)]
    return Plan(seed, 85.0, 240.0, tuple(sorted(work)), _ordered(acts), ())


def _outage(dice: random.Random, at: float, seconds: float) -> Act:
    """The API is away: a gateway answers, nobody does, or the service answers that it can't."""
    how = dice.choice(["http_error", "drop", "error", "frozen"])
    if how == "frozen":
        return Act(at, seconds, "frozen", "service")
    options: dict[str, Any] = {"kind": how}
    if how == "http_error":
        options["status"] = dice.choice([500, 502, 503, 504])
    return Act(at, seconds, "outage", dice.choice(["batch", "*"]), options)


def _trouble(dice: random.Random, length: float, frozen: bool = True) -> list[Act]:
    """What goes wrong between Airflow and the service, beside an outage."""
    acts = []
    for kind in ("lose_event", "duplicate_event", "delay_event", "reorder_event"):
        options: dict[str, Any] = {"kind": kind, "probability": round(dice.uniform(0.3, 0.9), 2)}
        acts.append(Act(dice.uniform(0, length * 0.8), dice.uniform(15, 40), "events", "*", options))
    for action in ("SubmitJob", "SubmitJob", "DescribeJobs", "RetryJobs", "TerminateJob", "CreateComputeEnv"):
        options = {"probability": round(dice.uniform(0.3, 0.7), 2)}
        acts.append(Act(dice.uniform(0, length * 0.8), dice.uniform(5, 25), "lost_answers", action, options))
    acts.append(Act(dice.uniform(0, length * 0.8), 15.0, "slow_answers", "batch", {"seconds": 3.0, "probability": 0.4}))
    if frozen and dice.random() < 0.5:
        acts.append(Act(dice.uniform(length - 25, length - 15), dice.uniform(5, 12), "frozen", "service"))
    acts += [Act(dice.uniform(5, length), 0.0, "revoked", "role") for _ in range(3)]
    return acts


def _losses(dice: random.Random, length: float) -> list[Act]:
    """What goes wrong in Airflow: parts die, and stand still for less and for more than they are believed in."""
    acts: list[Act] = []
    free = dict.fromkeys(PARTS, 0.0)
    kinds = itertools.cycle(dice.sample(MACHINES, len(MACHINES)))
    at = dice.uniform(5, 12)
    while at < length:
        part = dice.choice([part for part in PARTS if free[part] <= at])
        if next(kinds) == "killed":
            act = Act(at, dice.uniform(1, 6), "killed", part)
        else:
            # The API server answers everybody: without it for long, no task comes through.
            most = 8.0 if part == "api-server" else 40.0 if part in SCHEDULERS else 28.0
            act = Act(at, dice.uniform(4, most), "stopped", part)
        acts.append(act)
        # Time to start again: both of a kind are not gone at the same time for long.
        free[part] = act.until + 20
        at += dice.uniform(9, 18)
    return acts


def _work(dice: random.Random, dag_ids: Sequence[str], length: float) -> tuple[Work, ...]:
    """Work that begins all over the storm: a third before it, jobs that end in it and after it."""
    shuffled = dice.sample(list(dag_ids), len(dag_ids))
    found = []
    for number, dag_id in enumerate(shuffled):
        early = number < len(shuffled) / 3
        at = 0.0 if early else dice.uniform(1, length * 0.7)
        seconds = dice.choice([2.0, dice.uniform(5, 20), dice.uniform(20, length * 0.6)])
        # Its job shall run when the storm begins.
        seconds += 15.0 if early else 0.0
        found.append(Work(round(at, 1), f"w{number:02}", dag_id, round(seconds, 1)))
    return tuple(sorted(found))


def _clears(dice: random.Random, work: Sequence[Work], length: float) -> tuple[Clear, ...]:
    """Users clear tasks that have begun some time ago, whatever has become of them."""
    clearable = [item for item in work if item.dag_id in ("deferred", "blocking") and item.at < length * 0.6]
    chosen = dice.sample(clearable, min(2, len(clearable)))
    return tuple(sorted(Clear(round(item.at + dice.uniform(15, 40), 1), item.run_id) for item in chosen))


def _ordered(acts: Sequence[Act]) -> tuple[Act, ...]:
    return tuple(sorted(Act(round(a.at, 1), round(a.seconds, 1), a.kind, a.target, a.options) for a in acts))
