from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from airflow_provider_tcbatch.policies.job.outcome import Verdict
from airflow_provider_tcbatch.policies.job.submission import (
    TOKEN_WINDOW,
    Decision,
    JobNow,
    OnRetry,
    Step,
    decide,
    token_patience,
)
from airflow_provider_tcbatch.policies.ownership.record import Ending, Record, Repair, ThisTry

FIRST = ThisTry(try_number=1, ti_id="ti-1", max_tries=2, retries=2)
RETRY = replace(FIRST, try_number=2, ti_id="ti-2")
CLEARED = replace(FIRST, try_number=2, ti_id="ti-3", max_tries=3)
SENT = Record(owner=FIRST, token="t", token_sent_at=1000.0)
KNOWN = replace(SENT, job_id="job-1", submitted_at=1001.0)
ENDING = replace(KNOWN, ending=Ending("timeout", 1100.0))
ACTIVE, SUCCESS, FAILURE, GONE = (JobNow(v) for v in (Verdict.ACTIVE, Verdict.SUCCESS, Verdict.FAILURE, None))
DYING = ACTIVE._replace(terminating=True)
KEPT = FAILURE._replace(must_be_ended=True)


@pytest.mark.parametrize(
    ("record", "job", "retry", "cleared"),
    [
        (None, None, Decision(Step.SUBMIT), Decision(Step.SUBMIT)),
        (replace(KNOWN, done=True), None, Decision(Step.DONE), Decision(Step.SUBMIT)),
        (SENT, None, Decision(Step.RESEND), Decision(Step.SUBMIT, supersede=True, resolve=Step.RESEND)),
        (KNOWN, ACTIVE, Decision(Step.ATTACH), Decision(Step.SUBMIT, supersede=True)),
        (KNOWN, DYING, Decision(Step.AWAIT_END), Decision(Step.AWAIT_END)),
        (ENDING, ACTIVE, Decision(Step.AWAIT_END), Decision(Step.AWAIT_END)),
        (KNOWN, SUCCESS, Decision(Step.DONE), Decision(Step.SUBMIT)),
        (KNOWN, FAILURE, Decision(Step.SUBMIT, report=True), Decision(Step.SUBMIT)),
        (KNOWN, KEPT, Decision(Step.SUBMIT, report=True, terminate=True), Decision(Step.SUBMIT, terminate=True)),
        (KNOWN, GONE, Decision(Step.SUBMIT), Decision(Step.SUBMIT)),
    ],
)
def test_the_table(record: Record | None, job: JobNow | None, retry: Decision, cleared: Decision) -> None:
    assert decide(record, RETRY, job, now=1200.0) == retry
    assert decide(record, CLEARED, job, now=1200.0) == cleared


def test_an_old_token_is_not_trusted() -> None:
    assert decide(SENT, RETRY, None, now=1000.0 + 3601) == Decision(Step.FIND)
    assert decide(SENT, CLEARED, None, now=1000.0 + 3601) == Decision(Step.SUBMIT, supersede=True, resolve=Step.FIND)


def test_editing_retries_is_no_clear() -> None:
    assert decide(KNOWN, replace(RETRY, retries=9), ACTIVE, now=1200.0) == Decision(Step.ATTACH)


def test_a_failed_job_can_be_repaired() -> None:
    decision = decide(KNOWN, RETRY, FAILURE, now=1200.0, on_retry=OnRetry.REPAIR)
    assert decision == Decision(Step.REPAIR, report=True)


def test_superseded_jobs_are_left_alone_on_request() -> None:
    for record, job in ((SENT, None), (KNOWN, ACTIVE), (ENDING, ACTIVE), (KNOWN, KEPT)):
        decision = decide(record, CLEARED, job, now=1200.0, end_superseded=False)
        assert decision == Decision(Step.SUBMIT)


def test_a_named_job_must_be_looked_at() -> None:
    with pytest.raises(ValueError, match="looked at"):
        decide(KNOWN, RETRY, None, now=1200.0)


tries = st.builds(
    ThisTry,
    try_number=st.integers(1, 9),
    ti_id=st.text(max_size=9),
    max_tries=st.integers(0, 9),
    retries=st.integers(0, 9),
)
repairs = st.builds(Repair, requested_at=st.floats(0, 1e9), end_time_before=st.none() | st.text())
records = st.builds(
    Record,
    owner=tries,
    token=st.text(max_size=9),
    token_sent_at=st.floats(0, 1e9),
    context=st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    job_id=st.none() | st.text(max_size=9),
    submitted_at=st.none() | st.floats(0, 1e9),
    ending=st.none() | st.builds(Ending, reason=st.text(max_size=5), requested_at=st.floats(0, 1e9)),
    repairs=st.lists(st.builds(Repair, requested_at=st.floats(0, 1e9), end_time_before=st.none() | st.text())).map(
        tuple
    ),
    done=st.booleans(),
)


@given(records)
def test_a_record_survives_the_store(record: Record) -> None:
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("data", [{}, {"version": 2}, {"version": 1, "token": "t"}])
def test_what_is_no_record_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="record"):
        Record.from_json(data)


# -- histories ------------------------------------------------------------------------------------------


@dataclass
class Service:
    """Batch as far as it matters here: jobs by token, each with a state."""

    jobs: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    def submit(self, token: str) -> str:
        if token not in self.tokens:
            job_id = f"job-{len(self.jobs)}"
            self.tokens[token] = job_id
            self.jobs[job_id] = "active"
        return self.tokens[token]

    def running(self) -> list[str]:
        return [job_id for job_id, state in self.jobs.items() if state in ("active", "dying")]

    def now(self, job_id: str) -> JobNow:
        return {
            "active": ACTIVE,
            "dying": DYING,
            "succeeded": SUCCESS,
            "failed": FAILURE,
            "deleted": GONE,
        }[self.jobs[job_id]]


