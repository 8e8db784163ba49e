"""The chain of events against the emulator: made, looked at, broken in each of its parts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.execution.event_delivery.chain import stream_settings
from airflow_provider_tcbatch.execution.event_delivery.check import EventsCheck
from airflow_provider_tcbatch.execution.event_delivery.setup import EventsSetup
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.check_message import check_message, check_of
from airflow_provider_tcbatch.models.cmq import (
    CreateCmqQueue,
    CreateCmqSubscribe,
    DeleteCmqSubscribe,
    DescribeCmqSubscriptionDetail,
    ModifyCmqQueueAttribute,
)
from airflow_provider_tcbatch.models.events import parse_message
from airflow_provider_tcbatch.policies.event.delivery_chain import FAULTS, State, Step
from tests.unit.watching.test_process_queue import until

Make = Callable[..., "Chain"]

#: Rights that a triggerer needs for a queue of its own.
RIGHTS = [
    "CreateCmqQueue",
    "CreateCmqSubscribe",
    "ModifyCmqQueueAttribute",
    "DescribeCmqQueues",
    "DescribeCmqSubscriptionDetail",
    "DeleteCmqSubscribe",
    "DeleteCmqQueue",
]


class Chain(EventsSetup, EventsCheck):
    """Both of them, for one connection."""


@pytest.fixture
def make(own_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A chain of a connection with other fields."""

    def chain(*, fields: dict[str, Any] | None = None, **names: Any) -> Chain:
        conn = json.loads(own_emulator.info.airflow_conn_json)
        extra = conn["extra"] if isinstance(conn["extra"], dict) else json.loads(conn["extra"])
        conn["extra"] = {**extra, "event_topic": "chain", **(fields or {})}
        monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(conn))
        return Chain(CmqHook(), **names)

    return chain


@pytest.fixture
def hook(make: Make) -> CmqHook:
    """For what a test does itself."""
    make()
    return CmqHook()


def states(steps: list[Step]) -> dict[str, str]:
    return {step.name: step.state.value for step in steps}


def of(steps: list[Step], name: str) -> list[Step]:
    return [step for step in steps if step.name == name]


def missing(steps: list[Step]) -> dict[str, str]:
    return {step.name: f"{step.what}; {step.todo}" for step in steps if step.state in FAULTS}


def warnings(steps: list[Step]) -> list[str]:
    return [f"{step.what}; {step.todo}" for step in steps if step.state is State.WARNING]


def names(emulator: Emulator) -> tuple[set[str], set[str]]:
    """Queues, and subscriptions of the topic."""

    def look(services: Services) -> tuple[set[str], set[str]]:
        topic = services.cmq.broker.topic("chain")
        return {queue.name for queue in services.cmq.broker.queues.values()}, set(
            topic.subscriptions
        ) if topic else set()

    return emulator.on_loop(look)


# -- set-up ----------------------------------------------------------------------------------------------


def test_a_set_up_chain_is_whole_and_a_second_set_up_changes_nothing(make: Make, own_emulator: Emulator) -> None:
    chain = make(asset_queue="assets")
    made = states(chain.setup())
    parts = ("topic", "base queue", "subscription of base queue", "asset queue", "subscription of asset queue")
    assert made == {"connection": "ok", **dict.fromkeys(parts, "made")}
    steps = chain.check(through=["assets"])
    assert missing(steps) == {}
    assert states(steps)["test message"] == "ok"
    assert len(of(steps, "test message")) == 2, "through a queue like a triggerer's, and through the asset queue"
    assert {states(steps)[f"right {right}"] for right in RIGHTS} == {"ok"}
    queues, subscriptions = names(own_emulator)
    assert {name for name in queues if "check" in name} == set(), "what was made for the check is removed"
    assert subscriptions == {"chain-base", "assets"}
    assert set(states(chain.setup()).values()) == {"ok"}
    assert names(own_emulator) == (queues, subscriptions)


