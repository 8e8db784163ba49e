"""Setting up, and checking, the chain by which Batch's events come to Airflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_tcbatch.exceptions import ConfigurationError
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.execution.event_delivery.chain import EventChain
    from airflow_provider_tcbatch.policies.event.delivery_chain import Step

__all__ = ["TCBatchEventsCheckOperator", "TCBatchEventsSetupOperator"]

ChainT = TypeVar("ChainT", bound="EventChain")


class _EventsOperator(TCBatchOperator):
    """What both have in common: names of the chain's parts."""

    template_fields: Sequence[str] = ("tencentcloud_conn_id", "region", "topic", "asset_queue", "base_queue")

    def __init__(
        self,
        *,
        topic: str | None = None,
        asset_queue: str | None = None,
        base_queue: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topic = topic
        self.asset_queue = asset_queue
        self.base_queue = base_queue

    def _chain(self, kind: type[ChainT]) -> ChainT:
        from airflow_provider_tcbatch.hooks.cmq import CmqHook

        return kind(
            CmqHook(self.tencentcloud_conn_id, self.region),
            topic=self.topic,
            asset_queue=self.asset_queue,
            base_queue=self.base_queue,
        )

    def _told(self, context: Context, steps: Sequence[Step]) -> list[dict[str, str]]:
        """Log the steps, and return them as rows.

        :raises ConfigurationError: if something is missing; the rows are pushed all the same.
        """
        from airflow_provider_tcbatch.execution.event_delivery.chain import row_of
        from airflow_provider_tcbatch.policies.event.delivery_chain import FAULTS, State

        def todo_of(step: Step) -> str:
            return f"; what to do: {step.todo}" if step.todo else ""

        rows = [row_of(step) for step in steps]
        for step in steps:
            tell = self.log.warning if step.state in (State.WARNING, *FAULTS) else self.log.info
            tell("%s: %s, %s%s", step.name, step.state.value, step.what, todo_of(step))
        if missing := [step for step in steps if step.state in FAULTS]:
            push(context, "return_value", rows)
            lines = "".join(f"\n  {step.name}: {step.what}{todo_of(step)}" for step in missing)
            raise ConfigurationError(f"Events will not come through:{lines}")
        return rows


class TCBatchEventsSetupOperator(_EventsOperator):
    """Make topic, durable queues and subscriptions as far as they do not exist.

    What exists is left as it is, but for the visibility timeout and the retention of the asset queue, which are raised
    to what asset watchers need. ``docs/events.md`` tells what the parts are for.

    XCom: the steps (return value), a list of mappings with ``step``, ``state`` (``ok``, ``made``, ``changed``,
    ``missing``), ``what`` and ``todo``.

    :param topic: topic; default is the connection's ``event_topic``. (templated)
    :param asset_queue: durable queue for asset watchers, if there is to be one. (templated)
    :param base_queue: durable queue that gives the topic a subscription; default ``<topic>-base``. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises ConfigurationError: at the end, if something could not be made.
    """

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Make what is missing."""
        from airflow_provider_tcbatch.execution.event_delivery.setup import EventsSetup

        with permanent_errors():
            return self._told(context, self._chain(EventsSetup).setup())


class TCBatchEventsCheckOperator(_EventsOperator):
    """Check topic, queues, subscriptions and rights, and send a test message all the way.

    XCom: the steps (return value), a list of mappings with ``step``, ``state`` (``ok``, ``warning``, ``missing``,
    ``not checked``), ``what`` and ``todo``.

    :param topic: topic; default is the connection's ``event_topic``. (templated)
    :param asset_queue: queue of asset watchers, to be checked too. (templated)
    :param base_queue: durable queue that gives the topic a subscription; default ``<topic>-base``. (templated)
    :param through: queues through which the test message is received, too. What lies in front of it is not deleted, but
        hidden for the queue's visibility timeout. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :raises ConfigurationError: at the end, if something is missing.
    """

    template_fields: Sequence[str] = (*_EventsOperator.template_fields, "through")

    def __init__(self, *, through: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.through = through

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Look at everything."""
        from airflow_provider_tcbatch.execution.event_delivery.check import EventsCheck

        with permanent_errors():
            through = [self.through] if isinstance(self.through, str) else list(self.through)
            return self._told(context, self._chain(EventsCheck).check(through=through))
