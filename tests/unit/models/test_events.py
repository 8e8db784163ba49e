"""Messages of the event queue, of which the service publishes one sample."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.events import BatchEvent, parse_message
from airflow_provider_tcbatch.models.notification import EventName
from airflow_provider_tcbatch.models.payloads import event_payload

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
            env_name="batch-env",
            node_id="node-0iy7wxyo",
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


def test_what_the_emulator_says_of_an_instance() -> None:
    batch = {"JobId": "job-12345678", "JobName": "nightly", "TaskName": "merge", "TaskInstanceIndex": 3}
    (found,) = parse_message(json.dumps({"Events": [event(EventName="TASK_INSTANCE_FAILED", Batch=batch)]}))
    assert (found.job_name, found.task_name, found.instance_index) == ("nightly", "merge", 3)
    assert (found.family, found.state) == ("TASK_INSTANCE", "FAILED")


@pytest.mark.parametrize("index", [None, -1, True, 1.5, "x", "²", [], {}])
def test_an_index_that_is_none(index: Any) -> None:
    (found,) = parse_message(json.dumps(event(Batch={"JobId": "job-12345678", "TaskInstanceIndex": index})))
    assert found.instance_index is None


def test_an_event_can_be_stored_whatever_was_written_to_the_queue() -> None:
    """Airflow's processes talk in MessagePack, and its database is UTF-8: what does not fit stops a triggerer."""
    odd = "a\ud800b\x00c"
    names = ("JobId", "JobName", "TaskName", "EnvId", "EnvName", "ComputeNodeId", "EventTime")
    body = {"EventName": f"JOB_{odd}", "EventVars": {odd: odd}, "TaskInstanceIndex": 2**70, **dict.fromkeys(names, odd)}
    [found] = parse_message(json.dumps(body))
    assert (found.name, found.state, found.variables) == ("JOB_A?BC", "A?BC", {"a?bc": "a?bc"})
    told = [found.job_id, found.job_name, found.task_name, found.env_id, found.env_name, found.node_id, found.time]
    assert told == ["a?bc"] * len(names)
    assert found.instance_index is None
    msgspec.msgpack.encode(found.to_json("m"))
    msgspec.msgpack.encode(event_payload(found, queue_name="q", message_id="m", confirmed=False))


def test_variables_do_not_pass_for_members() -> None:
    (found,) = parse_message(json.dumps(event(EventVars={"JobName": "mine", "JobId": "job-other000"})))
    assert (found.job_id, found.job_name) == ("job-12345678", None)


@pytest.mark.parametrize("name", list(EventName))
def test_family_and_state_make_the_name(name: EventName) -> None:
    found = BatchEvent(name.value)
    assert f"{found.family}_{found.state}" == name.value
    assert found.family in ("JOB", "TASK", "TASK_INSTANCE", "COMPUTE_ENV", "COMPUTE_NODE")


def test_a_name_of_no_family() -> None:
    assert (BatchEvent("JOBLESS").family, BatchEvent("JOBLESS").state) == ("", "")


def test_an_event_has_one_id_however_often_it_is_delivered() -> None:
    (first,), (again,) = parse_message(json.dumps({"Events": [event()]})), parse_message(encoded(event()))
    assert first.event_id("msg-1") == again.event_id("msg-2")
    # The job may run again, and end again: at another time.
    (later,) = parse_message(json.dumps(event(EventTime="2025-01-01T00:00:01Z")))
    assert later.event_id("msg-1") != first.event_id("msg-1")


def test_an_event_without_a_time_has_the_id_of_its_message() -> None:
    found = BatchEvent("JOB_SUCCEED", job_id="job-12345678")
    assert found.event_id("msg-1") == found.event_id("msg-1") != found.event_id("msg-2")


def test_an_event_in_plain_json() -> None:
    (found,) = parse_message(json.dumps(event(EventVars=[{"Name": "team", "Value": "etl"}])))
    told = found.to_json()
    assert json.loads(json.dumps(told)) == {
        "event_id": found.event_id("any message"),
        "name": "JOB_SUCCEED",
        "job_id": "job-12345678",
        "job_name": None,
        "task_name": None,
        "task_instance_index": None,
        "env_id": None,
        "env_name": None,
        "node_id": None,
        "time": "2025-01-01T00:00:00Z",
        "variables": {"team": "etl"},
    }
    timeless = BatchEvent("JOB_SUCCEED", job_id="job-12345678")
    assert timeless.to_json()["event_id"] is None
    assert timeless.to_json("msg-1")["event_id"] == timeless.event_id("msg-1")


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
