"""What a worker does with each of our operators and sensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Self

    from airflow_provider_tcbatch.policies.deferral import Deferral

__all__ = ["OnWorker"]

_Operator = TypeVar("_Operator")


class OnWorker:
    """Mixin of operators and sensors: in front of Airflow's base."""

    def prepare_for_execution(self) -> Self:
        """Called by Airflow before a task runs, unless it is a mapped one."""
        copy: Self = super().prepare_for_execution()  # type: ignore[misc]
        return _without_links(copy)

    def pre_execute(self, context: Context) -> None:
        """Called by Airflow before ``execute``, and before a deferred task goes on."""
        super().pre_execute(context)  # type: ignore[misc]
        _without_links(self)

    def defer(self, *, trigger: BaseTrigger, **options: Any) -> NoReturn:
        """Defer the task, and let the trigger know of this worker.

        :param trigger: what waits.
        :param options: as Airflow's operators take them.
        """
        # Who does not defer needs no triggers, and Airflow's base of them takes long to import.
        from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger

        if isinstance(trigger, BaseOneEventTrigger):
            trigger.deferral = _deferral().to_text()
        super().defer(trigger=trigger, **options)  # type: ignore[misc]
        raise AssertionError("defer() has returned")


def _without_links(operator: _Operator) -> _Operator:
    """Keep Airflow from looking its links up while it winds a worker up.

    When a task has ended, or is deferred, the worker asks each link for its address and stores it, and it logs an error
    for each that has none. Ours are stored by the operators as soon as they are known, so that would be two calls to
    Airflow for each link, at the moment at which a worker has to be quick (apache/airflow#72716). The UI knows a task's
    links from the stored DAG.
    """
    vars(operator)["operator_extra_links"] = ()
    return operator


def _deferral() -> Deferral:
    from airflow_provider_tcbatch.connection.deployment import seconds_of
    from airflow_provider_tcbatch.connection.worker_process import slowdown, this_process
    from airflow_provider_tcbatch.execution.airflow_calls import slowest_call
    from airflow_provider_tcbatch.policies.backoff import LONGEST
    from airflow_provider_tcbatch.policies.deferral import HEARTBEAT, Deferral

    heartbeat = seconds_of("workers", "min_heartbeat_interval", HEARTBEAT)
    if heartbeat >= LONGEST:  # inf, say: a task whose worker can't be seen would never go on
        heartbeat = HEARTBEAT
    return Deferral(slowest_call(), slowdown(), heartbeat, this_process())
