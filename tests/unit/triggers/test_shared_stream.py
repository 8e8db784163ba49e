"""How Airflow's shared streams and a queue get on: Airflow 3.3 and later."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.trigger import Trigger
from airflow.sdk import DAG, Asset, AssetWatcher
from airflow.serialization.decoders import smart_decode_trigger_kwargs
from airflow.serialization.encoders import encode_trigger
from airflow.serialization.serialized_objects import DagSerialization

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.triggers.event import TCBatchEventTrigger
from airflow_provider_tcbatch.triggers.message import CmqMessageTrigger
from airflow_provider_tcbatch.watching import event_reader
from tests.unit.conftest import job
from tests.unit.triggers.asset_streams import Post, Store, event, streaming, until


@pytest.fixture
def post(emulator: Emulator, connection: str) -> Post:
    return Post(emulator, connection)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "_PACE", 0.2)
    monkeypatch.setattr(event_reader, "_PATIENCE", 1.5)
    monkeypatch.setattr(event_reader, "_LOOK_AGAIN", 0.3)


def let_pass(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have the reader's clock show so many seconds more than it would."""
    monkeypatch.setattr(event_reader, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + seconds))


def unconfirmed(queue: str, **filters: Any) -> TCBatchEventTrigger:
    return TCBatchEventTrigger(queue_name=queue, confirm=False, **filters)


def publishing(topic: str, *names: str, command: str = "true", **variables: str) -> Job:
    """A job that tells the topic of some events."""
    event_vars = [{"Name": name, "Value": value} for name, value in variables.items()]
    configs = [{"EventName": name, "EventVars": event_vars} for name in names]
    notifications = [{"TopicName": topic, "EventConfigs": configs}]
    return Job.parse({**job(command), "Notifications": notifications, "NotificationTarget": "TDMQ_CMQ"})


def test_the_row_of_a_trigger_is_found_again_at_each_parse() -> None:
    """Airflow compares hashes; if they differed it would end the watcher and begin another one all the time."""
    trigger = TCBatchEventTrigger(queue_name="q", event_names="JOB_FAILED", job_ids=["b", "a"], variables={"a": "1"})
    with DAG("watched", schedule=Asset("watched", watchers=[AssetWatcher(name="w", trigger=trigger)])) as dag:
        pass
    rows = []
    for _ in range(2):
        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        [asset] = [one for _, one in DagSerialization.from_dict(stored).timetable.asset_condition.iter_assets()]
        encoded = encode_trigger(asset.watchers[0].trigger)
        row = Trigger(encoded["classpath"], encoded["kwargs"])
        rows.append(TCBatchEventTrigger.hash(row.classpath, row.kwargs))
        assert rows[-1] == TCBatchEventTrigger.hash(encoded["classpath"], encoded["kwargs"])
        decode: Callable[[Any], Any] = smart_decode_trigger_kwargs
        arguments = {name: decode(value) for name, value in row.kwargs.items()}
        assert TCBatchEventTrigger(**arguments).serialize() == trigger.serialize()
    assert len(set(rows)) == 1


def test_triggers_of_one_queue_share_a_stream_whatever_they_filter() -> None:
    one, other = unconfirmed("q", job_ids="job-1"), TCBatchEventTrigger(queue_name="q")
    assert one.shared_stream_key() == other.shared_stream_key() == CmqMessageTrigger(queue_name="q").shared_stream_key()
    assert one.shared_stream_key() == TCBatchEventTrigger(queue_name="Q").shared_stream_key(), "it is the same queue"
    assert one.shared_stream_key() != TCBatchEventTrigger(queue_name="q", region="ap-beijing").shared_stream_key()
    assert one.shared_stream_key() != TCBatchEventTrigger(queue_name="p").shared_stream_key()


async def test_a_job_that_ended_is_told_once_and_its_message_deleted(post: Post) -> None:
    queue, store = post.queue(), Store()
    hook = TCBatchHook()
    async with streaming((TCBatchEventTrigger(queue_name=queue, event_names="JOB_SUCCEED"), store)):
        spec = publishing(post.topic, "JOB_RUNNING", "JOB_SUCCEED", colour="blue")
        job_id = await asyncio.to_thread(hook.submit_job, spec)
        [payload] = await store.wait_for(1)
        await post.empty(queue)
    assert store.stored == [payload]
    assert payload["job_id"] == job_id
    assert (payload["name"], payload["family"], payload["state"]) == ("JOB_SUCCEED", "JOB", "SUCCEED")
    assert (payload["job_name"], payload["variables"], payload["confirmed"]) == ("test", {"colour": "blue"}, True)
    assert json.loads(payload["raw"])["EventName"] == "JOB_SUCCEED"


