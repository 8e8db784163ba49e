"""Against the emulator: real commands, real signatures, real objects."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_tcbatch.client.api import ApiClient
from airflow_provider_tcbatch.client.auth.sources import StaticKeys
from airflow_provider_tcbatch.client.cos import CosClient, CosSettings
from airflow_provider_tcbatch.client.logs import instance as log_instance
from airflow_provider_tcbatch.client.logs import stream as log_stream
from airflow_provider_tcbatch.client.logs.budget import SHARED, LineBudget, LineLimits, Room
from airflow_provider_tcbatch.client.logs.cursor import LOST
from airflow_provider_tcbatch.client.logs.stream import LogStream
from airflow_provider_tcbatch.emulator import Emulator
from airflow_provider_tcbatch.models.actions import RetryJobs, SubmitJob, TerminateJob
from tests.unit.conftest import job


class Shown:
    """What a stream has emitted, by stream of an instance."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, int, str], list[str]] = defaultdict(list)

    def __call__(self, *line: Any) -> None:
        *key, text = line
        self.lines[tuple(key)].append(text)

    def __getitem__(self, key: int | tuple[str, int]) -> list[str]:
        task, index = key if isinstance(key, tuple) else ("main", key)
        return self.lines.get((task, index, "stdout"), [])

    @property
    def indexes(self) -> set[int]:
        return {index for _, index, _ in self.lines}


