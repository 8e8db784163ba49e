"""Any history of tries, crashes, clears and ends of jobs, against a service as awkward as its documentation allows.

The code under test is the whole of a try's dealing with its job; only the service, the store and the clock are
stand-ins, so that thousands of histories can be played.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_tcbatch import exceptions as e
from airflow_provider_tcbatch.execution.job import repair
from airflow_provider_tcbatch.execution.job import submission as module
from airflow_provider_tcbatch.execution.job.submission import JobSpec, Settled, Submission
from airflow_provider_tcbatch.execution.ownership.state_store import StoredRecords
from airflow_provider_tcbatch.models.actions import DescribeJobResult, SubmitJob
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.views import JobView
from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy
from airflow_provider_tcbatch.policies.job.submission import OnRetry
from airflow_provider_tcbatch.policies.ownership.marks import Mark, Owner
from airflow_provider_tcbatch.policies.ownership.record import ThisTry
from tests.support.task_context import Replaced, Store, TaskInstance
from tests.unit.conftest import job

OWNER = Owner("here", "a_dag", "a_run", "a_task")


#: Where in a try something happens: before or after a call, or a write to the store; and at which of them.
MOMENTS = st.tuples(
    st.sampled_from(
        [
            *("<save", "save>", "<SubmitJob", "SubmitJob>", "SubmitJob>", "<TerminateJob", "TerminateJob>"),
            *("<RetryJobs", "RetryJobs>", "DescribeJob", "DescribeJobs"),
        ]
    ),
    st.sampled_from([0, 0, 0, 1, 2]),
)

Moment = tuple[str, int]


class Crash(BaseException):
    """The worker dies here."""


class Clock:
    """What the code under test takes for the ``time`` module."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Made:
    """A job of the service."""

    job_id: str
    request: SubmitJob
    made_at: float
    state: str = "RUNNING"
    dying: bool = False
    end_time: str | None = None
    fail_reads: int = 0
    #: How many of its four instances have succeeded.
    succeeded: int = 0

    @property
    def generation(self) -> int:
        """How often the task had been cleared when it was sent first."""
        variables = self.request.job.tasks[0].env_vars or []
        return next(int(str(variable.value)) for variable in variables if variable.name == "GENERATION")

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "FAILED_INTERRUPTED")


@dataclass
class Service:
    """Batch, as far as it matters here. ``step`` is called around every call: the worker may die there."""

    clock: Clock
    window: float
    repeat: str
    mismatch: str
    step: Callable[[str], None] = lambda name: None
    lose_answers: int = 0
    refusal: type[e.ApiError] | None = None
    jobs: dict[str, Made] = field(default_factory=dict)
    tokens: dict[str, Made] = field(default_factory=dict)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(job_url=lambda job_id: f"https://x/{job_id}", patience=3600.0)
    )

    # What the hook offers

    @property
    def api(self) -> Service:
        return self

    def submission(self, wire: dict[str, Any], **members: Any) -> SubmitJob:
        return SubmitJob.parse(
            {"Placement": {"Zone": "ap-guangzhou-3"}, "Job": wire, "ClientToken": members["client_token"]}
        )

    def call(
        self, request: SubmitJob, *, patience: float | None = None, before_send: Callable[[], None] = lambda: None
    ) -> Any:
        self.step("<SubmitJob")
        before_send()
        made = self._submit(request)
        if self.lose_answers:
            # The client sends it again; that is all it can do.
            self.lose_answers -= 1
            if self.refusal is not None:
                error = self.refusal("refused the second time", code="X")
                error.maybe_done = True
                raise error
            made = self._submit(request)
        self.step("SubmitJob>")
        return SimpleNamespace(job_id=made.job_id)

    def _submit(self, request: SubmitJob) -> Made:
        token = str(request.client_token)
        known = self.tokens.get(token)
        if known is not None and self.clock.now - known.made_at <= self.window:
            same = known.request.to_wire() == request.to_wire()
            answer = self.repeat if same else self.mismatch
            if answer == "same_job":
                return known
            if answer == "error":
                raise e.InvalidRequest("ClientToken is used already", code="InvalidParameterValue")
        made = Made(f"job-{len(self.jobs)}", request, self.clock.now)
        self.jobs[made.job_id] = self.tokens[token] = made
        return made

    def _view(self, made: Made) -> dict[str, Any]:
        return {
            "JobId": made.job_id,
            "JobName": made.request.job.job_name,
            "JobState": made.state,
            "EndTime": made.end_time,
            "Tags": [tag.to_wire() for tag in made.request.job.tags or ()],
        }

    def describe_job(self, job_id: str) -> DescribeJobResult:
        self.step("DescribeJob")
        made = self.jobs.get(job_id)
        if made is None:
            raise e.NotFound("no such job", code="ResourceNotFound.Job")
        self._read(made)
        rest = "RunningCount" if made.running else "FailedCount"
        metrics = {"SucceedCount": made.succeeded, rest: 4 - made.succeeded}
        ending = "TERMINATING" if made.dying else ""
        return DescribeJobResult.parse({**self._view(made), "NextAction": ending, "TaskInstanceMetrics": metrics})

    def describe_jobs(
        self, job_ids: list[str] | None = None, filters: dict[str, list[str]] | None = None
    ) -> Iterator[JobView]:
        self.step("DescribeJobs")
        for made in list(self.jobs.values()):
            wanted = made.job_id in (job_ids or ()) or made.request.job.job_name in (filters or {}).get("job-name", ())
            if wanted:
                self._read(made)
                yield JobView.parse(self._view(made))

    @staticmethod
    def _read(made: Made) -> None:
        """RetryJobs takes effect after some looks."""
        if made.fail_reads:
            made.fail_reads -= 1
            if not made.fail_reads:
                made.state, made.end_time = "RUNNING", None

    def describe_job_submit_info(self, job_id: str) -> Any:
        return SimpleNamespace(tasks=self.jobs[job_id].request.job.tasks)

    def end_job(self, job_id: str, *, patience: float) -> DescribeJobResult | None:
        self.step("<TerminateJob")
        made = self.jobs.get(job_id)
        if made is None:
            return None
        if made.state != "SUCCEED":
            made.state, made.dying, made.end_time = "FAILED", False, str(self.clock.now)
        self.step("TerminateJob>")
        return self.describe_job(job_id)

    def retry_jobs(self, job_ids: list[str]) -> None:
        self.step("<RetryJobs")
        made = self.jobs[job_ids[0]]
        if made.state != "FAILED" or made.fail_reads:
            raise e.ResourceBusy("not FAILED", code="UnsupportedOperation")
        made.fail_reads = 3
        self.step("RetryJobs>")

    def instances_of(self, view: DescribeJobResult, which: str, **limits: Any) -> list[Any]:
        return []

    @property
    def log_reader(self) -> Any:
        return SimpleNamespace(outputs_of=lambda job_id, instances, size, within: [])

    def explain_failure(self, view: DescribeJobResult, outputs: list[Any], *, act: str | None = None) -> str:
        return f"{view.job_id} failed"


