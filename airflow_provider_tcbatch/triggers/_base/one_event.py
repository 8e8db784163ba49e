"""The base of triggers that yield one event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from airflow.triggers.base import BaseTaskEndEvent, BaseTrigger, TriggerEvent

from airflow_provider_tcbatch.triggers._base.deferral import Hold
from airflow_provider_tcbatch.triggers._base.ending import end_all, put_to_an_end
from airflow_provider_tcbatch.triggers._base.log_writer import CompactEvent, LogWriterMixin
from airflow_provider_tcbatch.triggers._base.serialization import SignatureMixin

if TYPE_CHECKING:
    from airflow_provider_tcbatch.connection.settings import ConnectionSettings
    from airflow_provider_tcbatch.policies.deadlines import Deadlines
    from airflow_provider_tcbatch.watching.jobs import Watcher

__all__ = ["BaseOneEventTrigger", "Wait"]


class End(Protocol):
    """How a wait ended."""

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""


class Wait(Protocol):
    """A wait beside the watcher of jobs."""

    async def run(self, watcher: Watcher, settings: ConnectionSettings) -> End:
        """Wait for the end."""


class WaitOptions(TypedDict):
    """What all waits take."""

    poll_interval: float
    deadlines: Deadlines
    log_line: Callable[..., None]


class BaseOneEventTrigger(SignatureMixin, LogWriterMixin, BaseTrigger):
    """A trigger that a task is deferred to. It yields exactly one event, for errors too: one that raised would fail its
    task before the operator could say why.

    :param deferral: what is known of the worker, as :meth:`~.policies.deferral.Deferral.to_text` wrote it. An operator
        sets it when it defers.
    """

    if TYPE_CHECKING:  # of those that have them
        tencentcloud_conn_id: str
        region: str | None
        poll_interval: float
        deadlines: Mapping[str, float] | None
        deferral: str | None

    #: Handed on in the event.
    carried: Mapping[str, Any] | None = None

    #: Given only if no worker has made the trigger.
    margin: float | None = None

    def __init__(self, deferral: str | None = None) -> None:
        super().__init__()
        self.deferral = deferral

    # -- what a trigger says -----------------------------------------------------------------------------

    def make_wait(self) -> Wait:
        """What is waited for.

        :raises ValueError: if an argument does not say it.
        """
        raise NotImplementedError

    async def wait(self) -> dict[str, Any]:
        """Wait; what the event says. Whatever it raises becomes an event, too."""
        async with self.session() as (settings, watcher):
            return (await self.make_wait().run(watcher, settings)).to_event()

    def carries(self) -> Mapping[str, Any]:
        """What else the event says, however the wait ends."""
        return self.carried or {}

    def owned(self) -> tuple[Sequence[str], str | None]:
        """Jobs, and a compute environment, that are not wanted any more when the user puts an end to the task."""
        return (), None

    # -- what it needs -----------------------------------------------------------------------------------

    async def settings(self) -> ConnectionSettings:
        """The connection."""
        # Imported here: a DAG file that names a trigger should not pay for its clients.
        from airflow_provider_tcbatch.hooks.tencent_cloud import TencentCloudHook

        return await TencentCloudHook(self.tencentcloud_conn_id, self.region).asettings()

    def session(self) -> AbstractAsyncContextManager[tuple[ConnectionSettings, Watcher]]:
        """Use the connection, and the watcher of jobs that all triggers of a triggerer share who use its account."""
        return _Session(self)

    @property
    def options(self) -> WaitOptions:
        """What its wait takes as others do."""
        from airflow_provider_tcbatch.policies.deadlines import Deadlines

        deadlines = Deadlines.from_json(self.deadlines)
        return {"poll_interval": self.poll_interval, "deadlines": deadlines, "log_line": self.log_line}

    # -- a run -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """What comes before the wait."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say how it ended, or end the task."""
        hold = Hold(self, self.deferral)
        try:
            self.begin()
            event = await self.wait()
        except Exception as error:
            self.log.exception("Waiting failed")
            event = {"status": "error", "states": {}, "limit": None, "message": f"{type(error).__name__}: {error}"}
        event = CompactEvent({**event, **self.carries()})
        end = await self.end_task(event)
        await self.drain_log()
        if end is None and self.margin is None:  # else there is no worker that may still be winding up
            await hold.over()
        yield end or TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def end_task(self, event: Mapping[str, Any]) -> BaseTaskEndEvent | None:
        """The end of the task, where nothing is left to do for a worker."""
        return None

    async def on_kill(self) -> None:
        """End what the user does not want any more. Airflow gives this 30 seconds."""
        begun = time.monotonic()
        job_ids, env_id = self.owned()
        names = [f"job {job_id}" for job_id in job_ids]
        spared: Sequence[str] = ()
        if env_id is not None:
            # One whose task is marked as succeeded is wanted.
            names, spared = [*names, f"compute environment {env_id}"], ("success",)
        if names and await put_to_an_end(self, ", ".join(names), spared):
            await end_all(self, await self.settings(), job_ids, env_id, begun)


class _Session(AbstractAsyncContextManager[tuple["ConnectionSettings", "Watcher"]]):
    """A connection and a use of its watcher. No generator: there is one for each wait."""

    __slots__ = ("_trigger", "_use")

    def __init__(self, trigger: BaseOneEventTrigger) -> None:
        self._trigger = trigger

    async def __aenter__(self) -> tuple[ConnectionSettings, Watcher]:
        from airflow_provider_tcbatch.waits.sessions import job_watcher

        settings = await self._trigger.settings()
        self._use = job_watcher(settings)
        return settings, await self._use.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._use.__aexit__(*error)
