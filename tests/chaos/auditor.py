"""The verdict over a storm: pure, so that its own tests can show it histories that are wrong.

Six things are counted, each task or job at most once under each:

``lost``
    Airflow has a result that is not so: success although the work was not done, although it failed, or although it
    was to be done once more.
``doubled``
    Two jobs of one generation of a task where one had to do: the second was made while the first still ran, or
    after it had succeeded; or an instance ran again that had succeeded.
``orphaned``
    A job, or an environment, that goes on when all tasks have ended: nobody is left who would end it.
``wrongly_ended``
    A job whose end was asked for although nobody wanted that: neither a user nor a limit of its task.
``wrongly_failed``
    A task that failed although its work succeeded, or a try that failed without a reason: its job had not failed, and
    nothing was done to Airflow that takes a try along.
``stuck``
    A task that had not ended when the time to settle was over, or that never came to be.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tests.chaos.facts import JOB_ENDED, TASK_ENDED, ActRecord, Facts, Job, Key, Task, Try
from tests.chaos.plan import FATAL, MACHINES, SCHEDULERS

#: What is counted.
COUNTS = ("lost", "doubled", "orphaned", "wrongly_ended", "wrongly_failed", "stuck")

#: Seconds after a part was killed or let go on in which tries may still fail for it: until a worker's heartbeat is
#: missed (20 s), its end is noticed, and the parts that ended with it have been started again.
AFTERMATH = 75.0

#: Clocks of processes are read a little apart.
SLACK = 0.5

#: How the provider says that a job has failed.
_JOB_FAILED = "JobFailed: "


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong.

    :param count: one of :data:`COUNTS`.
    :param key: whose it is.
    :param text: what is wrong, in a sentence.
    :param job_id: the job, if it is about one.
    """

    count: str
    key: Key | None
    text: str
    job_id: str | None = None

    def __str__(self) -> str:
        return f"{self.count}: {self.key or ''} {self.text}"


def audit(facts: Facts) -> list[Finding]:
    """Everything that went wrong."""
    findings = [
        *_lost(facts),
        *_doubled(facts),
        *_orphaned(facts),
        *_wrongly_ended(facts),
        *_wrongly_failed(facts),
        *_stuck(facts),
    ]
    return list(dict.fromkeys(findings))


def counts(findings: list[Finding]) -> dict[str, int]:
    """How many of each, those that are none too."""
    found = Counter(finding.count for finding in findings)
    return {name: found[name] for name in COUNTS}


def _lost(facts: Facts) -> Iterator[Finding]:
    for key, wanted in facts.expected.items():
        task = facts.tasks.get(key)
        jobs = facts.jobs_of(key)
        if task is None or task.state != "success":
            continue
        if wanted == "failed":
            yield Finding("lost", key, "is success, but its job fails")
        elif wanted == "success" and _submits(facts, key):
            if not jobs:
                yield Finding("lost", key, "is success without a job")
            elif jobs[-1].state != "SUCCEED" and not _only_submits(key):
                yield Finding("lost", key, f"is success, but its job is {jobs[-1].state}", jobs[-1].job_id)
            elif jobs[-1].state == "SUCCEED" and not _ran(facts, jobs[-1]):
                yield Finding("lost", key, "is success, but nothing has run to its end", jobs[-1].job_id)
            elif any(_unanswered(facts, act, jobs) for act in facts.acts if act.target == str(key)):
                yield Finding("lost", key, "was cleared, but no job was made since", jobs[-1].job_id)


def _doubled(facts: Facts) -> Iterator[Finding]:
    for key in {job.owner for job in facts.jobs}:
        jobs = facts.jobs_of(key)
        for first, second in itertools.pairwise(jobs):
            over = first.ended_at is not None and first.ended_at <= second.created_at + SLACK
            if not over:
                text = f"{second.job_id} was made while {first.job_id} was going on"
                yield Finding("doubled", key, text, second.job_id)
            elif first.generation == second.generation and first.state == "SUCCEED":
                text = f"{second.job_id} was made after {first.job_id} had succeeded"
                yield Finding("doubled", key, text, second.job_id)
    good: Counter[tuple[str, int]] = Counter((line.job_id, line.index) for line in facts.ledger if line.code == 0)
    owners = {job.job_id: job.owner for job in facts.jobs}
    for (job_id, index), number in good.items():
        if number > 1:
            text = f"instance {index} of {job_id} succeeded {number} times"
            yield Finding("doubled", owners.get(job_id), text, job_id)


