"""What is known when a storm is over: of tasks, of jobs, of what really ran, and of what was done to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

#: States of a task instance, and of a job, after which nothing more happens by itself.
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
JOB_ENDED = frozenset({"SUCCEED", "FAILED"})


class Key(NamedTuple):
    """A task instance."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def __str__(self) -> str:
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}/{self.run_id}/{self.task_id}{index}"


@dataclass(frozen=True)
class Try:
    """One try of a task.

    :param began: unix seconds; None if it never began.
    :param ended: unix seconds; None while it goes on.
    :param ti_id: id that Airflow gives to this try; processes that work on it are called by it.
    :param error: the error of the provider's own that it failed with, if there was one.
    """

    number: int
    state: str | None
    began: float | None
    ended: float | None
    ti_id: str = ""
    error: str = ""


@dataclass(frozen=True)
class Task:
    """A task instance at the end.

    :param tries: all tries, the last one included.
    :param job_id: the XCom of that name.
    """

    key: Key
    state: str | None
    tries: tuple[Try, ...] = ()
    job_id: str | None = None


@dataclass(frozen=True)
class Job:
    """A Batch job at the end, from the service's own books.

    :param owner: the task instance that its environment names.
    :param generation: of the task, as the environment names it.
    :param created_at: unix seconds.
    :param ended_at: unix seconds; None while it runs.
    :param terminated: whether TerminateJob has taken effect.
    :param history: time, what and state of every change.
    """

    job_id: str
    owner: Key
    generation: str
    state: str
    created_at: float
    ended_at: float | None = None
    terminated: bool = False
    history: tuple[tuple[float, str, str], ...] = ()


@dataclass(frozen=True)
class LedgerLine:
    """What an instance has written down.

    :param code: its exit code, None where it begins.
    """

    at: float
    job_id: str
    index: int
    code: int | None


@dataclass(frozen=True)
class ActRecord:
    """An act of the weather, or of a user, as it was done.

    :param kind: as in the plan; ``clear`` and ``trigger`` are users' acts.
    :param target: the part, or the task instance.
    :param note: what came of it.
    :param hit: ids of the tries whose processes it met.
    """

    kind: str
    target: str
    began: float
    ended: float
    note: str = ""
    hit: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AuditLogEntry:
    """What Airflow itself has noted of a task instance in its audit log.

    :param event: such as ``heartbeat timeout`` or ``state mismatch``.
    """

    at: float
    key: Key
    event: str
    text: str = ""


@dataclass(frozen=True)
class Facts:
    """All of it.

    :param expected: task instances that there must be, by what must become of them: ``success`` or ``failed``.
    :param log: what Airflow has noted.
    :param resets: ids of tries that a scheduler took from another one, which it believed dead.
    :param own_failures: how often the job of a task fails by its own doing.
    :param leftovers: what else is left at the service, such as compute environments.
    """

    expected: dict[Key, str]
    tasks: dict[Key, Task]
    jobs: tuple[Job, ...]
    ledger: tuple[LedgerLine, ...]
    acts: tuple[ActRecord, ...]
    log: tuple[AuditLogEntry, ...] = ()
    resets: frozenset[str] = frozenset()
    own_failures: dict[Key, int] = field(default_factory=dict)
    leftovers: tuple[str, ...] = ()

    def jobs_of(self, key: Key) -> list[Job]:
        """The jobs of a task, oldest first."""
        return sorted((job for job in self.jobs if job.owner == key), key=lambda job: job.created_at)
