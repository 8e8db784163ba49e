"""Sets the chain of events up, from the topic to the queues: for the command line and for operators."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_tcbatch.exceptions import NotFound, PermissionDenied
from airflow_provider_tcbatch.execution.event_delivery.chain import EventChain
from airflow_provider_tcbatch.models.cmq import ModifyCmqQueueAttribute
from airflow_provider_tcbatch.policies.event.delivery_chain import (
    ASSET_RETENTION,
    BASE_RETENTION,
    State,
    Step,
    asset_visibility,
)

__all__ = ["EventsSetup"]


class EventsSetup(EventChain):
    """Makes what does not exist."""

    def setup(self, *, dry_run: bool = False) -> list[Step]:
        """Make what does not exist; what exists is left as it is, but for an asset queue that would lose events.

        :param dry_run: only say what would be made.
        """
        self._steps = []
        if not self._named():
            return self._steps
        hook = self._hook
        self._ensure("topic", self._topic, self._find_topic, lambda: hook.ensure_topic(self._topic), dry_run)
        self._queue("base queue", self._base, dry_run, message_retention=BASE_RETENTION)
        if self._asset is not None and self._asset.lower() != (self._shared or "").lower():
            visibility = asset_visibility(self._ack)
            self._queue(
                "asset queue", self._asset, dry_run, visibility_timeout=visibility, message_retention=ASSET_RETENTION
            )
            self._raise_limits(self._asset, visibility, dry_run)
        elif self._asset is not None:
            what = f"{self._asset} is the connection's event_queue"
            self._add("asset queue", State.MISSING, what, "name another queue for asset watchers")
        if self._shared is not None:
            self._queue("shared event queue", self._shared, dry_run)
        return self._steps

    def _queue(self, name: str, queue: str, dry_run: bool, **attributes: int) -> None:
        hook = self._hook
        self._ensure(
            name, queue, lambda: self._find_queue(queue), lambda: hook.ensure_queue(queue, **attributes), dry_run
        )

        def subscribed() -> bool:
            return any((each.endpoint or "").lower() == queue.lower() for each in self._subscriptions())

        # Its name may be any: a second subscription of the same queue would deliver everything twice.
        self._ensure(
            f"subscription of {name}",
            queue,
            subscribed,
            lambda: hook.ensure_subscription(self._topic, queue),
            dry_run,
        )

    def _ensure(
        self, name: str, thing: str, find: Callable[[], object], make: Callable[[], bool], dry_run: bool
    ) -> None:
        with self._step(name):
            try:
                there = bool(find())
            except NotFound:
                there = False
            except PermissionDenied:
                if dry_run:
                    raise
                there = False  # making it tells
            if there:
                self._add(name, State.OK, f"{thing} exists")
            elif dry_run:
                self._add(name, State.WOULD, f"{thing} would be made")
            elif make():
                self._add(name, State.MADE, f"{thing} was made")
            else:
                self._add(name, State.OK, f"{thing} exists")

    def _raise_limits(self, queue: str, visibility: int, dry_run: bool) -> None:
        with self._step("asset queue's limits"):
            found = self._find_queue(queue)
            if found is None:
                return  # not made in a dry run
            changes: dict[str, int] = {}
            if (found.visibility_timeout or 0) < visibility:
                changes["visibility_timeout"] = visibility
            if (found.msg_retention_seconds or 0) < ASSET_RETENTION:
                changes["msg_retention_seconds"] = ASSET_RETENTION
            if not changes:
                return
            before = f"{found.visibility_timeout} s hidden, {found.msg_retention_seconds} s kept"
            after = ", ".join(f"{name.split('_')[0]} {value} s" for name, value in changes.items())
            if dry_run:
                self._add("asset queue's limits", State.WOULD, f"{before}: {after} would be set")
                return
            self._hook.api.call(ModifyCmqQueueAttribute(queue_name=queue, **changes))
            self._add("asset queue's limits", State.CHANGED, f"{before}: now {after}")
