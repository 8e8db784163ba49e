from __future__ import annotations

import random

import pytest

from airflow_provider_tcbatch.emulator.faults import FaultError, Faults


def test_the_first_that_matches_strikes_alone() -> None:
    faults = Faults()
    faults.add("drop", service="cmq")
    first = faults.add("throttle", service="batch", action="SubmitJob", count=1)
    faults.add("slow", action="SubmitJob")
    assert [fault and fault.kind for fault in (faults.request("batch", "SubmitJob") for _ in range(3))] == [
        "throttle",
        "slow",
        "slow",
    ]
    assert faults.request("batch", "DescribeJob") is None
    assert [fault.hits for fault in faults.all()] == [0, 1, 2]
    assert faults.remove(first.id)
    assert not faults.remove(first.id)
    faults.clear()
    assert faults.all() == []
    assert faults.request("cmq", "ReceiveMessage") is None


def test_skip_and_count() -> None:
    faults = Faults()
    faults.add("drop", skip=2, count=2)
    struck = [faults.request("batch", "DescribeJob") is not None for _ in range(6)]
    assert struck == [False, False, True, True, False, False]


def test_probability() -> None:
    faults = Faults(random.Random(1))
    faults.add("drop", probability=0.25)
    struck = sum(faults.request("batch", "DescribeJob") is not None for _ in range(4000))
    assert 900 < struck < 1100


def test_target_in_any_case() -> None:
    faults = Faults()
    faults.add("dead_queue", target="Mine")
    assert faults.queue("mINE") is not None
    assert faults.queue("other") is None
    assert faults.request("cmq", "ReceiveMessage", "mine") is None
    assert faults.event("JOB_FAILED", "mine") is None


@pytest.mark.parametrize(
    "members",
    [
        {"kind": "earthquake"},
        {"kind": "drop", "probability": 0},
        {"kind": "drop", "count": 0},
        {"kind": "drop", "when": "now"},
        {"kind": "slow", "seconds": -1},
        {"kind": "content_type", "content_type": "a\r\nb: c"},
        {"kind": "http_error", "status": 200},
    ],
)
def test_impossible_faults_are_refused(members: dict[str, object]) -> None:
    faults = Faults()
    with pytest.raises(FaultError):
        faults.add(str(members.pop("kind")), **members)
    assert faults.all() == []
