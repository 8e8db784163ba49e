from __future__ import annotations

import asyncio
import contextvars
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cmq import CmqClient
from airflow_provider_tcbatch.client.limits import RateLimiter
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    InfrastructureError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Throttled,
)
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeJobs, SubmitJob
from airflow_provider_tcbatch.models.cmq import CreateCmqQueue, CreateCmqSubscribe, CreateCmqTopic
from airflow_provider_tcbatch.models.events import BatchEvent
from airflow_provider_tcbatch.policies.outage import Outage
from airflow_provider_tcbatch.watching import poller
from airflow_provider_tcbatch.watching.event_listener import EventListener
from airflow_provider_tcbatch.watching.jobs import Watcher
from airflow_provider_tcbatch.watching.poller import PORTION
from airflow_provider_tcbatch.watching.registry import shared_watcher
from airflow_provider_tcbatch.watching.subscription import JobSnapshot, Subscription, WatcherTimings
from tests.support.event_first import end_by_event
from tests.support.outages import Outage as Trouble
from tests.unit.conftest import job

FAST = WatcherTimings(first=0.01, coalesce=0.01, announce=0.2, missing=0.1, backoff=0.01)
TICK = 0.02


class Service:
    """The two actions a watcher calls, on states that a test sets."""

    def __init__(self, *job_ids: str, state: str = "RUNNING") -> None:
        self.states: dict[str, str] = dict.fromkeys(job_ids, state)
        self.calls: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.fault: Callable[[list[str]], None] = lambda ids: None
        self.limiter = RateLimiter({"DescribeJobs": 100_000})

    async def acall(self, action: Any, *, attempts: int = 1) -> Any:
        await asyncio.sleep(self.limiter.reserve(action.name()))
        self.calls[action.name()] += 1
        if isinstance(action, DescribeJobs):
            ids = action.job_ids or []
            assert action.limit == len(ids) <= 100
            self.sizes.append(len(ids))
            self.fault(ids)
            views = [{"JobId": i, "JobState": self.states[i]} for i in ids if i in self.states]
            return DescribeJobs.result_type().parse_response({"JobSet": views})
        assert isinstance(action, DescribeJob)
        if action.job_id not in self.states:
            raise NotFound(f"no {action.job_id}", code="ResourceNotFound.Job")
        view = {"JobId": action.job_id, "JobState": self.states[action.job_id]}
        return DescribeJob.result_type().parse_response(view)


@asynccontextmanager
async def running(watcher: Watcher) -> AsyncIterator[Watcher]:
    watcher.start()
    try:
        yield watcher
    finally:
        await watcher.aclose()


async def end_of(subscription: Subscription[JobSnapshot], timeout: float = 60.0) -> JobSnapshot:
    """The first snapshot that ends a wait."""
    until = time.monotonic() + timeout
    while True:
        snapshot = await subscription.next(until - time.monotonic())
        assert snapshot is not None or time.monotonic() < until, "nothing was told in time"
        if snapshot is None:
            continue
        if snapshot.error or snapshot.state in ("SUCCEED", "FAILED"):
            return snapshot


def watching(service: Service, listener: Any = None, timings: WatcherTimings = FAST) -> Watcher:
    return Watcher(service, listener, timings)  # type: ignore[arg-type]


