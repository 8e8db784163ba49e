"""A wait for one job, against the emulator."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.hooks.batch import TCBatchHook
from airflow_provider_tcbatch.models.actions import DescribeJob, SubmitJob
from airflow_provider_tcbatch.policies.deadlines import Deadlines, Limit
from airflow_provider_tcbatch.policies.job.notifications import FAIL_FAST_EVENTS, FINAL_JOB_EVENTS, with_notification
from airflow_provider_tcbatch.policies.job.outcome import Counts, SuccessPolicy
from airflow_provider_tcbatch.waits import job as module
from airflow_provider_tcbatch.waits import log_turns
from airflow_provider_tcbatch.waits.job import JobWait, WaitEnd, counts_of
from airflow_provider_tcbatch.waits.sessions import wait_here
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.jobs import Watcher
from airflow_provider_tcbatch.watching.subscription import WatcherTimings
from tests.support.outages import Outage
from tests.support.processes import wait_for
from tests.unit.conftest import job

SOON = WatcherTimings(first=0.05, coalesce=0.01)


class Said:
    """What the task's log would show; lets a test wait for a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = asyncio.Event()

    def __call__(self, form: str, *arguments: Any) -> None:
        self.lines.append(form % arguments)
        self._changed.set()

    async def until(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something holds that a new line makes true."""

        async def follow() -> None:
            while not holds():
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(follow(), seconds)

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)


@pytest.fixture
def said() -> Said:
    return Said()


class Looks:
    """The looks at a job's instances, for a test that waits for them."""

    def __init__(self, api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
        self._answered: asyncio.Queue[None] = asyncio.Queue()
        real = api.acall

        async def acall(action: Any, **options: Any) -> Any:
            try:
                return await real(action, **options)
            finally:
                if isinstance(action, DescribeJob):
                    self._answered.put_nowait(None)

        monkeypatch.setattr(api, "acall", acall)

    async def more(self, number: int, seconds: float = 60.0) -> None:
        """Wait until so many more have been answered."""
        while not self._answered.empty():
            self._answered.get_nowait()
        for _ in range(number):
            await asyncio.wait_for(self._answered.get(), seconds)


@pytest.fixture
def looks(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(api, monkeypatch)


@pytest.fixture
def hook(connection: str, emulator: Emulator) -> Iterator[TCBatchHook]:
    yield TCBatchHook(connection)
    emulator.faults.clear()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A folder; instance N ends well when there is a file N in it, and all end when the test does."""
    path = tmp_path / "gate"
    path.mkdir()
    yield path
    (path / "all").touch()


def held(gate: Path, instance: str = "$BATCH_TASK_INSTANCE_INDEX") -> str:
    return f"until [ -e {gate}/{instance} ] || [ -e {gate}/all ]; do sleep 0.02; done; [ ! -e {gate}/bad-{instance} ]"


def let_fail(gate: Path, index: int) -> None:
    (gate / f"bad-{index}").touch()
    (gate / str(index)).touch()


@asynccontextmanager
async def watching(api: ApiClient, listener: EventListener | None = None) -> AsyncIterator[Watcher]:
    watcher = Watcher(api, listener, SOON)
    watcher.start()
    try:
        yield watcher
    finally:
        await watcher.aclose()
        await api.aclose()


async def waited(api: ApiClient, hook: TCBatchHook, wait: JobWait, seconds: float = 60.0) -> WaitEnd:
    async with watching(api) as watcher:
        return await asyncio.wait_for(wait.run(watcher, hook.settings), seconds)


async def running(hook: TCBatchHook, job_id: str, instances: int = 1) -> None:
    """Return when so many instances run."""
    while True:
        metrics = (await asyncio.to_thread(hook.describe_job, job_id)).task_instance_metrics
        if metrics is not None and metrics.running_count >= instances:
            return
        await asyncio.sleep(0.05)


# -- how a wait ends -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "state"), [("true", "SUCCEED"), ("false", "FAILED")])
async def test_a_wait_ends_with_the_job(
    api: ApiClient, hook: TCBatchHook, said: Said, command: str, state: str
) -> None:
    job_id = hook.submit_job(job(command))
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, log_line=said))
    assert (end.status, end.state, end.source, end.limit, end.streamed) == ("ended", state, "poll", None, False)
    assert end.observed_at == pytest.approx(time.time(), abs=60)
    assert not said.count(f"is {state}"), "whoever waits says how it ended"
    assert len(said.lines) == len(set(said.lines)), "a state is told once"


async def test_a_brief_one_says_neither_the_first_state_at_once_nor_the_last(
    api: ApiClient, hook: TCBatchHook, gate: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_SAID", (0.5, 0.6))
    monkeypatch.setattr(log_turns, "turns", log_turns.LogTurns(lines=20, together=0.1))
    job_id = hook.submit_job(job(held(gate)))
    await running(hook, job_id)
    waiting = asyncio.create_task(waited(api, hook, JobWait(job_id, poll_interval=0.1, log_line=said, brief=True)))
    await said.until(lambda: bool(said.lines))
    (gate / "all").touch()
    assert (await waiting).state == "SUCCEED"
    assert said.lines == [f"Job {job_id} is RUNNING"]


async def test_many_brief_ones_say_their_states_one_after_the_other(
    api: ApiClient, hook: TCBatchHook, gate: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_SAID", (0.0, 0.0))
    monkeypatch.setattr(log_turns, "turns", log_turns.LogTurns(lines=1 / 500, together=0.1))
    first, second = (hook.submit_job(job(held(gate))) for _ in range(2))
    await running(hook, first)
    await running(hook, second)
    async with watching(api) as watcher:
        waits = [
            asyncio.create_task(
                JobWait(job_id, poll_interval=0.1, log_line=said, brief=True).run(watcher, hook.settings)
            )
            for job_id in (first, second)
        ]
        await said.until(lambda: bool(said.lines))
        done, _ = await asyncio.wait(waits, timeout=1)
        assert not done
        (gate / "all").touch()
        ends = await asyncio.wait_for(asyncio.gather(*waits), 30)
    assert [end.state for end in ends] == ["SUCCEED", "SUCCEED"]
    assert len(said.lines) == 1, "the other one's turn has not come"


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> float:
    """The second in which the clock of the lines' turns stands still."""
    monkeypatch.setattr(log_turns, "time", SimpleNamespace(time=lambda: 1_000_001.5))
    return 1_000_001.5


def test_so_many_lines_a_second_are_said_at_the_same_moments(still: float) -> None:
    turns = log_turns.LogTurns(lines=20, together=2)
    began = still
    moments = Counter(turns.take(after=0) or 0 for _ in range(100))
    assert all(moment % 2 == 0 for moment in moments)
    assert max(moments.values()) <= 40
    assert 4 <= max(moments) - began <= 8
    assert (turns.take(after=60) or 0) >= began + 60, "who has time does not come sooner"
    assert began < (turns.take(after=0) or 0) <= began + 9, "nor do others wait for him"


@pytest.mark.usefixtures("still")
def test_who_would_speak_too_late_says_nothing_and_takes_no_turn() -> None:
    turns = log_turns.LogTurns(lines=1, together=0.1, longest=10)
    taken = [turns.take(after=0) for _ in range(1_000)]
    assert 10 <= len([at for at in taken if at is not None]) <= 13
    assert taken[-1] is None


async def test_a_brief_one_that_is_quick_says_nothing(api: ApiClient, hook: TCBatchHook, said: Said) -> None:
    end = await waited(api, hook, JobWait(hook.submit_job(job("true")), poll_interval=0.1, log_line=said, brief=True))
    assert end.state == "SUCCEED"
    assert not said.count("is SUCCEED")


def test_a_worker_waits_the_same_way(hook: TCBatchHook) -> None:
    job_id = hook.submit_job(job("sleep 0.3"))
    end = wait_here(hook.settings, JobWait(job_id, poll_interval=0.1))
    assert (end.status, end.state) == ("ended", "SUCCEED")


async def test_a_job_that_does_not_exist_ends_the_wait_with_an_error(api: ApiClient, hook: TCBatchHook) -> None:
    watcher = Watcher(api, None, WatcherTimings(first=0.01, missing=0.1))
    watcher.start()
    end = await asyncio.wait_for(JobWait("job-00000000", poll_interval=0.1).run(watcher, hook.settings), 60)
    await watcher.aclose()
    await api.aclose()
    assert (end.status, end.state) == ("error", None)
    assert "job-00000000" in str(end.message)


# -- limits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [Limit.TIMEOUT, Limit.EXECUTION_TIMEOUT])
async def test_a_running_job_is_given_up_at_its_limit(
    api: ApiClient, hook: TCBatchHook, gate: Path, limit: Limit
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    await running(hook, job_id)
    at = time.time() + 1.5
    deadlines = Deadlines(**{"timeout": at + 60, "execution_timeout": at + 60, limit.value: at})
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, deadlines=deadlines))
    assert (end.status, end.limit, end.state) == ("timeout", limit, "RUNNING")
    assert 0 <= time.time() - at < 50, "the other limit is a minute away"


async def test_the_earliest_limit_is_the_one_that_is_told(api: ApiClient, hook: TCBatchHook, gate: Path) -> None:
    job_id = hook.submit_job(job(held(gate)))
    past = time.time() - 1
    deadlines = Deadlines(timeout=past, execution_timeout=past - 1, queue_timeout=past + 60)
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, deadlines=deadlines))
    assert (end.status, end.limit) == ("timeout", Limit.EXECUTION_TIMEOUT)


