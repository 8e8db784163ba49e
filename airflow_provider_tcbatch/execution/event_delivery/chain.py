"""What setting the chain of events up and checking it have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import NotFound, PermissionDenied, ResourceBusy, TCBatchError
from airflow_provider_tcbatch.models.cmq import DescribeCmqSubscriptionDetail, DescribeCmqTopicDetail
from airflow_provider_tcbatch.policies.event.delivery_chain import State, Step, base_queue_name, setup_command

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.cmq import CmqHook
    from airflow_provider_tcbatch.models.cmq_views import CmqQueue, CmqSubscription

__all__ = ["ATTEMPTS", "EventChain", "grant", "lacks_right", "row_of", "stream_settings"]

#: A check should say soon what is wrong.
ATTEMPTS = 2


def stream_settings() -> tuple[float, float | None]:
    """Airflow's ``shared_stream_ack_timeout`` in seconds, and ``shared_stream_cohort_grace_period``.

    The latter is ``None`` before Airflow 3.3, which has no shared streams.
    """
    from airflow.configuration import conf

    from airflow_provider_tcbatch.connection.deployment import seconds_of

    ack, grace = "shared_stream_ack_timeout", "shared_stream_cohort_grace_period"
    return (
        seconds_of("triggerer", ack, 300.0),
        seconds_of("triggerer", grace, 0.0) if conf.has_option("triggerer", grace) else None,
    )


def row_of(step: Step) -> dict[str, str]:
    """A step in plain JSON."""
    return {"step": step.name, "state": step.state.value, "what": step.what, "todo": step.todo}


class EventChain:
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
        #: What to do where something does not exist.
        self._setup = setup_command(self._topic, asset_queue, self._base)

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
        return self._hook.api.call(DescribeCmqTopicDetail(topic_name=self._topic), attempts=ATTEMPTS).topic_describe

    def _find_queue(self, queue: str) -> CmqQueue | None:
        try:
            return self._hook.describe_queue(queue)
        except NotFound:
            return None

    def _subscriptions(self) -> list[CmqSubscription]:
        pages = self._hook.api.pages(DescribeCmqSubscriptionDetail(topic_name=self._topic), 50)
        return [each for page in pages for each in page.subscription_set]

    def _add(self, name: str, state: State, what: str, todo: str = "") -> None:
        # An error of ours says what to do, too. Where the step knows better, there is one advice, and not two.
        what, _, advice = what.partition(". What to do: ")
        self._steps.append(Step(name, state, what, todo or advice))

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        """What fails in here is a step that failed, and does not keep the others from being looked at."""
        try:
            yield
        except ResourceBusy as error:
            self._add(name, State.FAILED, str(error), "try again in a minute")
        except PermissionDenied as error:
            self._add(name, State.MISSING if lacks_right(error) else State.FAILED, str(error), grant(error))
        except NotFound as error:
            self._add(name, State.MISSING, str(error), self._setup)
        except TCBatchError as error:
            self._add(name, State.FAILED, str(error))


def lacks_right(error: PermissionDenied) -> bool:
    """Whether the keys are right, and only may not do this."""
    return "UnauthorizedOperation" in error.code


def grant(error: PermissionDenied) -> str:
    """What to do about it."""
    if lacks_right(error):
        return f"grant tdmq:{error.action}"
    return "" if "What to do: " in str(error) else "check the keys, and what they may do with the queue or topic"