@pytest.fixture
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Young jobs are looked at as seldom as old ones, so that there are no looks but those that a test is about."""
    monkeypatch.setattr(poller, "pace", lambda age, slowest: slowest)


class Silent:
    """A listener that hears nothing: it makes the watcher expect events."""

    async def run(self, hint: Any, failed: Any) -> None:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        return None


async def test_a_change_is_told_and_only_a_change() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            first = await subscription.next(60)
            assert first is not None
            assert first.state == "RUNNING"
            polls = service.calls["DescribeJobs"]
            assert await subscription.next(10 * TICK) is None, "the same state again is no news"
            await Trouble.until_true(lambda: service.calls["DescribeJobs"] > polls)
            assert await subscription.next(0) is None
            service.states["job-a"] = "SUCCEED"
            assert (await end_of(subscription)).source == "poll"


@pytest.mark.usefixtures("seldom")
async def test_a_sweep_over_n_jobs_takes_n_over_100_calls() -> None:
    ids = [f"job-{number}" for number in range(250)]
    service = Service(*ids)
    timings = WatcherTimings(first=0.05, reconcile=1000)
    async with running(watching(service, timings=timings)) as watcher:
        subscriptions = [watcher.subscribe(job_id, 1000) for job_id in ids]
        for subscription in subscriptions:
            assert await subscription.next(60) is not None
    assert service.calls["DescribeJobs"] == 3
    assert sorted(service.sizes) == [50, 100, 100]


@pytest.mark.parametrize(("jobs", "waits_each"), [(300, 1), (1, 300)])
async def test_many_waits_that_end_at_once_are_woken_in_portions(jobs: int, waits_each: int) -> None:
    ids = [f"job-{number}" for number in range(jobs)]
    service = Service(*ids)
    turn = 0
    woken: Counter[int] = Counter()

    async def turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def wait(job_id: str, watcher: Watcher) -> None:
        with watcher.subscribe(job_id, TICK) as subscription:
            await end_of(subscription)
            woken[turn] += 1

    async with running(watching(service)) as watcher:
        waits = [asyncio.create_task(wait(job_id, watcher)) for job_id in ids for _ in range(waits_each)]
        await asyncio.sleep(10 * TICK)
        counting = asyncio.create_task(turns())
        for job_id in ids:
            service.states[job_id] = "SUCCEED"
        await asyncio.gather(*waits)
        counting.cancel()
    assert sum(woken.values()) == 300
    # Answers of up to four calls may be told at the same time.
    assert max(woken.values()) <= 4 * PORTION


@pytest.mark.usefixtures("seldom")
async def test_all_who_wait_for_a_job_share_its_calls() -> None:
    service = Service("job-a", state="SUCCEED")
    async with running(watching(service)) as watcher:
        subscriptions = [watcher.subscribe("job-a", 60) for _ in range(20)]
        snapshots = [await end_of(subscription) for subscription in subscriptions]
    assert {snapshot.state for snapshot in snapshots} == {"SUCCEED"}
    assert service.calls["DescribeJobs"] == 1


async def test_a_late_subscriber_is_told_what_is_known() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", 60) as first:
            assert await first.next(60) is not None
            late = await watcher.subscribe("job-a", 60).next(0)
            assert late is not None
            assert late.state == "RUNNING"


async def test_an_event_alone_never_ends_a_wait() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", 1000) as subscription:
            assert (await subscription.next(60)) is not None
            assert watcher.hint("job-a", "JOB_SUCCEED", time.time())
            assert await subscription.next(0.2) is None, "the API still says RUNNING"
            service.states["job-a"] = "SUCCEED"
            received = time.time()
            watcher.hint("job-a", "JOB_SUCCEED", received)
            snapshot = await end_of(subscription)
            assert (snapshot.source, snapshot.event_received_at) == ("event", received)


async def test_an_event_of_one_job_leads_to_a_look_at_others() -> None:
    service = Service("job-a", "job-b")
    # Whoever is due within half its interval comes along.
    timings = replace(FAST, coalesce=1.0)
    async with running(watching(service, timings=timings)) as watcher:
        with watcher.subscribe("job-a", 1000) as first, watcher.subscribe("job-b", 1.5) as second:
            assert await first.next(60) is not None
            assert await second.next(60) is not None
            service.states.update({"job-a": "SUCCEED", "job-b": "SUCCEED"})
            watcher.hint("job-a", "JOB_SUCCEED", 1.0)
            own, along = await end_of(first), await end_of(second)
    assert (own.source, own.event_received_at) == ("event", 1.0)
    assert (along.source, along.event_received_at) == ("event", None)


async def test_those_who_wait_for_their_turn_share_a_call() -> None:
    """Of 200 jobs that end within a second, at two calls a second, each is known within about a second."""
    ids = [f"job-{number}" for number in range(200)]
    service = Service(*ids)
    async with running(watching(service)) as watcher:
        with ExitStack() as waits:
            subscriptions = [waits.enter_context(watcher.subscribe(job_id, 1000)) for job_id in ids]
            for subscription in subscriptions:
                assert await subscription.next(60) is not None
            service.limiter = RateLimiter({"DescribeJobs": 2}, 1.0)
            service.calls.clear()
            begun = time.monotonic()
            for job_id in ids:
                service.states[job_id] = "SUCCEED"
                watcher.hint(job_id, "JOB_SUCCEED", time.time())
                await asyncio.sleep(0.005)
            ending = time.monotonic() - begun
            for subscription in subscriptions:
                await end_of(subscription)
    assert service.calls["DescribeJobs"] <= 2 * ending + 6


async def test_an_event_that_led_to_a_look_does_not_lead_to_the_next_ones() -> None:
    service = Service("job-a", "job-b")
    later = asyncio.Event()
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as first, watcher.subscribe("job-b", TICK) as second:
            assert await first.next(60) is not None
            assert await second.next(60) is not None
            watcher.hint("job-a", "JOB_SUCCEED", 1.0)  # which is not so
            looks = service.calls["DescribeJobs"]

            def fault(ids: list[str]) -> None:
                if service.calls["DescribeJobs"] > looks + 3:
                    later.set()

            service.fault = fault
            await asyncio.wait_for(later.wait(), 60)
            service.states["job-b"] = "SUCCEED"
            assert (await end_of(second)).source == "poll"


@pytest.mark.usefixtures("seldom")
async def test_an_event_during_a_look_leads_to_another_look() -> None:
    """The answer under way may be older than the event."""
    service = Service("job-a")
    looked_again = asyncio.Event()

    def fault(ids: list[str]) -> None:
        if service.calls["DescribeJobs"] == 1:
            watcher.hint("job-a", "JOB_SUCCEED", 1.0)
        else:
            looked_again.set()

    service.fault = fault
    watcher = watching(service)
    async with running(watcher):
        with watcher.subscribe("job-a", 1000) as subscription:
            await subscription.next(60)
            # Its ordinary next look is a quarter of an hour away.
            await asyncio.wait_for(looked_again.wait(), 60)


@pytest.mark.usefixtures("seldom")
async def test_a_burst_of_events_is_confirmed_by_few_calls() -> None:
    ids = [f"job-{number}" for number in range(100)]
    service = Service(*ids)
    async with running(watching(service)) as watcher:
        subscriptions = [watcher.subscribe(job_id, 1000) for job_id in ids]
        for subscription in subscriptions:
            await subscription.next(60)
        before = service.calls["DescribeJobs"]
        for job_id in ids:
            service.states[job_id] = "SUCCEED"
            watcher.hint(job_id, "JOB_SUCCEED", 1.0)
        for subscription in subscriptions:
            assert (await end_of(subscription)).source == "event"
        assert service.calls["DescribeJobs"] - before <= 2


async def test_events_for_jobs_that_nobody_watches_are_not_claimed() -> None:
    async with running(watching(Service())) as watcher:
        assert not watcher.hint("job-x", "JOB_SUCCEED", 1.0)


async def test_a_lost_event_costs_time_only() -> None:
    """While events flow, looks are seldom; when one fails to come, polling returns to its pace."""
    service = Service("job-a", "job-b", "job-c")
    timings = WatcherTimings(first=0.01, coalesce=0.01, announce=0.1, reconcile=3.0)
    async with running(watching(service, Silent(), timings)) as watcher:
        with (
            watcher.subscribe("job-a", TICK) as a,
            watcher.subscribe("job-b", TICK) as b,
            watcher.subscribe("job-c", TICK) as c,
        ):
            service.states["job-a"] = "SUCCEED"
            watcher.hint("job-a", "JOB_SUCCEED", 1.0)
            assert (await end_of(a)).source == "event"
            service.states["job-b"] = "SUCCEED"  # its event never comes
            assert (await end_of(b)).source == "poll"
            await c.next(0)
            await asyncio.sleep(0.35)  # longer than announce: the event counts as lost
            before, begun = service.calls["DescribeJobs"], time.monotonic()
            await Trouble.until_true(lambda: service.calls["DescribeJobs"] >= before + 3)
            assert time.monotonic() - begun < 5, "polling at its own pace again"
            assert await c.next(0) is None


async def test_a_job_that_the_service_does_not_know_is_confirmed_first() -> None:
    service = Service()
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-gone", TICK) as subscription:
            snapshot = await end_of(subscription)
    assert isinstance(snapshot.error, NotFound)
    assert service.calls["DescribeJob"] >= 2, "a young job may be unknown for a moment"


async def test_a_job_left_out_by_mistake_is_still_found() -> None:
    service = Service("job-a", state="SUCCEED")
    service.fault = lambda ids: ids.clear()  # DescribeJobs answers without it
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            assert (await end_of(subscription)).state == "SUCCEED"
    assert service.calls["DescribeJob"] == 1


async def test_a_throttle_is_never_told() -> None:
    service = Service("job-a", state="SUCCEED")
    left = 20

    def fault(ids: list[str]) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            raise Throttled("slow down", code="RequestLimitExceeded", retryable=True)

    service.fault = fault
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            snapshot = await end_of(subscription)
    assert snapshot.error is None
    assert left == 0


async def test_refusals_are_told_after_five_in_a_row_and_not_before() -> None:
    service = Service("job-a", state="SUCCEED")
    failures = 0

    def fault(ids: list[str]) -> None:
        nonlocal failures
        failures += 1
        raise PermissionDenied("you may not", code="UnauthorizedOperation")

    service.fault = fault
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            snapshot = await end_of(subscription)
    assert snapshot.error is not None
    assert "you may not" in str(snapshot.error)
    assert failures == 5


async def outage_of(subscription: Subscription[JobSnapshot]) -> Outage | None:
    """What a wait that is woken knows of an outage."""
    assert await subscription.next(60) is None
    return subscription.outage


async def test_an_outage_is_no_verdict_however_long_it_lasts() -> None:
    service = Service("job-a", state="SUCCEED")
    failures, down = 0, True
    began = time.time()

    def fault(ids: list[str]) -> None:
        nonlocal failures
        if down:
            failures += 1
            raise InfrastructureError("the service is down", retryable=True)

    service.fault = fault
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            outage = await outage_of(subscription)
            assert failures == 3, "one or two may be flukes"
            assert outage is not None
            assert began <= outage.since <= time.time()
            assert "the service is down" in outage.error
            while failures < 20:
                assert await subscription.next(0.05) is None
                assert subscription.outage is outage
            down = False
            assert (await end_of(subscription)).state == "SUCCEED"
            assert subscription.outage is None


async def test_whoever_waits_is_woken_when_the_api_is_back_although_nothing_is_new() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            assert await subscription.next(60) is not None
            left = 10

            def fault(ids: list[str]) -> None:
                nonlocal left
                left -= 1
                if left > 0:
                    raise InfrastructureError("the service is down", retryable=True)

            service.fault = fault
            assert await outage_of(subscription) is not None
            assert await outage_of(subscription) is None


async def test_the_first_answer_after_an_outage_is_for_all() -> None:
    """Those whose next look would be a minute away do not wait for it."""
    ids = [f"job-{number}" for number in range(250)]
    service = Service(*ids)
    down = True

    def fault(asked: list[str]) -> None:
        if down:
            raise InfrastructureError("the service is down", retryable=True)

    service.fault = fault
    timings = replace(FAST, backoff=0.02)
    async with running(watching(service, timings=timings)) as watcher:
        subscriptions = [watcher.subscribe(job_id, TICK if job_id == ids[0] else 1000) for job_id in ids]
        await Trouble.until_true(lambda: all(subscription.outage for subscription in subscriptions))
        down = False
        assert all(await asyncio.gather(*(subscription.next(60) for subscription in subscriptions)))


async def test_a_job_that_always_fails_is_found_and_the_others_go_on() -> None:
    """Something about one job makes every call that names it fail."""
    ids = [f"job-{number}" for number in range(150)]
    service = Service(*ids)

    def fault(asked: list[str]) -> None:
        if "job-77" in asked:
            raise InfrastructureError("can't be read", code="InternalError", retryable=True)

    service.fault = fault
    async with running(watching(service)) as watcher:
        subscriptions = {job_id: watcher.subscribe(job_id, TICK) for job_id in ids}
        bad = subscriptions.pop("job-77")
        while (
            bad.outage is None or service.sizes[-3:].count(1) < 1 or any(one.outage for one in subscriptions.values())
        ):
            await bad.next(0.02)
        assert "can't be read" in bad.outage.error
        for job_id in ids:
            service.states[job_id] = "SUCCEED"
        for subscription in subscriptions.values():
            assert (await end_of(subscription)).state == "SUCCEED"


async def test_an_outage_is_not_remembered_against_later_waits() -> None:
    service = Service("job-a", "job-b", state="SUCCEED")
    down = True

    def fault(asked: list[str]) -> None:
        if down:
            raise InfrastructureError("down", retryable=True)

    service.fault = fault
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            assert await outage_of(subscription) is not None
        with watcher.subscribe("job-b", TICK) as subscription:
            assert subscription.outage is None
            assert await subscription.next(0.02) is None, "one failed look is no reason to give up"
            down = False
            assert (await end_of(subscription)).state == "SUCCEED"


async def test_an_unknown_error_code_is_tolerated_like_any_failure() -> None:
    service = Service("job-a", "job-b", state="SUCCEED")
    failures = iter([ApiError("what is this", code="FailedOperation")] * 3)

    def fault(asked: list[str]) -> None:
        for failure in failures:
            raise failure

    service.fault = fault
    async with running(watching(service)) as watcher:
        for job_id in ("job-a", "job-b"):
            with watcher.subscribe(job_id, TICK) as subscription:
                assert (await end_of(subscription)).state == "SUCCEED"


async def test_a_stream_of_events_does_not_put_off_the_look() -> None:
    service = Service("job-a")
    timings = WatcherTimings(first=0.01, coalesce=0.1)
    async with running(watching(service, timings=timings)) as watcher:
        with watcher.subscribe("job-a", 1000) as subscription:
            await subscription.next(60)
            service.states["job-a"] = "SUCCEED"
            ended = asyncio.create_task(end_of(subscription))
            for _ in range(100):
                watcher.hint("job-a", "TASK_INSTANCE_SUCCEED", 1.0)
                await asyncio.sleep(0.02)
                if ended.done():
                    break
            assert ended.done()
            assert (await ended).source == "poll", "no event announced the end itself"


async def test_an_event_about_something_else_is_not_taken_for_the_end() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", TICK) as subscription:
            await subscription.next(60)
            watcher.hint("job-a", "JOB_RUNNING", 111.0)
            await subscription.next(0.1)
            service.states["job-a"] = "SUCCEED"
            snapshot = await end_of(subscription)
    assert (snapshot.source, snapshot.event_received_at) == ("poll", None)


async def test_an_event_that_is_no_end_nudges_those_who_wait() -> None:
    """What it tells may not show in the job's state."""
    service = Service("job-a", "job-b")
    async with running(watching(service)) as watcher:
        with (
            watcher.subscribe("job-a", 1000) as one,
            watcher.subscribe("job-a", 1000) as two,
            watcher.subscribe("job-b", 1000) as other,
        ):
            for subscription in (one, two, other):
                assert await subscription.next(60) is not None
                assert not subscription.nudged
            waits = [asyncio.create_task(subscription.next(30)) for subscription in (one, two)]
            await asyncio.sleep(0)
            assert watcher.hint("job-a", "TASK_INSTANCE_FAILED", 1.0)
            assert await asyncio.wait_for(asyncio.gather(*waits), 60) == [None, None]
            assert one.nudged
            assert two.nudged
            assert await other.next(0.02) is None
            assert not other.nudged


