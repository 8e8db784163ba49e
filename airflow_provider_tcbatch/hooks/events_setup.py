"""Sets the chain of events up, from the topic to the queues, and checks it: for the command line and for operators."""

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
    ResourceBusy,
    TCBatchError,
)
from airflow_provider_tcbatch.models.actions import DescribeJobs
from airflow_provider_tcbatch.models.check_message import check_message, check_of
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqQueue,
    DeleteCmqSubscribe,
    DescribeCmqQueues,
    DescribeCmqSubscriptionDetail,
    DescribeCmqTopicDetail,
    ModifyCmqQueueAttribute,
)
from airflow_provider_tcbatch.policies.event_chain import (
    ASSET_RETENTION,
    BASE_RETENTION,
    SETUP,
    State,
    Step,
    asset_queue_troubles,
    asset_visibility,
    base_queue_name,
    base_queue_troubles,
    grace_trouble,
    lasting,
    shared_queue_troubles,
    subscription_trouble,
)

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.cmq import CmqHook
    from airflow_provider_tcbatch.models.cmq_views import CmqQueue, CmqSubscription
    from airflow_provider_tcbatch.models.request import Action

__all__ = ["EventsSetup", "row_of", "stream_settings"]

#: A check should say soon what is wrong.
_ATTEMPTS = 2

#: What it means to triggerers that a right is missing; without the others they have no queue.
_WITHOUT = {
    "ModifyCmqQueueAttribute": "queues of dead triggerers are not swept",
    "DescribeCmqQueues": "queues of dead triggerers are not swept",
    "DescribeCmqSubscriptionDetail": "queues of dead triggerers are not swept",
    "DeleteCmqSubscribe": "subscriptions stay behind",
    "DeleteCmqQueue": "queues stay behind",
}

Trouble = tuple[str, str]


def stream_settings() -> tuple[float, float | None]:
    """Airflow's ``shared_stream_ack_timeout`` in seconds, and ``shared_stream_cohort_grace_period``.

    The latter is ``None`` before Airflow 3.3, which has no shared streams.
    """
    from airflow.configuration import conf

    ack, grace = "shared_stream_ack_timeout", "shared_stream_cohort_grace_period"
    return (
        conf.getfloat("triggerer", ack, fallback=300.0),
        conf.getfloat("triggerer", grace) if conf.has_option("triggerer", grace) else None,
    )


def row_of(step: Step) -> dict[str, str]:
    """A step in plain JSON."""
    return {"step": step.name, "state": step.state.value, "what": step.what, "todo": step.todo}


