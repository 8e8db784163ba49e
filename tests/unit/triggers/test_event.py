from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.triggers._base import queue_trigger as cmq
from airflow_provider_tcbatch.triggers.event import TCBatchEventTrigger
from tests.unit.conftest import job
from tests.unit.triggers.asset_streams import Post, event

pytestmark = pytest.mark.oldest


@pytest.fixture
def post(emulator: Emulator, connection: str) -> Post:
    return Post(emulator, connection)


def test_it_survives_the_way_to_another_process_always_the_same() -> None:
    one = TCBatchEventTrigger(
        queue_name=" q ", event_names=["JOB_SUCCEED", "JOB_FAILED"], job_names="nightly", variables={"b": "2", "a": "1"}
    )
    other = TCBatchEventTrigger(
        queue_name="q", event_names={"JOB_FAILED", "JOB_SUCCEED"}, job_names=["nightly"], variables={"a": "1", "b": "2"}
    )
    path, arguments = one.serialize()
    assert path == "airflow_provider_tcbatch.triggers.event.TCBatchEventTrigger"
    assert json.dumps(arguments) == json.dumps(other.serialize()[1])
    assert json.dumps(TCBatchEventTrigger(**arguments).serialize()[1]) == json.dumps(arguments)
    assert json.loads(json.dumps(arguments)) == arguments
    assert TCBatchEventTrigger.hash(path, arguments) == TCBatchEventTrigger.hash(*other.serialize())


def test_a_wrong_filter_is_an_error_of_the_dag() -> None:
    with pytest.raises(ValueError, match="JOB_DONE is no event of Batch"):
        TCBatchEventTrigger(queue_name="q", event_names="JOB_DONE")
    with pytest.raises(ValueError, match="write the name of a CMQ queue"):
        TCBatchEventTrigger(queue_name=" ")


async def test_before_acknowledgements_a_message_is_deleted_some_seconds_later(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cmq, "_STORED_SECONDS", 1.0)
    queue = post.queue()
    post.fill(
        queue, [event("JOB_FAILED", "job-1111"), event("JOB_SUCCEED", "job-2222"), event("JOB_RUNNING", "job-3333")]
    )
    trigger = TCBatchEventTrigger(queue_name=queue, confirm=False, event_names=["JOB_SUCCEED", "JOB_RUNNING"])
    async with aclosing(trigger.run()) as events:
        told = (await anext(events)).payload["events"]
        assert {payload["job_id"] for payload in told} == {"job-2222", "job-3333"}
        assert await asyncio.to_thread(post.left, queue) >= 2, "it may not have been stored yet"
        waiting = asyncio.ensure_future(anext(events))
        await post.empty(queue)
        post.fill(queue, [event("JOB_SUCCEED", "job-4444")])
        assert [payload["job_id"] for payload in (await waiting).payload["events"]] == ["job-4444"]
    # It ended before the last one can have been stored: that one comes again.
    assert post.left(queue) == 1


async def test_it_asks_the_api_there_too(post: Post, connection: str) -> None:
    queue = post.queue()
    job_id = await asyncio.to_thread(TCBatchHook().submit_job, job("true"))
    await asyncio.to_thread(post.emulator.wait_job, job_id)
    post.fill(queue, [event("JOB_FAILED", job_id), event("JOB_SUCCEED", job_id)])
    async with aclosing(TCBatchEventTrigger(queue_name=queue, job_names="test").run()) as events:
        [payload] = (await anext(events)).payload["events"]
    assert (payload["name"], payload["job_name"], payload["confirmed"]) == ("JOB_SUCCEED", "test", True)