async def test_a_nudge_is_told_once() -> None:
    async with running(watching(Service("job-a"))) as watcher:
        with watcher.subscribe("job-a", 1000) as subscription:
            assert await subscription.next(60) is not None
            watcher.hint("job-a", "TASK_INSTANCE_FAILED", 1.0)
            watcher.hint("job-a", "TASK_INSTANCE_FAILED", 2.0)
            assert await asyncio.wait_for(subscription.next(30), 60) is None
            assert subscription.nudged
            assert await subscription.next(0.02) is None
            assert not subscription.nudged


async def test_a_nudge_that_meets_a_change_is_not_lost() -> None:
    async with running(watching(Service("job-a"))) as watcher:
        with watcher.subscribe("job-a", 1000) as subscription:
            subscription.nudge()
            subscription.put(JobSnapshot("job-a", state="RUNNING"))
            snapshot = await subscription.next(60)
            assert snapshot is not None
            assert snapshot.state == "RUNNING"
            assert subscription.nudged


async def test_the_event_of_an_end_does_not_nudge() -> None:
    """The look that it leads to tells the end itself."""
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", 1000) as subscription:
            assert await subscription.next(60) is not None
            service.states["job-a"] = "FAILED"
            watcher.hint("job-a", "JOB_FAILED", 1.0)
            assert (await end_of(subscription)).state == "FAILED"
            assert not subscription.nudged


