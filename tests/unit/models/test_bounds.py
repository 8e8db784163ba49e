from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_tcbatch.models.bounds import ANSWER, Bounds, TooMuch, shortened
from airflow_provider_tcbatch.models.events import events_of, parse_message
from airflow_provider_tcbatch.models.payloads import json_of

BOUNDS = Bounds(size=10_000, values=100, depth=10)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def values(document: Any) -> int:
    """Objects, lists, and members or elements but the first of each."""
    if not isinstance(document, dict | list):
        return 0
    inner = list(document.values()) if isinstance(document, dict) else document
    return 1 + max(0, len(inner) - 1) + sum(values(value) for value in inner)


def depth(document: Any) -> int:
    if not isinstance(document, dict | list):
        return 0
    inner = list(document.values()) if isinstance(document, dict) else document
    return 1 + max(map(depth, inner), default=0)


@given(JSON, st.booleans())
def test_what_is_counted_is_what_a_document_holds(document: Any, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    for raw in (text, text.encode("utf-8", "surrogatepass")):
        Bounds(len(text.encode("utf-8", "surrogatepass")), values(document), depth(document)).check(raw)
        if values(document):
            with pytest.raises(TooMuch, match="values"):
                Bounds(10**6, values(document) - 1, depth(document)).check(raw)
            with pytest.raises(TooMuch, match="deep"):
                Bounds(10**6, values(document), depth(document) - 1).check(raw)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param(b'"' + b"a" * 10_000 + b'"', "more than 10,000 bytes", id="long"),
        pytest.param(b"[" + b"{}," * 200 + b"{}]", "more than 100 values", id="objects"),
        pytest.param(b"[" + b'"a",' * 200 + b'"b"]', "more than 100 values", id="texts"),
        pytest.param(b'{"a":' * 11 + b"1" + b"}" * 11, "more than 10 deep", id="nested"),
        pytest.param(b"[" * 50, "more than 10 deep", id="nested without an end"),
        pytest.param('[{}, "\\\\", {}]'.encode("utf-16-le"), "not UTF-8", id="UTF-16"),
    ],
)
def test_what_is_over_a_bound(document: bytes, why: str) -> None:
    with pytest.raises(TooMuch, match=why):
        BOUNDS.check(document)


@pytest.mark.parametrize(
    "text", ["[{," * 500, '"[{,' * 500, "\\" * 999, "\\\\" * 500 + '"', '\\"[{' * 500], ids=lambda text: text[:6]
)
def test_what_stands_in_texts_is_not_counted(text: str) -> None:
    document = json.dumps({"text": text, "escaped": json.dumps(text)})
    Bounds(100_000, 2, 1).check(document)


@given(st.binary(max_size=300))
def test_nothing_else_is_raised_whatever_it_is(document: bytes) -> None:
    try:
        BOUNDS.check(document)
    except TooMuch:
        return


def test_a_text_of_others_is_cut() -> None:
    assert shortened("short") == "short"
    assert shortened("a" * 12_000, 10) == "aaaaaaaaaa [... 11,990 more characters]"


# -- messages ------------------------------------------------------------------------------------------

EVENT = {"EventName": "JOB_FAILED", "Batch": {"JobId": "job-12345678"}}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(json.dumps([{}] * 247_000), "65,536 bytes", id="990 KB of small objects"),
        pytest.param(json.dumps({**EVENT, "more": [{}] * 1_100}), "2,000 values", id="many values"),
        pytest.param(json.dumps({"Events": [EVENT] * 101}), "100 events", id="many events"),
        pytest.param(" ".join(f"job-{number:08}" for number in range(200)), "100 events", id="a text of many jobs"),
        pytest.param('{"a":' * 500 + "1" + "}" * 500, "40 deep", id="nested"),
        pytest.param(json.dumps({"msgBody": json.dumps({**EVENT, "more": [{}] * 1_100})}), "2,000 values", id="inside"),
    ],
)
def test_a_message_over_a_bound_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, body: str, why: str) -> None:
    parsed: list[int] = []
    loads = json.loads

    def counted(text: str) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    assert parse_message(body) == []
    assert sum(parsed) <= 65_536
    with pytest.raises(TooMuch, match=why):
        events_of(body)


def test_as_many_events_as_there_may_be() -> None:
    assert len(parse_message(json.dumps({"Events": [EVENT] * 100}))) == 100


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps([{}] * 4_999), [{}] * 4_999),
        (json.dumps([{}] * 5_001), None),
        ("[" * 40 + "]" * 40, json.loads("[" * 40 + "]" * 40)),
        ("[" * 41 + "]" * 41, None),
    ],
    ids=["as many", "too many", "as deep", "too deep"],
)
def test_json_that_is_handed_on_as_data(text: str, found: Any) -> None:
    assert json_of(text) == found


def test_an_environment_of_as_many_nodes_as_there_may_be_is_looked_at() -> None:
    node = {
        "ComputeNodeId": "node-12345678",
        "ComputeNodeInstanceId": "ins-12345678",
        "ComputeNodeState": "RUNNING",
        "Cpu": 4,
        "Mem": 8,
        "ResourceCreatedTime": "2026-01-01T00:00:00Z",
        "TaskInstanceNumAvailable": 4,
        "AgentVersion": "1.0.0",
        "PrivateIpAddresses": ["10.0.0.1"],
        "PublicIpAddresses": ["43.0.0.1"],
        "ResourceType": "CVM",
        "ResourceOrigin": "ENV_CREATED",
    }
    ANSWER.check(json.dumps({"Response": {"ComputeNodeSet": [node] * 2000, "RequestId": "r"}}).encode())
