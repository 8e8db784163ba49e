"""What a failed job says in the Airflow log: pure text, from what was read elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_tcbatch.models.bounds import shortened
from airflow_provider_tcbatch.policies.advice import advice, exit_code_advice
from airflow_provider_tcbatch.text import visible

__all__ = ["FailedInstance", "failure_report", "last_lines"]

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
    """

    task: str
    index: int
    exit_code: int | None = None
    reason: str | None = None
    machine: str | None = None
    stderr: str = ""

    def headline(self) -> str:
        """One line that tells this instance from the others."""
        parts = [f"task {self.task!r} instance {self.index}"]
        if self.exit_code is not None:
            parts.append(f"exit code {self.exit_code}")
        if self.reason:
            parts.append(f"reason: {self.reason}")
        if self.machine:
            parts.append(f"on {self.machine}")
        return visible(", ".join(parts))

    def lines(self) -> list[str]:
        """The headline, and the end of stderr."""
        tail = last_lines(self.stderr)
        more = ["  last lines of stderr:", *(f"    {visible(line)}" for line in tail)] if tail else []
        return [f"- {self.headline()}", *more]


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
) -> str:
    """Say why a job failed.

    :param job_id: the job.
    :param state: its final state.
    :param reason: reason of the job as the service gives it.
    :param failed: failed instances that were looked at.
    :param failed_count: how many instances failed in all.
    :param total_count: how many instances there are.
    :param link: console page.
    """
    name = f" ({job_name})" if job_name else ""
    counts = f": {failed_count} of {total_count} instances failed" if failed_count and total_count else ""
    lines = [f"Batch job {job_id}{name} ended as {state}{counts}"]
    if reason:
        lines.append(f"Reason of the job: {reason}")
    for instance in failed[:SHOWN]:
        lines += instance.lines()
    if failed_count is not None and failed_count > min(len(failed), SHOWN) > 0:
        lines.append(f"... and {failed_count - min(len(failed), SHOWN)} more failed instances")
    lines += [f"What to do: {text}." for text in _advice(failed[:SHOWN], reason)]
    if state == "FAILED_INTERRUPTED":
        lines.append("Its machines are kept, and billed, until the job is terminated.")
    if link:
        lines.append(f"Console: {link}")
    return visible("\n".join(lines))


def _advice(failed: Sequence[FailedInstance], reason: str | None) -> list[str]:
    """What is known to help, each thing once."""
    known = [exit_code_advice(instance.exit_code) or advice(instance.reason or "") for instance in failed]
    if not failed:
        known.append(advice(reason or ""))
    told = list(dict.fromkeys(text for text in known if text is not None))
    if failed and not told and not any(instance.exit_code for instance in failed):
        told.append(
            "no program of it is known to have ended with an error: its machines could not be made or were lost, or "
            "somebody terminated it; the reasons above and the console say more"
        )
    return told