class Stage:
    """Commands say how far they are by making files, and wait for files that the test makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reach(self, name: str) -> str:
        """Shell command that says that this point is reached."""
        return f"touch {self.folder}/at-{name}"

    def pause(self, name: str) -> str:
        """Shell command that says so and waits until it may go on."""
        return f"{self.reach(name)}; until [ -e {self.folder}/go-{name} ]; do sleep 0.01; done"

    async def reached(self, *names: str) -> None:
        await until(lambda: all((self.folder / f"at-{name}").exists() for name in names))

    def go(self, *names: str) -> None:
        for name in names:
            (self.folder / f"go-{name}").touch()


async def until(holds: Callable[[], bool], timeout: float = 30.0) -> None:
    end = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < end, "it did not come to that in time"
        await asyncio.sleep(0.01)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.fixture
def cos(emulator: Emulator) -> CosClient:
    info = emulator.info
    return CosClient(StaticKeys(info.secret_id, info.secret_key), CosSettings(info.region, endpoint=info.cos_endpoint))


@pytest.fixture
async def submit(api: ApiClient, emulator: Emulator) -> AsyncIterator[Callable[[dict[str, Any]], str]]:
    """Submits jobs, and ends what is left of them after the test."""
    ids: list[str] = []

    def run(job: dict[str, Any]) -> str:
        placement = {"Zone": emulator.info.zone}
        answer = api.call(SubmitJob.model_validate({"Placement": placement, "Job": job}))
        ids.append(answer.job_id)
        return answer.job_id

    yield run
    emulator.faults.clear()
    for job_id in ids:
        api.call(TerminateJob(job_id=job_id))


Submit = Callable[[dict[str, Any]], str]


def redirect(emulator: Emulator, prefix: str = "stream/") -> dict[str, str]:
    path = f"cos://{emulator.info.bucket}.cos.{emulator.info.region}.myqcloud.com/{prefix}"
    return {"StdoutRedirectPath": path, "StderrRedirectPath": path}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == log_stream.__name__]


def numbers(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def count(first: int, last: int) -> str:
    return f"for n in $(seq {first} {last}); do echo line $n; done"


# -- one instance ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_uri", [False, True])
@pytest.mark.parametrize("excerpt", ["head", "tail"])
async def test_each_line_is_shown_once_and_in_order(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    stage: Stage,
    excerpt: str,
    data_uri: bool,
) -> None:
    emulator.configure(log_excerpt=excerpt, log_data_uri_prefix=data_uri)
    command = "; ".join(
        [
            count(1, 3),
            "printf 'half a l'; echo problem >&2",
            stage.pause("one"),
            "echo ine",
            count(4, 150),
            stage.pause("two"),
            count(151, 400),
            stage.pause("three"),
            count(401, 2000),
            "printf 'no end'",
        ]
    )
    shown = Shown()
    job_id = submit(job(command, RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    await stream.turn()
    await stream.turn()
    assert shown[0] == numbers(1, 3)
    assert shown.lines["main", 0, "stderr"] == ["problem"]

    stage.go("one")
    await stage.reached("two")
    await stream.turn()
    expected = [*numbers(1, 3), "half a line", *numbers(4, 150)]
    assert shown[0] == expected

    stage.go("two")
    await stage.reached("three")
    await stream.turn()
    # The head has room for 2048 bytes; of the tail, too much was printed between two looks.
    assert (LOST in shown[0]) is (excerpt == "tail")

    stage.go("three")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    if excerpt == "head":
        assert shown[0] == [*expected, *numbers(151, 2000), "no end"]
    else:
        gap = shown[0].index(LOST)
        assert shown[0][:gap] == expected
        missing = 2000 + 1 - len(shown[0][gap + 1 :])
        assert shown[0][gap + 1 :] == [*numbers(missing + 1, 2000), "no end"]
        assert 151 <= missing <= 400
    assert shown.lines["main", 0, "stderr"] == ["problem"]


async def test_before_anything_runs(api: ApiClient, emulator: Emulator, submit: Submit) -> None:
    emulator.configure(starting_seconds=3600)
    shown = Shown()
    job_id = submit(job("echo never"))
    stream = LogStream(api, None, job_id, shown)
    await stream.turn()
    await until(lambda: emulator.on_loop(lambda services: services.batch.jobs[job_id].state) == "STARTING")
    await stream.turn()
    await api.acall(TerminateJob(job_id=job_id))
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.turn()
    await stream.finish()
    assert not shown.lines


@pytest.mark.parametrize("with_cos", [True, False])
@pytest.mark.parametrize("excerpt", ["head", "tail"])
async def test_previews_do_where_nothing_is_redirected(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage, excerpt: str, with_cos: bool
) -> None:
    emulator.configure(log_excerpt=excerpt)
    command = f"{count(1, 100)}; {stage.pause('more')}; {count(101, 200)}; {stage.pause('end')}; {count(201, 300)}"
    task: dict[str, Any] = {} if with_cos else {"RedirectInfo": redirect(emulator)}
    shown = Shown()
    job_id = submit(job(command, **task))
    stream = LogStream(api, cos if with_cos else None, job_id, shown)
    await stage.reached("more")
    await stream.turn()
    assert shown[0] == numbers(1, 100)
    stage.go("more")
    await stage.reached("end")
    await stream.turn()
    stage.go("end")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    if excerpt == "tail":
        assert shown[0] == numbers(1, 300)
    else:
        *lines, cut, note = shown[0]
        assert lines == numbers(1, len(lines))
        assert len("\n".join([*lines, cut])) == 2048
        assert note.startswith("[... there may be more of this output")
        assert (emulator.info.bucket in note) is not with_cos


async def test_what_ended_while_the_job_runs_is_read_in_chunks(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    command = f"[ $BATCH_TASK_INSTANCE_INDEX = 0 ] || {{ {stage.pause('one')}; }}; {count(1, 1000)}"
    shown = Shown()
    job_id = submit(job(command, instances=2, RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown, chunk=4000, instances=1)
    await stage.reached("one")
    await until(lambda: instance_state(emulator, job_id, 0) == "SUCCEED")
    # The one that runs comes first; its place is free when it has ended.
    await stream.turn()
    assert not shown.lines
    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    sizes = []
    while not shown[0]:
        before = len(shown[1])
        await stream.turn()
        sizes.append(sum(len(line) + 1 for line in shown[1][before:]))
    assert shown[1] == numbers(1, 1000)
    assert len(sizes) > 3
    assert max(sizes) <= 4000 + 2048
    await stream.finish()
    assert shown[0] == numbers(1, 1000)


async def test_the_end_is_bounded(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_stream, "_REST", 20)
    shown = Shown()
    job_id = submit(job("printf '%s\\n' 123456789 abcdefghi; printf 1234567", RedirectInfo=redirect(emulator)))
    exact = submit(job("printf '%s\\n' 123456789 abcdefghi", RedirectInfo=redirect(emulator)))
    for each in (job_id, exact):
        await asyncio.to_thread(emulator.wait_job, each)
        # Previews would show all of it.
        emulator.faults.add("error", action="DescribeTaskLogs", code="InternalError")
        await LogStream(api, cos, each, shown).finish(patience=0)
        emulator.faults.clear()
        first, *lines = shown.lines.pop(("main", 0, "stdout"))
        if each == job_id:
            path = f"{redirect(emulator)['StdoutRedirectPath']}stdout.{job_id}.main.0.log"
            assert first == f"[... 1 line left out, all of it in COS: {path}]"
            assert lines == ["abcdefghi", "1234567"]
        else:
            assert [first, *lines] == ["123456789", "abcdefghi"]


# -- loud ones -------------------------------------------------------------------------------------------------


class Reads(CosClient):
    """Counts what is kept of what is read."""

    kept = 0

    def range(self, *place: Any) -> bytes | None:
        data = super().range(*place)
        self.kept += len(data or b"")
        return data


@pytest.fixture
def reads(emulator: Emulator) -> Reads:
    info = emulator.info
    return Reads(StaticKeys(info.secret_id, info.secret_key), CosSettings(info.region, endpoint=info.cos_endpoint))


def said_to_be_left(line: str) -> int:
    found = re.fullmatch(r"\[\.\.\. ([\d,]+) lines left out, all of it in COS: cos://.*\]", line)
    assert found, line
    return int(found[1].replace(",", ""))


async def test_of_a_loud_job_the_end_is_shown_and_the_rest_counted(
    api: ApiClient, reads: Reads, emulator: Emulator, submit: Submit
) -> None:
    shown = Shown()
    job_id = submit(job("seq 60000", RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    await LogStream(api, reads, job_id, shown, budget=LineBudget(SHARED, lambda: 0)).finish()
    first, *lines = shown[0]
    assert 100 < len(lines) <= SHARED.line_burst
    assert lines == [str(number) for number in range(60_001 - len(lines), 60_001)]
    assert said_to_be_left(first) == 60_000 - len(lines)
    assert reads.kept <= SHARED.size_burst


async def test_a_loud_job_is_counted_up_to_a_size(
    api: ApiClient, reads: Reads, emulator: Emulator, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_instance, "COUNTED", 100_000)
    shown = Shown()
    job_id = submit(job("seq 60000", RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    await LogStream(api, reads, job_id, shown, budget=LineBudget(SHARED, lambda: 0)).finish()
    first, *lines = shown[0]
    size = sum(len(str(number)) + 1 for number in range(1, 60_001)) - sum(len(line) + 1 for line in lines)
    assert first.startswith(f"[... {size:,} bytes left out, all of it in COS: cos://")


async def test_all_instances_of_a_loud_job_have_their_share(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit
) -> None:
    shown = Shown()
    command = "seq 3000; echo problem $BATCH_TASK_INSTANCE_INDEX >&2"
    job_id = submit(job(command, instances=8, RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    await LogStream(api, cos, job_id, shown, budget=LineBudget(SHARED, lambda: 0)).finish()
    for index in range(8):
        first, *lines = shown[index]
        assert said_to_be_left(first) == 3_000 - len(lines)
        assert lines[-1] == "3000"
        assert shown.lines["main", index, "stderr"] == [f"problem {index}"]
    assert sum(len(lines) for lines in shown.lines.values()) <= SHARED.line_burst + 8


async def test_who_is_quiet_is_shown_however_loud_others_are(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit
) -> None:
    room = Room(LineLimits(lines=0.001, line_burst=50, size=1, size_burst=10_000))
    loud, quiet = Shown(), Shown()
    ids = [submit(job(command, RedirectInfo=redirect(emulator))) for command in ("seq 60000", "seq 12")]
    for job_id, shown in zip(ids, (loud, quiet), strict=True):
        await asyncio.to_thread(emulator.wait_job, job_id)
        budget = LineBudget(SHARED, lambda: 0, together=room)
        await LogStream(api, cos, job_id, shown, budget=budget).finish()
    assert len(loud[0]) <= 51
    assert quiet[0] == [str(number) for number in range(1, 13)]


async def test_what_runs_and_prints_a_lot_is_bounded_too(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    """Previews of two kilobytes hold two thousand lines; then the object holds all."""
    emulator.configure(log_excerpt="tail")
    shown = Shown()
    job_id = submit(job(f"yes | head -3000; {stage.pause('one')}; echo end", RedirectInfo=redirect(emulator)))
    few = LineLimits(lines=0.001, line_burst=100, size=0.001, size_burst=100_000)
    stream = LogStream(api, cos, job_id, shown, budget=LineBudget(few, lambda: 0))
    await stage.reached("one")
    await stream.turn()
    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    assert sum(line == "y" for line in shown[0]) <= 100
    assert any("left out, all of it in COS" in line for line in shown[0])


@pytest.mark.parametrize("excerpt", ["head", "tail"])
async def test_one_of_two_streams_is_redirected(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage, excerpt: str
) -> None:
    emulator.configure(log_excerpt=excerpt)
    paths = {"StdoutRedirectPath": redirect(emulator)["StdoutRedirectPath"]}
    command = f"{count(1, 10)}; {stage.pause('one')}; echo problem >&2; {count(11, 1000)}"
    shown = Shown()
    job_id = submit(job(command, RedirectInfo=paths))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    await stream.turn()
    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    # A last preview of stdout would leave a gap that the object has not.
    assert shown[0] == numbers(1, 1000)
    assert shown.lines["main", 0, "stderr"] == ["problem"]


async def test_the_object_of_an_earlier_run_is_not_taken_for_this_one(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    emulator.configure(log_upload_lag_seconds=1.0)
    cos.put(emulator.info.bucket, "stream/earlier", b"an earlier run\n")
    paths = {**redirect(emulator), "StdoutRedirectFileName": "earlier"}
    shown = Shown()
    job_id = submit(job(f"echo this run; {stage.pause('one')}; echo ends", RedirectInfo=paths))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    await stream.turn()
    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    assert shown[0] == ["this run", "ends"]


@pytest.mark.parametrize("excerpt", ["head", "tail"])
async def test_objects_that_lag_behind_are_waited_for(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage, excerpt: str
) -> None:
    emulator.configure(log_upload_lag_seconds=1.0, log_excerpt=excerpt)
    shown = Shown()
    job_id = submit(job(f"{count(1, 10)}; {stage.pause('one')}; {count(11, 1000)}", RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    await stream.turn()
    assert shown[0] == numbers(1, 10)
    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    assert shown[0] == numbers(1, 1000)


async def test_objects_that_never_come_are_not_waited_for_too_long(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.configure(log_upload_lag_seconds=3600.0)
    job_id = submit(job(count(1, 100), RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    shown = Shown()
    begun = time.monotonic()
    await LogStream(api, cos, job_id, shown).finish(patience=0.2)
    assert time.monotonic() - begun < 60, "they come in an hour"
    assert shown[0] == numbers(1, 100)

    # While the job runs it would keep the place of another one.
    stream = LogStream(api, cos, job_id, Shown())
    await stream.turn()
    assert stream._followed
    monkeypatch.setattr(log_stream, "_LAG", 0.0)
    await stream.turn()
    assert not stream._followed


async def test_an_object_that_is_another_output_is_said_to_be(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    """Instances that share a file name overwrite each other's output."""
    paths = {**redirect(emulator), "StdoutRedirectFileName": "shared"}
    command = f"echo mine $BATCH_TASK_INSTANCE_INDEX; {stage.pause('$BATCH_TASK_INSTANCE_INDEX')}"
    shown = Shown()
    job_id = submit(job(command, instances=2, RedirectInfo=paths))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("0", "1")
    await stream.turn()
    stage.go("0")
    await until(lambda: instance_state(emulator, job_id, 0) == "SUCCEED")
    stage.go("1")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish(patience=0.2)
    assert shown[1] == ["mine 1"]
    assert shown[0] == ["mine 0", LOST, "mine 1"]


