"""The auditor sees what is wrong, and nothing else: histories that are made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.auditor import COUNTS, audit, counts
from tests.chaos.facts import ActRecord, AuditLogEntry, Facts, Job, Key, LedgerLine, Task, Try

KEY = Key("deferred", "w01", "job")
SUCCEED = Job("job-1", KEY, "g1", "SUCCEED", created_at=10, ended_at=40)
RAN = (LedgerLine(12, "job-1", 0, None), LedgerLine(39, "job-1", 0, 0))
GOOD = Task(KEY, "success", (Try(1, "success", 5, 45),), "job-1")

#: A task that did its work in bad weather.
WELL = Facts(
    expected={KEY: "success"},
    tasks={KEY: GOOD},
    jobs=(SUCCEED,),
    ledger=RAN,
    acts=(ActRecord("outage", "batch", 11, 100), ActRecord("killed", "triggerer", 11, 15)),
)


def found(facts: Facts) -> dict[str, int]:
    """What is counted, without zeros."""
    return {name: number for name, number in counts(audit(facts)).items() if number}


def retried(*tries: Try, state: str = "success") -> Task:
    return Task(KEY, state, tries, "job-1")


FIRST = Try(1, "failed", 5, 20, ti_id="first")
HIT, OTHER = frozenset({"first"}), frozenset({"other"})
TWICE = retried(FIRST, Try(2, "success", 25, 45))


def test_good_histories_have_no_findings() -> None:
    assert found(WELL) == {}
    assert counts([]) == dict.fromkeys(COUNTS, 0)


@pytest.mark.parametrize(
    ("facts", "count"),
    [
        pytest.param(replace(WELL, jobs=()), "lost", id="success without a job"),
        pytest.param(replace(WELL, ledger=RAN[:1]), "lost", id="nothing ran to its end"),
        pytest.param(replace(WELL, jobs=(replace(SUCCEED, state="FAILED"),)), "lost", id="success of a failed job"),
        pytest.param(replace(WELL, expected={KEY: "failed"}), "lost", id="nobody was told of a failure"),
        pytest.param(
            replace(WELL, acts=(ActRecord("clear", str(KEY), 42, 43),)), "lost", id="a clear that led to no other job"
        ),
        pytest.param(
            replace(
                WELL,
                jobs=(SUCCEED, replace(SUCCEED, job_id="job-2", created_at=41, ended_at=60)),
                ledger=(*RAN, LedgerLine(59, "job-2", 0, 0)),
            ),
            "doubled",
            id="another job after one that succeeded",
        ),
        pytest.param(
            replace(
                WELL,
                jobs=(replace(SUCCEED, job_id="job-0", state="FAILED", created_at=9, ended_at=20), SUCCEED),
            ),
            "doubled",
            id="two jobs at the same time",
        ),
        pytest.param(
            replace(WELL, ledger=(*RAN, LedgerLine(41, "job-1", 0, None), LedgerLine(43, "job-1", 0, 0))),
            "doubled",
            id="an instance that succeeded ran again",
        ),
        pytest.param(
            replace(
                WELL,
                jobs=(SUCCEED, Job("job-2", Key("deferred", "w02", "job"), "g", "RUNNING", 50)),
            ),
            "orphaned",
            id="a job that goes on and is nobody's",
        ),
        pytest.param(replace(WELL, leftovers=("environment env-1 is left",)), "orphaned", id="an environment is left"),
        pytest.param(
            replace(
                WELL,
                tasks={KEY: TWICE},
                jobs=(
                    replace(SUCCEED, job_id="job-0", state="FAILED", created_at=6, ended_at=9, terminated=True),
                    SUCCEED,
                ),
                acts=(ActRecord("killed", "task", 15, 16, hit=HIT),),
            ),
            "wrongly_ended",
            id="the end of a job was asked for without a reason",
        ),
        pytest.param(replace(WELL, tasks={KEY: replace(GOOD, state="failed")}), "wrongly_failed", id="task failed"),
        pytest.param(replace(WELL, tasks={KEY: TWICE}), "wrongly_failed", id="an outage takes a try"),
        pytest.param(
            replace(WELL, tasks={KEY: TWICE}, acts=(ActRecord("killed", "scheduler", 10, 15, hit=OTHER),)),
            "wrongly_failed",
            id="a scheduler was killed, but other workers with it",
        ),
        pytest.param(
            replace(WELL, tasks={KEY: TWICE}, acts=(ActRecord("killed", "api-server", 200, 205),)),
            "wrongly_failed",
            id="the API server was killed, but later",
        ),
        pytest.param(
            replace(WELL, tasks={KEY: TWICE}, acts=(ActRecord("clear", "deferred/w02/job", 15, 16),)),
            "wrongly_failed",
            id="another task was cleared",
        ),
        pytest.param(
            replace(WELL, tasks={KEY: replace(GOOD, state="deferred")}, jobs=(replace(SUCCEED, state="RUNNING"),)),
            "stuck",
            id="a task that never ended",
        ),
        pytest.param(replace(WELL, tasks={}), "stuck", id="a task that never was"),
    ],
)
def test_what_is_wrong_is_found(facts: Facts, count: str) -> None:
    assert found(facts) == {count: 1}


@pytest.mark.parametrize(
    "done",
    [
        ActRecord("killed", "task", 18, 19, hit=HIT),
        ActRecord("killed", "scheduler", 4, 8, hit=HIT),
        ActRecord("stopped", "api-server", 10, 16),
        ActRecord("clear", str(KEY), 6, 7),
    ],
    ids=lambda done: f"{done.kind}-{done.target}",
)
def test_a_try_may_fail_for_what_was_done_to_airflow(done: ActRecord) -> None:
    assert found(replace(WELL, tasks={KEY: TWICE}, acts=(done,))) == {}
    # Not with an error that is the provider's own.
    own = retried(replace(FIRST, error="Throttled: DescribeJobs"), Try(2, "success", 25, 45))
    findings = audit(replace(WELL, tasks={KEY: own}, acts=(done,)))
    if done.kind == "clear":
        assert findings == []
    else:
        [finding] = findings
        assert str(finding) == "wrongly_failed: deferred/w01/job try 1 failed with Throttled: DescribeJobs"


def test_what_a_scheduler_hears_late() -> None:
    facts = replace(WELL, tasks={KEY: TWICE}, log=(AuditLogEntry(19, KEY, "state mismatch"),))
    assert found(replace(facts, acts=(ActRecord("stopped", "scheduler 2", 10, 16),))) == {}
    assert found(replace(facts, acts=(ActRecord("stopped", "triggerer", 10, 16),))) == {"wrongly_failed": 1}


def test_a_try_may_be_taken_from_a_scheduler() -> None:
    assert found(replace(WELL, tasks={KEY: TWICE}, resets=HIT)) == {}
    assert found(replace(WELL, tasks={KEY: TWICE}, resets=frozenset({"another"}))) == {"wrongly_failed": 1}


def test_a_try_that_never_began_is_nobodys() -> None:
    assert found(replace(WELL, tasks={KEY: retried(Try(1, "failed", None, 20), Try(2, "success", 25, 45))})) == {}


def test_a_worker_may_be_given_up_by_airflow() -> None:
    facts = replace(WELL, tasks={KEY: TWICE})
    assert found(replace(facts, log=(AuditLogEntry(19, KEY, "heartbeat timeout"),))) == {}
    assert found(replace(facts, log=(AuditLogEntry(19, KEY, "state mismatch"),))) == {"wrongly_failed": 1}
    assert found(replace(facts, log=(AuditLogEntry(44, KEY, "heartbeat timeout"),))) == {"wrongly_failed": 1}


def test_a_job_may_fail_by_itself() -> None:
    first = replace(SUCCEED, job_id="job-0", state="FAILED", created_at=6, ended_at=9)
    facts = replace(WELL, tasks={KEY: TWICE}, jobs=(first, SUCCEED))
    assert found(facts) == {"wrongly_failed": 1}
    assert found(replace(facts, own_failures={KEY: 1})) == {}
    doomed = replace(WELL, expected={KEY: "failed"}, tasks={KEY: retried(Try(1, "failed", 5, 45), state="failed")})
    assert found(replace(doomed, jobs=(replace(SUCCEED, state="FAILED"),), ledger=())) == {}


def test_a_job_that_is_bound_to_fail_may_be_tried_again_by_airflow() -> None:
    told = "JobFailed: Batch job job-1 ended as FAILED"
    failed = (replace(first := replace(SUCCEED, state="FAILED"), job_id="job-0", created_at=6, ended_at=9), first)

    def tried(*errors: str) -> dict[str, int]:
        tries = [Try(n, "failed", 5 * n, 5 * n + 4, error=error) for n, error in enumerate(errors, 1)]
        return found(
            replace(
                WELL, expected={KEY: "failed"}, tasks={KEY: retried(*tries, state="failed")}, jobs=failed, ledger=()
            )
        )

    assert tried(told, told) == {}
    assert tried("Throttled: DescribeJobs", told) == {"wrongly_failed": 1}


def test_a_user_may_clear_a_task() -> None:
    first = replace(SUCCEED, job_id="job-0", generation="g0", state="FAILED", created_at=6, ended_at=9, terminated=True)
    facts = replace(WELL, tasks={KEY: TWICE}, jobs=(first, SUCCEED), acts=(ActRecord("clear", str(KEY), 7, 8),))
    assert found(facts) == {}
    # A job of the new generation is nobody's to end.
    assert found(replace(facts, jobs=(first, replace(SUCCEED, terminated=True)))) == {"wrongly_ended": 1}


def test_a_request_that_was_sent_before_a_clear_is_resolved_after_it() -> None:
    late = replace(SUCCEED, job_id="job-0", generation="g0", state="FAILED", created_at=8, ended_at=9, terminated=True)
    facts = replace(WELL, jobs=(late, SUCCEED), acts=(ActRecord("clear", str(KEY), 6, 7),))
    assert found(facts) == {}
    assert found(replace(facts, jobs=(late,), ledger=())) == {"lost": 1, "wrongly_ended": 1}
    assert found(replace(facts, acts=())) == {"wrongly_ended": 1}


def test_a_clear_beside_a_lost_worker_is_a_retry() -> None:
    clear = ActRecord("clear", str(KEY), 42, 43)
    assert found(replace(WELL, acts=(clear,))) == {"lost": 1}
    assert found(replace(WELL, acts=(clear, ActRecord("killed", "worker", 41, 42)))) == {}
