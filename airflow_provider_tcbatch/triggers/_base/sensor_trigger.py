"""What the triggers of all sensors have in common: they may be the beginning of a task, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTaskEndEvent, TaskSkippedEvent, TaskSuccessEvent

from airflow_provider_tcbatch.triggers._base.one_event import BaseOneEventTrigger
from airflow_provider_tcbatch.triggers._base.rendering import push_xcoms, render

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_provider_tcbatch.connection.settings import ConnectionSettings

__all__ = ["WAIT_KEY", "BaseSensorTrigger", "wait_of"]

#: XCom that says how the wait in the triggerer ended.
WAIT_KEY = "tcbatch_wait"


def wait_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """What XCom ``tcbatch_wait`` says.

    :param event: the trigger's event.
    """
    return {name: event.get(name) for name in ("status", "source", "observed_at", "event_received_at")}


class BaseSensorTrigger(BaseOneEventTrigger):
    """Base of the triggers of sensors. Whatever becomes of the waiting task, what is waited for is left alone.

    Started by the scheduler instead of by a worker, it gets its arguments as the DAG file has them, Jinja included,
    and Airflow renders the attributes that are called as the sensor's template fields between ``__init__`` and
    ``run``. So ``__init__`` only keeps what it is given, and the wait reads it. (An ``__init__`` that raises
    anything but a TypeError would end the triggerer.)

    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``.
    :param region: region; default is the connection's.
    :param poll_interval: longest time in seconds between two looks while no events flow.
    :param deadlines: unix seconds at which to give up, by limit; see :class:`~.policies.deadlines.Deadlines`.
    :param margin: given only if no worker has made the trigger: it gives up so many seconds before Airflow would end
        it. (An instant can't be part of a DAG.)
    :param ending: how it ends the task by itself; ``None`` to leave that to a worker. ``{"push": …, "skip": …}``:
        whether the sensor's return value is pushed, and which of ``soft_fail`` and ``never_fail`` turns a failure into
        a skip, if one does.
    :param carried: handed on in the event.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.one_event.BaseOneEventTrigger`.
    """

    def __init__(
        self,
        *,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        poll_interval: float = 30.0,
        deadlines: Mapping[str, float] | None = None,
        margin: float | None = None,
        ending: Mapping[str, Any] | None = None,
        carried: Mapping[str, Any] | None = None,
        deferral: str | None = None,
    ) -> None:
        super().__init__(deferral)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region
        self.poll_interval = poll_interval
        self.deadlines = deadlines or None
        self.margin = margin
        self.ending = ending
        self.carried = carried or None
        self._settings: ConnectionSettings | None = None
        self._not_rendered: Exception | None = None

    # -- what a trigger says -----------------------------------------------------------------------------

    def result(self, event: Mapping[str, Any]) -> Any:
        """What the sensor returns: what was waited for has been seen.

        :param event: the end, with what is carried.
        """
        raise NotImplementedError

    def links(self, event: Mapping[str, Any], settings: ConnectionSettings) -> dict[str, str]:
        """The XComs behind the task's buttons.

        :param event: the end, with what is carried.
        :param settings: the connection.
        """
        return {}

    # -- a run -------------------------------------------------------------------------------------------

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Called by Airflow if it has started the trigger itself. What goes wrong here is for :meth:`run` to say."""
        try:
            render(super().render_template_fields, context, jinja_env or self.get_template_env())
        except Exception as error:
            self.log.info("A worker has to render it: %s", error)
            self._not_rendered = error

    async def settings(self) -> ConnectionSettings:
        """The connection, kept for the end."""
        self._settings = await super().settings()
        return self._settings

    def begin(self) -> None:
        """Turn the instant at which Airflow would end the trigger into its own, which comes before it."""
        after = getattr(self, "timeout_after", None)  # set by the triggerer
        if self.margin is not None and after is not None:
            give_up_at = after.timestamp() - self.margin
            self.deadlines = {"timeout": give_up_at}
            self.carried = {**(self.carried or {}), "give_up_at": give_up_at}
        if self._not_rendered is not None:
            raise self._not_rendered

    async def end_task(self, event: Mapping[str, Any]) -> BaseTaskEndEvent | None:
        """The end of the task, where nothing is left to do for a worker.

        That is not so where it fails: Airflow would try again what can't come out otherwise, and nobody would say why.
        Nor at a timeout, where the sensor looks once more.
        """
        skips = self.ending is not None and event["status"] == "failed" and self.ending["skip"]
        if self.ending is None or self._settings is None or not (skips or event["status"] == "reached"):
            return None
        xcoms: dict[str, Any] = {**self.links(event, self._settings), WAIT_KEY: wait_of(event)}
        result = None if skips else self.result(event)
        if self.ending["push"] and result is not None:
            xcoms["return_value"] = result
        try:
            after = getattr(self, "timeout_after", None)  # set by the triggerer
            await push_xcoms(self.task_instance, xcoms, None if after is None else after.timestamp())
        except Exception as error:
            self.log.warning("A worker has to end the task: its XComs can't be pushed from here: %s", error)
            return None
        if skips:
            seen = event.get("states") or event.get("counts") or event.get("message")
            self.log.warning("It can't come true any more: %s. %s skips the task", seen, skips)
            return TaskSkippedEvent()
        if event.get("outage"):
            from airflow_provider_tcbatch.policies.outage import Outage

            self.log_line("%s", Outage(**event["outage"]))
        self.log_line("It has come true, which ends the task: %s", result)
        return TaskSuccessEvent()