async def test_a_job_of_which_nothing_starts_is_given_up(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, gate: Path
) -> None:
    emulator.configure(starting_seconds=600)
    job_id = hook.submit_job(job(held(gate)))
    wait_for("it is about to start", lambda: hook.describe_job(job_id).job_state == "STARTING", timeout=60)
    at = time.time() + 1.5
    end = await waited(
        api, hook, JobWait(job_id, poll_interval=0.1, deadlines=Deadlines(timeout=at + 60, queue_timeout=at))
    )
    assert (end.status, end.limit, end.state) == ("timeout", Limit.QUEUE_TIMEOUT, "STARTING")


@pytest.mark.parametrize("ended", [True, False])
async def test_an_instance_that_ran_between_two_looks_has_left_the_queue(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, gate: Path, ended: bool
) -> None:
    """The job's state is not seen before the limit, and its instance may have ended again by then."""
    emulator.faults.add("throttle", action="DescribeJobs")
    job_id = hook.submit_job(job(held(gate), instances=2))
    await running(hook, job_id, 2)
    if ended:
        (gate / "0").touch()
    deadlines = Deadlines(queue_timeout=time.time() + 0.5, timeout=time.time() + 2)
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, deadlines=deadlines))
    assert (end.status, end.limit, end.state) == ("timeout", Limit.TIMEOUT, None)


