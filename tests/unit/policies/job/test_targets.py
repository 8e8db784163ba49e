from __future__ import annotations

import itertools

import pytest

from airflow_provider_tcbatch.models.views import JobView
from airflow_provider_tcbatch.policies.job.targets import Targets, TargetVerdict
from airflow_provider_tcbatch.policies.lookup import newest_named

R, F, W = TargetVerdict.REACHED, TargetVerdict.FAILED, TargetVerdict.WAITING
STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEED", "FAILED", "FAILED_INTERRUPTED")


@pytest.mark.parametrize(
    ("targets", "verdicts"),
    [
        (Targets.parse("SUCCEED"), (W, W, W, W, W, R, F, F)),
        (Targets.parse(["SUCCEEDED"]), (W, W, W, W, W, R, F, F)),
        (Targets.parse("STARTING"), (W, W, W, R, R, R, F, F)),
        (Targets.parse(("RUNNING",)), (W, W, W, W, R, R, F, F)),
        (Targets.parse("FAILED"), (W, W, W, W, W, F, R, F)),
        (Targets.parse("SUCCEED", []), (W, W, W, W, W, R, W, W)),
        (Targets.parse("SUCCEED", "FAILED"), (W, W, W, W, W, R, F, W)),
        (Targets.parse(["SUCCEED", "FAILED", "FAILED_INTERRUPTED"]), (W, W, W, W, W, R, R, R)),
    ],
    ids=str,
)
def test_what_a_state_means(targets: Targets, verdicts: tuple[TargetVerdict, ...]) -> None:
    assert tuple(targets.judge(state) for state in STATES) == verdicts


def test_what_has_not_begun_when_its_job_ends_never_will() -> None:
    assert Targets.parse("SUCCEED").judge("PENDING", over=True) is F
    assert Targets.parse("SUCCEED").judge("SUCCEED", over=True) is R
    assert Targets.parse("SUCCEED", []).judge("PENDING", over=True) is W, "somebody may let it run again"


def test_a_state_of_the_future_is_waited_through() -> None:
    assert Targets.parse("SUCCEED").judge("PAUSED") is W


def test_the_newest_of_a_name_however_they_are_listed() -> None:
    jobs = [
        JobView(job_id="job-1", job_name="nightly", job_state="FAILED", create_time="2025-01-31T12:00:00Z"),
        JobView(job_id="job-2", job_name="nightly", job_state="RUNNING", create_time="2025-01-31 12:00:01"),
        JobView(job_id="job-3", job_name="nightly", job_state="RUNNING"),
        JobView(job_id="job-4", job_name="nightly-2", job_state="RUNNING", create_time="2025-02-01T12:00:00Z"),
    ]
    for order in itertools.permutations(jobs):
        newest = newest_named(order, "nightly")
        assert newest is not None
        assert newest.job_id == "job-2"
    assert newest_named(jobs, "night") is None