# -- another run -----------------------------------------------------------------------------------------------


async def test_a_run_after_a_failure_is_shown_anew(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    emulator.configure(speed=50)  # the two begin in the same second otherwise
    flag = stage.folder / "first"
    command = (
        f"echo the same; if mkdir {flag} 2>/dev/null; then {stage.pause('one')}; printf 'and fails'; exit 1; fi; "
        f"{stage.pause('two')}; echo and succeeds"
    )
    shown = Shown()
    job_id = submit(job(command, MaxRetryCount=1, RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    await stream.turn()
    assert shown[0] == ["the same"]
    stage.go("one")
    await stage.reached("two")
    await stream.turn()
    again = "[instance 0 was started again]"
    assert shown[0] == ["the same", again, "the same"]
    stage.go("two")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    assert shown[0] == ["the same", again, "the same", "and succeeds"]


async def test_an_instance_that_had_been_shown_runs_again(
    api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage
) -> None:
    emulator.configure(speed=50)
    flag = stage.folder / "first"
    command = f"echo hello; if mkdir {flag} 2>/dev/null; then exit 1; fi; {stage.pause('two')}"
    shown = Shown()
    job_id = submit(job(command, RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.turn()
    await stream.turn()
    assert shown[0] == ["hello"]
    await asyncio.sleep(0.05)  # a second or more of the emulator's clock
    await api.acall(RetryJobs(job_ids=[job_id]))
    await stage.reached("two")
    await stream.turn()
    assert shown[0] == ["hello", "[instance 0 was started again]", "hello"]


# -- many ------------------------------------------------------------------------------------------------------


async def test_ten_at_a_time_and_then_the_others(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    emulator.configure(capacity=20)
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    command = f"echo begin; {stage.pause('$BATCH_TASK_INSTANCE_INDEX')}; echo end"
    shown = Shown()
    job_id = submit(job(command, instances=13, RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached(*map(str, range(13)))
    for _ in range(3):
        await stream.turn()
    assert shown.indexes == set(range(10))
    assert all(shown[index] == ["begin"] for index in range(10))
    assert len(told(caplog)) == 1
    assert "at most 10 instances" in told(caplog)[0]

    stage.go("3", "7")
    await until(lambda: {instance_state(emulator, job_id, index) for index in (3, 7)} == {"SUCCEED"})
    await stream.turn()
    assert shown[3] == shown[7] == ["begin", "end"]
    await stream.turn()
    assert shown.indexes == set(range(12))

    stage.go(*map(str, range(13)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.turn()
    await stream.turn()
    assert all(shown[index] == ["begin", "end"] for index in range(13))
    await stream.finish()
    assert all(shown[index] == ["begin", "end"] for index in range(13))
    assert len(told(caplog)) == 1


async def test_several_tasks(api: ApiClient, cos: CosClient, emulator: Emulator, submit: Submit, stage: Stage) -> None:
    whole = job("true")
    (task,) = whole["Tasks"]
    whole["Tasks"] = [
        {
            **task,
            "TaskName": name,
            "TaskInstanceNum": instances,
            "Application": {
                "DeliveryForm": "LOCAL",
                "Command": f"echo {name} $BATCH_TASK_INSTANCE_INDEX; "
                + stage.pause(f"{name}-$BATCH_TASK_INSTANCE_INDEX"),
            },
        }
        for name, instances in (("a", 1), ("b", 2), ("c", 1))
    ]
    whole["Dependences"] = [{"StartTask": "a", "EndTask": "c"}]
    shown = Shown()
    job_id = submit(whole)
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("a-0", "b-0", "b-1")
    await stream.turn()
    assert (shown["a", 0], shown["b", 0], shown["b", 1]) == (["a 0"], ["b 0"], ["b 1"])
    stage.go("a-0")
    await stage.reached("c-0")
    await stream.turn()
    assert shown["c", 0] == ["c 0"]
    stage.go("b-0", "b-1", "c-0")
    await asyncio.to_thread(emulator.wait_job, job_id)
    await stream.finish()
    assert {key: len(lines) for key, lines in shown.lines.items()} == {
        (name, index, "stdout"): 1 for name, index in (("a", 0), ("b", 0), ("b", 1), ("c", 0))
    }


# -- trouble ---------------------------------------------------------------------------------------------------


async def test_a_cos_that_refuses_is_told_once_and_previews_do(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    emulator.configure(log_excerpt="head")
    job_id = submit(job(count(1, 1000), instances=2, RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    emulator.faults.add("error", service="cos", code="AccessDenied", status=403)
    shown = Shown()
    stream = LogStream(api, cos, job_id, shown)
    begun = time.monotonic()
    await stream.finish(patience=60)
    assert time.monotonic() - begun < 50
    for index in range(2):
        *lines, _cut, note = shown[index]
        assert lines == numbers(1, len(lines))
        assert len(lines) > 200
        assert note.startswith("[... there may be more of this output in cos://")
    # The SDK's own account of it must not fill a task's log.
    (record,) = [record for record in caplog.records if record.name.startswith(("airflow_provider", "qcloud_cos"))]
    assert "check the keys" in record.getMessage()


async def test_a_cos_that_fails_for_a_while_is_asked_again(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    job_id = submit(job(count(1, 1000), instances=2, RedirectInfo=redirect(emulator)))
    await asyncio.to_thread(emulator.wait_job, job_id)
    cos.sdk._retry = 1  # the SDK's own patience is of no interest here
    fault = emulator.faults.add("error", service="cos", status=503)
    shown, failed = Shown(), Shown()
    stream = LogStream(api, cos, job_id, shown)
    await stream.turn()
    await stream.turn()
    await LogStream(api, cos, job_id, failed).finish(patience=0)
    assert len(told(caplog)) == 2  # once by each of the two
    assert not shown.lines
    assert failed[0][-2] == failed[1][-2] == "line 1000"
    emulator.faults.remove(fault)
    await stream.turn()
    assert shown[0] == shown[1] == numbers(1, 1000)


async def test_a_throttle_skips_a_turn(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    shown = Shown()
    job_id = submit(job(f"echo one; {stage.pause('one')}; echo two", RedirectInfo=redirect(emulator)))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    for action in ("DescribeTask", "DescribeTaskLogs"):
        fault = emulator.faults.add("throttle", action=action, count=1)
        await stream.turn()
        assert emulator.faults.remove(fault)
        assert not shown.lines
    await stream.turn()
    assert shown[0] == ["one"]
    assert not told(caplog)

    stage.go("one")
    await asyncio.to_thread(emulator.wait_job, job_id)
    emulator.faults.add("throttle", service="batch")
    await stream.finish(patience=0.5)
    assert shown[0] == ["one", "two"]  # COS has it


async def test_other_errors_are_told_once(
    api: ApiClient,
    cos: CosClient,
    emulator: Emulator,
    submit: Submit,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger=log_stream.__name__)
    shown = Shown()
    job_id = submit(job(f"echo one; {stage.pause('one')}"))
    stream = LogStream(api, cos, job_id, shown)
    await stage.reached("one")
    for action in ("DescribeJob", "DescribeTask", "DescribeTaskLogs"):
        fault = emulator.faults.add("error", action=action)
        await stream.turn()
        await stream.turn()
        emulator.faults.remove(fault)
    assert [message.partition(": ")[2].partition(":")[0] for message in told(caplog)] == [
        "DescribeJob",
        "DescribeTask",
        "DescribeTaskLogs",
    ]
    assert not shown.lines
    await stream.turn()
    assert shown[0] == ["one"]


def instance_state(emulator: Emulator, job_id: str, index: int) -> str:
    state: str = emulator.on_loop(lambda services: services.batch.jobs[job_id].tasks["main"].instances[index].state)
    return state