async def test_a_job_that_was_seen_running_is_not_looked_at_again_for_the_queue(
    api: ApiClient, hook: TCBatchHook, gate: Path
) -> None:
    job_id = hook.submit_job(job(held(gate)))
    await running(hook, job_id)
    async with watching(api) as watcher:
        with watcher.subscribe(job_id) as other:
            assert await other.next(60) is not None
            now = time.time()
            deadlines = Deadlines(queue_timeout=now + 1, timeout=now + 2)
            end = await JobWait(job_id, poll_interval=0.1, deadlines=deadlines).run(watcher, hook.settings)
    assert end.limit is Limit.TIMEOUT
    assert api.sent.get("DescribeJob", 0) == 0


async def test_an_end_that_meets_a_limit_is_an_end(api: ApiClient, hook: TCBatchHook, emulator: Emulator) -> None:
    """What the watcher knows already counts for more than the clock."""
    job_id = hook.submit_job(job("true"))
    emulator.wait_job(job_id)
    async with watching(api) as watcher:
        with watcher.subscribe(job_id) as other:
            assert await other.next(60) is not None
            wait = JobWait(job_id, deadlines=Deadlines(timeout=time.time() - 60))
            end = await wait.run(watcher, hook.settings)
    assert (end.status, end.state) == ("ended", "SUCCEED")


