"""Ending, from a maintenance DAG, what nobody owns any more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import ConfigurationError, TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator, duration, flag

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.execution.orphans.sweep import Ended
    from airflow_provider_tcbatch.policies.orphans import Finding, Run
    from airflow_provider_tcbatch.policies.ownership.marks import Owner

__all__ = ["TCBatchOrphansOperator", "deployment_to_sweep", "row_of"]


class TCBatchOrphansOperator(TCBatchOperator):
    """List jobs and compute environments that carry this deployment's mark and that nobody owns, and end them.

    Without ``end`` nothing is changed. What is an orphan, and what is spared, is told in ``docs/orphans.md``.

    XCom: what was found (return value), without what somebody owns: a list of mappings with ``kind``, ``id``, ``name``,
    ``state``, ``owner``, ``created_at`` (unix seconds), ``fate`` (``orphan``, or ``unsure``, which is left alone),
    ``why``, and ``result`` (``ended``, ``not ended``, or ``None``) with ``words`` about it.

    :param end: terminate the jobs, scale the environments to zero and delete them.
    :param grace: seconds, or a timedelta: what is younger is spared.
    :param deployment: whose things; default is ``[tcbatch] deployment_id``. Without that option, ``end`` needs this
        argument: ``airflow``, if nobody else uses the account.
    :param timeout: seconds, or a timedelta, for all of it to end.
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises ConfigurationError: if it can't be known whose things may be ended.
    :raises TCBatchError: at the end, if something could not be ended within ``timeout``.
    """

    template_fields = ("tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        end: bool = False,
        grace: float | timedelta = 3600.0,
        deployment: str | None = None,
        timeout: float | timedelta = 600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.end = flag("end", end, self.task_id)
        self.grace = duration("grace", grace, self.task_id) if grace else 0.0
        self.deployment = deployment
        self.timeout = duration("timeout", timeout, self.task_id)

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Look, say what was found, and end it if that is wanted."""
        from airflow_provider_tcbatch.execution.orphans.sweep import OrphanSweep
        from airflow_provider_tcbatch.policies.orphans import Fate

        with permanent_errors():
            deployment = deployment_to_sweep(self.deployment, end=self.end)
            sweep = OrphanSweep(self.hook, AskedByTask(), deployment, grace=self.grace)
            findings = self.patiently(sweep.look, None)
            told = [finding for finding in findings if finding.fate is not Fate.SPARED]
            self.log.info("Deployment %r: %d found, %d of them spared", deployment, len(findings), _spared(findings))
            for finding in told:
                thing = finding.thing
                self.log.info("%s %s: %s, %s", thing.kind.value, thing.thing_id, finding.fate.value, finding.why)
            ended = sweep.end(findings, timeout=self.timeout) if self.end else []
        results = {result.finding.thing.thing_id: result for result in ended}
        rows = [row_of(finding, results.get(finding.thing.thing_id)) for finding in told]
        if failed := [result for result in ended if result.failed]:
            push(context, "return_value", rows)
            lines = "".join(f"\n  {result.finding.thing.thing_id}: {result.words}" for result in failed)
            raise TCBatchError(f"{len(failed)} of {len(ended)} orphans could not be ended:{lines}")
        return rows


class AskedByTask:
    """What a task on a worker can know about Airflow."""

    def run(self, dag_id: str, run_id: str) -> Run:
        """What has become of a run."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        from airflow_provider_tcbatch.execution.airflow_context import run_state
        from airflow_provider_tcbatch.policies.orphans import Run

        ask: Any = RuntimeTaskInstance
        try:
            others = ask.get_dr_count(dag_id=dag_id, states=["queued", "running"]) > 0
            if not ask.get_dr_count(dag_id=dag_id, run_ids=[run_id]):
                return Run(siblings=ask.get_dr_count(dag_id=dag_id) > 0, others=others)
            state = run_state(ask, dag_id, run_id)
            states = ask.get_task_states(dag_id=dag_id, run_ids=[run_id]).get(run_id) or {}
        except Exception as error:
            # Whatever it is: without an answer nothing of this run is ended.
            return Run(trouble=f"{type(error).__name__}: {error}")
        tasks = {key: None if task is None else str(task) for key, task in states.items()}
        return Run(state, tasks, others=others)

    def shared(self, dag_ids: Collection[str], teardowns: Collection[str]) -> Run:
        """What has become of all runs of some DAGs."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        from airflow_provider_tcbatch.policies.orphans import AT_WORK, Run

        ask: Any = RuntimeTaskInstance
        try:
            known = any(ask.get_dr_count(dag_id=dag_id) > 0 for dag_id in dag_ids)
            others = any(
                ask.get_dr_count(dag_id=dag_id, states=["queued", "running"]) > 0
                or ask.get_ti_count(dag_id=dag_id, states=list(AT_WORK)) > 0
                for dag_id in dag_ids
            )
            tasks = {
                task_id: "success"
                for task_id in teardowns
                for dag_id in dag_ids
                if ask.get_ti_count(dag_id=dag_id, task_ids=[task_id], states=["success"]) > 0
            }
        except Exception as error:
            # As above: without an answer nothing of these runs is ended.
            return Run(trouble=f"{type(error).__name__}: {error}")
        return Run(tasks=tasks, siblings=known, others=others)

    def owners(self, marks: Collection[str], deployment: str) -> Mapping[str, Owner]:
        """Nobody: a task can't list all task instances."""
        return {}


def deployment_to_sweep(given: str | None, *, end: bool) -> str:
    """Whose things are looked for.

    :param given: what the user wrote.
    :param end: whether they are to be ended.
    :raises ConfigurationError: if they are, and nothing tells this Airflow's from those of others.
    """
    from airflow.configuration import conf

    from airflow_provider_tcbatch.execution.airflow_context import deployment_id

    if end and not given and not conf.get("tcbatch", "deployment_id", fallback=""):
        raise ConfigurationError(
            "Another Airflow on this account may use the same mark: nothing is ended before [tcbatch] deployment_id is "
            f"set. If there is no other, name the deployment: {deployment_id()!r}"
        )
    return given or deployment_id()


def row_of(finding: Finding, ended: Ended | None = None) -> dict[str, Any]:
    """A finding, and what came of it, in plain JSON."""
    if ended is not None:
        finding = ended.finding
    thing, owner = finding.thing, finding.thing.owner
    index = "" if owner is None or owner.map_index < 0 else f"[{owner.map_index}]"
    return {
        "kind": thing.kind.value,
        "id": thing.thing_id,
        "name": thing.name,
        "state": thing.state,
        "owner": None if owner is None else f"{owner.dag_id} {owner.run_id} {owner.task_id}{index}",
        "created_at": thing.created_at,
        "fate": finding.fate.value,
        "why": finding.why,
        "result": None if ended is None or not (ended.done or ended.failed) else "ended" if ended.done else "not ended",
        "words": None if ended is None else ended.words,
    }


def _spared(findings: Collection[Finding]) -> int:
    from airflow_provider_tcbatch.policies.orphans import Fate

    return sum(finding.fate is Fate.SPARED for finding in findings)
