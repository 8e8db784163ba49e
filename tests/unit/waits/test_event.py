"""A wait for an event, against the emulator: what is heard is not believed until the API shows it."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.hooks.cmq import CmqHook
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.event.awaited import AwaitedEvents
from airflow_provider_tcbatch.waits import event as event_wait
from airflow_provider_tcbatch.waits.event import EventEnd, EventWait
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.jobs import Watcher
from airflow_provider_tcbatch.watching.subscription import WatcherTimings
from tests.support.outages import Outage
from tests.unit.conftest import job
from tests.unit.waits.test_job import Said, held

SOON = WatcherTimings(first=0.05, coalesce=0.01)
ENV = {"EnvName": "farm", "EnvData": {"InstanceType": "S5.MEDIUM4"}, "ResourceMaxRetryCount": 1}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def hook(connection: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[TCBatchHook]:
    """A hook whose topic nobody else publishes to: these waits take any event of a name for theirs."""
    topic = f"heard-{uuid.uuid4().hex[:8]}"
    cmq = CmqHook(connection)
    cmq.ensure_topic(topic)
    # The service takes a job only if somebody subscribes to its topic.
    cmq.ensure_queue(f"{topic}-base")
    cmq.ensure_subscription(topic, f"{topic}-base")
    settings = json.loads(emulator.info.airflow_conn_json)
    settings["extra"]["event_topic"] = topic
    monkeypatch.setenv("AIRFLOW_CONN_TENCENTCLOUD_DEFAULT", json.dumps(settings))
    emulator.configure(
        node_submitted_seconds=0,
        node_pending_seconds=0,
        node_creating_seconds=0.05,
        node_created_seconds=0.05,
        node_deleting_seconds=0.05,
        resource_retry_scale=0.0,
    )
    yield TCBatchHook(connection)
    emulator.faults.clear()
    emulator.on_loop(lambda services: services.batch.envs.clear())


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    path.mkdir()
    yield path
    (path / "all").touch()


def topic_of(hook: TCBatchHook) -> str:
    topic = hook.settings.event_topic
    assert topic is not None
    return topic


@asynccontextmanager
async def hearing(api: ApiClient, hook: TCBatchHook) -> AsyncIterator[Watcher]:
    """A watcher that hears the topic already."""
    listener = EventListener(hook.settings.cmq_client(), api, topic_of(hook))
    watcher = Watcher(api, listener, SOON)
    watcher.start()
    try:
        await asyncio.wait_for(listener.hearing.wait(), 60)
        yield watcher
    finally:
        await watcher.aclose()


def wait_for(event_names: Any, said: Said, *, patience: float = 0.5, **chosen: Any) -> EventWait:
    awaited = AwaitedEvents.parse(event_names=event_names, **chosen)
    return EventWait(awaited, poll_interval=0.2, patience=patience, log_line=said)


async def publish(hook: TCBatchHook, name: str, **members: Any) -> None:
    """What anybody could publish."""
    body = {"EventName": name, "EventTime": "2025-01-01T00:00:00Z", "Batch": members}
    await asyncio.to_thread(CmqHook().publish, topic_of(hook), json.dumps({"Events": [body]}))


FORGED = [
    ("JOB_SUCCEED", {"JobId": "{job}"}),
    ("JOB_SUCCEED", {"JobId": "job-00000000"}),
    ("JOB_SUCCEED", {"JobId": "no id at all"}),
    ("JOB_SUCCEED", {}),
    ("TASK_SUCCEED", {"JobId": "{job}", "TaskName": "main"}),
    ("TASK_SUCCEED", {"JobId": "{job}", "TaskName": "other"}),
    ("TASK_SUCCEED", {"JobId": "{job}"}),
    ("TASK_INSTANCE_FAILED", {"JobId": "{job}"}),
    ("TASK_INSTANCE_SUCCEED", {"JobId": "{job}", "TaskName": "main", "TaskInstanceIndex": 0}),
    ("TASK_INSTANCE_SUCCEED", {"JobId": "{job}", "TaskName": "main", "TaskInstanceIndex": 99}),
    ("COMPUTE_ENV_CREATED", {"EnvId": "env-00000000"}),
    ("COMPUTE_ENV_DELETED", {"EnvId": "{env}"}),
    ("COMPUTE_NODE_RUNNING", {"EnvId": "{env}", "ComputeNodeId": "node-00000000"}),
    ("COMPUTE_NODE_ABNORMAL", {"EnvId": "{env}", "ComputeNodeId": "{node}"}),
    ("COMPUTE_NODE_CREATION_FAILED", {"EnvId": "{env}", "ComputeNodeId": "{node}"}),
    ("COMPUTE_NODE_DELETING", {"EnvId": "{env}", "ComputeNodeId": "node-00000000"}),
]


@pytest.mark.parametrize(("name", "members"), FORGED)
async def test_a_forged_event_is_ignored(
    api: ApiClient,
    hook: TCBatchHook,
    emulator: Emulator,
    said: Said,
    gate: Path,
    name: str,
    members: dict[str, Any],
) -> None:
    job_id = await asyncio.to_thread(hook.submit_job, job(held(gate)))
    env_id = await asyncio.to_thread(hook.create_compute_env, {**ENV, "DesiredComputeNodeCount": 1})
    node_id = await asyncio.to_thread(running_node, hook, env_id)
    ids = {"{job}": job_id, "{env}": env_id, "{node}": node_id}
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for(name, said).run(watcher, hook.settings))
        await asyncio.sleep(0)
        await publish(hook, name, **{key: ids.get(value, value) for key, value in members.items()})
        await said.until(lambda: bool(said.count("ignored")))
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def running_node(hook: TCBatchHook, env_id: str) -> str:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for node in hook.describe_compute_env(env_id).compute_node_set or ():
            if node.compute_node_state == "RUNNING":
                return node.compute_node_id
    raise AssertionError("no node runs")


def without_nodes(hook: TCBatchHook, env_id: str) -> None:
    until = time.monotonic() + 60
    while hook.describe_compute_env(env_id).compute_node_set:
        assert time.monotonic() < until, "there are still nodes"


async def test_a_true_one_after_forged_ones(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, gate: Path
) -> None:
    """The first one is about a job that has not ended: it counts once that has."""
    job_id = await asyncio.to_thread(hook.submit_job, job(held(gate)))
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for("JOB_SUCCEED", said, patience=30).run(watcher, hook.settings))
        await asyncio.sleep(0)
        for forged in ("job-00000000", "???", job_id):
            await publish(hook, "JOB_SUCCEED", JobId=forged)
        await said.until(lambda: bool(said.count("ignored")))
        (gate / "all").touch()
        end = await asyncio.wait_for(task, 60)
    assert end.event is not None
    assert (end.status, end.heard, end.event.job_id, end.event.job_name) == ("reached", True, job_id, "test")


async def test_one_that_is_repeated_is_looked_for_anew(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, gate: Path
) -> None:
    """Somebody has forged it in advance, so that the true one would be given up with it."""
    job_id = await asyncio.to_thread(hook.submit_job, job(held(gate)))
    event = BatchEvent("JOB_SUCCEED", job_id=job_id)
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for("JOB_SUCCEED", said, patience=30).run(watcher, hook.settings))
        await asyncio.sleep(0)
        for received_at in (time.time() - 29.5, time.time()):
            assert watcher.hear(event, received_at)
        with pytest.raises(asyncio.TimeoutError):
            await said.until(lambda: bool(said.count("ignored")), 1.5)
        (gate / "all").touch()
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.heard) == ("reached", True)


async def test_an_event_of_another_name_is_no_event(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, gate: Path
) -> None:
    """It does not say what its job is called; the service does."""
    other = await asyncio.to_thread(hook.submit_job, job("true"))
    await asyncio.to_thread(emulator.wait_job, other)
    wanted = await asyncio.to_thread(hook.submit_job, {**job(held(gate)), "JobName": "wanted"})
    async with hearing(api, hook) as watcher:
        wait = wait_for("JOB_SUCCEED", said, job_name="wanted")
        wait.poll_interval = 600
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await asyncio.sleep(0)
        await publish(hook, "JOB_SUCCEED", JobId=other)
        (gate / "all").touch()
        await asyncio.to_thread(emulator.wait_job, wanted)
        await publish(hook, "JOB_SUCCEED", JobId=wanted)
        end = await asyncio.wait_for(task, 60)
    assert end.event is not None
    assert (end.event.job_id, end.event.job_name) == (wanted, "wanted")


async def confirmed(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, name: str, **members: Any
) -> BatchEvent:
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for(name, said, patience=20).run(watcher, hook.settings))
        await asyncio.sleep(0)
        await publish(hook, name, **members)
        end = await asyncio.wait_for(task, 60)
    assert end.status == "reached"
    assert end.heard
    assert end.event is not None
    return end.event


@pytest.mark.parametrize("name", ["COMPUTE_NODE_CREATED", "COMPUTE_NODE_RUNNING", "COMPUTE_NODE_ABNORMAL"])
async def test_a_node_that_is_made_anew_has_left_a_trace(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, name: str
) -> None:
    env_id = await asyncio.to_thread(hook.create_compute_env, {**ENV, "DesiredComputeNodeCount": 1})
    node_id = await asyncio.to_thread(running_node, hook, env_id)
    emulator.configure(node_creating_seconds=60)
    emulator.faults.add("lose_machine", target=node_id, count=1)
    told = await confirmed(api, hook, emulator, said, name, EnvId=env_id, ComputeNodeId=node_id)
    assert (told.env_name, told.node_id) == ("farm", node_id)


@pytest.mark.parametrize("name", ["COMPUTE_NODE_CREATED", "COMPUTE_NODE_RUNNING", "COMPUTE_NODE_DELETING"])
async def test_a_node_that_is_gone_has_left_a_trace(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, name: str
) -> None:
    env_id = await asyncio.to_thread(hook.create_compute_env, {**ENV, "DesiredComputeNodeCount": 1})
    node_id = await asyncio.to_thread(running_node, hook, env_id)
    await asyncio.to_thread(hook.modify_compute_env, env_id, desired_compute_node_count=0)
    await asyncio.to_thread(without_nodes, hook, env_id)
    await confirmed(api, hook, emulator, said, name, EnvId=env_id, ComputeNodeId=node_id)


async def test_a_node_that_could_not_be_made_at_first(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said
) -> None:
    emulator.faults.add("fail_creation", count=1)
    env_id = await asyncio.to_thread(hook.create_compute_env, {**ENV, "DesiredComputeNodeCount": 1})
    node_id = await asyncio.to_thread(running_node, hook, env_id)
    name = "COMPUTE_NODE_CREATION_FAILED"
    await confirmed(api, hook, emulator, said, name, EnvId=env_id, ComputeNodeId=node_id)


async def test_a_machine_of_a_job_is_believed(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said
) -> None:
    """The service knows nothing of it that could be asked for."""
    told = await confirmed(api, hook, emulator, said, "COMPUTE_NODE_ABNORMAL", ComputeNodeId="node-aaaaaaaa")
    assert told.node_id == "node-aaaaaaaa"


@pytest.mark.parametrize("state", ["RUNNING", "FAILED_INTERRUPTED"])
@pytest.mark.parametrize("members", [{}, {"TaskName": "main"}, {"TaskName": "main", "TaskInstanceIndex": 0}])
async def test_a_state_that_another_one_has_followed(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, state: str, members: dict[str, Any]
) -> None:
    """A job that has FAILED may have been in it: nothing speaks against the event."""
    job_id = await asyncio.to_thread(hook.submit_job, job("exit 1"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    family = "TASK_INSTANCE" if len(members) == 2 else "TASK" if members else "JOB"
    told = await confirmed(api, hook, emulator, said, f"{family}_{state}", JobId=job_id, **members)
    assert told.job_name == "test"


async def test_the_service_fails_for_a_while(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often: what was heard does not come again."""
    monkeypatch.setattr(event_wait, "_LATEST", 0.1)
    monkeypatch.setattr(event_wait, "_BLIND", 0.1)
    job_id = await asyncio.to_thread(hook.submit_job, job("true"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    emulator.faults.add("throttle", action="DescribeJob", count=1)
    emulator.faults.add("error", action="DescribeJob", code="InternalError", count=12)
    await confirmed(api, hook, emulator, said, "JOB_SUCCEED", JobId=job_id)
    assert said.count("can't be looked for, and is kept meanwhile") == 1


async def test_what_was_heard_is_kept_however_long_nobody_can_be_asked_about_it(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_wait, "_BLIND", 0.1)
    job_id = await asyncio.to_thread(hook.submit_job, job("true"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    fault = emulator.faults.add("error", action="DescribeJob", code="InternalError")
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for("JOB_SUCCEED", said).run(watcher, hook.settings))
        await asyncio.sleep(0)
        assert watcher.hear(BatchEvent("JOB_SUCCEED", job_id=job_id), time.time() - 7200)
        await Outage.until_true(lambda: emulator.faults.all()[0].hits >= 3)
        assert not task.done()
        emulator.faults.remove(fault)
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.heard) == ("reached", True)


async def test_for_all_who_hear_it_the_service_is_asked_once(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said
) -> None:
    job_id = await asyncio.to_thread(hook.submit_job, job("exit 1"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    async with hearing(api, hook) as watcher:
        waits = [wait_for("JOB_FAILED", said) for _ in range(30)]
        tasks = [asyncio.create_task(wait.run(watcher, hook.settings)) for wait in waits]
        await asyncio.sleep(0)
        assert watcher.hear(BatchEvent("JOB_FAILED", job_id=job_id), time.time())
        ends = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert {end.status for end in ends} == {"reached"}
    assert api.sent["DescribeJob"] == 1


async def test_what_was_heard_before_all_was_lost_counts(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said
) -> None:
    """The job has failed when somebody looks, and the event is confirmed a moment later: it came all the same."""
    job_id = await asyncio.to_thread(hook.submit_job, job("exit 1"))
    await asyncio.to_thread(emulator.wait_job, job_id)
    emulator.faults.add("slow_answer", action="DescribeJob", seconds=2, count=1)
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for("JOB_RUNNING", said, job_id=job_id).run(watcher, hook.settings))
        await asyncio.sleep(0)
        assert watcher.hear(BatchEvent("JOB_RUNNING", job_id=job_id), time.time())
        end = await asyncio.wait_for(task, 60)
        assert (end.status, end.heard) == ("reached", True)

        # One that does not turn out to be true only costs time.
        task = asyncio.create_task(wait_for("JOB_SUCCEED", said, job_id=job_id).run(watcher, hook.settings))
        await asyncio.sleep(0)
        assert watcher.hear(BatchEvent("JOB_SUCCEED", job_id=job_id), time.time())
        assert (await asyncio.wait_for(task, 60)).status == "failed"


async def test_the_service_fails_for_good(api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said) -> None:
    emulator.faults.add("error", action="DescribeJob", code="UnauthorizedOperation")
    async with hearing(api, hook) as watcher:
        task = asyncio.create_task(wait_for("JOB_SUCCEED", said).run(watcher, hook.settings))
        await asyncio.sleep(0)
        await publish(hook, "JOB_SUCCEED", JobId="job-00000000")
        end = await asyncio.wait_for(task, 60)
    assert end.status == "error"
    assert "UnauthorizedOperation" in str(end.message)


async def test_nobody_can_hear(api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said) -> None:
    watcher = Watcher(api, None, SOON)
    watcher.start()
    try:
        end = await wait_for("JOB_FAILED", said).run(watcher, hook.settings)
    finally:
        await watcher.aclose()
    assert end.status == "error"
    assert "JOB_FAILED must be heard, and no event can be: the connection names no event_topic" in str(end.message)


async def test_a_queue_that_is_not_there_is_told_to_those_who_must_hear(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_wait, "_DEAF_CHECK", 0.05)
    monkeypatch.setattr(event_wait, "_DEAF_AT_FIRST", 0.1)
    listener = EventListener(hook.settings.cmq_client(), api, topic_of(hook), "no-such-queue")
    watcher = Watcher(api, listener, SOON)
    watcher.start()
    task = asyncio.create_task(wait_for("JOB_FAILED", said).run(watcher, hook.settings))
    try:
        await said.until(lambda: bool(said.count("No event is heard at the moment")))
        assert not task.done(), "somebody may make it"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await watcher.aclose()


async def test_a_watcher_that_has_crashed_is_no_silence(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_wait, "_DEAF_CHECK", 0.05)

    async def bug(batch: Any) -> None:
        raise ZeroDivisionError

    async with hearing(api, hook) as watcher:
        monkeypatch.setattr(watcher, "_look", bug)
        task = asyncio.create_task(wait_for("JOB_FAILED", said).run(watcher, hook.settings))
        with watcher.subscribe("job-00000000"):
            end = await asyncio.wait_for(task, 60)
    assert end.status == "error"
    assert "The watcher crashed" in str(end.message)


async def test_time_is_up(api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said) -> None:
    async with hearing(api, hook) as watcher:
        wait = wait_for("JOB_FAILED", said)
        wait.deadlines = Deadlines(timeout=time.time() + 0.3)
        assert await wait.run(watcher, hook.settings) == EventEnd("timeout", limit=Limit.TIMEOUT)


async def test_of_two_who_share_a_queue_one_hears(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, gate: Path
) -> None:
    """The other one finds out by itself, since the job is named."""
    job_id = await asyncio.to_thread(hook.submit_job, job(held(gate)))
    queue = f"two-{time.time_ns()}"
    cmq = CmqHook()
    await asyncio.to_thread(cmq.ensure_queue, queue, visibility_timeout=1)
    watchers = [Watcher(api, EventListener(hook.settings.cmq_client(), api, topic_of(hook), queue), SOON) for _ in "ab"]
    for watcher in watchers:
        watcher.start()
    try:
        # Both poll seldom at first, so that the event comes first.
        waits = [wait_for("JOB_SUCCEED", said, job_id=job_id) for _ in "ab"]
        tasks = [
            asyncio.create_task(wait.run(watcher, hook.settings)) for wait, watcher in zip(waits, watchers, strict=True)
        ]
        await asyncio.sleep(0)
        (gate / "all").touch()
        await asyncio.to_thread(emulator.wait_job, job_id)
        body = {"EventName": "JOB_SUCCEED", "JobId": job_id}
        await asyncio.to_thread(
            emulator.on_loop,
            lambda services: services.cmq.broker.send(services.cmq.broker.queue(queue), json.dumps(body)),
        )
        ends = await asyncio.wait_for(asyncio.gather(*tasks), 60)
    finally:
        for watcher in watchers:
            await watcher.aclose()
        await asyncio.to_thread(cmq.remove_queue, queue)
    assert [end.status for end in ends] == ["reached", "reached"]
    assert sum(end.heard for end in ends) <= 1
