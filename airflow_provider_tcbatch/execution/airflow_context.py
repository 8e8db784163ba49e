"""What an operator takes from Airflow's context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.policies.ownership.marks import Owner
from airflow_provider_tcbatch.policies.ownership.record import ThisTry

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

__all__ = ["deployment_id", "owner_of", "run_state", "this_try", "variables_of"]


def deployment_id() -> str:
    """What tells this Airflow from others that use the same Tencent Cloud account: ``[tcbatch] deployment_id``."""
    from airflow_provider_tcbatch.connection import deployment

    return deployment.deployment_id()


def owner_of(context: Context) -> Owner:
    """The task instance that runs."""
    ti = context["ti"]
    index = ti.map_index
    return Owner(deployment_id(), ti.dag_id, ti.run_id, ti.task_id, -1 if index is None else index)


def run_state(ti: Any, dag_id: str, run_id: str) -> str:
    """State of a DAG run, such as ``running`` or ``failed``.

    :param ti: what asks Airflow: a task instance on a worker, or its class.
    """
    state = ti.get_dagrun_state(dag_id=dag_id, run_id=run_id)
    # What is declared as str is an enum whose str() is not its value.
    return str(getattr(state, "value", state))


def this_try(context: Context, operator: BaseOperator) -> ThisTry:
    """The try that runs."""
    ti = context["ti"]
    return ThisTry(
        try_number=ti.try_number, ti_id=str(ti.id), max_tries=ti.max_tries or 0, retries=operator.retries or 0
    )


def variables_of(context: Context) -> dict[str, str]:
    """Environment variables that tell a program which run it belongs to, under the names that Airflow itself uses.

    What a run does not have (a manual run may have no logical date) is left out.
    """
    ti, run = context["ti"], context.get("dag_run")
    values = {
        "AIRFLOW_CTX_DAG_ID": ti.dag_id,
        "AIRFLOW_CTX_DAG_RUN_ID": ti.run_id,
        "AIRFLOW_CTX_TASK_ID": ti.task_id,
        "AIRFLOW_CTX_MAP_INDEX": ti.map_index,
        "AIRFLOW_CTX_TRY_NUMBER": ti.try_number,
    }
    for name in ("logical_date", "data_interval_start", "data_interval_end"):
        instant = getattr(run, name, None)
        values[f"AIRFLOW_CTX_{name.upper()}"] = None if instant is None else instant.isoformat()
    return {name: str(value) for name, value in values.items() if value is not None}