class Crash(Exception):
    """The worker dies here."""


class Histories(RuleBasedStateMachine):
    """Any order of tries, crashes, clears and ends of jobs: never two jobs of one generation, none left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.service = Service()
        self.stored: Record | None = None
        self.this = FIRST
        self.tokens = 0
        self.generation_of: dict[str, int] = {}
        self.attached: str | None = None

    # What a worker does with a decision; ``crash`` is the number of the step before which it dies.
    def work(self, crash: int) -> None:
        self.attached = None
        steps = iter(range(100))

        def step() -> None:
            if next(steps) == crash:
                raise Crash

        try:
            while True:
                job = self.service.now(self.stored.job_id) if self.stored and self.stored.job_id else None
                decision = decide(self.stored, self.this, job, now=0.0)
                if decision.step is Step.AWAIT_END:
                    assert self.stored is not None
                    assert self.stored.job_id is not None
                    step()
                    self.service.jobs[self.stored.job_id] = "failed"
                    continue
                break
            step()
            self.carry_out(decision, step)
        except Crash:
            pass

    def carry_out(self, decision: Decision, step) -> None:  # type: ignore[no-untyped-def]
        if decision.supersede:
            assert self.stored is not None
            old = self.stored.job_id or self.service.submit(self.stored.token)
            step()
            if self.service.jobs[old] in ("active", "dying"):
                self.service.jobs[old] = "failed"
            step()
        if decision.step is Step.DONE:
            return
        if decision.step is Step.SUBMIT:
            self.tokens += 1
            self.stored = Record(owner=self.this, token=f"t-{self.tokens}", token_sent_at=0.0)
        assert self.stored is not None
        self.stored = self.stored.claimed_by(self.this)
        step()
        if decision.step in (Step.SUBMIT, Step.RESEND):
            job_id = self.service.submit(self.stored.token)
            self.generation_of.setdefault(job_id, self.this.max_tries)
            step()
            self.stored = replace(self.stored, job_id=job_id, submitted_at=0.0)
            step()
        self.attached = self.stored.job_id

    @rule(crash=st.integers(0, 8))
    def first_or_next_try(self, crash: int) -> None:
        self.work(crash)
        self.this = replace(self.this, try_number=self.this.try_number + 1, ti_id=f"ti-{self.this.try_number + 1}")

    @rule()
    def user_clears(self) -> None:
        self.this = replace(self.this, max_tries=self.this.max_tries + 1)

    @rule(edited=st.integers(0, 5))
    def somebody_edits_retries(self, edited: int) -> None:
        self.this = replace(self.this, retries=edited)

    @precondition(lambda self: self.service.running())
    @rule(state=st.sampled_from(["succeeded", "failed"]))
    def a_job_ends(self, state: str) -> None:
        self.service.jobs[self.service.running()[0]] = state

    @precondition(lambda self: self.stored and self.stored.job_id in self.service.running())
    @rule()
    def the_job_is_being_ended(self) -> None:
        assert self.stored is not None
        job_id = self.stored.job_id
        assert job_id is not None
        self.stored = replace(self.stored, ending=Ending("killed", 0.0))
        self.service.jobs[job_id] = "dying"

    @rule()
    def the_current_try_comes_through(self) -> None:
        """Whatever happened before, an undisturbed try leaves exactly the job it has attached to."""
        self.work(crash=99)
        running = self.service.running()
        assert running in ([], [self.attached]), f"left behind: {running}, attached to {self.attached}"

    @invariant()
    def one_running_job_at_most_per_generation(self) -> None:
        running = [self.generation_of[job_id] for job_id in self.service.running() if job_id in self.generation_of]
        assert len(running) == len(set(running))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=300, stateful_step_count=25, deadline=None)


@given(patience=st.floats(0, 1e6), age=st.floats(0, 1e6))
def test_no_request_waits_until_its_token_may_be_forgotten(patience: float, age: float) -> None:
    waits = token_patience(patience, age)
    assert 0 <= waits <= patience
    assert waits == 0 or age + waits <= TOKEN_WINDOW + 1e-6
    assert token_patience(60.0) == 60.0


@pytest.mark.parametrize(
    ("accepted", "this", "ends"), [(True, FIRST, False), (False, FIRST, True), (True, RETRY, True)]
)
def test_a_repair_that_was_accepted_is_not_ended_by_the_try_that_asked_for_it(
    accepted: bool, this: ThisTry, ends: bool
) -> None:
    repaired = replace(KNOWN, repairs=(Repair(1200.0, "before", FIRST.ti_id, accepted),))
    assert decide(repaired, this, KEPT, now=2000.0, on_retry=OnRetry.REPAIR).terminate is ends
    assert decide(repaired, this, KEPT, now=2000.0).terminate, "another job is going to be submitted"


@pytest.mark.parametrize(("this", "reported"), [(FIRST, False), (RETRY, True)], ids=["the same try", "the next"])
def test_a_try_that_has_asked_for_a_repair_does_not_report_the_failure_before_it(this: ThisTry, reported: bool) -> None:
    repaired = replace(KNOWN, repairs=(Repair(1200.0, "before", FIRST.ti_id),))
    decision = decide(repaired, this, FAILURE, now=2000.0, on_retry=OnRetry.REPAIR)
    assert decision == Decision(Step.REPAIR, report=reported)