async def test_a_message_is_deleted_only_once_all_its_events_are_stored(post: Post) -> None:
    queue, failing = post.queue(visibility=2), {"job-2222"}
    store = Store(lambda payload: payload["job_id"] in failing)
    async with streaming((unconfirmed(queue), store), ack_timeout=1.0):
        post.publish(event("JOB_SUCCEED", "job-1111"), event("JOB_SUCCEED", "job-2222"))
        await until(lambda: store.restarts > 0)
        assert await asyncio.to_thread(post.left, queue) == 1
        failing.clear()
        await until(lambda: "job-2222" in {payload["job_id"] for payload in store.stored})
        await post.empty(queue)
    ids = [payload["event_id"] for payload in store.stored]
    assert len(set(ids)) == 2, "what is stored twice after a failure has the same id"


async def test_what_takes_longer_than_the_queue_hides_it_is_told_once(post: Post) -> None:
    queue, store = post.queue(visibility=1), Store(lambda payload: True)
    async with streaming((unconfirmed(queue), store), ack_timeout=60):
        post.publish(event("JOB_SUCCEED", "job-1111"))
        await until(lambda: len(store.seen) == 1)
        await asyncio.to_thread(post.wait_for_receptions, queue, 3)
        store.store_late()
        # The handle that came with the first reception can't delete it any more.
        await post.empty(queue)
    assert len(store.seen) == 1


async def test_what_is_being_deleted_when_it_ends_is_deleted(post: Post) -> None:
    """Otherwise the next triggerer, which has no memory of it, stores it again."""
    queue, store = post.queue(), Store()
    fault = post.emulator.faults.add("slow", action="BatchDeleteMessage", target=queue, seconds=180, count=1)
    try:
        async with streaming((unconfirmed(queue), store)):
            post.publish(event("JOB_SUCCEED", "job-1111"))
            await until(lambda: post.emulator.faults.all()[-1].hits == 1)
        await post.empty(queue)
    finally:
        post.emulator.faults.remove(fault)


async def test_a_second_delivery_is_recognised_and_deleted(post: Post) -> None:
    queue, store = post.queue(), Store()
    fault = post.emulator.faults.add("duplicate_event", target=post.topic)
    try:
        async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
            await asyncio.to_thread(TCBatchHook().submit_job, publishing(post.topic, "JOB_SUCCEED"))
            await store.wait_for(1)
            await post.empty(queue)
    finally:
        post.emulator.faults.remove(fault)
    assert len(store.seen) == 1
    # The same event again, in another message.
    again = json.loads(store.stored[0]["raw"])
    async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
        post.publish(again)
        post.publish(event("JOB_FAILED", time="later"))
        await store.wait_for(2)
        await post.empty(queue)
    assert [payload["name"] for payload in store.seen] == ["JOB_SUCCEED", "JOB_FAILED"]


async def test_each_watcher_of_a_queue_gets_what_it_asked_for(post: Post) -> None:
    queue = post.queue()
    ended, failed, named, all_of_it = Store(), Store(), Store(), Store()
    async with streaming(
        (unconfirmed(queue, event_names=["JOB_SUCCEED", "JOB_FAILED"]), ended),
        (unconfirmed(queue, event_names="JOB_FAILED"), failed),
        (unconfirmed(queue, job_ids=["job-2222"]), named),
        (CmqMessageTrigger(queue_name=queue), all_of_it),
    ):
        post.publish(event("JOB_SUCCEED", "job-1111"))
        post.publish(event("JOB_FAILED", "job-2222"), event("TASK_FAILED", "job-2222", TaskName="t"))
        post.publish(event("COMPUTE_ENV_CREATED", EnvId="env-1111"))
        await all_of_it.wait_for(3)
        await post.empty(queue)
    names = [[payload["name"] for payload in store.stored] for store in (ended, failed, named)]
    assert [sorted(each) for each in names] == [
        ["JOB_FAILED", "JOB_SUCCEED"],
        ["JOB_FAILED"],
        ["JOB_FAILED", "TASK_FAILED"],
    ]
    assert sorted(len(payload["events"]) for payload in all_of_it.stored) == [1, 1, 2]


