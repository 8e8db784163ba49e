"""Triggers that yield one event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow.triggers.base import TriggerEvent

from airflow_provider_tcbatch.triggers._base.deferral import DeferredTrigger, Hold
from airflow_provider_tcbatch.triggers._base.log_writer import Says, Told

if TYPE_CHECKING:
    pass

__all__ = ["End", "OneEvent"]


class End(Protocol):
    """How a wait ended."""

    def to_event(self) -> dict[str, Any]:
        """The end as a trigger tells it."""


class OneEvent(Says, DeferredTrigger):
    """A trigger that yields exactly one event, for errors too, and never raises.

    :param arguments: what makes it again in another process.
    :param carried: handed on in the event.
    :param deferral: the worker that deferred the task, see :class:`~.triggers._base.deferral.DeferredTrigger`.
    """

    def __init__(
        self, arguments: Mapping[str, Any], carried: Mapping[str, Any] | None, deferral: str | None = None
    ) -> None:
        super().__init__(deferral=deferral)
        self.carried = dict(carried or {})
        self._arguments = {**arguments, "carried": self.carried}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.with_deferral(dict(self._arguments))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and say how it ended."""
        hold = Hold(self)
        event = await self.wait_for_end()
        await self.all_said()
        await hold.over()
        yield TriggerEvent(Told(event))  # type: ignore[no-untyped-call]

    async def wait_for_end(self) -> dict[str, Any]:
        """Wait; the end, with what is carried."""
        try:
            event = (await self._wait()).to_event()
        except Exception as error:
            self.log.exception("Waiting failed")
            event = {"status": "error", "states": {}, "limit": None, "message": f"{type(error).__name__}: {error}"}
        return {**event, **self.carried}

    async def _wait(self) -> End:
        raise NotImplementedError