def test_the_asset_queue_is_made_for_what_airflow_needs(
    make: Make, hook: CmqHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_ACK_TIMEOUT", "400")
    make(asset_queue="assets").setup()
    found = hook.describe_queue("assets")
    assert (found.visibility_timeout, found.msg_retention_seconds) == (800, 43200)


def test_an_asset_queue_that_exists_gets_what_it_lacks(make: Make, hook: CmqHook) -> None:
    hook.ensure_queue("assets", visibility_timeout=30, message_retention=3600)
    chain = make(asset_queue="assets")
    [limits] = of(chain.setup(dry_run=True), "asset queue's limits")
    assert limits.state is State.WOULD
    assert hook.describe_queue("assets").visibility_timeout == 30
    [limits] = of(chain.setup(), "asset queue's limits")
    assert limits.state is State.CHANGED
    assert "30 s hidden" in limits.what
    found = hook.describe_queue("assets")
    assert (found.visibility_timeout, found.msg_retention_seconds) == (600, 43200)
    hook.api.call(ModifyCmqQueueAttribute(queue_name="assets", visibility_timeout=700))
    assert of(chain.setup(), "asset queue's limits") == []
    assert hook.describe_queue("assets").visibility_timeout == 700, "more is no trouble"


def test_a_dry_run_makes_nothing(make: Make, own_emulator: Emulator) -> None:
    before = names(own_emulator)
    steps = make(asset_queue="assets", fields={"event_queue": "shared"}).setup(dry_run=True)
    assert set(states(steps).values()) == {"ok", "would be made"}
    assert len([step for step in steps if step.state is State.WOULD]) == 7
    assert names(own_emulator) == before


def test_a_queue_is_subscribed_once_whatever_the_subscription_is_called(
    make: Make, hook: CmqHook, own_emulator: Emulator
) -> None:
    hook.ensure_topic("chain")
    hook.ensure_queue("chain-base")
    hook.ensure_subscription("chain", "chain-base", "by-hand")
    make().setup()
    assert names(own_emulator)[1] == {"by-hand"}


def test_a_shared_queue_is_set_up_with_the_rest(make: Make, hook: CmqHook) -> None:
    chain = make(fields={"event_queue": "shared"})
    chain.setup()
    assert hook.describe_queue("shared").visibility_timeout == 30
    assert missing(chain.check()) == {}


def test_waits_and_assets_do_not_get_one_queue(make: Make) -> None:
    chain = make(asset_queue="Shared", fields={"event_queue": "shared"})
    assert "name another queue" in missing(chain.setup())["asset queue"]


@pytest.mark.parametrize("action", ["CreateCmqTopic", "CreateCmqQueue", "CreateCmqSubscribe"])
def test_what_the_keys_may_not_make_is_named(make: Make, own_emulator: Emulator, action: str) -> None:
    own_emulator.faults.add("error", service="tdmq", action=action, code="UnauthorizedOperation")
    told = missing(make().setup())
    assert told
    text = next(iter(told.values()))
    assert action in text
    assert "grant" in text


def test_who_may_not_look_may_still_make(make: Make, hook: CmqHook, own_emulator: Emulator) -> None:
    for action in ("DescribeCmqTopicDetail", "DescribeCmqQueueDetail", "DescribeCmqSubscriptionDetail"):
        own_emulator.faults.add("error", service="tdmq", action=action, code="UnauthorizedOperation")
    assert missing(make().setup()) == {}
    assert names(own_emulator)[1] == {"chain-base"}


# -- check -----------------------------------------------------------------------------------------------


def test_without_a_topic_waits_poll(make: Make) -> None:
    for steps in (make(fields={"event_topic": ""}).check(), make(fields={"event_topic": ""}).setup()):
        assert "event_topic" in missing(steps)["connection"]


def test_a_topic_that_the_connection_does_not_name(make: Make) -> None:
    chain = make(fields={"event_topic": ""}, topic="chain")
    assert "event_topic to chain" in warnings(chain.setup())[0]
    assert missing(chain.check()) == {}
    assert "another topic" in warnings(make(fields={"event_topic": "other"}, topic="chain").check())[0]


def test_a_missing_topic(make: Make, own_emulator: Emulator) -> None:
    before = names(own_emulator)
    steps = make(asset_queue="assets").check()
    assert "airflow tcbatch events setup" in missing(steps)["topic"]
    assert "airflow tcbatch events setup" in missing(steps)["asset queue"]
    assert states(steps)["right CreateCmqSubscribe"] == "not checked"
    assert states(steps)["right DeleteCmqQueue"] == "ok"
    assert names(own_emulator) == before


def test_a_topic_without_a_lasting_subscription(make: Make, hook: CmqHook) -> None:
    """A triggerer's own queue keeps it alive only as long as that runs."""
    hook.ensure_topic("chain")
    hook.ensure_queue("airflow-tcbatch-x-0123abcd-host-0123abcd")
    hook.ensure_subscription("chain", "airflow-tcbatch-x-0123abcd-host-0123abcd")
    told = missing(make().check())
    assert list(told) == ["topic's subscriptions"]
    assert "refuses jobs" in told["topic's subscriptions"]
    hook.ensure_queue("other")
    hook.ensure_subscription("chain", "other")
    assert missing(make().check()) == {}, "any lasting one will do"


def test_an_asset_queue_that_hears_nothing(make: Make, hook: CmqHook) -> None:
    chain = make(asset_queue="assets")
    chain.setup()
    hook.api.call(DeleteCmqSubscribe(topic_name="chain", subscription_name="assets"))
    assert "not subscribed" in missing(chain.check())["subscription of asset queue"]
    hook.api.call(
        CreateCmqSubscribe(
            topic_name="chain", subscription_name="assets", protocol="queue", endpoint="assets", filter_tag=["a"]
        )
    )
    assert "filter" in missing(chain.check())["subscription of asset queue"]


def test_a_message_that_does_not_come_through_is_missed(make: Make, hook: CmqHook) -> None:
    """The queue is there and was never subscribed."""
    make().setup()
    hook.ensure_queue("deaf")
    told = missing(make().check(through=["deaf"], patience=1))
    assert list(told) == ["test message"]
    assert "did not come to deaf within 1 s" in told["test message"]


def test_what_else_lies_in_a_queue_is_left_alone(make: Make, hook: CmqHook) -> None:
    make(asset_queue="assets").setup()
    hook.api.call(ModifyCmqQueueAttribute(queue_name="assets", visibility_timeout=1))
    bodies = [f"message {number}" for number in range(5)]
    for body in bodies:
        hook.publish("chain", body)
    hook.publish("chain", check_message("another check"))
    steps = make(asset_queue="assets").check(through=["assets"])
    assert missing(steps) == {}
    left: set[str] = set()
    while len(left) < 6:
        messages = hook.receive("assets", wait=3)
        assert messages, "they come again"
        left.update(message.body for message in messages)
    assert left == {*bodies, check_message("another check")}


@pytest.mark.parametrize("right", RIGHTS)
def test_a_missing_right_is_named(make: Make, own_emulator: Emulator, right: str) -> None:
    make().setup()
    own_emulator.faults.add("error", service="tdmq", action=right, code="UnauthorizedOperation")
    told = missing(make().check(patience=2))
    assert f"right {right}" in told
    assert f"grant tdmq:{right}" in told[f"right {right}"]
    consequence = "waits go on by polling" if right.startswith("Create") else "not swept|stay behind"
    assert re.search(consequence, told[f"right {right}"])
    assert {name for name in told if name.startswith("right ")} == {f"right {right}"}


def test_a_shared_queue_needs_no_right_to_make_queues(make: Make, own_emulator: Emulator) -> None:
    chain = make(fields={"event_queue": "shared"})
    chain.setup()
    for right in RIGHTS:
        if right != "DescribeCmqSubscriptionDetail":
            own_emulator.faults.add("error", service="tdmq", action=right, code="UnauthorizedOperation")
    steps = chain.check()
    assert missing(steps) == {}
    assert states(steps)["right CreateCmqQueue"] == "not checked"
    assert "--through" in of(steps, "test message")[0].todo
    assert states(chain.check(through=["shared"]))["test message"] == "ok"


@pytest.mark.parametrize(
    ("action", "state", "text"),
    [
        ("PublishMessage", State.WARNING, "could not be published"),
        ("BatchReceiveMessage", State.FAILED, "BatchReceiveMessage"),
        ("BatchDeleteMessage", State.FAILED, "BatchDeleteMessage"),
    ],
)
def test_rights_to_messages(make: Make, own_emulator: Emulator, action: str, state: State, text: str) -> None:
    make().setup()
    own_emulator.faults.add("error", service="cmq", action=action, code="4100")
    [step] = of(make().check(patience=2), "test message")
    assert step.state is state
    assert text in step.what
    assert {name for name in names(own_emulator)[0] if "check" in name} == set(), "the queue is removed all the same"


def test_advice_can_be_copied(make: Make) -> None:
    """It names what was named: without --asset-queue the set-up would not make that queue."""
    [step] = of(make(asset_queue="assets", base_queue="ground").check(), "asset queue")
    assert "'airflow tcbatch events setup --topic chain --asset-queue assets --base-queue ground'" in step.todo


def test_what_could_not_be_asked_is_not_called_missing_and_has_one_advice(make: Make) -> None:
    make().setup()
    steps = make(fields={"tdmq_endpoint": "http://127.0.0.1:9", "cmq_endpoint": "http://127.0.0.1:9"}).check()
    [step] = [step for step in steps if step.state in FAULTS]
    assert (step.name, step.state) == ("TDMQ API", State.FAILED)
    assert "What to do" not in step.what
    assert step.todo


def test_services_that_can_not_be_reached(make: Make) -> None:
    make().setup()
    steps = make(fields={"tdmq_endpoint": "http://127.0.0.1:9"}).check()
    assert "tdmq_endpoint" in missing(steps)["TDMQ API"]
    assert states(steps)["Batch API"] == "ok"
    steps = make(fields={"cmq_endpoint": "http://127.0.0.1:9"}).check()
    assert "cmq_endpoint" in missing(steps)["test message"]
    steps = make(fields={"region": "ap-nowhere"}).check()
    assert "check fields region" in missing(steps)["TDMQ API"]
    assert "UnsupportedRegion" in missing(steps)["Batch API"]


def test_a_region_whose_cmq_address_is_not_documented(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    make().setup()
    monkeypatch.setattr("airflow_provider_tcbatch.connection.settings.default_endpoint", lambda region: None)
    steps = make(fields={"cmq_endpoint": ""}).check()
    assert "cmq_endpoint" in missing(steps)["CMQ address"]


def test_wrong_keys_are_told_from_missing_rights(make: Make, own_emulator: Emulator) -> None:
    make().setup()
    own_emulator.faults.add("error", service="tdmq", code="AuthFailure.SignatureFailure")
    steps = make().check()
    assert list(missing(steps)) == ["topic"]
    assert "SecretKey" in missing(steps)["topic"]
    assert "grant" not in missing(steps)["topic"]


# -- what may go wrong later -------------------------------------------------------------------------------


def test_limits_that_lose_or_repeat_events(make: Make, hook: CmqHook) -> None:
    chain = make(asset_queue="assets", fields={"event_queue": "shared"})
    chain.setup()
    hook.api.call(ModifyCmqQueueAttribute(queue_name="assets", visibility_timeout=599, msg_retention_seconds=3600))
    hook.api.call(ModifyCmqQueueAttribute(queue_name="shared", visibility_timeout=600))
    steps = chain.check()
    assert missing(steps) == {}
    told = "\n".join(warnings(steps))
    assert "visibility timeout is 599 s" in told
    assert "600 s or more" in told
    assert "retention is 3600 s" in told
    assert "set it to 30 s" in told


def test_an_asset_queue_that_waits_read_too(make: Make) -> None:
    make(fields={"event_queue": "shared"}).setup()
    steps = make(asset_queue="shared", fields={"event_queue": "shared"}).check()
    assert "also the connection's event_queue" in "\n".join(warnings(steps))


@pytest.mark.parametrize(("grace", "told"), [("0", True), ("5", False)])
def test_watchers_that_come_back_late(make: Make, monkeypatch: pytest.MonkeyPatch, grace: str, told: bool) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_COHORT_GRACE_PERIOD", grace)
    assert stream_settings() == (300.0, float(grace))
    chain = make(asset_queue="assets")
    chain.setup()
    assert ("shared_stream_cohort_grace_period" in "\n".join(warnings(chain.check()))) is told
    assert "shared_stream" not in "\n".join(warnings(make().check())), "without asset watchers it does not matter"


def test_a_base_queue_that_fills_up(make: Make, own_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_tcbatch.policies.event import delivery_chain as event_chain

    make().setup()
    assert warnings(make().check()) == []
    monkeypatch.setattr(event_chain, "_FULL", 3)
    for number in range(3):
        CmqHook().publish("chain", f"{number}")
    assert "nobody reads" in warnings(make().check())[0]


# -- the test message ------------------------------------------------------------------------------------


def test_a_test_message_is_no_event() -> None:
    body = check_message("0123456789abcdef")
    assert parse_message(body) == []
    assert check_of(body) == "0123456789abcdef"
    for other in ("", "{}", '{"Events":[]}', '"AirflowProviderTCBatchCheck"', "AirflowProviderTCBatchCheck"):
        assert check_of(other) is None


def test_listeners_say_nothing_of_it(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    from airflow_provider_tcbatch.waits.sessions import job_watcher

    chain = make()
    chain.setup()

    async def run() -> None:
        async with job_watcher(CmqHook().settings) as watcher:
            listener = watcher._listener
            assert listener is not None
            await asyncio.wait_for(listener.hearing.wait(), 60)
            await asyncio.to_thread(CmqHook().publish, "chain", check_message("x"))
            await until(lambda: listener.received > 0, "it is received")

    asyncio.run(run())
    assert "holds no Batch event" not in caplog.text


def test_what_is_made_by_hand_counts(make: Make, hook: CmqHook) -> None:
    """The check does not care who made the chain."""
    hook.ensure_topic("chain")
    hook.api.call(CreateCmqQueue(queue_name="mine", visibility_timeout=1200, msg_retention_seconds=43200))
    hook.ensure_subscription("chain", "mine")
    assert len(list(hook.api.pages(DescribeCmqSubscriptionDetail(topic_name="chain"), 50))) == 1
    assert missing(make(asset_queue="mine").check()) == {}


def test_misspelt_settings_of_streams_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_ACK_TIMEOUT", "soon")
    monkeypatch.setenv("AIRFLOW__TRIGGERER__SHARED_STREAM_COHORT_GRACE_PERIOD", "later")
    assert stream_settings() == (300.0, 0.0)
    for option, value in (("shared_stream_ack_timeout", "soon"), ("shared_stream_cohort_grace_period", "later")):
        assert f"[triggerer] {option} of Airflow's configuration is {value!r}; write seconds" in caplog.text