# -- progress --------------------------------------------------------------------------------------------


async def test_progress_is_told_when_it_has_changed(
    api: ApiClient, looks: Looks, hook: TCBatchHook, said: Said, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.1)
    monkeypatch.setattr(Watcher, "jobs", 0)
    job_id = hook.submit_job(job(held(gate), instances=3))
    wait = JobWait(job_id, poll_interval=0.1, progress=True, log_line=said)
    async with watching(api) as watcher:
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await said.until(lambda: f"Job {job_id} is RUNNING" in said.lines)
        (gate / "0").touch()
        await said.until(lambda: f"Job {job_id}: 1 of 3 instances done, 0 failed" in said.lines)
        await looks.more(3)
        let_fail(gate, 1)
        await said.until(lambda: f"Job {job_id}: 2 of 3 instances done, 1 failed" in said.lines)
        assert said.count("instances done") == 2, "the same again is no news"
        (gate / "2").touch()
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.state) == ("ended", "FAILED")


async def test_a_job_of_one_instance_has_no_progress(
    api: ApiClient, hook: TCBatchHook, said: Said, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(Watcher, "jobs", 0)
    job_id = hook.submit_job(job(held(gate)))
    wait = JobWait(job_id, poll_interval=0.1, progress=True, log_line=said)
    async with watching(api) as watcher:
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await Outage.until_true(lambda: api.sent.get("DescribeJob"))
        seen = api.sent.get("DescribeJobs", 0)
        await Outage.until_true(lambda: api.sent.get("DescribeJobs", 0) >= seen + 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert said.count("instances done") == 0
    assert api.sent["DescribeJob"] == 1, "that there is only one is seen at the first look"


async def test_many_waits_count_their_instances_seldom(
    api: ApiClient, hook: TCBatchHook, gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All waits of a process together cause about one such call a second."""
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.05)
    ids = [hook.submit_job(job(held(gate), instances=2)) for _ in range(3)]
    begun = time.monotonic()
    async with watching(api) as watcher:
        deadlines = Deadlines(timeout=time.time() + 5)
        waits = [JobWait(job_id, poll_interval=0.5, progress=True, deadlines=deadlines) for job_id in ids]
        await asyncio.gather(*(wait.run(watcher, hook.settings) for wait in waits))
    assert 1 <= api.sent["DescribeJob"] <= time.monotonic() - begun + 2


@pytest.mark.parametrize("fail_fast", [False, True])
async def test_instances_that_may_not_be_counted_do_not_end_the_wait(
    api: ApiClient,
    looks: Looks,
    hook: TCBatchHook,
    emulator: Emulator,
    said: Said,
    gate: Path,
    monkeypatch: pytest.MonkeyPatch,
    fail_fast: bool,
) -> None:
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(Watcher, "jobs", 0)
    job_id = hook.submit_job(job(held(gate), instances=2))
    refusal = emulator.faults.add("error", action="DescribeJob", code="UnauthorizedOperation")
    wait = JobWait(job_id, poll_interval=0.1, progress=True, policy=SuccessPolicy(None, fail_fast), log_line=said)
    async with watching(api) as watcher:
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await said.until(lambda: said.count("can't be counted") == 1 and f"Job {job_id} is RUNNING" in said.lines)
        if fail_fast:
            await looks.more(3)
        assert not task.done()
        (gate / "all").touch()
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.state) == ("ended", "SUCCEED")
    assert said.count("can't be counted") == 1, "it is told once"
    [fault] = [fault for fault in emulator.faults.all() if fault.id == refusal.id]
    assert (fault.hits > 1) is fail_fast, "progress is a courtesy, fail_fast is a promise"


async def test_a_passing_failure_to_count_is_passed_over(
    api: ApiClient,
    hook: TCBatchHook,
    emulator: Emulator,
    said: Said,
    gate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(Watcher, "jobs", 0)
    job_id = hook.submit_job(job(held(gate), instances=2))
    emulator.faults.add("error", action="DescribeJob", code="InternalError", count=3)
    (gate / "0").touch()
    async with watching(api) as watcher:
        wait = JobWait(job_id, poll_interval=0.1, progress=True, log_line=said)
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await said.until(lambda: said.count("1 of 2 instances done") == 1)
        (gate / "all").touch()
        assert (await asyncio.wait_for(task, 60)).state == "SUCCEED"
    assert said.count("can't be counted") == 0


# -- fail_fast -------------------------------------------------------------------------------------------


async def test_fail_fast_finds_a_failed_instance_by_looking(api: ApiClient, hook: TCBatchHook, gate: Path) -> None:
    job_id = hook.submit_job(job(held(gate), instances=3))
    let_fail(gate, 1)
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.2, policy=SuccessPolicy(fail_fast=True)))
    assert (end.status, end.state, end.source) == ("failing", "RUNNING", "poll")
    assert end.observed_at == pytest.approx(time.time(), abs=60)


async def test_fail_fast_lets_a_job_go_on_that_can_still_succeed(
    api: ApiClient, looks: Looks, hook: TCBatchHook, said: Said, gate: Path
) -> None:
    job_id = hook.submit_job(job(held(gate), instances=3))
    let_fail(gate, 1)
    wait = JobWait(job_id, poll_interval=0.1, policy=SuccessPolicy(2, fail_fast=True), progress=True, log_line=said)
    async with watching(api) as watcher:
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await said.until(lambda: said.count("1 of 3 instances done, 1 failed") == 1)
        await looks.more(2)
        assert not task.done()
        let_fail(gate, 2)
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.state) == ("failing", "RUNNING")


async def test_without_fail_fast_a_failed_instance_changes_nothing(
    api: ApiClient, hook: TCBatchHook, gate: Path
) -> None:
    job_id = hook.submit_job(job(held(gate), instances=2))
    let_fail(gate, 1)
    await running(hook, job_id)
    deadlines = Deadlines(timeout=time.time() + 2)
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, deadlines=deadlines))
    assert (end.status, end.limit, end.state) == ("timeout", Limit.TIMEOUT, "RUNNING")


def listening(hook: TCBatchHook, api: ApiClient, emulator: Emulator) -> EventListener:
    return EventListener(hook.settings.cmq_client(), api, emulator.info.topic, None)


def announced(api: ApiClient, emulator: Emulator, wire: dict[str, Any]) -> str:
    """Submit a job that tells of every failed instance."""
    body = with_notification(wire, emulator.info.topic, (*FINAL_JOB_EVENTS, *FAIL_FAST_EVENTS))
    return api.call(SubmitJob.parse({"Placement": {"Zone": emulator.info.zone}, "Job": body})).job_id


async def test_fail_fast_hears_of_a_failed_instance(
    api: ApiClient, hook: TCBatchHook, emulator: Emulator, said: Said, gate: Path
) -> None:
    """The next count by the clock is minutes away."""
    ear = listening(hook, api, emulator)
    async with watching(api, ear) as watcher:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        job_id = await asyncio.to_thread(announced, api, emulator, job(held(gate), instances=3))
        wait = JobWait(job_id, poll_interval=600, policy=SuccessPolicy(fail_fast=True), log_line=said)
        wait._fresh -= 1200  # a long wait already, looked at seldom
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await running(hook, job_id, 3)
        assert api.sent.get("DescribeJob", 0) == 0
        let_fail(gate, 1)
        end = await asyncio.wait_for(task, 60)
    assert (end.status, end.state) == ("failing", "RUNNING")


async def test_a_hint_is_followed_until_the_service_shows_what_it_was_about(
    api: ApiClient, looks: Looks, hook: TCBatchHook, gate: Path
) -> None:
    """The API may lag behind its own event."""
    job_id = hook.submit_job(job(held(gate), instances=2))
    await running(hook, job_id, 2)
    wait = JobWait(job_id, poll_interval=600, policy=SuccessPolicy(fail_fast=True))
    wait._fresh -= 1200
    async with watching(api) as watcher:
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        await asyncio.sleep(0)
        watcher.hint(job_id, "TASK_INSTANCE_FAILED", time.time())
        await looks.more(1)
        let_fail(gate, 1)
        end = await asyncio.wait_for(task, 60)
    assert end.status == "failing"


async def test_a_flood_of_hints_leads_to_few_counts(api: ApiClient, hook: TCBatchHook, gate: Path) -> None:
    """Thousands of instances may fail while the job can still succeed."""
    job_id = hook.submit_job(job(held(gate), instances=2))
    await running(hook, job_id, 2)
    async with watching(api) as watcher:
        wait = JobWait(job_id, poll_interval=600, policy=SuccessPolicy(1, fail_fast=True))
        task = asyncio.create_task(wait.run(watcher, hook.settings))
        started = time.monotonic()
        while (passed := time.monotonic() - started) < 2.5 or api.sent.get("DescribeJob", 0) < 2:
            assert passed < 60, "it is not looked at again"
            watcher.hint(job_id, "TASK_INSTANCE_FAILED", time.time())
            await asyncio.sleep(0.01)
        assert api.sent["DescribeJob"] <= passed + 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_without_fail_fast_a_hint_costs_no_count(api: ApiClient, hook: TCBatchHook, gate: Path) -> None:
    job_id = hook.submit_job(job(held(gate), instances=2))
    await running(hook, job_id, 2)
    async with watching(api) as watcher:
        task = asyncio.create_task(JobWait(job_id, poll_interval=600).run(watcher, hook.settings))
        for _ in range(20):
            watcher.hint(job_id, "TASK_INSTANCE_FAILED", time.time())
            await asyncio.sleep(0.02)
        (gate / "all").touch()
        end = await asyncio.wait_for(task, 60)
    assert end.state == "SUCCEED"
    assert api.sent.get("DescribeJob", 0) == 0


# -- counting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (None, None),
        ({}, None),
        ({"SubmittedCount": 4}, Counts(4, 0, 0, 0)),
        (
            {"RunnableCount": 1, "StartingCount": 2, "RunningCount": 3, "SucceedCount": 4, "FailedCount": 5},
            Counts(15, 4, 5, 12, 5),
        ),
        ({"FailedCount": 1, "FailedInterruptedCount": 2}, Counts(3, 0, 3, 3, 2)),
    ],
)
def test_instances_are_counted_as_the_service_shows_them(metrics: Any, expected: Counts | None) -> None:
    members = {"JobId": "job-1", "JobState": "RUNNING", "TaskInstanceMetrics": metrics}
    assert counts_of(DescribeJob.result_type().parse_response(members)) == expected


async def test_each_address_of_cos_has_a_client_of_its_own(api: ApiClient, hook: TCBatchHook) -> None:
    """A connection is edited while its watcher is in use."""
    clients = []
    async with watching(api) as watcher:
        for endpoint in (None, "http://127.0.0.1:9", None):
            settings = replace(hook.settings, cos=hook.settings.cos._replace(endpoint=endpoint))
            clients.append((await JobWait("job-1", stream=1)._stream(watcher, settings))._cos)
    assert clients[0] is clients[2] is not clients[1]


async def test_a_cos_that_does_not_answer_does_not_keep_a_wait_that_streams(
    api: ApiClient,
    hook: TCBatchHook,
    emulator: Emulator,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AIRFLOW__TCBATCH__EXPLAIN_TIMEOUT", "1")
    path = f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/hangs/"
    redirect = {"StdoutRedirectPath": path, "StderrRedirectPath": path}
    job_id = hook.submit_job(job("echo out", RedirectInfo=redirect))
    emulator.faults.add("slow", service="cos", seconds=40)
    end = await waited(api, hook, JobWait(job_id, poll_interval=0.1, stream=10, log_line=said), 25)
    assert end.state == "SUCCEED"
    [line] = [record.getMessage() for record in caplog.records if "left out is" in record.getMessage()]
    assert "in 1 s ([tcbatch] explain_timeout)" in line
    assert f"stdout of instance 0 of main ({path}" in line
    assert f"stderr of instance 0 of main ({path}" in line
