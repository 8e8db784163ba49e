from __future__ import annotations

import asyncio
import base64
import json
from contextlib import aclosing
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.check_message import check_message
from airflow_provider_tcbatch.triggers.message import CmqMessageTrigger
from tests.unit.triggers.asset_streams import Post, event

pytestmark = [pytest.mark.oldest, pytest.mark.middle]


@pytest.fixture
def post(emulator: Emulator, connection: str) -> Post:
    return Post(emulator, connection)


async def told(post: Post, body: str) -> dict[str, Any]:
    """What a message becomes."""
    queue = post.queue()
    post.publish(body=body)
    async with aclosing(CmqMessageTrigger(queue_name=queue).run()) as events:
        payload = (await anext(events)).payload
    # What Airflow does with it on the way to its database.
    json.dumps(BaseSerialization.serialize(payload), allow_nan=False).encode()
    [message] = payload["messages"]
    assert message["queue_name"] == queue
    return dict(message)


def test_it_survives_the_way_to_another_process() -> None:
    path, arguments = CmqMessageTrigger(queue_name="q", region="ap-beijing").serialize()
    assert path == "airflow_provider_tcbatch.triggers.message.CmqMessageTrigger"
    assert CmqMessageTrigger(**arguments).serialize() == (path, arguments)


@pytest.mark.parametrize(
    ("body", "parsed"),
    [
        ("hello", None),
        ('{"order": 7, "lines": [1, 2.5, null]}', {"order": 7, "lines": [1, 2.5, None]}),
        ('{"order": NaN}', None),
        ('{"order": 1e999}', None),
        ('{"order": 100000000000000000000}', None),
        (r'{"order": "\ud800"}', None),
        (r'{"order": "\u0000"}', None),
        ("[" * 3000 + "]" * 3000, None),
        ("[" * 100 + "]" * 100, None),
    ],
)
async def test_a_message_is_told_as_text_and_as_json_that_can_be_stored(post: Post, body: str, parsed: Any) -> None:
    payload = await told(post, body)
    assert (payload["body"], payload["json"], payload["events"]) == (body, parsed, [])
    assert payload["message_id"]
    assert payload["enqueued_at"] > 0


async def test_events_of_batch_in_it_are_told_as_such(post: Post) -> None:
    text = json.dumps({"Events": [event("JOB_SUCCEED", "job-1111", JobName="nightly")]})
    payload = await told(post, base64.b64encode(text.encode()).decode())
    [found] = payload["events"]
    assert (found["name"], found["job_name"], found["confirmed"]) == ("JOB_SUCCEED", "nightly", False)


async def test_an_event_with_odd_texts_can_be_stored(post: Post) -> None:
    odd = {"EventName": "JOB_SUCCEED", "Batch": {"JobId": "job-1111", "JobName": "a\ud800b\x00c"}, "Size": float("nan")}
    payload = await told(post, json.dumps(odd))
    [found] = payload["events"]
    assert found["job_name"] == "a?bc"


async def test_the_same_text_twice_is_told_twice(post: Post) -> None:
    queue = post.queue()
    for _ in range(2):
        await asyncio.to_thread(post.publish, body="tick")
    async with aclosing(CmqMessageTrigger(queue_name=queue).run()) as events:
        found = (await anext(events)).payload["messages"]
    assert [message["body"] for message in found] == ["tick", "tick"]
    assert len({message["message_id"] for message in found}) == 2


async def test_test_messages_start_no_dag(post: Post) -> None:
    queue = post.queue()
    for body in (check_message("0123"), "hello", check_message("4567")):
        await asyncio.to_thread(post.publish, body=body)
    async with aclosing(CmqMessageTrigger(queue_name=queue).run()) as events:
        told = (await anext(events)).payload["messages"]
    assert [message["body"] for message in told] == ["hello"]
