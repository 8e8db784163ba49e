"""The watcher of compute environments, against two actions on environments that a test sets."""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from airflow_provider_tcbatch.client.limits import RateLimiter
from airflow_provider_tcbatch.exceptions import (
    InfrastructureError,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    Throttled,
)
from airflow_provider_tcbatch.models.env_actions import DescribeComputeEnv, DescribeComputeEnvs
from airflow_provider_tcbatch.watching.compute_envs import EnvSnapshot, EnvWatcher
from airflow_provider_tcbatch.watching.subscription import WatcherTimings

FAST = WatcherTimings(first=0.01, missing=0.1, backoff=0.01)
TICK = 0.02


class Service:
    """Environments by id: how many nodes of each run."""

    def __init__(self, *env_ids: str) -> None:
        self.running = dict.fromkeys(env_ids, 0)
        self.calls: Counter[str] = Counter()
        self.sizes: list[int] = []
        self.contexts: list[contextvars.Context] = []
        self.fault: Callable[[list[str]], None] = lambda ids: None
        self.limiter = RateLimiter({"DescribeComputeEnvs": 100_000})

    async def acall(self, action: Any, *, attempts: int = 1) -> Any:
        await asyncio.sleep(0)
        self.calls[action.name()] += 1
        self.contexts.append(contextvars.copy_context())
        if isinstance(action, DescribeComputeEnvs):
            ids = action.env_ids or []
            assert action.limit == len(ids) <= 100
            self.sizes.append(len(ids))
            self.fault(ids)
            views = [self._view(env_id) for env_id in ids if env_id in self.running]
            return DescribeComputeEnvs.result_type().parse_response({"ComputeEnvSet": views})
        assert isinstance(action, DescribeComputeEnv)
        self.fault([action.env_id])
        if action.env_id not in self.running:
            raise NotFound(f"no {action.env_id}", code="ResourceNotFound.ComputeEnv")
        nodes = [
            {"ComputeNodeId": f"node-{number}", "ComputeNodeState": "RUNNING"}
            for number in range(self.running[action.env_id])
        ]
        return DescribeComputeEnv.result_type().parse_response({**self._view(action.env_id), "ComputeNodeSet": nodes})

    def _view(self, env_id: str) -> dict[str, Any]:
        counts = {"RunningCount": self.running[env_id]}
        return {"EnvId": env_id, "DesiredComputeNodeCount": 2, "ComputeNodeMetrics": counts}


@asynccontextmanager
async def watching(service: Service, timings: WatcherTimings = FAST) -> AsyncIterator[EnvWatcher]:
    watcher = EnvWatcher(service, timings=timings)  # type: ignore[arg-type]
    watcher.start()
    try:
        yield watcher
    finally:
        await watcher.aclose()


async def told(subscription: Any, timeout: float = 5.0) -> EnvSnapshot:
    snapshot = await subscription.next(timeout)
    assert snapshot is not None, "nothing was told in time"
    return snapshot  # type: ignore[no-any-return]


async def test_a_change_is_told_and_only_a_change() -> None:
    service = Service("env-a")
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            first = (await told(subscription)).now
            assert first is not None
            assert (first.running, first.desired, first.nodes) == (0, 2, None)
            polls = service.calls["DescribeComputeEnvs"]
            assert await subscription.next(10 * TICK) is None, "the same again is no news"
            assert service.calls["DescribeComputeEnvs"] > polls
            service.running["env-a"] = 2
            now = (await told(subscription)).now
            assert now is not None
            assert now.running == 2
    assert service.calls["DescribeComputeEnv"] == 0, "nodes that nobody needs are not asked for"


async def test_many_waits_share_one_call() -> None:
    ids = [f"env-{number}" for number in range(10)]
    service = Service(*ids)
    async with watching(service, WatcherTimings(first=0.05)) as watcher:
        subscriptions = [watcher.watch(env_id, 1000) for env_id in ids for _ in range(3)]
        for subscription in subscriptions:
            await told(subscription)
    assert service.calls["DescribeComputeEnvs"] == 1
    assert service.sizes == [10]


async def test_nodes_are_asked_for_only_where_they_are_needed() -> None:
    service = Service("env-a", "env-b")
    service.running["env-a"] = 1
    async with watching(service) as watcher:
        with watcher.watch("env-a", 1000) as counts, watcher.watch("env-a", 1000, nodes=True) as nodes:
            bare, full = (await told(counts)).now, (await told(nodes)).now
        assert bare is not None
        assert full is not None
        assert bare.nodes is None
        assert [node.node_id for node in full.nodes or ()] == ["node-0"]
    assert service.calls == {"DescribeComputeEnvs": 1, "DescribeComputeEnv": 1}


