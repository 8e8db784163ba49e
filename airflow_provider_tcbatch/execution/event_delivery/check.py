"""Checks the chain of events, from the topic to a test message: for the command line and for operators."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ConfigurationError,
    NotFound,
    PermissionDenied,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.event_delivery.chain import ATTEMPTS, EventChain, grant, lacks_right
from airflow_provider_tcbatch.models.actions import DescribeJobs
from airflow_provider_tcbatch.models.check_message import check_message, check_of
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
    DescribeCmqQueues,
    DescribeCmqSubscriptionDetail,
    ModifyCmqQueueAttribute,
)
from airflow_provider_tcbatch.policies.event.delivery_chain import (
    BASE_RETENTION,
    CHECK_PREFIX,
    State,
    Step,
    asset_queue_troubles,
    base_queue_troubles,
    grace_trouble,
    lasting,
    shared_queue_troubles,
    subscription_trouble,
)

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models.cmq_views import CmqQueue
    from airflow_provider_tcbatch.models.request import Action

__all__ = ["EventsCheck"]

#: What it means to triggerers that a right is missing; without the others they have no queue.
_WITHOUT = {
    "ModifyCmqQueueAttribute": "queues of dead triggerers are not swept",
    "DescribeCmqQueues": "queues of dead triggerers are not swept",
    "DescribeCmqSubscriptionDetail": "queues of dead triggerers are not swept",
    "DeleteCmqSubscribe": "subscriptions stay behind",
    "DeleteCmqQueue": "queues stay behind",
}


class EventsCheck(EventChain):
    """Looks at everything, and sends a test message."""

    def check(self, *, through: Collection[str] = (), patience: float = 30.0) -> list[Step]:
        """Look at everything, and send a test message all the way.

        It makes a queue for a moment, where the keys may do that, and removes it again.

        :param through: queues through which the test message is received, too. Other messages that lie in front of it
            come again after the queue's visibility timeout; none is deleted.
        :param patience: seconds that the test message may take, per queue.
        """
        self._steps = []
        if not self._named():
            return self._steps
        settings = self._hook.settings
        with self._step("Batch API"):
            self._hook.api.call(DescribeJobs(limit=1), attempts=ATTEMPTS)
            self._add("Batch API", State.OK, f"{settings.api.endpoint('batch')[1]} answers for {settings.api.region}")
        if not self._check_topic():
            return self._steps  # all else asks the same service
        self._check_asset_queue()
        if self._shared is not None:
            self._check_queue("shared event queue", self._shared, shared_queue_troubles)
        with self._temporary_queue() as temporary:
            self._check_messages(temporary, through, patience)
        return self._steps

    def _check_topic(self) -> bool:
        """Look at the topic; says whether the service answers at all."""
        settings = self._hook.settings
        try:
            if not self._find_topic():
                raise NotFound(f"Topic {self._topic!r} does not exist")
        except NotFound:
            self._add("topic", State.MISSING, f"{self._topic} does not exist in {settings.api.region}", self._setup)
            return True
        except PermissionDenied as error:
            lacks = lacks_right(error)
            self._add("topic", State.MISSING if lacks else State.FAILED, str(error), grant(error))
            return lacks
        except TCBatchError as error:
            todo = f"check fields region and tdmq_endpoint of connection {settings.conn_id!r}, and the network"
            self._add("TDMQ API", State.FAILED, str(error), todo)
            return False
        self._add("topic", State.OK, f"{self._topic} exists")
        with self._step("topic's subscriptions"):
            subscriptions = self._subscriptions()
            if names := lasting(subscriptions):
                self._add("topic's subscriptions", State.OK, f"{', '.join(names[:5])} stay when no triggerer runs")
            else:
                what = f"{self._topic} has none that stays when no triggerer runs: the service refuses jobs then"
                self._add("topic's subscriptions", State.MISSING, what, self._setup)
        with self._step("base queue"):
            try:
                found = self._find_queue(self._base)
            except NotFound:
                found = None
            if found is None:
                self._add("base queue", State.SKIPPED, f"there is no {self._base}; any lasting subscription will do")
            else:
                self._judged("base queue", self._base, base_queue_troubles(found))
        return True

    def _check_asset_queue(self) -> None:
        if self._asset is None:
            self._add("asset queue", State.SKIPPED, "none was named: asset watchers need a queue of their own")
            return
        self._check_queue(
            "asset queue",
            self._asset,
            lambda queue: asset_queue_troubles(queue, ack_timeout=self._ack, event_queue=self._shared),
        )
        if trouble := grace_trouble(self._grace):
            self._add("asset watchers", State.WARNING, *trouble)

    def _check_queue(self, name: str, queue: str, troubles: Callable[[CmqQueue], list[tuple[str, str]]]) -> None:
        with self._step(name):
            try:
                found = self._find_queue(queue)
            except NotFound:
                found = None
            if found is None:
                self._add(name, State.MISSING, f"{queue} does not exist", self._setup)
                return
            self._judged(name, queue, troubles(found))
        with self._step(f"subscription of {name}"):
            trouble = subscription_trouble(self._subscriptions(), queue, self._setup)
            if trouble is None:
                self._add(f"subscription of {name}", State.OK, f"{queue} receives all messages of {self._topic}")
            else:
                self._add(f"subscription of {name}", State.MISSING, *trouble)

    def _judged(self, name: str, queue: str, troubles: list[tuple[str, str]]) -> None:
        for what, todo in troubles:
            self._add(name, State.WARNING, what, todo)
        if not troubles:
            self._add(name, State.OK, f"{queue} exists")

    # -- rights and the test message -------------------------------------------------------------------

    @contextlib.contextmanager
    def _temporary_queue(self) -> Iterator[str | None]:
        """A queue of the check's own, subscribed: what triggerers do, so that a right that they lack is named."""
        queue = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
        subscribe = CreateCmqSubscribe.parse(
            {
                "TopicName": self._topic,
                "SubscriptionName": queue,
                "Protocol": "queue",
                "Endpoint": queue,
                "NotifyContentFormat": "SIMPLIFIED",
            }
        )
        made = self._right(CreateCmqQueue(queue_name=queue, msg_retention_seconds=BASE_RETENTION))
        subscribed = False
        try:
            subscribed = made and self._right(subscribe)
            if made:
                self._right(ModifyCmqQueueAttribute(queue_name=queue, polling_wait_seconds=1))
            self._right(DescribeCmqQueues(queue_name=queue, limit=1))
            self._right(DescribeCmqSubscriptionDetail(topic_name=self._topic, limit=1))
            yield queue if subscribed else None
        finally:
            if subscribed:
                self._right(DeleteCmqSubscribe(topic_name=self._topic, subscription_name=queue))
            if made and not self._right(DeleteCmqQueue(queue_name=queue)):
                self._add("temporary queue", State.WARNING, f"{queue} could not be removed", "remove it in the console")

    def _right(self, action: Action[Any]) -> bool:
        """Do it, and say whether the keys may."""
        name = f"right {action.name()}"
        try:
            self._hook.api.call(action, attempts=ATTEMPTS)
        except PermissionDenied as error:
            if not lacks_right(error):
                self._add(name, State.FAILED, str(error), grant(error))
            elif self._shared is None:
                consequence = _WITHOUT.get(action.name(), "waits go on by polling")
                todo = f"grant tdmq:{action.name()}, or set field event_queue; without it {consequence}"
                self._add(name, State.MISSING, str(error), todo)
            else:
                self._add(name, State.SKIPPED, "the keys have no such right; a shared queue needs none")
            return False
        except NotFound as error:  # the topic, of which was told
            self._add(name, State.SKIPPED, str(error))
            return False
        except TCBatchError as error:
            self._add(name, State.FAILED, str(error))
            return False
        self._add(name, State.OK, "granted")
        return True

    def _check_messages(self, temporary: str | None, through: Collection[str], patience: float) -> None:
        queues = [*([temporary] if temporary else []), *through]
        name = "test message"
        if not queues:
            what = "no queue to receive one from could be made"
            self._add(name, State.SKIPPED, what, "name the queue to receive it from, with --through")
            return
        check = secrets.token_hex(8)
        try:
            self._hook.publish(self._topic, check_message(check))
        except ConfigurationError as error:
            self._add("CMQ address", State.MISSING, str(error), "set field cmq_endpoint")
            return
        except PermissionDenied as error:
            todo = "nothing, if only this check is to publish: Batch publishes by itself"
            self._add(name, State.WARNING, f"it could not be published: {error}", todo)
            return
        except ApiError as error:
            self._add(name, State.FAILED, f"it could not be published: {error}")
            return
        for queue in queues:
            called = "a queue like a triggerer's" if queue == temporary else queue
            with self._step(name):
                seconds = self._received(queue, check, patience, again=queue == temporary)
                if seconds is None:
                    what = f"published to {self._topic}, it did not come to {called} within {patience:g} s"
                    self._add(name, State.MISSING, what, f"check who else reads {queue}, and its subscription")
                else:
                    self._add(
                        name, State.OK, f"came from {self._topic} to {called} in {seconds:.1f} s, and was deleted"
                    )

    def _received(self, queue: str, check: str, patience: float, *, again: bool) -> float | None:
        """Seconds until the test message was there; it alone is deleted.

        :param again: publish it once more half-way: a subscription that was just made may not work at once.
        """
        began = time.monotonic()
        while (left := patience - (time.monotonic() - began)) > 0:
            if again and left < patience / 2:
                again = False
                self._hook.publish(self._topic, check_message(check))
            # One by one: what is received and left is hidden from those who want it.
            for message in self._hook.receive(queue, count=1, wait=int(min(3, max(1, left)))):
                if check_of(message.body) == check:
                    self._hook.delete(queue, [message])
                    return time.monotonic() - began
        return None
