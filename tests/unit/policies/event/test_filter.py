"""Which events a filter lets pass."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.models.notification import EventName
from airflow_provider_tcbatch.policies.event.filter import EventFilter

SUCCEEDED = BatchEvent(
    "JOB_SUCCEED", job_id="job-aaaaaaaa", job_name="nightly", time="t", variables={"team": "etl", "day": "7"}
)
NODE = BatchEvent("COMPUTE_NODE_ABNORMAL", env_id="env-aaaaaaaa", env_name="farm", node_id="node-aaaaaaaa")
ONLY_IDS = BatchEvent("JOB_FAILED", job_id="job-aaaaaaaa", env_id="env-aaaaaaaa")

NAMES = st.sampled_from(["a", "b", "c"])
EVENTS = st.builds(
    BatchEvent,
    st.sampled_from([*(name.value for name in EventName), ""]),
    job_id=st.none() | NAMES,
    job_name=st.none() | NAMES,
    task_name=st.none() | NAMES,
    env_id=st.none() | NAMES,
    env_name=st.none() | NAMES,
    variables=st.dictionaries(NAMES, NAMES, max_size=2),
)
FILTERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "names": st.lists(st.sampled_from([name.value for name in EventName]), max_size=3),
        **{
            member: st.lists(NAMES, max_size=2)
            for member in ("job_ids", "job_names", "task_names", "env_ids", "env_names")
        },
        "variables": st.dictionaries(NAMES, NAMES, max_size=2),
    },
)


@pytest.mark.parametrize(
    ("given", "event", "expected"),
    [
        ({}, SUCCEEDED, True),
        ({}, BatchEvent("", job_id="job-aaaaaaaa"), True),
        ({"names": "JOB_SUCCEED"}, SUCCEEDED, True),
        ({"names": ["JOB_FAILED", "JOB_SUCCEED"]}, SUCCEEDED, True),
        ({"names": ["JOB_FAILED"]}, SUCCEEDED, False),
        ({"names": ["JOB_FAILED"]}, BatchEvent("", job_id="job-aaaaaaaa"), False),
        ({"job_ids": "job-aaaaaaaa"}, SUCCEEDED, True),
        ({"job_ids": "job-bbbbbbbb"}, SUCCEEDED, False),
        ({"job_ids": "job-aaaaaaaa"}, NODE, False),
        ({"job_names": "nightly"}, SUCCEEDED, True),
        ({"job_names": "night"}, SUCCEEDED, False),
        ({"job_names": "nightly"}, ONLY_IDS, None),
        ({"job_names": "nightly", "names": "JOB_SUCCEED"}, ONLY_IDS, False),
        ({"job_names": "nightly"}, NODE, False),
        ({"task_names": "merge"}, SUCCEEDED, False),
        ({"env_ids": "env-aaaaaaaa", "env_names": "farm"}, NODE, True),
        ({"env_names": "farm"}, ONLY_IDS, None),
        ({"env_names": "farm"}, SUCCEEDED, False),
        ({"variables": {"team": "etl"}}, SUCCEEDED, True),
        ({"variables": {"team": "etl", "day": "8"}}, SUCCEEDED, False),
        ({"variables": {"team": "etl"}}, NODE, False),
    ],
)
def test_what_matches(given: dict[str, Any], event: BatchEvent, expected: bool | None) -> None:
    assert EventFilter.parse(**given).matches(event) is expected


@given(FILTERS, EVENTS)
def test_more_conditions_never_let_more_pass(wanted: dict[str, Any], event: BatchEvent) -> None:
    if EventFilter.parse(**wanted).matches(event):
        for member in wanted:
            less = {name: value for name, value in wanted.items() if name != member}
            assert EventFilter.parse(**less).matches(event)


@given(FILTERS, EVENTS)
def test_what_is_not_told_depends_on_names_that_are_missing(wanted: dict[str, Any], event: BatchEvent) -> None:
    if EventFilter.parse(**wanted).matches(event) is None:
        assert (event.job_id and not event.job_name) or (event.env_id and not event.env_name)


@given(FILTERS)
def test_a_filter_survives_json(wanted: dict[str, Any]) -> None:
    made = EventFilter.parse(**wanted)
    assert EventFilter.parse(**json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"names": "JOB_SUCCEEDED"}, "JOB_SUCCEEDED is no event of Batch; write some of JOB_RUNNING, JOB_SUCCEED"),
        ({"names": ["JOB_FAILED", "JOB_DONE"]}, "JOB_DONE is no event"),
        ({"job_ids": [7]}, "job_ids holds 7"),
        ({"env_names": " "}, "env_names holds ' '"),
        ({"variables": {"n": 5}}, "EventVars are texts"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        EventFilter.parse(**given)