async def test_one_watcher_whose_events_are_not_stored_does_not_lose_them(post: Post) -> None:
    queue = post.queue(visibility=2)
    well, ill = Store(), Store(lambda payload: True)
    async with streaming(
        (unconfirmed(queue), well), (unconfirmed(queue, event_names="JOB_FAILED"), ill), ack_timeout=1.0
    ):
        post.publish(event("JOB_FAILED", "job-1111"))
        await until(lambda: ill.restarts > 0)
        ill.fails = lambda payload: False
        await ill.wait_for(1)
        await post.empty(queue)
    assert {payload["event_id"] for payload in well.stored} == {payload["event_id"] for payload in ill.stored}


async def test_what_holds_no_event_is_reported_once_and_deleted(post: Post, capfd: pytest.CaptureFixture[str]) -> None:
    queue, one, other = post.queue(), Store(), Store()
    async with streaming((unconfirmed(queue), one), (unconfirmed(queue, event_names="JOB_FAILED"), other)):
        post.publish(body="hello")
        await post.empty(queue)
    assert one.seen == other.seen == []
    assert capfd.readouterr().out.count("holds no event of Batch, and is deleted") == 1


async def test_what_is_too_much_for_events_is_reported_once_and_deleted(
    post: Post, capfd: pytest.CaptureFixture[str]
) -> None:
    queue, events, messages = post.queue(), Store(), Store()
    body = json.dumps({**event("JOB_FAILED", "job-1111"), "more": [{}] * 5_000})
    async with streaming((unconfirmed(queue), events), (CmqMessageTrigger(queue_name=queue), messages)):
        post.publish(body=body)
        post.publish(event("JOB_FAILED", "job-2222"))
        await messages.wait_for(2)
        await events.wait_for(1)
        await post.empty(queue)
    assert [payload["job_id"] for payload in events.stored] == ["job-2222"]
    # Whoever asked for any message gets it as text: it is not known what it is to them.
    [large] = [payload for payload in messages.stored if len(payload["body"]) > 10_000]
    assert (large["body"], large["json"], large["events"]) == (body, None, [])
    assert capfd.readouterr().out.count("is deleted: it holds more than 2,000 values") == 1


