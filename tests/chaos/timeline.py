"""What happened around one finding, from all sources, in the order of time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from tests.chaos.auditor import Finding
from tests.chaos.facts import Facts

#: Longest text of one line.
WIDTH = 230

Entry = tuple[float, str, str]


def merged(facts: Facts, finding: Finding, logs: Path) -> str:
    """Acts, tries, jobs, what ran and what the task's logs say.

    :param logs: folder of Airflow's task logs.
    """
    entries = [*_acts(facts), *_tries(facts, finding), *_jobs(facts, finding), *_logged(finding, logs)]
    lines = []
    for at, source, text in sorted(entries):
        time = datetime.fromtimestamp(at, timezone.utc).strftime("%H:%M:%S.%f")[:-4]
        lines.append(f"  {time} {source:<8} {' '.join(text.split())}"[:WIDTH])
    return "\n".join(lines)


def _acts(facts: Facts) -> Iterator[Entry]:
    for act in facts.acts:
        what = " ".join(filter(None, (act.kind, act.target)))
        if act.kind in ("trigger", "clear", "revoked", "revived"):
            yield act.began, "ACT", f"{what} {act.note}"
        else:
            yield act.began, "ACT", f"{what} begins: {act.note}"
            yield act.ended, "ACT", f"{what} is over"


def _tries(facts: Facts, finding: Finding) -> Iterator[Entry]:
    task = facts.tasks.get(finding.key) if finding.key else None
    for entry in facts.log:
        if entry.key == finding.key:
            yield entry.at, "AIRFLOW", f"{entry.event}: {entry.text}"
    for one in task.tries if task else ():
        if one.began is not None:
            yield one.began, "AIRFLOW", f"try {one.number} begins"
        if one.ended is not None:
            yield one.ended, "AIRFLOW", f"try {one.number} is {one.state}"


def _jobs(facts: Facts, finding: Finding) -> Iterator[Entry]:
    jobs = [job for job in facts.jobs if job.job_id == finding.job_id or job.owner == finding.key]
    for job in jobs:
        yield job.created_at, "JOB", f"{job.job_id} made, generation {job.generation}"
        for at, what, state in job.history:
            end = " (TerminateJob)" if job.terminated and state == "FAILED" else ""
            yield at, "JOB", f"{job.job_id} {what} {state}{end}"
    ids = {job.job_id for job in jobs}
    for line in facts.ledger:
        if line.job_id in ids:
            what = "begins" if line.code is None else f"ends with {line.code}"
            yield line.at, "COMMAND", f"{line.job_id} instance {line.index} {what}"


def _logged(finding: Finding, logs: Path) -> Iterator[Entry]:
    if finding.key is None:
        return
    dag_id, run_id, task_id, _ = finding.key
    for path in sorted((logs / f"dag_id={dag_id}" / f"run_id={run_id}" / f"task_id={task_id}").rglob("*.log")):
        # attempt=1.log; attempt=1.log.trigger.5.log
        source = path.name.removeprefix("attempt=").removesuffix(".log").replace(".log.trigger.", "t")
        for line in path.read_text(errors="replace").splitlines():
            try:
                entry = json.loads(line)
                at = datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")).timestamp()
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            errors = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in entry.get("error_detail") or []]
            text = str(entry.get("event", ""))
            if entry.get("logger") != "task.stdout" and not text.startswith("::"):
                yield at, f"LOG {source}", " ".join([str(entry.get("level", "")), text, "; ".join(errors)]).rstrip()
