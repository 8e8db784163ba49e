"""Messages of the event queue, of which the service publishes one sample."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.events import BatchEvent, parse_message
from airflow_provider_tcbatch.models.notification import EventName

#: The published sample.
NODE_CREATED = {
    "Events": [
        {
            "EventVersion": "1.0",
            "EventTime": "2018-06-15T14:43:17Z",
            "Region": "ap-guangzhou",
            "Batch": {
                "ComputeNodeId": "node-0iy7wxyo",
                "EnvId": "env-ptoxdb1t",
                "ComputeNodeState": "CREATED",
                "Mem": 8,
                "ResourceCreatedTime": "2018-06-15T14:43:18Z",
                "EnvName": "batch-env",
                "ComputeNodeInstanceId": "ins-9rikj9kw",
                "Cpu": 4,
            },
            "EventName": "COMPUTE_NODE_CREATED",
            "EventVars": [],
        }
    ]
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=8) | st.sampled_from(["Events", "EventName", "JobId", "EventVars", "msgBody", "Name"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def event(**members: Any) -> dict[str, Any]:
    return {
        "EventTime": "2025-01-01T00:00:00Z",
        "EventName": "JOB_SUCCEED",
        "Batch": {"JobId": "job-12345678", "JobState": "SUCCEED"},
        "EventVars": [],
        **members,
    }


def test_the_published_sample() -> None:
    assert parse_message(json.dumps(NODE_CREATED)) == [
        BatchEvent(
            name="COMPUTE_NODE_CREATED",
            env_id="env-ptoxdb1t",
            time="2018-06-15T14:43:17Z",
            raw=NODE_CREATED["Events"][0],
        )
    ]


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"Events": [event()]}),
        json.dumps({"events": [event()]}),
        json.dumps({"Events": event()}),
        json.dumps({"Data": {"Events": [event()]}}),
        json.dumps([event()]),
        json.dumps(event()),
        json.dumps({"eventName": "job_succeed", "batch": {"jobId": "job-12345678"}}),
        json.dumps({"event_name": "JOB_SUCCEED", "job_id": "job-12345678"}),
        json.dumps({"EventName": "JOB_SUCCEED", "Batch": {"Job": {"deep": ["job-12345678"]}}}),
        json.dumps({"EventName": "JOB_SUCCEED", "JobId": None, "Batch": {"Id": "job-12345678"}}),
        encoded({"Events": [event()]}),
        encoded({"Events": [event()]}).rstrip("="),
        "\n".join(encoded({"Events": [event()]})[i : i + 76] for i in range(0, 400, 76)),
        json.dumps(json.dumps({"Events": [event()]})),
        json.dumps({"TopicOwner": 125, "topicName": "t", "msgBody": json.dumps({"Events": [event()]})}),
        json.dumps({"TopicOwner": 125, "msgBody": encoded({"Events": [event()]})}),
        encoded({"TopicOwner": 125, "MsgBody": json.dumps({"Events": [event()]})}),
        json.dumps({"Events": json.dumps([event()])}),
        "Job job-12345678: JOB_SUCCEED",
        "{broken json, but JOB_SUCCEED of 'job-12345678'",
    ],
)
def test_every_shape_names_the_job(body: str) -> None:
    events = parse_message(body)
    assert [(event.name, event.job_id) for event in events] == [("JOB_SUCCEED", "job-12345678")]


@pytest.mark.parametrize("name", list(EventName))
def test_every_event_name_is_found_in_text(name: str) -> None:
    assert parse_message(f"something {name} happened")[0].name == name


def test_the_name_is_not_guessed_from_other_capitals() -> None:
    assert parse_message('{"JOB_ID": "job-12345678"}')[0].name == ""


def test_several_events_in_one_message() -> None:
    events = [event(EventName="JOB_RUNNING"), event(Batch={"JobId": "job-abcdefgh"})]
    assert [(e.name, e.job_id) for e in parse_message(json.dumps({"Events": events}))] == [
        ("JOB_RUNNING", "job-12345678"),
        ("JOB_SUCCEED", "job-abcdefgh"),
    ]


def test_several_jobs_in_a_text() -> None:
    assert [e.job_id for e in parse_message("job-aaaaaaaa, job-bbbbbbbb and job-aaaaaaaa")] == [
        "job-aaaaaaaa",
        "job-bbbbbbbb",
    ]


@pytest.mark.parametrize(
    "variables",
    [
        [{"Name": "dag", "Value": "d"}, {"Name": "n", "Value": 5}, {"Name": "none", "Value": None}, "odd"],
        [{"name": "dag", "value": "d"}, {"name": "n", "value": "5"}, {"name": "none"}],
        {"dag": "d", "n": 5, "none": ""},
    ],
)
def test_variables(variables: Any) -> None:
    found = parse_message(json.dumps({"Events": [event(EventVars=variables)]}))[0].variables
    assert found == {"dag": "d", "n": "5", "none": ""}


@pytest.mark.parametrize("body", ["", "{}", "[]", "null", "5", '"text"', '{"Events": []}', "hello", "NaN", "\ud800"])
def test_messages_without_an_event(body: str) -> None:
    assert parse_message(body) == []


@settings(deadline=None)
@given(st.text() | JSON.map(json.dumps) | JSON.map(encoded) | st.binary().map(lambda b: base64.b64encode(b).decode()))
@example("[" * 200_000)
@example('{"a":' * 900 + '"job-12345678"' + "}" * 900)
@example("1" * 10_000)
@example(json.dumps({"msgBody": json.dumps({"msgBody": json.dumps({"msgBody": "{"})})}))
def test_no_message_raises(body: str) -> None:
    for found in parse_message(body):
        assert found.name or found.job_id or found.env_id


@given(
    JSON,
    st.sampled_from(["JobId", "jobId", "job_id", "JOB_ID", "jobid"]),
    st.from_regex(r"job-[0-9a-z]{8}", fullmatch=True),
)
def test_the_job_is_found_among_anything(around: Any, key: str, job_id: str) -> None:
    body = json.dumps({"Batch": {key: job_id}, "EventName": "JOB_FAILED", "extra": around})
    found = parse_message(body)
    if "Events" not in body:  # which would be looked at instead
        assert [(event.name, event.job_id) for event in found] == [("JOB_FAILED", job_id)]