@pytest.mark.parametrize("nodes", [False, True])
async def test_what_vanishes_is_told_at_once(nodes: bool) -> None:
    service = Service("env-a")
    async with watching(service, WatcherTimings(first=0.01, missing=1000)) as watcher:
        with watcher.watch("env-a", TICK, nodes=nodes) as subscription:
            await told(subscription)
            del service.running["env-a"]
            gone = await told(subscription)
    assert (gone.now, gone.error) == (None, None)


@pytest.mark.parametrize("nodes", [False, True])
async def test_what_was_never_seen_may_only_be_new(nodes: bool) -> None:
    service = Service()
    async with watching(service, WatcherTimings(first=0.01, missing=0.3)) as watcher:
        with watcher.watch("env-a", TICK, nodes=nodes) as late:
            assert await late.next(0.1) is None
            service.running["env-a"] = 1
            assert (await told(late)).now is not None
        with watcher.watch("env-b", TICK, nodes=nodes) as never:
            gone = await told(never)
    assert (gone.env_id, gone.now, gone.error) == ("env-b", None, None)


@pytest.mark.parametrize("nodes", [False, True])
async def test_who_knows_that_it_existed_is_told_at_once(nodes: bool) -> None:
    service = Service()
    async with watching(service, WatcherTimings(first=0.01, missing=60.0)) as watcher:
        with watcher.watch("env-1", TICK, nodes=nodes) as new, watcher.watch("env-1", nodes=nodes, known=True) as known:
            assert (await told(known)).now is None
            assert await new.next(5 * TICK) is None
            service.running["env-1"] = 1
            assert (await told(new)).now is not None


@pytest.mark.parametrize("nodes", [False, True])
async def test_a_malformed_id_does_not_spoil_the_others(nodes: bool) -> None:
    service = Service("env-a", "env-b", "env-c")

    def fault(ids: list[str]) -> None:
        if "nonsense" in ids:
            raise InvalidRequest("malformed", code="InvalidParameter.EnvIdMalformed")

    service.fault = fault
    async with watching(service) as watcher:
        bad = watcher.watch("nonsense", TICK, nodes=nodes)
        good = [watcher.watch(env_id, TICK) for env_id in service.running]
        assert isinstance((await told(bad)).error, InvalidRequest)
        for subscription in good:
            assert (await told(subscription)).now is not None


async def test_a_throttle_is_never_told() -> None:
    service = Service("env-a")

    def fault(ids: list[str]) -> None:
        if service.calls["DescribeComputeEnvs"] < 20:
            raise Throttled("too many", code="RequestLimitExceeded", retryable=True)

    service.fault = fault
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            snapshot = await told(subscription, 20)
    assert snapshot.error is None
    assert service.calls["DescribeComputeEnvs"] >= 20


async def test_an_outage_is_no_verdict_about_an_environment() -> None:
    service = Service("env-a")
    left = 10

    def fault(ids: list[str]) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            raise InfrastructureError("down", code="InternalError", retryable=True)

    service.fault = fault
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            assert await subscription.next(5) is None
            assert subscription.outage is not None
            while (snapshot := await subscription.next(5)) is None:
                assert subscription.outage is None
    assert snapshot.error is None
    assert left == 0


async def test_five_refusals_in_a_row_are_told() -> None:
    service = Service("env-a")

    def fault(ids: list[str]) -> None:
        raise PermissionDenied("no", code="UnauthorizedOperation")

    service.fault = fault
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            snapshot = await told(subscription)
    assert isinstance(snapshot.error, InfrastructureError)
    assert "5 looks in a row" in str(snapshot.error)


async def test_its_tasks_know_nothing_of_who_waits() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("task_log")
    variable.set("the log of one task")
    service = Service("env-a")
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            await told(subscription)
    assert [context for context in service.contexts if variable in context] == []


async def test_a_bug_reaches_everybody() -> None:
    service = Service("env-a")

    def fault(ids: list[str]) -> None:
        raise KeyError("a bug")

    service.fault = fault
    async with watching(service) as watcher:
        with watcher.watch("env-a", TICK) as subscription:
            snapshot = await told(subscription)
            assert watcher.crashed
    assert "KeyError" in str(snapshot.error)
