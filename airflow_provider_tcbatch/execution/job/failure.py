"""Explaining how jobs ended: what is read for it, in the time that there is for that, and the errors that say it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from airflow_provider_tcbatch import policies
from airflow_provider_tcbatch.exceptions import (
    ExecutionTimeout,
    JobError,
    JobFailed,
    JobMachinesFailed,
    JobTimeout,
    QueueTimeout,
    TCBatchError,
)
from airflow_provider_tcbatch.text import visible

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.logs.reader import InstanceOutput
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
    from airflow_provider_tcbatch.models.views import TaskInstanceView
    from airflow_provider_tcbatch.policies.deadlines import Limit

    #: Instances, each with the name of its task.
    Instances: TypeAlias = Sequence[tuple[str, TaskInstanceView]]

__all__ = ["Explanation", "counts_in_words", "failure_of", "given_up", "has_run", "show_output", "unfinished_report"]

T = TypeVar("T")

#: What to do about a job that did not end in time, and about one that did not begin in time.
_LATE = (
    "raise {} if the job needs longer; what its instances printed last says what they were at",
    "its machines could not be had in time: raise {}, or name other instance types, or another zone "
    "(TCBatchHook.check_instance_types says what can be had)",
)

log = logging.getLogger(__name__)

#: Most failed jobs that an error explains.
_EXPLAINED = 5

#: States of an instance that has printed nothing.
_NOT_STARTED = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING")


class Explanation:
    """What is read to explain how jobs of one task ended; all of it together within ``[tcbatch] explain_timeout``.

    :param hook: reads it.
    :param instances: most instances to read of a job; never fewer than a report shows.
    :param size: most bytes of each of their streams; default is 16 KB.
    """

    def __init__(self, hook: TCBatchHook, instances: int = 0, size: int | None = None) -> None:
        from airflow_provider_tcbatch.client.time_limit import TimeLimit
        from airflow_provider_tcbatch.connection.deployment import explain_timeout

        self.within = TimeLimit(explain_timeout())
        self._hook = hook
        # The connection is read here: before Airflow 3.3 its supervisor must not be asked by several threads.
        _ = hook.api
        self._instances = instances
        self._size = size

    @property
    def _most(self) -> int:
        return max(policies.job.failure_report.SHOWN, self._instances)

    def find(self, view: DescribeJobResult, which: str) -> Instances:
        """Instances of a job: ``failed``, ``unfinished`` or ``all``; fewer, or none, where they can't be read."""
        return self._hook.instances_of(view, which, limit=self._most, within=self.within)

    def outputs(self, job_id: str, instances: Instances) -> list[InstanceOutput]:
        """What instances printed; less, or nothing, where it can't be read: how the job ended matters more."""
        from airflow_provider_tcbatch.connection.masking import masked_output

        outputs = self._hook.log_reader.outputs_of(job_id, instances, self._size, self.within)
        return [masked_output(output) for output in outputs]

    def failed(self, view: DescribeJobResult) -> list[InstanceOutput]:
        """What the failed instances of a job printed."""
        return self.outputs(view.job_id, self.find(view, "failed"))

    def others(self, view: DescribeJobResult, known: Sequence[InstanceOutput]) -> list[InstanceOutput]:
        """What the other instances of a job printed.

        :param known: those that have been read.
        """
        read = {(output.task_name, output.view.task_instance_index) for output in known}
        left = [found for found in self.find(view, "all") if (found[0], found[1].task_instance_index) not in read]
        return self.outputs(view.job_id, left[: max(0, self._most - len(known))])

    def read(self, call: Callable[[], T], otherwise: T) -> T:
        """Read something else that explains the end, if there is time left.

        :param otherwise: what to take where it can't be read.
        """
        try:
            return self.within.run(call)
        except TCBatchError as error:
            log.warning("How the job ended can't be explained in full: %s", error)
            return otherwise

    def note(self) -> str:
        """A line for the error where not all could be read in time."""
        if not self.within.up:
            return ""
        return f"\nWhat could be read in {self.within.seconds:g} s ([tcbatch] explain_timeout) is shown."


def unfinished_report(hook: TCBatchHook, job_ids: Sequence[str], explanation: Explanation) -> str:
    """How far jobs are that did not end in time, with what their instances printed so far.

    :param job_ids: the jobs.
    """
    from airflow_provider_tcbatch.hooks.batch import failed_instance

    lines: list[str] = []
    for job_id in job_ids[:_EXPLAINED]:
        view = explanation.read(partial(hook.describe_job, job_id), None)
        if view is None:
            continue
        found = [*explanation.find(view, "failed"), *explanation.find(view, "unfinished")]
        outputs = explanation.outputs(job_id, [each for each in found if has_run(each[1])])
        lines.append(f"Job {job_id} ({view.job_state}): {counts_in_words(view)}")
        for output in outputs[: policies.job.failure_report.SHOWN]:
            lines += failed_instance(output).lines()
    return "\n".join(lines) + explanation.note()