class Histories(RuleBasedStateMachine):
    """Never two running jobs of one generation; and an undisturbed try leaves no job but its own."""

    @initialize(
        window=st.sampled_from([30.0, 3600.0, 1e9]),
        repeat=st.sampled_from(["same_job", "error"]),
        mismatch=st.sampled_from(["same_job", "error", "new_job"]),
        mark=st.sampled_from(list(Mark)),
        name=st.sampled_from(["nightly", None]),
        on_retry=st.sampled_from(list(OnRetry)),
        policy=st.sampled_from([SuccessPolicy(), SuccessPolicy(0.5), SuccessPolicy(3, fail_fast=True)]),
        end_superseded=st.booleans(),
    )
    def begin(
        self,
        window: float,
        repeat: str,
        mismatch: str,
        mark: Mark,
        name: str | None,
        on_retry: OnRetry,
        policy: SuccessPolicy,
        end_superseded: bool,
    ) -> None:
        self.clock = Clock()
        self.service = Service(self.clock, window, repeat, mismatch)
        self.store = Store()
        self.mark, self.name, self.on_retry = mark, name, on_retry
        self.policy, self.end_superseded = policy, end_superseded
        self.edited = self.clears = 0
        self.tries, self.retries, self.max_tries = 0, 2, 2
        self.patches = pytest.MonkeyPatch()
        for place in (module, repair):
            self.patches.setattr(place, "time", self.clock)
        logging.getLogger(module.__name__).disabled = True

    def teardown(self) -> None:
        if hasattr(self, "patches"):
            self.patches.undo()
            logging.getLogger(module.__name__).disabled = False

    # -- one try

    def new_try(self) -> Callable[[], Settled]:
        """The next try of the task, which replaces the one before it."""
        self.tries += 1
        ti = TaskInstance(self.tries, self.max_tries)
        self.store.current = ti.id
        this = ThisTry(self.tries, str(ti.id), self.max_tries, self.retries)
        given = {**job(f"echo {self.edited}"), "JobName": self.name}
        spec = JobSpec(Job.parse({key: value for key, value in given.items() if value is not None}), OWNER, self.mark)
        return Submission(
            self.service,  # type: ignore[arg-type]
            StoredRecords(self.store.accessor(ti.id)),
            this,
            lambda: spec,
            {"AIRFLOW_CTX_TRY_NUMBER": str(self.tries), "GENERATION": str(self.clears)},
            on_retry=self.on_retry,
            policy=self.policy,
            end_superseded=self.end_superseded,
        ).settle

    def play(self, settle: Callable[[], Settled], moment: Moment, strike: Callable[[], None]) -> Settled | None:
        """Run a try; at a certain moment something strikes."""
        name, number = moment
        passed = iter(range(10**6))

        def step(now: str) -> None:
            if now == name and next(passed) == number:
                strike()

        self.service.step = self.store.step = step
        try:
            return settle()
        except (Crash, Replaced, e.TCBatchError):
            return None
        finally:
            self.service.step = self.store.step = lambda name: None

    # -- what may happen

    @rule(moment=MOMENTS, later=st.sampled_from([0.0, 60.0, 7200.0]))
    def a_try_dies(self, moment: Moment, later: float) -> None:
        def die() -> None:
            raise Crash

        self.play(self.new_try(), moment, die)
        self.clock.now += later

    @rule(moment=MOMENTS, cleared=st.booleans())
    def a_try_is_replaced_while_it_works(self, moment: Moment, cleared: bool) -> None:
        """It is thought dead (a partition), its successor does all its work, and then it goes on."""
        # RetryJobs has no token: one that was on its way when the user cleared the task can't be told from one that
        # the successor wants. (Such a job keeps its mark and is found by that.)
        cleared = cleared and self.on_retry is OnRetry.RESUBMIT
        stale = self.new_try()

        def successor() -> None:
            if cleared:
                self.the_user_clears()
            resume, self.service.step = self.service.step, lambda name: None
            self.store.step = lambda name: None
            try:
                self.new_try()()
            except e.TCBatchError:
                pass
            finally:
                self.service.step = self.store.step = resume

        self.play(stale, moment, successor)

    @rule(refusal=st.sampled_from([None, e.QuotaExceeded, e.Throttled, e.PermissionDenied, e.InvalidRequest]))
    def an_answer_will_be_lost(self, refusal: type[e.ApiError] | None) -> None:
        """The client sends it again by itself, which may be refused: the quota is full by then, keys ran out."""
        self.service.lose_answers, self.service.refusal = 1, refusal

    @rule()
    def the_user_clears(self) -> None:
        self.clears += 1
        self.max_tries = self.tries + self.retries

    @rule(retries=st.integers(0, 5))
    def somebody_edits_retries(self, retries: int) -> None:
        self.retries = retries

    @rule()
    def somebody_edits_the_job(self) -> None:
        self.edited += 1

    @precondition(lambda self: any(made.running for made in self.service.jobs.values()))
    @rule(
        state=st.sampled_from(["RUNNING", "SUCCEED", "FAILED", "FAILED_INTERRUPTED", "dying"]),
        succeeded=st.integers(0, 3),
    )
    def something_becomes_of_a_job(self, state: str, succeeded: int) -> None:
        made = next(made for made in self.service.jobs.values() if made.running)
        made.succeeded = 4 if state == "SUCCEED" else max(made.succeeded, succeeded)
        if state == "dying":
            made.dying = True
        else:
            made.state, made.dying, made.end_time = state, False, str(self.clock.now)

    # -- what must hold

    @rule()
    def an_undisturbed_try_comes_through(self) -> None:
        self.service.lose_answers = 0
        known = [self.service.jobs[record["job_id"]] for record in self.store.data.values() if record["job_id"]]
        good = [
            made.job_id for made in known if made.generation == self.clears and not made.running and self._good(made)
        ]
        # A clear that leaves max_tries as it was (retries were edited) can't be told from a retry.
        noticed = all(record["owner"]["max_tries"] != self.max_tries for record in self.store.data.values())
        others = [
            made
            for made in self.service.jobs.values()
            if made.running and made.generation != self.clears and noticed and not self.end_superseded
        ]
        settled = self.new_try()()
        assert all(made.running for made in others), "cancel_on_kill=False leaves them alone"
        assert not good or settled.job_id == good[0], f"{good[0]} was a success, it goes on with {settled.job_id}"
        # Without cancel_on_kill what was cleared goes on beside it.
        running = [
            made.job_id
            for made in self.service.jobs.values()
            if made.running and (self.end_superseded or made.generation == self.clears)
        ]
        allowed: list[list[str]] = [[], [settled.job_id]]
        assert running in allowed, f"left behind: {running}; the try goes on with {settled.job_id}"
        job = self.service.jobs[settled.job_id]
        assert not job.dying or (job.state != "RUNNING" and self._good(job)), "it goes on with a job that is ending"
        [record] = self.store.data.values()
        assert record["owner"]["ti_id"] == str(self.store.current), "a killed worker asks whose the job is"

    def _good(self, made: Made) -> bool:
        return made.succeeded >= self.policy.needed(4) or made.state == "SUCCEED"

    @invariant()
    def no_two_running_jobs_of_one_generation(self) -> None:
        if not hasattr(self, "service"):
            return
        tokens = [str(made.request.client_token) for made in self.service.jobs.values() if made.running]
        assert len(tokens) == len(set(tokens)), "the same token made two jobs that run"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=500, stateful_step_count=25, deadline=None)


def test_the_stand_in_remembers_tokens_as_told() -> None:
    """The machine above proves nothing if its service never makes a second job."""
    clock = Clock()
    service = Service(clock, window=30.0, repeat="same_job", mismatch="new_job")
    request = service.submission(job("true"), client_token="t")
    first = service.call(request).job_id
    assert service.call(request).job_id == first
    clock.now += 31
    assert service.call(request).job_id != first
    with pytest.raises(e.NotFound):
        service.describe_job("job-nobody")