def _orphaned(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        task = facts.tasks.get(job.owner)
        # Where the task goes on, that is what is wrong.
        if job.state not in JOB_ENDED and (task is None or task.state in TASK_ENDED):
            yield Finding("orphaned", job.owner, f"{job.job_id} is {job.state} and nobody's", job.job_id)
    for leftover in facts.leftovers:
        yield Finding("orphaned", None, leftover)


def _wrongly_ended(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        if job.terminated and not any(_supersedes(facts, act, job) for act in facts.acts):
            yield Finding("wrongly_ended", job.owner, f"{job.job_id} was terminated", job.job_id)


def _supersedes(facts: Facts, act: ActRecord, job: Job) -> bool:
    """Whether a user's clear is why a job was ended.

    The job may have been made after it: to find out what became of a request that was sent before, it is sent again.
    Then another generation has a job since.
    """
    if act.kind != "clear" or act.target != str(job.owner):
        return False
    since = [other for other in facts.jobs_of(job.owner) if other.created_at > job.created_at]
    return job.created_at <= act.ended + SLACK or any(other.generation != job.generation for other in since)


def _wrongly_failed(facts: Facts) -> Iterator[Finding]:
    for key, wanted in facts.expected.items():
        task = facts.tasks.get(key)
        if task is None:
            continue
        if wanted == "success" and task.state in TASK_ENDED - {"success"}:
            yield Finding("wrongly_failed", key, f"is {task.state}{_of_its_jobs(facts, key)}")
        elif wanted == "failed" and task.state in TASK_ENDED - {"failed", "success"}:
            yield Finding("wrongly_failed", key, f"is {task.state}, its job fails{_of_its_jobs(facts, key)}")
        else:
            # Airflow may give a task another try than its retries say: a scheduler that takes over does. Where the job
            # is bound to fail, each of them ends with that.
            told = [one for one in _failed_tries(task) if wanted == "failed" and one.error.startswith(_JOB_FAILED)]
            own = facts.own_failures.get(key, 0) + (wanted == "failed" and not told)
            unexplained = [one for one in _failed_tries(task) if one not in told and not _explained(facts, key, one)]
            for one in unexplained[own:]:
                why = f"with {one.error}" if one.error else "without a reason"
                yield Finding("wrongly_failed", key, f"try {one.number} failed {why}")


def _stuck(facts: Facts) -> Iterator[Finding]:
    for key in facts.expected:
        task = facts.tasks.get(key)
        if task is None:
            yield Finding("stuck", key, "was never made")
        elif task.state not in TASK_ENDED:
            yield Finding("stuck", key, f"is still {task.state}{_of_its_jobs(facts, key)}")


def _unanswered(facts: Facts, act: ActRecord, jobs: list[Job]) -> bool:
    """Whether a user's clear has led to no job.

    A worker that is killed before it could end the job makes a clear look like any other lost worker: its retry goes
    on with the job.
    """
    if act.kind != "clear" or any(job.created_at >= act.began - SLACK for job in jobs):
        return False
    return not any(
        other.kind in MACHINES
        and other.target in FATAL
        and other.began <= act.ended + AFTERMATH
        and act.began <= other.ended + AFTERMATH
        for other in facts.acts
    )


# -- what the counts have in common -------------------------------------------------------------------


def _submits(facts: Facts, key: Key) -> bool:
    """Whether a task has jobs of its own."""
    return key.task_id in ("job", "submit")


def _only_submits(key: Key) -> bool:
    """Whether a task ends before its job does."""
    return key.task_id == "submit"


def _ran(facts: Facts, job: Job) -> bool:
    return any(line.job_id == job.job_id and line.code == 0 for line in facts.ledger)


def _of_its_jobs(facts: Facts, key: Key) -> str:
    jobs = facts.jobs_of(key)
    return f" (jobs: {', '.join(f'{job.job_id} {job.state}' for job in jobs)})" if jobs else ""


def _failed_tries(task: Task) -> list[Try]:
    """Tries that were used up; one that is the last and succeeded is none."""
    return [one for one in task.tries if one.state in ("failed", "up_for_retry")]


def _explained(facts: Facts, key: Key, one: Try) -> bool:
    """Whether something was done that takes this try along, or Airflow itself failed it.

    A try that ends with an error of the provider's own was ended by the provider, whatever else went on, unless a user
    cleared it.
    """
    if any(act.kind == "clear" and act.target == str(key) and _overlap(act, one) for act in facts.acts):
        return True
    if one.error:
        return False
    if one.began is None:  # no worker came to begin it: nothing of the provider has run
        return True
    # A scheduler believes another one dead that was killed or stands still, or is too busy to say that it lives.
    if one.ti_id in facts.resets:
        return True
    fatal = [act for act in facts.acts if act.kind in MACHINES and act.target in FATAL]
    if any(one.ti_id in act.hit for act in fatal):
        return True
    if any(act.target == "api-server" and _overlap(act, one) for act in fatal):
        return True
    noted = {entry.event for entry in facts.log if entry.key == key and _within(entry.at, one)}
    # A worker's heartbeat is sent by Airflow's own process beside the task: that it was missed, as on a machine which
    # is far too busy, says nothing of the task.
    if "heartbeat timeout" in noted:
        return True
    # A scheduler that stood still, or that takes over, hears late of a worker that has deferred its task, and takes its
    # end for the end of the resumed task.
    return "state mismatch" in noted and any(act.target in SCHEDULERS and _overlap(act, one) for act in fatal)


def _within(at: float, one: Try) -> bool:
    """Whether something was noted while a try was under way."""
    return one.began is not None and one.ended is not None and one.began <= at <= one.ended + 5


def _overlap(act: ActRecord, one: Try) -> bool:
    """Whether a try was under way during an act or its aftermath."""
    began = one.began if one.began is not None else one.ended
    if one.ended is None or began is None:
        return False
    return began <= act.ended + AFTERMATH and one.ended >= act.began - SLACK
