"""What a failed job says in the Airflow log: pure text, from what was read elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_tcbatch.models.bounds import shortened
from airflow_provider_tcbatch.policies.failure_hints import advice, exit_code_advice
from airflow_provider_tcbatch.text import visible

__all__ = ["SHOWN", "FailedInstance", "ended_for", "failure_report", "last_lines", "limit_report"]

#: Failed instances that a report shows in detail.
SHOWN = 5
#: Lines of stderr that a report shows for each.
LINES = 10
#: Characters of such a line.
_LONGEST = 1_000


@dataclass(frozen=True)
class FailedInstance:
    """A failed instance, as far as it is known.

    :param task: name of its task.
    :param index: its number in the task, from 0.
    :param exit_code: exit code of its program, if it ran.
    :param reason: reason as the service gives it.
    :param machine: CVM instance it ran on.
    :param stderr: end of its stderr.
    :param stdout: end of its stdout, shown where there is no stderr: of an instance that was ended while it ran.
    """

    task: str
    index: int
    exit_code: int | None = None
    reason: str | None = None
    machine: str | None = None
    stderr: str = ""
    stdout: str = ""

    def headline(self) -> str:
        """One line that tells this instance from the others."""
        parts = [f"task {self.task!r} instance {self.index}"]
        if self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        if self.reason and not _repeats(self.reason, self.exit_code):
            parts.append(f"reason: {self.reason}")
        if self.machine:
            parts.append(f"on {self.machine}")
        return visible(", ".join(parts))

    def lines(self) -> list[str]:
        """The headline, and the end of stderr."""
        for stream, text in (("stderr", self.stderr), ("stdout", self.stdout)):
            if tail := last_lines(text):
                shown = [f"    {visible(line)}" for line in tail]
                return [f"- {self.headline()}", f"  last lines of {stream}:", *shown]
        return [f"- {self.headline()}"]


#: Words of a reason that says no more than that a program ended with an exit code.
_OF_EXIT_CODES = frozenset(
    (
        *("a", "an", "the", "of", "its", "task", "instance", "job", "command", "program", "process", "script"),
        *("application", "container", "ended", "exited", "exits", "exit", "failed", "returned", "finished", "code"),
        *("status", "with", "is", "was", "abnormally", "error", "non", "zero", "nonzero"),
    )
)


def _repeats(reason: str, exit_code: int | None) -> bool:
    """Whether a reason says nothing but the exit code, which is said already."""
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\x00-\x7f]+", reason)}
    return str(exit_code) in words and words - {str(exit_code)} <= _OF_EXIT_CODES


def last_lines(text: str, count: int = LINES) -> list[str]:
    """The last lines of a text that are not blank."""
    last = [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
    return [shortened(line, _LONGEST) for line in last]


def failure_report(
    job_id: str,
    state: str,
    *,
    job_name: str | None = None,
    reason: str | None = None,
    failed: Sequence[FailedInstance] = (),
    failed_count: int | None = None,
    total_count: int | None = None,
    link: str | None = None,
    act: str | None = None,
) -> str:
    """Say why a job failed.

    :param job_id: the job.
    :param state: its final state.
    :param reason: reason of the job as the service gives it.
    :param failed: failed instances that were looked at.
    :param failed_count: how many instances failed in all.
    :param total_count: how many instances there are.
    :param link: console page.
    :param act: who ended it and why, if it did not end by itself: what follows on its name.
    """
    name = f" ({job_name})" if job_name else ""
    counts = f": {failed_count} of {total_count} instances failed" if failed_count and total_count else ""
    lines = [f"Batch job {job_id}{name} {act or f'ended as {state}'}{counts}"]
    if reason:
        lines.append(f"Reason of the job: {reason}")
    for instance in failed[:SHOWN]:
        lines += instance.lines()
    if failed_count is not None and failed_count > min(len(failed), SHOWN) > 0:
        lines.append(f"... and {failed_count - min(len(failed), SHOWN)} more failed instances")
    lines += [f"What to do: {text}." for text in _advice(failed[:SHOWN], reason, known=act is not None)]
    if state == "FAILED_INTERRUPTED":
        lines.append("Its machines are kept, and billed, until the job is terminated.")
    if link:
        lines.append(f"Console: {link}")
    return visible("\n".join(lines))


#: What an earlier act of the task itself has done to its job, by the reason that its record gives.
_ACTS = {
    "fail_fast": "could not succeed any more and was ended by its task (fail_fast)",
    "failed": "could not succeed any more and was ended by its task",
    "killed": "was ended because its task was killed",
    "timeout": "was ended by its task: its timeout was over",
    "queue_timeout": "was ended by its task: its queue_timeout was over",
    "execution_timeout": "was ended by its task: the execution_timeout was over",
    "superseded": "was ended because its task was cleared",
    "abandoned": "was ended by its task, which could not go on with it",
    "lost": "was ended by its task, which could not watch it any more",
}


def ended_for(reason: str | None) -> str | None:
    """Words for a job that its own task has ended: what follows on its name.

    :param reason: why, as the task's record says; ``None`` if the task did not end it.
    """
    return _ACTS.get(reason or "")


def limit_report(
    job_id: str,
    what: str,
    *,
    counts: str = "",
    unfinished: Sequence[str] = (),
    missing: str = "Never ended",
    reason: str | None = None,
    instances: Sequence[FailedInstance] = (),
    advice_else: str = "",
    link: str | None = None,
) -> str:
    """Say how far a job was when a limit ended the wait for it.

    :param what: what happened, after the job's name.
    :param counts: how many of its instances did what.
    :param unfinished: those that did not come to what the limit was for.
    :param missing: what they did not do.
    :param reason: reason of the job as the service gives it.
    :param instances: those that failed, or were running, with what they printed.
    :param advice_else: what to do beside what is known of exit codes and reasons.
    :param link: console page.
    """
    lines = [f"Job {job_id}: {what}"]
    if counts:
        lines.append(f"Instances: {counts}")
    if unfinished:
        lines.append(f"{missing}: {', '.join(unfinished)}")
    if reason:
        lines.append(f"Reason of the job: {reason}")
    for instance in instances[:SHOWN]:
        lines += instance.lines()
    helps = _advice([instance for instance in instances if instance.exit_code], reason, known=True)
    lines += [f"What to do: {text}." for text in [*helps, advice_else] if text]
    if link:
        lines.append(f"Console: {link}")
    return visible("\n".join(lines))


def _advice(failed: Sequence[FailedInstance], reason: str | None, *, known: bool = False) -> list[str]:
    """What is known to help, each thing once.

    :param known: whether it is known who ended the job.
    """
    helps = [exit_code_advice(instance.exit_code) or advice(instance.reason or "") for instance in failed]
    if not failed:
        helps.append(advice(reason or ""))
    told = list(dict.fromkeys(text for text in helps if text is not None))
    if failed and not known and not told and not any(instance.exit_code for instance in failed):
        told.append(
            "no program of it is known to have ended with an error: its machines could not be made or were lost, or "
            "somebody terminated it; the reasons above and the console say more"
        )
    return told
