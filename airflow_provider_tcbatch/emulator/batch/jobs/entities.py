"""Jobs, tasks and task instances, as the emulator holds them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.emulator.journal import Timeline
from airflow_provider_tcbatch.emulator.latch import Latch

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.batch.envs.entities import Node
    from airflow_provider_tcbatch.emulator.batch.machine.catalog import MachineType
    from airflow_provider_tcbatch.emulator.batch.machine.monitor import Series

SUBMITTED = "SUBMITTED"
PENDING = "PENDING"
RUNNABLE = "RUNNABLE"
STARTING = "STARTING"
RUNNING = "RUNNING"
SUCCEED = "SUCCEED"
FAILED = "FAILED"
FAILED_INTERRUPTED = "FAILED_INTERRUPTED"

#: From first to last; the three final states share the last place.
RANK = {SUBMITTED: 0, PENDING: 1, RUNNABLE: 2, STARTING: 3, RUNNING: 4, SUCCEED: 5, FAILED: 5, FAILED_INTERRUPTED: 5}
STATES = tuple(RANK)
FINAL = frozenset({SUCCEED, FAILED, FAILED_INTERRUPTED})
#: What the API calls finished: an interrupted instance still keeps its machine.
FINISHED = frozenset({SUCCEED, FAILED})

#: Seconds a command may run when the task does not say.
DEFAULT_TIMEOUT = 86_400


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed; ``was_running`` tells a failed command from one that never began."""

    reason: str
    was_running: bool = True
    #: Whether further attempts could only fail too.
    hopeless: bool = False


@dataclass(slots=True, eq=False)
class Instance:
    """One instance of a task."""

    task: Task
    index: int
    state: str = SUBMITTED
    created_at: float | None = None
    launched_at: float | None = None
    running_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    state_reason: str = ""
    detailed_reason: str = ""
    node: str | None = None
    #: Attempts since the job was submitted or retried; decides about further ones.
    attempts: int = 0
    #: Attempts ever; names their folders, and says where in its script a played one is.
    folders: int = 0
    #: Folder of the newest attempt; holds ``stdout`` and ``stderr``.
    folder: Path | None = None
    #: Set by a termination just before the coroutine is cancelled.
    stop_reason: str | None = None
    runner: asyncio.Task[None] | None = None
    holds_slot: bool = False
    #: Whether it waits for room on this computer (setting capacity).
    queued: bool = False
    #: What was rented for it, or the type of its node.
    machine: MachineType | None = None
    #: Id that a rented machine has in events while it exists.
    machine_id: str | None = None
    #: The environment's node that it occupies.
    compute_node: Node | None = None
    #: Whether an attempt has a machine that could be lost.
    placed: bool = False
    #: Set with stop_reason: it ends FAILED_INTERRUPTED and keeps its machine.
    interrupted: bool = False
    #: Set by the loss of its machine just before the coroutine is cancelled.
    lost_reason: str | None = None
    #: Measurements, one series for each attempt; made when there are any.
    series: tuple[Series, ...] | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in FINAL

    def lose_machine(self, reason: str) -> bool:
        """Take the machine from under it: its attempt fails, and is made again if it may be.

        :param reason: becomes the StateReason.
        :return: whether there was an attempt to fail.
        """
        if self.runner is None or not self.placed or self.stop_reason or self.lost_reason:
            return False
        self.lost_reason = reason
        self.runner.cancel()
        return True


@dataclass(eq=False)
class Task:
    """A task with its instances; ``spec`` is the request's Task object."""

    job: Job
    name: str
    spec: dict[str, Any]
    state: str = SUBMITTED
    created_at: float | None = None
    ended_at: float | None = None
    instances: list[Instance] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    predecessors: list[str] = field(default_factory=list)
    #: Set once all instances are final; the state may say FAILED before.
    ended: Latch = field(default_factory=Latch)
    concurrency: asyncio.Semaphore | None = None
    #: Whether a failure has stopped the others, which happens once.
    stopped: bool = False
    #: Whether it waits for what cannot come any more.
    stranded: bool = False

    @property
    def final(self) -> bool:
        """Whether its state is final; with some settings instances may go on nevertheless."""
        return self.state in FINAL

    @property
    def over(self) -> bool:
        """Whether no instance goes on."""
        return not any(count > 0 and state not in FINAL for state, count in self.counts.items())


@dataclass(eq=False)
class Job:
    """A job with its tasks; ``request`` is the SubmitJob request as accepted."""

    job_id: str
    request: dict[str, Any]
    region: str
    created_at: float
    folder: Path
    state: str = SUBMITTED
    state_reason: str = ""
    next_action: str = ""
    ended_at: float | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    #: Tasks by state; kept up to date rather than counted, a job may have ten thousand.
    counts: Counter[str] = field(default_factory=Counter)
    timeline: Timeline = field(default_factory=Timeline)
    #: Event configurations by event name: (topic, EventVars).
    notifications: dict[str, list[tuple[str, list[dict[str, str]]]]] = field(default_factory=dict)
    #: Set once the state is final.
    ended: Latch = field(default_factory=Latch)
    terminator: asyncio.Task[None] | None = None
    #: How many of its instances wait for room on this computer (setting capacity).
    queued: int = 0
    #: Whether RetryJobs has been accepted and not taken effect yet.
    retrying: bool = False
    #: Whether TerminateJob has taken effect.
    terminated: bool = False
    #: Whether a failure has stopped the others, which happens once.
    stopped: bool = False
    #: Stranded tasks by state; nothing more happens to them by itself.
    stranded: Counter[str] = field(default_factory=Counter)

    @property
    def final(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in FINAL

    @property
    def finished(self) -> bool:
        """Whether it and all its instances are SUCCEED or FAILED, as DeleteJob wants it."""
        return self.state in FINISHED and not any(
            count > 0 and state not in FINISHED for task in self.tasks.values() for state, count in task.counts.items()
        )

    @property
    def waits(self) -> bool:
        """Whether it could run, and waits for room on this computer."""
        return self.queued > 0 and not self.final and RANK[self.state] < RANK[RUNNING]

    @property
    def spec(self) -> dict[str, Any]:
        """The Job object of the request."""
        spec: dict[str, Any] = self.request["Job"]
        return spec

    @property
    def name(self) -> str:
        """JobName, empty when not given."""
        return str(self.spec.get("JobName", ""))

    @property
    def client_token(self) -> str | None:
        """ClientToken of the request."""
        return self.request.get("ClientToken")


def aggregate(counts: Counter[str], current: str, *, at_end: bool = True, worst: str = FAILED_INTERRUPTED) -> str:
    """State of a task or a job from the states of its parts.

    The documentation does not say how. Either a failure shows once no part goes on, or at once. Until then the parent
    has the furthest state any part has reached and never steps back, so that a retried instance does not make a running
    task runnable again.

    :param counts: number of parts by state.
    :param current: the parent's state so far.
    :param at_end: whether a failure shows only when no part goes on.
    :param worst: the failure that counts where there are parts of both kinds.
    """
    live = [state for state, count in counts.items() if count > 0 and state not in FINAL]
    if not (live and at_end):
        for state in (worst, FAILED_INTERRUPTED, FAILED):
            if counts[state] > 0:
                return state
    if not live:
        return SUCCEED
    furthest = max(live, key=RANK.__getitem__)
    return furthest if current in FINAL or RANK[furthest] > RANK[current] else current