class EventsSetup:
    """The chain of one connection.

    :param hook: whose connection says which topic, and whether triggerers share a queue.
    :param topic: the topic, where the connection names none.
    :param asset_queue: durable queue for asset watchers, if there is to be one.
    :param base_queue: durable queue that gives the topic a subscription; default is named after the topic.
    """

    def __init__(
        self,
        hook: CmqHook,
        *,
        topic: str | None = None,
        asset_queue: str | None = None,
        base_queue: str | None = None,
    ) -> None:
        self._hook = hook
        self._topic = topic or hook.settings.event_topic or ""
        self._asset = asset_queue
        self._base = base_queue or base_queue_name(self._topic)
        self._shared = hook.settings.event_queue
        self._ack, self._grace = stream_settings()
        self._steps: list[Step] = []

    # -- set-up ----------------------------------------------------------------------------------------

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

    # -- check -----------------------------------------------------------------------------------------

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
            self._hook.api.call(DescribeJobs(limit=1), attempts=_ATTEMPTS)
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
            self._add("topic", State.MISSING, f"{self._topic} does not exist in {settings.api.region}", SETUP)
            return True
        except PermissionDenied as error:
            self._add("topic", State.MISSING, str(error), _grant(error))
            return _lacks_right(error)
        except TCBatchError as error:
            todo = f"check fields region and tdmq_endpoint of connection {settings.conn_id!r}, and the network"
            self._add("TDMQ API", State.MISSING, str(error), todo)
            return False
        self._add("topic", State.OK, f"{self._topic} exists")
        with self._step("topic's subscriptions"):
            subscriptions = self._subscriptions()
            if names := lasting(subscriptions):
                self._add("topic's subscriptions", State.OK, f"{', '.join(names[:5])} stay when no triggerer runs")
            else:
                what = f"{self._topic} has none that stays when no triggerer runs: the service refuses jobs then"
                self._add("topic's subscriptions", State.MISSING, what, SETUP)
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

    def _check_queue(self, name: str, queue: str, troubles: Callable[[CmqQueue], list[Trouble]]) -> None:
        with self._step(name):
            try:
                found = self._find_queue(queue)
            except NotFound:
                found = None
            if found is None:
                self._add(name, State.MISSING, f"{queue} does not exist", SETUP)
                return
            self._judged(name, queue, troubles(found))
        with self._step(f"subscription of {name}"):
            trouble = subscription_trouble(self._subscriptions(), queue)
            if trouble is None:
                self._add(f"subscription of {name}", State.OK, f"{queue} receives all messages of {self._topic}")
            else:
                self._add(f"subscription of {name}", State.MISSING, *trouble)

    def _judged(self, name: str, queue: str, troubles: list[Trouble]) -> None:
        for what, todo in troubles:
            self._add(name, State.WARNING, what, todo)
        if not troubles:
            self._add(name, State.OK, f"{queue} exists")

    # -- rights and the test message -------------------------------------------------------------------

    @contextlib.contextmanager
    def _temporary_queue(self) -> Iterator[str | None]:
        """A queue of the check's own, subscribed: what triggerers do, so that a right that they lack is named."""
        queue = f"tcbatch-check-{secrets.token_hex(8)}"
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
            self._hook.api.call(action, attempts=_ATTEMPTS)
        except PermissionDenied as error:
            if not _lacks_right(error):
                self._add(name, State.MISSING, str(error), _grant(error))
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
            self._add(name, State.MISSING, str(error), "see the message")
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
            self._add(name, State.MISSING, f"it could not be published: {error}", "see the message")
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

    # -- shared ----------------------------------------------------------------------------------------

    def _named(self) -> bool:
        conn_id = self._hook.settings.conn_id
        if not self._topic:
            what = f"connection {conn_id!r} names no topic: waits go on by polling"
            self._add("connection", State.MISSING, what, "set its field event_topic, or name a topic with --topic")
            return False
        mode = f"triggerers share queue {self._shared}" if self._shared else "each triggerer makes a queue of its own"
        if self._hook.settings.event_topic not in (None, self._topic):
            todo = f"set its field event_topic to {self._topic}"
            self._add("connection", State.WARNING, f"{conn_id!r} names another topic", todo)
        elif self._hook.settings.event_topic is None:
            todo = f"set its field event_topic to {self._topic}"
            self._add("connection", State.WARNING, f"{conn_id!r} names no topic: waits go on by polling", todo)
        else:
            self._add("connection", State.OK, f"{conn_id!r}: topic {self._topic}, {mode}")
        return True

    def _find_topic(self) -> object:
        return self._hook.api.call(DescribeCmqTopicDetail(topic_name=self._topic), attempts=_ATTEMPTS).topic_describe

    def _find_queue(self, queue: str) -> CmqQueue | None:
        try:
            return self._hook.describe_queue(queue)
        except NotFound:
            return None

    def _subscriptions(self) -> list[CmqSubscription]:
        pages = self._hook.api.pages(DescribeCmqSubscriptionDetail(topic_name=self._topic), 50)
        return [each for page in pages for each in page.subscription_set]

    def _add(self, name: str, state: State, what: str, todo: str = "") -> None:
        self._steps.append(Step(name, state, what, todo))

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """What fails in here is a step that is missing, and does not keep the others from being looked at."""
        try:
            yield
        except ResourceBusy as error:
            self._add(name, State.MISSING, str(error), "try again in a minute")
        except PermissionDenied as error:
            self._add(name, State.MISSING, str(error), _grant(error))
        except NotFound as error:
            self._add(name, State.MISSING, str(error), SETUP)
        except TCBatchError as error:
            self._add(name, State.MISSING, str(error), "see the message")


def _lacks_right(error: PermissionDenied) -> bool:
    """Whether the keys are right, and only may not do this."""
    return "UnauthorizedOperation" in error.code


def _grant(error: PermissionDenied) -> str:
    if _lacks_right(error):
        return f"grant tdmq:{error.action}"
    return "check the keys, and what they may do with the queue or topic"
