"""A queue that a process makes for itself, so that it hears every event of a topic.

It is removed when the process ends, as far as it can be: a process that is killed leaves it behind. So the living
remove the queues of the dead; ``policies/event/queue_leases.py`` says how they tell them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from airflow_provider_tcbatch.exceptions import NotFound, PermissionDenied, ResourceBusy, TCBatchError
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
    DescribeCmqQueues,
    DescribeCmqSubscriptionDetail,
    ModifyCmqQueueAttribute,
)
from airflow_provider_tcbatch.policies.event.queue_leases import Looks, family, is_of, next_sign, queue_name

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.models.actions import Action

__all__ = ["OwnQueue", "QueueTimings"]

log = logging.getLogger(__name__)

#: Most entries of a list of queues or subscriptions.
_PAGE = 50

#: Names that are asked for at once.
_NAMES = 20


@dataclass(frozen=True)
class QueueTimings:
    """Paces of signs and sweeps, in seconds.

    :param beat: between two signs of life, each with a look at the other queues before it: three requests.
    :param silence: without a sign for this long, a queue is taken for one that nobody has any more.
    :param looks: how many looks must have shown it so, besides.
    :param denied: until it is tried again what the credentials may not do.
    :param settle: a queue that is not found when it was made this short a time ago may only not be known everywhere.
    """

    beat: float = 180.0
    silence: float = 1200.0
    looks: int = 5
    denied: float = 3600.0
    settle: float = 30.0


class OwnQueue:
    """Makes a queue, subscribes it to a topic, keeps it, and removes those of processes that are dead.

    :param api: client to ask.
    :param topic: the topic.
    :param deployment: what tells this Airflow from others on the account: queues of another one are never touched.
    :param timings: paces.
    """

    def __init__(self, api: ApiClient, topic: str, deployment: str, timings: QueueTimings | None = None) -> None:
        self._api = api
        self._topic = topic
        self._family = family(deployment, topic)
        self._timings = timings or QueueTimings()
        self._made_at = float("-inf")
        # The sign given last, and whether the service took it.
        self._sign, self._signed = 1, False
        self._looks = Looks()
        # Looks at which it did not find its own sign.
        self._unseen = 0
        self._look_at = float("-inf")
        # Troubles that were told.
        self._told: set[str] = set()
        # It exists, and is subscribed: making it may fail in between.
        self._exists = self._subscribed = False
        #: Its name; another one after :meth:`replace`.
        self.name = self._new_name()

    @property
    def ready(self) -> bool:
        """Whether it was made and subscribed."""
        return self._subscribed

    def _new_name(self) -> str:
        return queue_name(self._family, socket.gethostname(), secrets.token_hex(4))

    async def make(self) -> None:
        """Make it and subscribe it.

        :raises ApiError: if that can't be done.
        """
        # The sign of life; nothing else uses this attribute, since every receiver says how long it waits.
        self._sign, self._signed = 1, False
        await self._create(CreateCmqQueue(queue_name=self.name, polling_wait_seconds=self._sign, visibility_timeout=30))
        self._exists = True
        await self._subscribe()
        self._subscribed = True
        self._made_at = time.monotonic()
        log.info("Hearing events of topic %s on queue %s", self._topic, self.name)

    async def _subscribe(self) -> None:
        await self._create(
            CreateCmqSubscribe(
                topic_name=self._topic,
                subscription_name=self.name,
                protocol="queue",
                endpoint=self.name,
                notify_content_format="SIMPLIFIED",
            )
        )

    async def _create(self, action: Action[Any]) -> None:
        try:
            await self._api.acall(action)
        except ResourceBusy:  # ResourceInUse.*: it exists already, from an attempt whose answer was lost
            log.debug("%s: %s exists already", action.name(), self.name)

    async def replace(self) -> None:
        """Somebody removed it, or seems to have: the next :meth:`make` makes another.

        Another name, since one that was just deleted can't be used again at once.
        """
        if not self._subscribed or time.monotonic() - self._made_at < self._timings.settle:
            return
        log.info("Queue %s is gone: another one is made", self.name)
        await self.remove()
        self.name = self._new_name()

    async def remove(self) -> None:
        """Remove it, as far as that is possible: the living sweep what stays behind."""
        removals: list[Action[Any]] = []
        if self._subscribed:
            removals.append(DeleteCmqSubscribe(topic_name=self._topic, subscription_name=self.name))
        if self._exists:
            removals.append(DeleteCmqQueue(queue_name=self.name))
        self._exists = self._subscribed = False
        for removal in removals:
            try:
                with anyio.fail_after(3.0):
                    await self._api.acall(removal, attempts=1)
            except NotFound:
                continue
            except Exception as error:
                # Whatever it is (keys that can't be refreshed, a timeout): hearing events goes on without it.
                log.info("Queue %s could not be removed: %s: %s", self.name, type(error).__name__, error)
                return

    # -- signs of life and sweeps ----------------------------------------------------------------------

    async def keep(self) -> None:
        """Give signs of life, and remove the queues of those who give none, until cancelled."""
        while True:
            if self._subscribed:
                # The look comes first: a list may lag behind the sign that was just given. Without signs of its own,
                # as when the right is missing, nobody judges those of others.
                if self._signed and time.monotonic() >= self._look_at:
                    await self._tried(self._look_and_sweep())
                self._signed = await self._tried(self._give_sign())
            # Never all processes at once.
            await asyncio.sleep(self._timings.beat * random.uniform(0.8, 1.0))

    async def _tried(self, step: Coroutine[Any, Any, None]) -> bool:
        """Do something that may fail: hearing events goes on without sweeps."""
        try:
            await step
        except Exception as error:
            self._looks = Looks()
            text = str(error) if isinstance(error, TCBatchError) else f"{type(error).__name__}: {error}"
            # Told once, and again when it is another kind of trouble.
            kind = f"{type(error).__name__} {getattr(error, 'action', '')}"
            level = logging.DEBUG if kind in self._told else logging.INFO
            self._told.add(kind)
            log.log(level, "Queues of dead processes are not swept: %s", text)
            if isinstance(error, PermissionDenied):
                self._look_at = time.monotonic() + self._timings.denied
            return False
        return True

    async def _give_sign(self) -> None:
        name, sign = self.name, next_sign(self._sign)
        await self._api.acall(ModifyCmqQueueAttribute(queue_name=name, polling_wait_seconds=sign))
        if name == self.name:
            self._sign = sign

    async def _look_and_sweep(self) -> None:
        own, sign = self.name, str(self._sign)
        subscriptions: set[str] = set()
        async for listed in self._api.apages(DescribeCmqSubscriptionDetail(topic_name=self._topic), _PAGE):
            subscriptions.update(subscription.subscription_name for subscription in listed.subscription_set)
        subscribed = {name for name in subscriptions if is_of(self._family, name)}
        queues = await self._queues(subscribed | {own})
        if own in queues and own not in subscriptions and own == self.name and self._subscribed:
            log.info("Queue %s is not subscribed to topic %s any more: it is subscribed again", own, self._topic)
            await self._subscribe()
        seen = {**dict.fromkeys(subscribed, ""), **queues}
        timings = self._timings
        self._looks = self._looks.look(seen, own, sign, time.monotonic(), silence=timings.silence, looks=timings.looks)
        if not self._looks.believed and own == self.name:
            self._unseen += 1
            if self._unseen == self._timings.looks:
                log.info("Queues of dead processes are not swept: the service does not show the sign of %s", own)
        for name in self._looks.dead:
            await self._sweep(name)

    async def _queues(self, known: set[str]) -> dict[str, str]:
        """What each queue of this family shows, by name.

        :param known: names of which some queues may be.
        """
        found: dict[str, str] = {}

        async def ask(action: DescribeCmqQueues) -> None:
            async for page in self._api.apages(action, _PAGE):
                for queue in page.queue_list:
                    if is_of(self._family, queue.queue_name):
                        found[queue.queue_name] = str(queue.polling_wait_seconds)

        await ask(DescribeCmqQueues(queue_name=self._family))
        if self.name not in found:
            # Whether a part of a name is enough for that filter is not documented. A list holds whole names.
            names = sorted(known)
            for start in range(0, len(names), _NAMES):
                await ask(DescribeCmqQueues(queue_name_list=names[start : start + _NAMES]))
        return found

    async def _sweep(self, name: str) -> None:
        for removal in (
            DeleteCmqSubscribe(topic_name=self._topic, subscription_name=name),
            DeleteCmqQueue(queue_name=name),
        ):
            try:
                await self._api.acall(removal)
            except NotFound:  # it was half removed, or another process was faster
                log.debug("%s: %s is gone already", removal.name(), name)
        log.info("Queue %s was removed: its process gave no sign of life for %.0f s", name, self._timings.silence)