async def test_a_more_impatient_subscriber_is_heeded() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", 1000) as patient:
            await patient.next(60)
            watcher._watches["job-a"].fresh -= 2000  # an old wait, looked at seldom
            await patient.next(1.2)
            before = service.calls["DescribeJobs"]
            with watcher.subscribe("job-a", TICK):
                await Trouble.until_true(lambda: service.calls["DescribeJobs"] >= before + 3)


async def test_one_malformed_id_does_not_spoil_the_others() -> None:
    ids = [f"job-{number}" for number in range(7)]
    service = Service(*ids, state="SUCCEED")

    def fault(asked: list[str]) -> None:
        if "nonsense" in asked:
            raise InvalidRequest("malformed", code="InvalidParameter.JobIdMalformed")

    service.fault = fault
    async with running(watching(service)) as watcher:
        good = [watcher.subscribe(job_id, 60) for job_id in ids]
        bad = watcher.subscribe("nonsense", 60)
        assert isinstance((await end_of(bad)).error, InvalidRequest)
        for subscription in good:
            assert (await end_of(subscription)).state == "SUCCEED"


async def test_a_bug_reaches_every_waiter() -> None:
    service = Service("job-a", "job-b")

    def fault(ids: list[str]) -> None:
        raise ZeroDivisionError("a bug")

    service.fault = fault
    watcher = watching(service)
    async with running(watcher):
        with watcher.subscribe("job-a", 60) as a, watcher.subscribe("job-b", 60) as b:
            for subscription in (a, b):
                snapshot = await end_of(subscription)
                assert "ZeroDivisionError: a bug" in str(snapshot.error)
        assert watcher.crashed
        after = await watcher.subscribe("job-c", 60).next(0)
        assert after is not None
        assert after.error is not None