def given_up(
    view: DescribeJobResult,
    limit: Limit,
    length: str,
    words: str,
    *,
    unfinished: Instances,
    outputs: Sequence[InstanceOutput],
    link: str,
    note: str,
) -> JobError:
    """The error for a job that a limit has ended the wait for.

    :param view: the job as it was then.
    :param limit: which limit.
    :param length: how long that is, in words.
    :param words: what has become of the job since.
    :param unfinished: instances that had not ended then.
    :param outputs: what those printed that failed, or were running, then.
    :param link: console page.
    :param note: :meth:`Explanation.note`.
    """
    from airflow_provider_tcbatch.hooks.batch import failed_instance, named
    from airflow_provider_tcbatch.policies.deadlines import Limit

    kind, what, missing = {
        Limit.QUEUE_TIMEOUT: (QueueTimeout, "no instance started", "Never started"),
        Limit.TIMEOUT: (JobTimeout, "did not end", "Never ended"),
        Limit.EXECUTION_TIMEOUT: (ExecutionTimeout, "did not end", "Never ended"),
    }[limit]
    report = policies.job.failure_report.limit_report(
        view.job_id,
        f"{what} within {limit.value} ({length}); its last state was {view.job_state}, and {words}.",
        counts=counts_in_words(view),
        unfinished=[named(*found) for found in unfinished[: policies.job.failure_report.SHOWN]],
        missing=missing,
        reason=view.state_reason,
        instances=[failed_instance(output) for output in outputs],
        advice_else=_LATE[limit.value == Limit.QUEUE_TIMEOUT.value].format(limit.value),
        link=link,
    )
    return kind(report + note, job_id=view.job_id)


def has_run(view: TaskInstanceView) -> bool:
    """Whether an instance may have printed something."""
    return str(view.task_instance_state) not in _NOT_STARTED


def show_output(logger: Any, output: InstanceOutput, level: int, begin: str = "") -> None:
    """Log what an instance printed.

    What it printed to stdout is logged at INFO, and so is stderr, which many programs use for progress. But the stderr
    of an instance that failed mostly says why: who filters a task's log by its level looks for that.

    :param logger: the task's.
    :param level: level of the stderr of an instance that failed: ERROR where its task fails for it.
    :param begin: what each line begins with, before the instance's name.
    """
    from airflow_provider_tcbatch.models.states import FAILED_STATES

    failed = str(output.view.task_instance_state) in FAILED_STATES
    for stream, text in (("stdout", output.stdout), ("stderr", output.stderr)):
        place = f"{begin}{visible(output.task_name)} {output.view.task_instance_index} {stream}"
        for line in text.splitlines():
            logger.log(level if failed and stream == "stderr" else logging.INFO, "[%s] %s", place, visible(line))


def counts_in_words(view: DescribeJobResult) -> str:
    """How many instances of a job did what."""
    metrics = view.task_instance_metrics
    return f"{metrics.succeed_count} of {metrics.total} succeeded, {metrics.failed} failed" if metrics else ""


def failure_of(
    hook: TCBatchHook,
    failed: Sequence[str],
    explanation: Explanation | None = None,
    show: Callable[[str, list[InstanceOutput]], None] = lambda job_id, outputs: None,
) -> JobFailed:
    """The error for jobs that ended badly.

    :param failed: ids of the jobs, at least one.
    :param explanation: reads what explains it.
    :param show: told what the failed instances of each job printed, by its id.
    :returns: :class:`JobMachinesFailed` if no program of them is to blame, else :class:`JobFailed`.
    """
    explanation = explanation or Explanation(hook)
    reports: list[str] = []
    codes: list[int | None] = []
    machines = True
    for job_id in failed[:_EXPLAINED]:
        view = hook.describe_job(job_id)
        outputs = explanation.failed(view)
        show(job_id, outputs)
        reports.append(hook.explain_failure(view, outputs))
        codes += (own := [output.view.exit_code for output in outputs])
        # Where nothing is known of the instances, a program may be to blame.
        machines = machines and bool(own) and not any(own)
    if len(failed) > _EXPLAINED:
        reports.append(f"{len(failed) - _EXPLAINED} more jobs failed: {', '.join(failed[_EXPLAINED:])}")
    kind = JobMachinesFailed if machines else JobFailed
    return kind("\n\n".join(reports) + explanation.note(), job_id=failed[0], exit_codes=codes)
