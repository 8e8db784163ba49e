"""What a stream asks for, on a service whose instances a test sets."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_tcbatch.client.logs import stream as log_stream
from airflow_provider_tcbatch.client.logs.cursor import BEGINNING_LOST
from airflow_provider_tcbatch.client.logs.stream import LogStream
from airflow_provider_tcbatch.exceptions import InfrastructureError, InvalidRequest, NotFound
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeTask, DescribeTaskLogs


class Service:
    """Tasks of one job, and what their instances have printed so far."""

    def __init__(self, **sizes: int) -> None:
        self.states = {(task, index): "RUNNABLE" for task, size in sizes.items() for index in range(size)}
        self.since: dict[tuple[str, int], str] = {}
        self.output: dict[tuple[str, int], str] = {}
        self.spoilt: set[int] = set()
        self.filters = True
        self.calls: Counter[str] = Counter()
        self.entered = asyncio.Event()
        self.stuck = False

    def begin(self, task: str, *indexes: int, at: str = "2025-01-01T00:00:00Z", output: str = "line\n") -> None:
        for index in indexes:
            self.states[task, index], self.since[task, index] = "RUNNING", at
            self.output[task, index] = output

    def end(self, task: str, *indexes: int, state: str = "SUCCEED") -> None:
        for index in indexes:
            self.states[task, index] = state

    async def acall(self, action: Any, *, attempts: int = 1) -> Any:
        assert attempts == 1
        self.calls[action.name()] += 1
        self.entered.set()
        if self.stuck:
            await asyncio.Event().wait()
        return type(action).result_type().parse_response(getattr(self, f"_{action.name()}")(action))

    def _DescribeJob(self, action: DescribeJob) -> dict[str, Any]:
        tasks: dict[str, list[str]] = {}
        for (task, _), state in self.states.items():
            tasks.setdefault(task, []).append(state)
        views = [
            {"TaskName": name, "TaskState": "RUNNING" if "RUNNING" in states else states[0]}
            for name, states in tasks.items()
        ]
        return {"JobId": action.job_id, "JobState": "RUNNING", "TaskSet": views}

    def _DescribeTask(self, action: DescribeTask) -> dict[str, Any]:
        found = [(index, state) for (task, index), state in self.states.items() if task == action.task_name]
        if action.filters and self.filters:
            assert action.filters[0].name == "task-instance-state"
            found = [(index, state) for index, state in found if state in action.filters[0].values]
        start = action.offset or 0
        assert action.limit is not None
        views = [
            {
                "TaskInstanceIndex": index,
                "TaskInstanceState": state,
                "RunningTime": self.since.get((action.task_name, index)),
            }
            for index, state in found[start : start + action.limit]
        ]
        return {"JobId": action.job_id, "TaskInstanceTotalCount": len(found), "TaskInstanceSet": views}

    def _DescribeTaskLogs(self, action: DescribeTaskLogs) -> dict[str, Any]:
        indexes = action.task_instance_indexes or []
        assert 0 < len(indexes) <= 10
        if spoilt := self.spoilt & set(indexes):
            raise NotFound(f"no log of {spoilt}", code="ResourceNotFound.TaskInstance", action="DescribeTaskLogs")
        logs = [
            {
                "TaskInstanceIndex": index,
                "StdoutLog": base64.b64encode(self.output.get((action.task_name, index), "").encode()).decode(),
                "StderrLog": "",
            }
            for index in indexes
        ]
        return {"TaskInstanceLogSet": logs}


class Shown(list[tuple[Any, ...]]):
    def __call__(self, *line: Any) -> None:
        self.append(line)

    @property
    def indexes(self) -> list[int]:
        return [index for _, index, _, _ in self]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == log_stream.__name__]


def streaming(service: Service, shown: Shown, **options: Any) -> LogStream:
    return LogStream(service, None, "job-1", shown, **options)  # type: ignore[arg-type]


async def test_a_small_task_costs_two_calls_a_turn() -> None:
    service, shown = Service(main=100), Shown()
    service.begin("main", *range(10))
    stream = streaming(service, shown)
    await stream.turn()
    service.calls.clear()
    await stream.turn()
    assert service.calls == {"DescribeTask": 1, "DescribeTaskLogs": 1}
    assert shown.indexes == list(range(10))


async def test_a_large_task_is_not_paged_through() -> None:
    service, shown = Service(main=10_000), Shown()
    running = range(7000, 7008)
    service.begin("main", *running)
    stream = streaming(service, shown)
    for _ in range(3):
        service.calls.clear()
        await stream.turn()
        assert sum(service.calls.values()) <= 5
    assert shown.indexes == list(running)

    # They end, and others have ended unseen meanwhile.
    service.end("main", *running)
    service.begin("main", 9000)
    service.begin("main", 0, 1, 2)
    service.end("main", 0, 1, 2)
    for _ in range(3):
        service.calls.clear()
        await stream.turn()
        assert sum(service.calls.values()) <= 5
    assert sorted(shown.indexes) == [0, 1, 2, *running, 9000]
    await stream.finish(patience=0)
    assert sorted(shown.indexes) == [0, 1, 2, *running, 9000]


async def test_all_of_a_large_task_is_shown_in_the_end() -> None:
    service, shown = Service(main=250), Shown()
    service.begin("main", *range(250))
    service.end("main", *range(250))
    service.end("main", 17, state="FAILED")
    stream = streaming(service, shown)
    for _ in range(30):
        await stream.turn()
    assert sorted(shown.indexes) == list(range(250))


async def test_a_filter_that_is_not_heeded_does_no_harm() -> None:
    service, shown = Service(main=150), Shown()
    service.filters = False
    service.begin("main", 3, 120, output="begin\n")
    stream = streaming(service, shown)
    await stream.turn()
    assert shown.indexes == [3]  # the other one is not among the first
    service.end("main", *range(0, 110))
    for index in range(0, 110):
        service.since.setdefault(("main", index), "2025-01-01T00:00:00Z")
        service.output.setdefault(("main", index), "line\n")
    for _ in range(20):
        await stream.turn()
    assert sorted(shown.indexes) == sorted([*range(0, 110), 120])


async def test_instances_in_any_order() -> None:
    """Should a listing not go by index, then what no longer runs has ended, as far as can be told."""
    service, shown = Service(main=300), Shown()
    service.states = dict(reversed(service.states.items()))
    service.begin("main", 5, output="begin\nend")
    stream = streaming(service, shown)
    await stream.turn()
    assert shown == [("main", 5, "stdout", "begin")]
    service.end("main", 5)
    await stream.turn()
    assert shown[1:] == [("main", 5, "stdout", "end")]


async def test_tasks_that_have_not_begun_cost_nothing() -> None:
    service, shown = Service(**{f"task{number}": 1 for number in range(50)}), Shown()
    stream = streaming(service, shown)
    await stream.turn()
    assert service.calls == {"DescribeJob": 1}
    service.begin("task7", 0)
    service.begin("task9", 0)
    await stream.turn()
    assert service.calls["DescribeTask"] == 2
    assert [line[0] for line in shown] == ["task7", "task9"]

    # Those that are wholly shown cost nothing any more.
    service.end("task7", 0)
    service.end("task9", 0)
    await stream.turn()
    await stream.turn()
    service.calls.clear()
    await stream.turn()
    assert service.calls == {"DescribeJob": 1}


async def test_many_tasks_share_the_places(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    service, shown = Service(**{f"task{number}": 1 for number in range(30)}), Shown()
    for number in range(30):
        service.begin(f"task{number}", 0)
    stream = streaming(service, shown, instances=4)
    for _ in range(3):
        await stream.turn()
    assert [line[0] for line in shown] == ["task0", "task1", "task2", "task3"]
    assert len(told(caplog)) == 1
    for number in range(30):
        service.end(f"task{number}", 0)
    for _ in range(20):
        await stream.turn()
    assert len(shown) == len(set(shown)) == 30


async def test_an_instance_without_a_log_does_not_hide_the_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    service, shown = Service(main=5), Shown()
    service.begin("main", *range(5))
    service.spoilt = {2}
    stream = streaming(service, shown)
    await stream.turn()
    await stream.turn()
    assert shown.indexes == [0, 1, 3, 4]
    assert len(told(caplog)) == 1
    service.spoilt = set()
    await stream.turn()
    assert shown.indexes == [0, 1, 3, 4, 2]


async def test_an_instance_that_never_ran_takes_no_place() -> None:
    service, shown = Service(main=3), Shown()
    service.begin("main", 2)
    service.end("main", 0, 1, state="FAILED")
    service.end("main", 2)
    stream = streaming(service, shown, instances=1)
    await stream.turn()
    assert shown.indexes == [2]


async def test_a_large_task_costs_less_while_there_is_no_room() -> None:
    service, shown = Service(main=10_000), Shown()
    service.begin("main", *range(50))
    stream = streaming(service, shown)
    await stream.turn()
    service.calls.clear()
    await stream.turn()
    assert service.calls == {"DescribeTask": 1, "DescribeTaskLogs": 1}


async def test_what_one_output_tells_of_previews_holds_for_all() -> None:
    service, shown = Service(main=2), Shown()
    lines = "".join(f"{number:04d}\n" for number in range(1000))
    service.begin("main", 0, output=lines[:2000])
    stream = streaming(service, shown)
    await stream.turn()
    service.output["main", 0] = lines[1000:3048]
    await stream.turn()
    assert [line for *_, line in shown] == lines[:3048].split("\n")[:-1]

    shown.clear()
    service.begin("main", 1, output=lines[1001:3049])
    await stream.turn()
    assert [line for *_, line in shown] == [BEGINNING_LOST, *lines[1005:3049].split("\n")[:-1]]


async def test_the_end_finds_instances_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_stream, "_AGAIN", 0.0)
    service, shown = Service(main=3), Shown()
    service.begin("main", *range(3))
    service.end("main", *range(3))
    logs = service._DescribeTaskLogs

    def later(action: DescribeTaskLogs) -> dict[str, Any]:
        if service.calls["DescribeTaskLogs"] < 5:
            raise InfrastructureError("down", code="InternalError", action="DescribeTaskLogs", retryable=True)
        return logs(action)

    monkeypatch.setattr(service, "_DescribeTaskLogs", later)
    await asyncio.wait_for(streaming(service, shown).finish(patience=60), 60)
    assert shown.indexes == [0, 1, 2]
    assert service.calls == {"DescribeJob": 1, "DescribeTask": 1, "DescribeTaskLogs": 5}


async def test_a_new_run_is_told_by_its_time() -> None:
    service, shown = Service(main=1), Shown()
    service.begin("main", 0, output="same\nmore")
    stream = streaming(service, shown)
    await stream.turn()
    service.begin("main", 0, at="2025-01-01T00:10:00Z", output="same\nmore")
    await stream.turn()
    await stream.turn()
    assert [line for *_, line in shown] == ["same", "more", "[instance 0 was started again]", "same"]


async def test_a_new_run_is_told_by_the_wait_before_it() -> None:
    service, shown = Service(main=1), Shown()
    service.begin("main", 0, output="same\n")
    stream = streaming(service, shown)
    await stream.turn()
    service.states["main", 0] = "RUNNABLE"
    await stream.turn()
    service.begin("main", 0, output="same\n")
    await stream.turn()
    assert [line for *_, line in shown] == ["same", "[instance 0 was started again]", "same"]


async def test_a_new_run_that_the_output_told_is_not_shown_twice() -> None:
    service, shown = Service(main=1), Shown()
    service.begin("main", 0, output="one\ntwo\nthree\n")
    stream = streaming(service, shown)
    await stream.turn()
    service.output["main", 0] = "1\n"
    await stream.turn()
    service.begin("main", 0, at="2025-01-01T00:10:00Z", output="1\n2\n")
    await stream.turn()
    assert [line for *_, line in shown] == ["one", "two", "three", "[instance 0 was started again]", "1", "2"]


async def test_a_job_that_was_given_up_while_it_runs() -> None:
    service, shown = Service(main=1), Shown()
    service.begin("main", 0, output="one\ntwo")
    stream = streaming(service, shown)
    await asyncio.wait_for(stream.finish(patience=60), 60)
    assert [line for *_, line in shown] == ["one", "two"]


async def test_a_job_that_is_gone_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    service, shown = Service(main=1), Shown()

    def gone(action: Any) -> Any:
        raise InvalidRequest("gone", code="ResourceNotFound.Job", action=action.name())

    monkeypatch.setattr(service, "_DescribeJob", gone)
    stream = streaming(service, shown)
    await stream.turn()
    await stream.turn()
    await stream.finish(patience=0)
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("way", ["turn", "finish"])
async def test_a_cancellation_passes(way: str) -> None:
    service = Service(main=1)
    service.stuck = True
    task = asyncio.create_task(getattr(streaming(service, Shown()), way)())
    await service.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_that_meets_an_answer_of_cos_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """``asyncio.wait_for`` of Python 3.10 and 3.11 takes the answer and goes on."""
    answer: Future[None] = Future()
    monkeypatch.setattr(log_stream, "_readers", lambda: SimpleNamespace(submit=lambda *_: answer))
    stream = LogStream(Service(), object(), "job-1", Shown())  # type: ignore[arg-type]
    output: Any = SimpleNamespace(fetch=None)
    reading = asyncio.create_task(stream._fetch(output, 1, 1, late=False))
    await asyncio.sleep(0)
    answer.set_result(None)
    await asyncio.sleep(0)  # it has come, and the stream has not heard of it yet
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