async def test_what_is_too_large_to_be_handed_on_is_left(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    queue, events, messages = post.queue(visibility=1), Store(), Store()
    async with streaming((unconfirmed(queue), events), (CmqMessageTrigger(queue_name=queue), messages)):
        post.publish(body="x" * 262_145)
        await asyncio.to_thread(post.wait_for_receptions, queue, 3)
        post.publish(event("JOB_FAILED", "job-1111"))
        await messages.wait_for(1)
        await events.wait_for(1)
    assert await asyncio.to_thread(post.left, queue) == 1
    assert len(messages.stored) == 1
    assert caplog.text.count("is left there: it has more than 262,144 bytes") == 1


async def test_many_messages_are_all_told_once(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "_MOST", 100)
    queue, store = post.queue(), Store()
    ids = [f"job-{number:04}" for number in range(700)]
    post.fill(queue, (event("JOB_SUCCEED", job_id) for job_id in ids))
    async with streaming((unconfirmed(queue), store)):
        await store.wait_for(len(ids))
        await post.empty(queue)
    assert sorted(payload["job_id"] for payload in store.stored) == ids


async def test_what_comes_together_is_told_together(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_reader, "_PACE", 600.0)
    queue, store = post.queue(), Store()
    async with streaming((unconfirmed(queue), store)):
        post.fill(queue, [event("JOB_SUCCEED", "job-0000")])
        await store.wait_for(1)
        for number in range(1, 21):
            post.fill(queue, [event("JOB_SUCCEED", f"job-{number:04}")])
            await asyncio.sleep(0.02)
        await post.until_read(queue)
        assert store.batches == 1
        let_pass(monkeypatch, 601.0)
        await store.wait_for(21)
        await post.empty(queue)
    assert store.batches == 2


# -- what the API says -------------------------------------------------------------------------------


async def test_what_the_api_does_not_bear_out_is_left_out_and_logged(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    queue, careful, careless = post.queue(), Store(), Store()
    done = await asyncio.to_thread(TCBatchHook().submit_job, job("true"))
    await asyncio.to_thread(post.emulator.wait_job, done)
    with caplog.at_level(logging.WARNING):
        async with streaming((TCBatchEventTrigger(queue_name=queue), careful), (unconfirmed(queue), careless)):
            post.fill(
                queue,
                [
                    event("JOB_SUCCEED", done),
                    event("JOB_FAILED", done),
                    event("JOB_SUCCEED", "job-0000zzzz"),
                    event("JOB_SUCCEED", "no id at all"),
                    event("TASK_SUCCEED", done, TaskName="main"),
                    event("TASK_FAILED", done, TaskName="main"),
                    event("TASK_SUCCEED", done, TaskName="other"),
                    event("TASK_INSTANCE_SUCCEED", done, TaskName="main", TaskInstanceIndex=0),
                    event("COMPUTE_ENV_CREATED", EnvId="env-0000zzzz"),
                    event("COMPUTE_ENV_DELETED", EnvId="env-0000zzzz"),
                ],
            )
            await careless.wait_for(10)
            await post.empty(queue)
    told = [(payload["name"], payload["confirmed"], payload["job_name"]) for payload in careful.stored]
    assert sorted(told, key=str) == [
        ("COMPUTE_ENV_DELETED", True, None),
        ("JOB_SUCCEED", True, "test"),
        ("TASK_INSTANCE_SUCCEED", True, "test"),
        ("TASK_SUCCEED", True, "test"),
    ]
    refused = [record.getMessage() for record in caplog.records if "is not borne out" in record.getMessage()]
    assert len(refused) == 6
    assert any(f"job {done} is SUCCEED" in text for text in refused)
    assert any("there is no job job-0000zzzz" in text for text in refused)
    assert any("has no task 'other'" in text for text in refused)


async def test_an_event_that_is_ahead_of_the_api_is_waited_for(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reader, "_PATIENCE", 600.0)
    queue, store = post.queue(), Store()
    gate = tmp_path / "gate"
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job(f"until [ -e {gate} ]; do sleep 0.05; done"))
    async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
        post.fill(queue, [event("JOB_SUCCEED", job_id)])
        await asyncio.to_thread(post.wait_for_receptions, queue, 1)
        assert store.seen == []
        gate.touch()
        [payload] = await store.wait_for(1)
    assert payload["confirmed"]


async def test_an_event_that_was_not_borne_out_counts_when_it_comes_again(
    post: Post, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one was forged, or the API was slow; the second one is all that there will be."""
    queue, store = post.queue(), Store()
    gate = tmp_path / "gate"
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job(f"until [ -e {gate} ]; do sleep 0.05; done"))
    async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
        post.fill(queue, [event("JOB_SUCCEED", job_id)])
        await until(lambda: "is not borne out" in caplog.text)
        await post.empty(queue)
        gate.touch()
        await asyncio.to_thread(post.emulator.wait_job, job_id)
        post.fill(queue, [event("JOB_SUCCEED", job_id), event("JOB_SUCCEED", job_id)])
        [payload] = await store.wait_for(1)
        await post.empty(queue)
    assert payload["confirmed"]
    assert len(store.seen) == 1


async def test_an_event_that_comes_again_while_it_is_in_doubt_is_waited_for_anew(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reader, "_PATIENCE", 600.0)
    queue, store = post.queue(), Store()
    gate = tmp_path / "gate"
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job(f"until [ -e {gate} ]; do sleep 0.05; done"))

    async def asked_again() -> None:
        """Wait for a question that began after this."""
        enough = len(asked_about(post, job_id)) + 2
        await until(lambda: len(asked_about(post, job_id)) >= enough)

    async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
        post.fill(queue, [event("JOB_SUCCEED", job_id)])
        await until(lambda: bool(asked_about(post, job_id)))
        let_pass(monkeypatch, 500.0)
        post.fill(queue, [event("JOB_SUCCEED", job_id)])
        await post.until_read(queue)
        await asked_again()
        let_pass(monkeypatch, 700.0)
        await asked_again()
        gate.touch()
        [payload] = await store.wait_for(1)
        await post.empty(queue)
    assert payload["confirmed"]
    assert len(store.seen) == 1


async def test_who_comes_later_hears_nothing_that_nobody_has_asked_the_api_about(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_reader, "_PACE", 600.0)
    queue, careless, careful = post.queue(), Store(), Store()
    async with streaming((unconfirmed(queue), careless)) as join:
        post.fill(queue, [event("JOB_SUCCEED", "job-1111")])
        await careless.wait_for(1)
        post.fill(queue, [event("JOB_SUCCEED", "job-2222")])
        await post.until_read(queue)
        # The second one has been read, and waits until the run for the first one has been made.
        join(TCBatchEventTrigger(queue_name=queue), careful)
        let_pass(monkeypatch, 601.0)
        await until(lambda: "there is no job job-2222" in caplog.text)
        await careless.wait_for(2)
        await post.empty(queue)
    assert careful.seen == []
    assert "there is no job job-2222" in caplog.text


async def test_names_that_an_event_does_not_hold_are_asked_for(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: whether the API bears out what the events tell matters to nobody."""
    monkeypatch.setattr(event_reader, "_PATIENCE", 600.0)
    monkeypatch.setattr(event_reader, "_LOOK_AGAIN", 0.0)
    post.emulator.configure(submitted_seconds=600.0)
    queue, named, other = post.queue(), Store(), Store()
    hook = TCBatchHook()
    ids = [await asyncio.to_thread(hook.submit_job, {**job("true"), "JobName": name}) for name in ("this", "that")]
    post.fill(queue, [event("JOB_RUNNING", job_id) for job_id in ids])
    async with streaming(
        (unconfirmed(queue, job_names="this"), named), (unconfirmed(queue, job_names="nothing of the kind"), other)
    ):
        await named.wait_for(1)
        await post.empty(queue)
    assert [(payload["job_id"], payload["job_name"], payload["confirmed"]) for payload in named.stored] == [
        (ids[0], "this", False)
    ]
    assert other.seen == []
    assert [set(asked) for asked in asked_about(post, *ids)] == [set(ids)]
    assert "is not borne out" not in caplog.text


async def test_a_name_that_the_api_does_not_know_yet_is_waited_for(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue may tell of a job before the API does."""
    monkeypatch.setattr(event_reader, "_PATIENCE", 600.0)
    queue, named = post.queue(), Store()
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job("true"))
    hidden = post.emulator.on_loop(lambda services: services.batch.jobs.pop(job_id))
    post.fill(queue, [event("JOB_RUNNING", job_id)])
    async with streaming((unconfirmed(queue, job_names="test"), named)):
        await until(lambda: bool(asked_about(post, job_id)))
        post.emulator.on_loop(lambda services: services.batch.jobs.update({job_id: hidden}))
        [payload] = await named.wait_for(1)
    assert (payload["job_id"], payload["job_name"]) == (job_id, "test")


@pytest.mark.parametrize("known", ["first", "second", "none"])
async def test_a_name_that_stays_unknown_is_not_waited_for_for_ever(
    post: Post, caplog: pytest.LogCaptureFixture, known: str
) -> None:
    """Also where another event of the same message has its name, and is in doubt all the same."""
    queue, named = post.queue(), Store()
    ids = ["job-0000first", "job-000second"]
    names = [{"JobName": "test"} if name == known else {} for name in ("first", "second")]
    async with streaming((unconfirmed(queue, job_names="test"), named)):
        post.publish(*(event("JOB_SUCCEED", job_id, **name) for job_id, name in zip(ids, names, strict=True)))
        await post.empty(queue)
    assert [payload["job_id"] for payload in named.stored] == ([] if known == "none" else [ids[known == "second"]])
    told = [record.getMessage() for record in caplog.records if "is not borne out" in record.getMessage()]
    assert len(told) == (2 if known == "none" else 1)


async def test_who_wants_an_event_borne_out_has_it_waited_for_though_others_only_want_its_name(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also who came when the others knew the name already, and waited for the next batch."""
    monkeypatch.setattr(event_reader, "_PACE", 600.0)
    monkeypatch.setattr(event_reader, "_PATIENCE", 6_000.0)
    post.emulator.configure(submitted_seconds=600.0)
    queue, named, careful = post.queue(), Store(), Store()
    first, second = [await asyncio.to_thread(TCBatchHook().submit_job, job("true")) for _ in range(2)]
    async with streaming((unconfirmed(queue, job_names="test"), named)) as join:
        post.fill(queue, [event("JOB_RUNNING", first)])
        await named.wait_for(1)
        post.fill(queue, [event("JOB_RUNNING", second)])
        await until(lambda: bool(asked_about(post, second)))
        join(TCBatchEventTrigger(queue_name=queue), careful)
        let_pass(monkeypatch, 601.0)
        await until(lambda: len(asked_about(post, second)) >= 3)
        assert (len(named.seen), careful.seen) == (1, [])


def asked_about(post: Post, *job_ids: str) -> list[list[str]]:
    """The jobs that each DescribeJobs named which named one of these."""
    calls = post.emulator.on_loop(lambda services: services.host.calls.as_json()["calls"])
    return [
        call["job_ids"] for call in calls if call["action"] == "DescribeJobs" and set(call["job_ids"]) & set(job_ids)
    ]


# -- trouble -----------------------------------------------------------------------------------------


async def test_a_queue_that_does_not_exist_is_waited_for(post: Post, caplog: pytest.LogCaptureFixture) -> None:
    queue, store = f"late-{post.topic}", Store()
    with caplog.at_level(logging.INFO, logger=event_reader.__name__):
        async with streaming((unconfirmed(queue), store)):
            await until(lambda: "it does not exist" in caplog.text)
            await asyncio.to_thread(post.subscribe, queue)
            post.publish(event("JOB_SUCCEED", "job-1111"))
            await store.wait_for(1)
    assert caplog.text.count("it does not exist") == 1, "said once, however often it is tried"
    assert f"Queue {queue} is read again" in caplog.text
    assert store.restarts == 0


@pytest.mark.parametrize(
    ("kind", "action", "members"),
    [
        ("throttle", "BatchReceiveMessage", {}),
        ("drop", "BatchReceiveMessage", {}),
        ("http_error", "BatchReceiveMessage", {}),
        ("error", "DescribeJobs", {"code": "InternalError", "target": "*"}),
        ("lose_answer", "BatchDeleteMessage", {}),
        ("drop", "BatchDeleteMessage", {}),
    ],
)
async def test_trouble_is_waited_out(post: Post, kind: str, action: str, members: dict[str, str]) -> None:
    queue, store = post.queue(visibility=2), Store()
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job("true"))
    await asyncio.to_thread(post.emulator.wait_job, job_id)
    fault = post.emulator.faults.add(kind, action=action, count=2, **{"target": queue, **members})
    try:
        async with streaming((TCBatchEventTrigger(queue_name=queue), store)):
            post.fill(queue, [event("JOB_SUCCEED", job_id)])
            await store.wait_for(1)
            await post.empty(queue)
    finally:
        post.emulator.faults.remove(fault)
    assert len(store.seen) == 1
    assert store.restarts == 0


async def test_keys_that_are_refused_are_read_anew(
    post: Post, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue, store = post.queue(), Store()
    good = json.loads(emulator.info.airflow_conn_json)
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps({**good, "password": "rotated away"}))
    async with streaming((unconfirmed(queue), store)):
        await until(lambda: "check the keys" in caplog.text)
        monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(good))
        post.fill(queue, [event("JOB_SUCCEED", "job-1111")])
        await store.wait_for(1)
    assert store.restarts == 0


@pytest.mark.parametrize("spelled", [str, str.upper])
async def test_the_queue_that_waits_read_is_refused(
    post: Post,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spelled: Callable[[str], str],
) -> None:
    queue, store = post.queue(), Store()
    info = json.loads(emulator.info.airflow_conn_json)
    extra = info["extra"] if isinstance(info["extra"], dict) else json.loads(info["extra"])
    info["extra"] = {**extra, "event_queue": spelled(queue)}
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(info))
    post.fill(queue, [event("JOB_SUCCEED", "job-1111")])
    async with streaming((unconfirmed(queue), store)):
        await until(lambda: "is field event_queue of connection" in caplog.text)
    assert post.left(queue) == 1
    assert store.seen == []


async def test_a_queue_that_hides_messages_for_too_short_is_reported(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    short, long = post.queue(visibility=30), post.queue(visibility=600)
    async with streaming((unconfirmed(short), Store()), (unconfirmed(long), Store())):
        await until(lambda: f"Queue {short} keeps a message hidden for 30 s only" in caplog.text)
        post.fill(long, [event("JOB_SUCCEED", "job-1111")])
        await post.empty(long)
    assert f"Queue {long} keeps" not in caplog.text
