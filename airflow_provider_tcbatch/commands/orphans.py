"""``airflow tcbatch orphans``: what nobody owns any more."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from airflow.exceptions import AirflowException  # type: ignore[attr-defined]
from airflow.utils import cli as cli_utils
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from airflow_provider_tcbatch.commands.connected import connected
from airflow_provider_tcbatch.commands.table import show
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.execution.orphans.sweep import Ended, OrphanSweep
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.operators.orphans import deployment_to_sweep, row_of
from airflow_provider_tcbatch.policies.compute_env.sharing import SHARED
from airflow_provider_tcbatch.policies.orphans import AT_WORK, Fate, Finding, Run, marks_of
from airflow_provider_tcbatch.policies.ownership.marks import Owner

__all__ = ["orphans"]

#: Rows of task instances that are read at a time.
_ROWS = 5000


@cli_utils.action_cli(check_db=False)  # type: ignore[no-untyped-call,untyped-decorator]
@cli_utils.suppress_logs_and_warning
@providers_configuration_loaded
def orphans(args: argparse.Namespace) -> None:
    """List orphans, and end them if that is wanted.

    :param args: ``conn_id``, ``region``, ``deployment``, ``grace``, ``end``, ``yes``, ``timeout``, ``all``, ``output``.
    :raises SystemExit: with a message, if they can't be listed; with 1 if one could not be ended.
    """
    try:
        deployment = deployment_to_sweep(args.deployment, end=args.end)
        hook = connected(TCBatchHook(args.conn_id, args.region))
        sweep = OrphanSweep(hook, AskedByDatabase(), deployment, grace=args.grace)
        findings = sweep.look()
        if args.end and not args.yes:
            findings = _confirmed(sweep, findings)
        ended = sweep.end(findings, timeout=args.timeout) if args.end else []
    except (TCBatchError, AirflowException) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    _show(findings, ended, deployment, args)
    if any(result.failed for result in ended):
        raise SystemExit(1)


class AskedByDatabase:
    """What Airflow's database tells.

    The command line has no token for the REST interface, nor does it know that its address can be reached from here;
    and Airflow's own commands on tasks read the database as well. The columns used here are the same from 3.1 to 3.3.
    """

    def run(self, dag_id: str, run_id: str) -> Run:
        """What has become of a run."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import func, select
        from sqlalchemy.exc import SQLAlchemyError

        of_dag = select(func.count()).select_from(DagRun).where(DagRun.dag_id == dag_id)
        mine = (TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        try:
            with create_session() as session:
                others = bool(session.scalar(of_dag.where(DagRun.state.in_(("queued", "running")))))
                state = session.scalar(select(DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
                if state is None:
                    return Run(siblings=bool(session.scalar(of_dag)), others=others)
                rows = session.execute(
                    select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state).where(*mine)
                ).all()
        except SQLAlchemyError as error:
            return Run(trouble=f"{type(error).__name__}: {error}")
        tasks = {
            (task_id if index < 0 else f"{task_id}_{index}"): None if task is None else str(task)
            for task_id, index, task in rows
        }
        return Run(str(state), tasks, others=others)

    def shared(self, dag_ids: Collection[str], teardowns: Collection[str]) -> Run:
        """What has become of all runs of some DAGs."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import func, select
        from sqlalchemy.exc import SQLAlchemyError

        runs = select(func.count()).select_from(DagRun).where(DagRun.dag_id.in_(dag_ids))
        tasks = select(TaskInstance.task_id).where(TaskInstance.dag_id.in_(dag_ids)).distinct()
        left = tasks.where(TaskInstance.task_id.in_(teardowns), TaskInstance.state == "success")
        try:
            with create_session() as session:
                return Run(
                    tasks=dict.fromkeys(session.scalars(left), "success"),
                    siblings=bool(session.scalar(runs)),
                    others=bool(session.scalar(runs.where(DagRun.state.in_(("queued", "running")))))
                    or bool(session.scalars(tasks.where(TaskInstance.state.in_(AT_WORK))).first()),
                )
        except SQLAlchemyError as error:
            return Run(trouble=f"{type(error).__name__}: {error}")

    def owners(self, marks: Collection[str], deployment: str) -> Mapping[str, Owner]:
        """The task instances whose marks these are: a mark is a digest, so all of them are tried.

        What runs of several DAGs share is not found so.
        """
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        columns = (TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index)
        found: dict[str, Owner] = {}
        tasks = set()

        def compare(owner: Owner) -> None:
            found.update({mark: owner for mark in marks_of(owner) if mark in marks})

        with create_session() as session:
            for dag_id, run_id, task_id, index in session.execute(select(*columns).execution_options(yield_per=_ROWS)):
                compare(Owner(deployment, dag_id, run_id, task_id, index))
                tasks.add((dag_id, task_id))
        for dag_id, task_id in tasks:
            compare(Owner(deployment, dag_id, SHARED, task_id))
        return found


def _confirmed(sweep: OrphanSweep, findings: list[Finding]) -> list[Finding]:
    """Ask the user; what is still an orphan when he has answered.

    :raises SystemExit: if he says no, or is not there.
    """
    there = {finding.thing.thing_id: finding for finding in findings if finding.fate is Fate.ORPHAN}
    if not there:
        return findings
    for finding in there.values():
        thing = finding.thing
        print(f"{thing.kind.value} {thing.thing_id} ({thing.name}): {finding.why}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise SystemExit("Nothing was ended: add --yes where nobody can be asked")
    print(f"End these {len(there)}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SystemExit("Nothing was ended")
    return [finding for finding in sweep.look() if finding.fate is not Fate.ORPHAN or finding.thing.thing_id in there]


def _show(findings: Iterable[Finding], ended: Iterable[Ended], deployment: str, args: argparse.Namespace) -> None:
    results = {result.finding.thing.thing_id: result for result in ended}
    findings = list(findings)
    shown = [finding for finding in findings if args.all or finding.fate is not Fate.SPARED]
    rows = [row_of(finding, results.get(finding.thing.thing_id)) for finding in shown]
    if args.output == "table":
        rows = [_narrow(row) for row in rows]
    show(rows, args.output)
    fates = [finding.fate for finding in findings]
    print(
        f"Deployment {deployment!r}: {fates.count(Fate.ORPHAN)} orphans, {fates.count(Fate.UNSURE)} to look at, "
        f"{fates.count(Fate.SPARED)} spared{'' if args.end else '; nothing was ended, --end does that'}",
        file=sys.stderr,
    )


def _narrow(row: Mapping[str, Any]) -> dict[str, str]:
    """A row for the table, which has no room for everything."""
    created_at = row["created_at"]
    made = "?" if created_at is None else f"{datetime.fromtimestamp(created_at, timezone.utc):%Y-%m-%d %H:%M:%SZ}"
    return {
        "id": row["id"],
        "name": row["name"],
        "state": row["state"],
        "made": made,
        "owner": row["owner"] or "?",
        "fate": row["result"] or row["fate"],
        "why": row["why"] if row["words"] is None else f"{row['why']}: {row['words']}",
    }