async def test_a_wait_ends_with_its_time() -> None:
    async with running(watching(Service("job-a"))) as watcher:
        with watcher.subscribe("job-a", 60) as subscription:
            await subscription.next(60)
            assert await subscription.next(0.02) is None
            assert await subscription.next(0) is None


async def test_background_tasks_do_not_inherit_the_first_waiters_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    seen: list[str] = []
    service = Service("job-a", state="SUCCEED")
    service.fault = lambda ids: seen.append(variable.get())
    variable.set("the first task's")
    async with running(watching(service)) as watcher:
        with watcher.subscribe("job-a", 60) as subscription:
            await end_of(subscription)
    assert set(seen) == {"nobody's"}


async def test_cancelled_waits_leave_nothing_behind() -> None:
    service = Service("job-a")
    async with running(watching(service)) as watcher:

        async def wait() -> None:
            with watcher.subscribe("job-a", TICK) as subscription:
                while True:
                    await subscription.next()

        task = asyncio.create_task(wait())
        await asyncio.sleep(3 * TICK)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(3 * TICK)
        before = service.calls["DescribeJobs"]
        await asyncio.sleep(5 * TICK)
        assert service.calls["DescribeJobs"] == before


class Closing:
    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_waits_with_one_key_share_a_watcher_that_outlives_the_last_by_a_little() -> None:
    api = Closing()
    made: list[Watcher] = []

    def make() -> tuple[Watcher, Any]:
        made.append(watching(Service("job-a")))
        return made[-1], api

    async with shared_watcher("key", make, grace=2) as one, shared_watcher("key", make, grace=2) as two:
        assert one is two
    async with shared_watcher("key", make, grace=2) as again:
        assert again is one
    async with shared_watcher("other", make, grace=2) as other:
        assert other is not one
    assert not api.closed
    await Trouble.until_true(lambda: api.closed)
    async with shared_watcher("key", make, grace=0) as fresh:
        assert fresh is not one
    await asyncio.sleep(0.05)


