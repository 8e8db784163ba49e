from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_tcbatch.models.cmq_views import CmqQueue, CmqSubscription
from airflow_provider_tcbatch.policies.event.delivery_chain import (
    CHECK_PREFIX,
    asset_queue_troubles,
    asset_visibility,
    base_queue_name,
    base_queue_troubles,
    grace_trouble,
    lasting,
    shared_queue_troubles,
    subscription_trouble,
)
from airflow_provider_tcbatch.policies.event.queue_leases import family, queue_name


def queue(**members: Any) -> CmqQueue:
    return CmqQueue(queue_name="q", **members)


def subscription(endpoint: str | None, **members: Any) -> CmqSubscription:
    return CmqSubscription(**{"subscription_name": "s", "endpoint": endpoint, **members})


@pytest.mark.parametrize(("ack", "seconds"), [(300.0, 600), (0.1, 30), (150.3, 301), (1e9, 43200)])
def test_a_message_stays_hidden_twice_as_long_as_it_may_take(ack: float, seconds: int) -> None:
    assert asset_visibility(ack) == seconds


@pytest.mark.parametrize(
    ("visibility", "retention", "troubles"),
    [(600, 43200, 0), (599, 43200, 1), (None, 43200, 1), (600, 43199, 1), (30, 3600, 2), (600, None, 0)],
)
def test_asset_queues(visibility: int | None, retention: int | None, troubles: int) -> None:
    found = queue(visibility_timeout=visibility, msg_retention_seconds=retention)
    assert len(asset_queue_troubles(found, ack_timeout=300, event_queue=None)) == troubles
    assert len(asset_queue_troubles(found, ack_timeout=300, event_queue="other")) == troubles
    assert len(asset_queue_troubles(found, ack_timeout=300, event_queue="Q")) == troubles + 1


@pytest.mark.parametrize(
    ("waiting", "room", "full"),
    [
        (None, None, False),
        (99_999, None, False),
        (100_000, None, True),
        (5, 100, False),
        (11, 100, True),
        (11, 0, False),
    ],
)
def test_base_queues(waiting: int | None, room: int | None, full: bool) -> None:
    assert bool(base_queue_troubles(queue(active_msg_num=waiting, max_msg_heap_num=room))) is full


@pytest.mark.parametrize(("visibility", "trouble"), [(None, False), (30, False), (60, False), (61, True)])
def test_shared_queues(visibility: int | None, trouble: bool) -> None:
    assert bool(shared_queue_troubles(queue(visibility_timeout=visibility))) is trouble


@pytest.mark.parametrize(
    ("subscriptions", "text"),
    [
        ([], "not subscribed"),
        ([subscription("other")], "not subscribed"),
        ([subscription(None)], "not subscribed"),
        ([subscription("Q")], None),
        ([subscription("q", filter_tags=["a"])], "filter"),
        ([subscription("q", binding_key=["a.*"])], "filter"),
        ([subscription("q", filter_tags=["a"]), subscription("q", filter_tags=[])], None),
    ],
)
def test_subscriptions(subscriptions: list[CmqSubscription], text: str | None) -> None:
    trouble = subscription_trouble(subscriptions, "q", "set it up")
    assert (trouble is None) if text is None else (trouble is not None and text in trouble[0])


def test_queues_of_triggerers_and_of_checks_do_not_last() -> None:
    own = queue_name(family("prod", "topic"), "host", "0123abcd")
    names = ("topic-base", own, f"{CHECK_PREFIX}0123456789abcdef", "assets")
    found = [subscription(name, subscription_name=name) for name in names]
    assert lasting(found) == ["topic-base", "assets"]


@pytest.mark.parametrize(("grace", "told"), [(None, False), (0.0, True), (5.0, False)])
def test_the_grace_period(grace: float | None, told: bool) -> None:
    assert bool(grace_trouble(grace)) is told


@pytest.mark.parametrize("topic", ["t", "t" * 59, "t" * 64])
def test_a_base_queue_has_a_name_that_the_service_takes(topic: str) -> None:
    assert base_queue_name(topic).endswith("-base")
    assert len(base_queue_name(topic)) <= 64
