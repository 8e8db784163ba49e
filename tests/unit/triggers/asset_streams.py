"""Airflow's side of asset watchers, in the test's own process: what a triggerer does, without its database."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from airflow.triggers.base import BaseEventTrigger

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from tests.support.processes import wait_for


class Store:
    """What has been stored of one trigger's events; ``fails`` says which are not, nor what is told with them."""

    def __init__(self, fails: Callable[[Any], bool] = lambda payload: False) -> None:
        self.fails = fails
        self.seen: list[Any] = []
        self.stored: list[Any] = []
        self.batches = 0
        self.restarts = 0
        #: Confirms what was not stored when it came; see :func:`streaming`.
        self.store_late: Callable[[], None] = lambda: None

    async def wait_for(self, count: int, timeout: float = 60.0) -> list[Any]:
        """Wait until so many events have been stored."""
        await until(lambda: len(self.stored) >= count, timeout, lambda: f"{len(self.stored)} of {count} events stored")
        return self.stored


async def until(true: Callable[[], bool], timeout: float = 60.0, why: Callable[[], str] = lambda: "") -> None:
    """Wait until something is so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not true():
        assert loop.time() < end, why()
        await asyncio.sleep(0.02)


@asynccontextmanager
async def streaming(
    *pairs: tuple[BaseEventTrigger, Store], ack_timeout: float = 30.0
) -> AsyncIterator[Callable[[BaseEventTrigger, Store], None]]:
    """Run triggers as ``TriggerRunner.run_trigger`` does, on Airflow's own manager of shared streams.

    What is stored is confirmed, as the triggerer's supervisor would. A trigger that is given up is started again. What
    it gives starts another one.
    """
    from airflow.triggers.shared_stream import SharedStreamManager

    manager = SharedStreamManager(ack_timeout=ack_timeout)

    async def run(trigger_id: int, trigger: BaseEventTrigger, store: Store) -> None:
        late: list[int] = []

        def store_late() -> None:
            store.stored += store.seen[len(store.stored) :]
            manager.confirm_persisted(late)

        store.store_late = store_late
        while True:
            _, arguments = trigger.serialize()
            key = trigger.shared_stream_key()
            stream = manager.subscribe(trigger_id=trigger_id, trigger=trigger, key=key)
            try:
                async for event in trigger.filter_shared_stream(stream):
                    json.dumps(event.payload, allow_nan=False)
                    [told] = event.payload.values()
                    store.seen += told
                    store.batches += 1
                    seq = manager.bind_pending_event(trigger_id=trigger_id, key=key)
                    assert seq is not None
                    if any(store.fails(one) for one in told):
                        late.append(seq)
                    else:
                        store.stored += told
                        manager.confirm_persisted([seq])
            except AssertionError:
                raise
            except Exception:
                store.restarts += 1
            finally:
                await manager.unsubscribe(trigger_id, key)
            trigger = type(trigger)(**arguments)

    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []

        def join(trigger: BaseEventTrigger, store: Store) -> None:
            tasks.append(asyncio.create_task(run(len(tasks), trigger, store)))

        async def stop() -> None:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await manager.stop_all()
            assert [end for end in ends if not isinstance(end, asyncio.CancelledError)] == []

        stack.push_async_callback(stop)
        for pair in pairs:
            join(*pair)
        yield join


class Post:
    """A topic of a test's own, and queues that hear it."""

    def __init__(self, emulator: Emulator, connection: str) -> None:
        self.emulator = emulator
        self.hook = CmqHook(connection)
        self.topic = f"topic-{uuid.uuid4().hex[:8]}"
        self.hook.ensure_topic(self.topic)

    def queue(self, visibility: int = 600) -> str:
        """Make a queue."""
        name = f"assets-{uuid.uuid4().hex[:8]}"
        self.subscribe(name, visibility)
        return name

    def subscribe(self, name: str, visibility: int = 600) -> None:
        """Make a queue of this name."""
        self.hook.ensure_queue(name, visibility_timeout=visibility)
        self.hook.ensure_subscription(self.topic, name)

    def publish(self, *events: dict[str, Any], body: str | None = None) -> None:
        """Publish one message."""
        self.hook.publish(self.topic, json.dumps({"Events": list(events)}) if body is None else body)

    def left(self, queue: str) -> int:
        """How many messages a queue holds, read or not."""
        found = self.hook.describe_queue(queue)
        return (found.active_msg_num or 0) + (found.inactive_msg_num or 0)

    def fill(self, queue: str, events: Iterable[dict[str, Any]]) -> None:
        """Put one message for each event into a queue, at once."""

        def send(services: Services) -> None:
            found = services.cmq.broker.queue(queue)
            assert found is not None
            for one in events:
                services.cmq.broker.send(found, json.dumps({"Events": [one]}))

        self.emulator.on_loop(send)

    def wait_for_receptions(self, queue: str, count: int) -> None:
        """Wait until the one message of a queue has been received so often."""

        def receptions() -> int:
            def look(services: Services) -> int:
                found = services.cmq.broker.queue(queue)
                assert found is not None
                return sum(message.dequeue_count for message in [*found.ready, *found.inflight.values()])

            return self.emulator.on_loop(look)

        wait_for(f"received {count} times", lambda: receptions() >= count, timeout=60)

    async def until_read(self, queue: str) -> None:
        """Wait until each message of a queue has been received: whoever reads them has all at his next turn."""

        def unread() -> int:
            def look(services: Services) -> int:
                found = services.cmq.broker.queue(queue)
                assert found is not None
                return len(found.ready)

            return self.emulator.on_loop(look)

        await until(lambda: unread() == 0)

    async def empty(self, queue: str) -> None:
        """Wait until a queue holds nothing."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 60
        while left := await asyncio.to_thread(self.left, queue):
            assert loop.time() < end, f"{left} messages are left"
            await asyncio.sleep(0.1)


def event(
    name: str, job_id: str | None = None, *, time: str = "2026-01-01T00:00:00Z", **members: Any
) -> dict[str, Any]:
    """An event in the form that Tencent documents."""
    ids = {} if job_id is None else {"JobId": job_id}
    return {"EventName": name, "EventTime": time, "Batch": {**ids, **members}, "EventVars": []}