async def test_a_crashed_watcher_is_replaced() -> None:
    def make() -> tuple[Watcher, Any]:
        service = Service("job-a", state="SUCCEED")
        if not made:
            service.fault = lambda ids: [][1]
        made.append(service)
        return watching(service), Closing()

    made: list[Service] = []
    async with shared_watcher("k", make, grace=0) as first:
        with watcher_subscription(first) as subscription:
            assert (await end_of(subscription)).error is not None
        async with shared_watcher("k", make, grace=0) as second:
            assert second is not first
            with watcher_subscription(second) as subscription:
                assert (await end_of(subscription)).state == "SUCCEED"
    await asyncio.sleep(0.05)


def watcher_subscription(watcher: Watcher) -> Subscription[JobSnapshot]:
    return watcher.subscribe("job-a", 60)


# -- against the emulator -------------------------------------------------------------------------------


def listener(emulator: Emulator, api: ApiClient, queue: str | None = None) -> EventListener:
    info = emulator.info
    cmq = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
    return EventListener(cmq, api, info.topic, queue)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A job that is held runs until there is this file."""
    return tmp_path / "gate"


def held(gate: Path) -> str:
    """The command of a job that ends when the gate opens."""
    return f"until [ -e {gate} ]; do sleep 0.05; done"


def submit(api: ApiClient, emulator: Emulator, command: str, *, notify: bool = True) -> str:
    from airflow_provider_tcbatch.policies.job.notifications import with_notification

    body = with_notification(job(command), emulator.info.topic) if notify else job(command)
    request = SubmitJob.parse({"Placement": {"Zone": emulator.info.zone}, "Job": body})
    return api.call(request).job_id


@pytest.mark.parametrize("shared", [False, True], ids=["own queue", "shared queue"])
async def test_an_end_is_heard_and_confirmed(emulator: Emulator, api: ApiClient, gate: Path, shared: bool) -> None:
    name = f"shared-{uuid.uuid4().hex}" if shared else None
    if name is not None:
        await api.acall(CreateCmqQueue(queue_name=name))
        topic = emulator.info.topic
        await api.acall(CreateCmqSubscribe(topic_name=topic, subscription_name=name, protocol="queue", endpoint=name))
    ear = listener(emulator, api, name)
    async with running(Watcher(api, ear)) as watcher:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        job_id = await asyncio.to_thread(submit, api, emulator, held(gate))
        with watcher.subscribe(job_id, 60) as subscription:
            await asyncio.to_thread(end_by_event, emulator, ear.queue, job_id, gate.touch)
            snapshot = await end_of(subscription)
    await api.aclose()
    assert (snapshot.state, snapshot.source) == ("SUCCEED", "event")
    assert snapshot.event_received_at is not None
    assert snapshot.event_received_at <= snapshot.observed_at


@pytest.mark.parametrize("shared", [False, True], ids=["own queue", "shared queue"])
async def test_events_can_be_listened_to(emulator: Emulator, api: ApiClient, shared: bool) -> None:
    ear = listener(emulator, api, f"{emulator.info.topic}-base" if shared else None)
    async with running(Watcher(api, ear)) as watcher:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        assert watcher.listens
        with watcher.listen(lambda event: event.state == "SUCCEED") as wanted, watcher.listen(lambda _: False) as deaf:
            before = time.time()
            job_id = await asyncio.to_thread(submit, api, emulator, "true")
            heard = await wanted.next(60)
            while heard is not None and heard[0].job_id != job_id:  # of a test before, in a queue that all share
                heard = await wanted.next(60)
            assert await deaf.next(0) is None
        assert not watcher.hear(BatchEvent("JOB_SUCCEED", job_id="job-other000"), 1.0), "nobody listens any more"
    await api.aclose()
    assert heard is not None
    event, received_at = heard
    assert (event.name, event.job_id) == ("JOB_SUCCEED", job_id)
    assert before <= received_at <= time.time()


async def test_who_waits_for_one_job_is_not_asked_about_others() -> None:
    """Thousands may listen: an event is offered to those whom it may concern, or the loop would stall."""
    asked: list[str] = []

    def ears_of(job_id: str) -> Callable[[BatchEvent], bool]:
        def wants(event: BatchEvent) -> bool:
            asked.append(job_id)
            return event.job_id == job_id

        return wants

    watcher = watching(Service())
    with watcher.listen(ears_of("job-a"), job_id="job-a") as mine, watcher.listen(ears_of("job-b"), job_id="job-b"):
        with watcher.listen(lambda _: True) as every:
            events = [BatchEvent("JOB_RUNNING", job_id=job_id) for job_id in ("job-a", "job-c", None)]
            assert all(watcher.hear(event, 1.0) for event in events)
            assert [await every.next(0) for _ in events] == [(event, 1.0) for event in events]
        assert (await mine.next(0), await mine.next(0)) == ((events[0], 1.0), None)
        assert asked == ["job-a"]
        assert not watcher.hear(events[1], 1.0)
    assert not watcher.hear(events[0], 1.0), "nobody listens any more"


async def test_an_own_queue_is_removed_at_the_end(emulator: Emulator, api: ApiClient) -> None:
    ear = listener(emulator, api)
    async with running(Watcher(api, ear)):
        await asyncio.wait_for(ear.hearing.wait(), 60)
    with pytest.raises(NotFound):
        await asyncio.to_thread(
            CmqClient(
                StaticKeys(emulator.info.secret_id, emulator.info.secret_key), emulator.info.cmq_endpoint
            ).receive,
            ear.queue,
            wait=0,
        )
    await api.aclose()


async def test_without_events_polling_finds_the_end(emulator: Emulator, api: ApiClient) -> None:
    emulator.configure(events="off")
    async with running(Watcher(api, listener(emulator, api))) as watcher:
        job_id = await asyncio.to_thread(submit, api, emulator, "true")
        with watcher.subscribe(job_id, 1) as subscription:
            snapshot = await end_of(subscription)
    await api.aclose()
    assert (snapshot.state, snapshot.source, snapshot.event_received_at) == ("SUCCEED", "poll", None)


async def test_a_message_that_can_not_be_read_is_only_a_lost_hint(
    emulator: Emulator, api: ApiClient, gate: Path
) -> None:
    ear = listener(emulator, api)
    cmq = CmqClient(StaticKeys(emulator.info.secret_id, emulator.info.secret_key), emulator.info.cmq_endpoint)
    async with running(Watcher(api, ear)) as watcher:
        await asyncio.wait_for(ear.hearing.wait(), 60)
        for body in ("[" * 60000, "{", "\x00", '{"Events": 7}'):
            await asyncio.to_thread(cmq.publish, emulator.info.topic, body)
        job_id = await asyncio.to_thread(submit, api, emulator, held(gate))
        with watcher.subscribe(job_id, 60) as subscription:
            await asyncio.to_thread(end_by_event, emulator, ear.queue, job_id, gate.touch)
            snapshot = await end_of(subscription)
        assert not watcher.crashed
    await api.aclose()
    assert (snapshot.state, snapshot.source) == ("SUCCEED", "event")


async def test_keys_that_can_not_be_refreshed_do_not_end_waits(emulator: Emulator, api: ApiClient) -> None:
    class Broken(StaticKeys):
        async def aget(self) -> Any:
            raise ConnectionError("no metadata service")

    cmq = CmqClient(Broken("AKIDx", "y"), emulator.info.cmq_endpoint)
    ear = EventListener(cmq, api, emulator.info.topic, f"{emulator.info.topic}-base")
    async with running(Watcher(api, ear)) as watcher:
        job_id = await asyncio.to_thread(submit, api, emulator, "true")
        with watcher.subscribe(job_id, 1) as subscription:
            assert (await end_of(subscription)).state == "SUCCEED"
        assert not watcher.crashed
    await api.aclose()


async def test_without_the_right_to_make_queues_waits_go_on_by_polling(emulator: Emulator, api: ApiClient) -> None:
    info = emulator.info
    stranger = ApiClient(StaticKeys(info.secret_id, "wrong"), api.settings)
    ear = EventListener(CmqClient(StaticKeys(info.secret_id, "wrong"), info.cmq_endpoint), stranger, info.topic)
    async with running(Watcher(api, ear)) as watcher:
        job_id = await asyncio.to_thread(submit, api, emulator, "true")
        with watcher.subscribe(job_id, 1) as subscription:
            snapshot = await end_of(subscription)
    await stranger.aclose()
    await api.aclose()
    assert (snapshot.state, snapshot.source) == ("SUCCEED", "poll")


def test_loops_that_have_ended_take_their_watchers_along() -> None:
    from airflow_provider_tcbatch.watching import registry

    async def once() -> None:
        async with shared_watcher("k", lambda: (watching(Service("job-a")), Closing())):  # type: ignore[arg-type, return-value]
            pass

    for _ in range(5):
        asyncio.run(once())
    assert len(registry._entries) <= 1


async def test_a_message_that_nobody_here_waits_for_stays_in_a_shared_queue(emulator: Emulator, api: ApiClient) -> None:
    info = emulator.info
    queue = topic = f"quiet-{uuid.uuid4().hex[:8]}"
    cmq = CmqClient(StaticKeys(info.secret_id, info.secret_key), info.cmq_endpoint)
    await api.acall(CreateCmqTopic(topic_name=topic))
    await api.acall(CreateCmqQueue(queue_name=queue))
    await api.acall(
        CreateCmqSubscribe(
            topic_name=topic,
            subscription_name=queue,
            protocol="queue",
            endpoint=queue,
            notify_content_format="SIMPLIFIED",
        )
    )
    ear = EventListener(cmq, api, topic, queue)
    heard = asyncio.Event()

    def hear(event: BatchEvent, received_at: float) -> bool:
        heard.set()
        return event.job_id == "job-mine0000"

    task = asyncio.create_task(ear.run(hear, lambda: None))
    cmq.publish(topic, '{"Events":[{"EventName":"JOB_SUCCEED","Batch":{"JobId":"job-other000"}}]}')
    await asyncio.wait_for(heard.wait(), 60)
    heard.clear()
    cmq.publish(topic, '{"Events":[{"EventName":"JOB_SUCCEED","Batch":{"JobId":"job-mine0000"}}]}')
    await asyncio.wait_for(heard.wait(), 60)
    heard.clear()
    cmq.publish(topic, '{"Events":[{"EventName":"JOB_SUCCEED","Batch":{"JobId":"job-other111"}}]}')
    # Heard in a later receive than the claimed one, so that one has been deleted by now.
    await asyncio.wait_for(heard.wait(), 60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ear.aclose()
    assert emulator_queue_size(api, queue) == 2
    await api.aclose()


def emulator_queue_size(api: ApiClient, queue: str) -> int:
    """Messages in a queue, hidden ones included."""
    from tencentcloud.common.common_client import CommonClient
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    protocol, host = api.settings.endpoint("tdmq")
    profile = ClientProfile(httpProfile=HttpProfile(protocol=protocol, endpoint=host))
    client = CommonClient("tdmq", "2020-02-17", api.credentials.get(), api.settings.region, profile)
    detail = client.call_json("DescribeCmqQueueDetail", {"QueueName": queue})["Response"]["QueueDescribe"]
    return int(detail["ActiveMsgNum"] or 0) + int(detail["InactiveMsgNum"] or 0)
