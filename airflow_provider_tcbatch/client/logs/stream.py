"""Output of a job while it runs: each line once, in order.

Of an instance that runs, DescribeTaskLogs shows a part of what it has printed so far; when it has ended, all of it
appears in COS, maybe a moment later. :mod:`~airflow_provider_tcbatch.client.logs.cursor` knows what of it is new.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import anyio

from airflow_provider_tcbatch.client.logs.budget import LineBudget
from airflow_provider_tcbatch.client.logs.cursor import LONGEST_WINDOW, cut_at
from airflow_provider_tcbatch.client.logs.instance import (
    Key,
    Output,
    Piece,
    PrintingInstance,
    Run,
    began,
    ended,
    never_ran,
)
from airflow_provider_tcbatch.client.logs.reader import PREVIEWS, preview_bytes
from airflow_provider_tcbatch.client.logs.threads import Readers
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    InfrastructureError,
    InvalidRequest,
    NotFound,
    TCBatchError,
    Throttled,
)
from airflow_provider_tcbatch.models.actions import DescribeJob, DescribeTask, DescribeTaskLogs, Filter
from airflow_provider_tcbatch.models.states import State

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.cos import CosClient
    from airflow_provider_tcbatch.models.actions import DescribeTaskResult
    from airflow_provider_tcbatch.models.views import TaskInstanceLog, TaskInstanceView

__all__ = ["Emit", "LogStream"]

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Takes a line of output: task name, instance index, ``stdout`` or ``stderr``, the line without its end.
Emit = Callable[[str, int, str, str], None]

#: Instances that one look at a task asks for. Smaller tasks take one call a turn, larger ones up to three or so.
_PAGE = 100

#: Tasks that one turn looks at for instances to follow.
_TASKS = 10

_NOT_BEGUN = (State.SUBMITTED, State.PENDING, State.RUNNABLE, State.STARTING)

#: Seconds after an instance's end at which its object in COS is no longer waited for.
_LAG = 60.0

#: Seconds between two looks of :meth:`LogStream.finish`, and how many bytes of a stream it reads at most.
_AGAIN = 0.5
_REST = 1024 * 1024

#: Bytes of an ended instance's stream that are read one piece a turn; of more, all but the last piece is left out.
_KEEP = 256 * 1024

#: Outputs that are named of those that were left out at the end.
_NAMED = 4

#: Seconds that one read from COS may take: others wait for the same threads.
_READ_SECONDS = 20.0


@functools.cache
def _readers() -> Executor:
    """Threads of their own: a COS that does not answer must not keep those that renew keys, or do Airflow's work.

    Few of them: as many pieces of output are in memory at once.
    """
    return Readers(4, "tcbatch-cos")


# A forked process has no threads of its parent's.
os.register_at_fork(after_in_child=_readers.cache_clear)


class LogStream:
    """Shows what the instances of a job print while they run.

    An error of the service is told once, in the log, and never raised: the next turn looks again.

    :param api: client to ask.
    :param cos: client for the full text; ``None`` to do with previews.
    :param job_id: the job.
    :param emit: takes each line.
    :param instances: most instances to follow at a time.
    :param chunk: most bytes of a stream to read from COS in one turn.
    :param budget: how much may be shown; what is too much is left out, oldest lines first, and said to be.
    """

    def __init__(
        self,
        api: ApiClient,
        cos: CosClient | None,
        job_id: str,
        emit: Emit,
        *,
        instances: int = 10,
        chunk: int = 64 * 1024,
        budget: LineBudget | None = None,
    ) -> None:
        self._api = api
        self._cos = cos
        self._job_id = job_id
        self._emit = emit
        self._instances = instances
        self._chunk = chunk
        self._budget = budget or LineBudget()
        #: The job's tasks with their states, and how many instances each has.
        self._tasks: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        #: Tasks of which nothing is left to show; of large tasks, so many leading instances.
        self._exhausted: set[str] = set()
        self._leading: dict[str, int] = {}
        self._followed: dict[Key, PrintingInstance] = {}
        self._shown: dict[Key, Run] = {}
        self._told: set[str] = set()
        self._slides = False
        #: Whether objects that have not appeared yet are not waited for any more.
        self._late = False

    async def turn(self) -> None:
        """Look once, and emit what is new."""
        await self._unless_throttled(self._turn())
        self._release()

    async def _turn(self) -> None:
        await self._find()
        await self._look()
        await self._read(self._chunk, keep=_KEEP)
        await self._give_up()

    async def finish(self, patience: float = 10.0, limit: float | None = None) -> None:
        """Emit the rest, once the job has ended.

        Instances that have not been followed so far are, as far as there is room.

        :param patience: seconds to wait for objects in COS that lag behind.
        :param limit: seconds for all of it, whoever does not answer; ``None`` for no limit.
        """
        with anyio.move_on_after(limit) as time_up:
            await self._finish(patience)
        if time_up.cancelled_caught:
            self._say_left(limit or 0.0)
        for instance in self._followed.values():
            self._flush(instance)
        self._followed.clear()

    async def _finish(self, patience: float) -> None:
        until = time.monotonic() + patience
        known = False
        while True:
            self._late = time.monotonic() >= until
            known = known or bool(await self._unless_throttled(self._find()))
            if not known:
                for instance in self._followed.values():
                    instance.over = instance.over or time.monotonic()
            await self._unless_throttled(self._look())
            rest = min(_REST, self._budget.burst)
            await self._read(rest, keep=rest, last=True)
            await self._unless_throttled(self._give_up())
            self._release()
            # Those that still run do so because the job was given up.
            waiting = not known or any(instance.over is not None for instance in self._followed.values())
            if self._late or not waiting:
                break
            await asyncio.sleep(max(0.0, min(_AGAIN, until - time.monotonic())))

    async def _unless_throttled(self, work: Awaitable[T]) -> T | None:
        """Leave something for later if the service has no time for it now."""
        try:
            return await work
        except Throttled as error:
            log.debug("Output of job %s is looked at later: %s", self._job_id, error)
            return None

    # -- which instances ---------------------------------------------------------------------------------------

    @property
    def _room(self) -> int:
        return self._instances - len(self._followed)

    async def _find(self) -> bool:
        """See what became of the followed instances, and follow others if there is room; False if that failed."""
        mine = list(dict.fromkeys(task for task, _ in self._followed))
        try:
            for number, task in enumerate([*mine, *await self._others(mine)]):
                if number < len(mine) or (self._room and number < len(mine) + _TASKS):
                    await self._visit(task)
                elif not self._room:
                    self._say_full()
        except Throttled:
            raise
        except TCBatchError as error:
            self._tell(error)
            return False
        return True

    async def _others(self, mine: list[str]) -> list[str]:
        """Tasks that may have instances to follow, those that run first."""
        if not self._tasks or (len(self._tasks) > 1 and self._room):
            job = await self._api.acall(DescribeJob(job_id=self._job_id), attempts=1)
            self._tasks = {task.task_name: str(task.task_state) for task in job.task_set or () if task.task_name}
        if len(self._tasks) == 1:  # it will be looked at anyway: its state is not asked for again
            return [name for name in self._tasks if name not in mine]
        names = [
            name
            for name, state in self._tasks.items()
            if name not in mine and state not in _NOT_BEGUN and (name not in self._exhausted or state == State.RUNNING)
        ]
        return sorted(names, key=lambda name: self._tasks[name] != State.RUNNING)

    async def _visit(self, task: str) -> None:
        """Look at a task's instances."""
        if self._sizes.get(task, 0) <= _PAGE:
            page = await self._page(task)
            views = page.task_instance_set or []
            self._sizes[task] = page.task_instance_total_count or len(views)
            gone = False
        if self._sizes[task] > _PAGE:
            views, gone = await self._visit_large(task)
        found = {view.task_instance_index for view in views}
        for view in views:
            if instance := self._followed.get((task, view.task_instance_index)):
                self._heed(instance, view)
        for (name, index), instance in self._followed.items():
            if gone and name == task and index not in found:
                instance.over = instance.over or time.monotonic()
        for view in sorted(views, key=lambda view: (ended(view), view.task_instance_index)):
            self._consider((task, view.task_instance_index), view)
        if len(views) >= self._sizes[task] and all(self._settled(task, view) for view in views):
            self._exhausted.add(task)

    async def _visit_large(self, task: str) -> tuple[list[TaskInstanceView], bool]:
        """Some of the instances of a task that has too many: those that run, the next ones to show, the followed.

        :return: what was found, and whether an instance that is missing there does not run.
        """
        running = (await self._page(task, states=[State.RUNNING.value])).task_instance_set or []
        found = {view.task_instance_index: view for view in running}
        if self._room:
            start = self._leading.get(task, 0)
            page = (await self._page(task, offset=start)).task_instance_set or []
            leading = next((n for n, view in enumerate(page) if not self._settled(task, view)), len(page))
            self._leading[task] = start + leading
            if start + leading >= self._sizes[task]:
                self._exhausted.add(task)
            found |= {view.task_instance_index: view for view in page}
        missing = sorted(index for name, index in self._followed if name == task and index not in found)
        while missing:
            # Instances are listed by their index, as far as is known.
            page = (await self._page(task, offset=missing[0])).task_instance_set or []
            found |= {view.task_instance_index: view for view in page}
            missing = [index for index in missing[1:] if index not in found]
        # That a filter lets only the right ones through is looked at again where it matters.
        return list(found.values()), len(running) < _PAGE

    async def _page(self, task: str, *, offset: int = 0, states: list[str] | None = None) -> DescribeTaskResult:
        filters = [Filter(name="task-instance-state", values=states)] if states else None
        request = DescribeTask(job_id=self._job_id, task_name=task, offset=offset, limit=_PAGE, filters=filters)
        return await self._api.acall(request, attempts=1)

    def _settled(self, task: str, view: TaskInstanceView) -> bool:
        """Whether nothing is left to show of an instance."""
        shown = self._shown.get((task, view.task_instance_index))
        return never_ran(view) or (ended(view) and shown is not None and shown.is_that_of(view))

    def _consider(self, key: Key, view: TaskInstanceView) -> None:
        """Follow an instance if it is time and there is room."""
        before = self._shown.get(key)
        if key in self._followed or not began(view) or never_ran(view):
            return
        if before is not None and before.is_that_of(view):
            return
        if not self._room:
            self._say_full()
            return
        instance = PrintingInstance.of(key, self._slides)
        self._followed[key] = instance
        if before is not None:
            self._say(instance, instance.outputs[0], [instance.anew])
        self._heed(instance, view)

    def _heed(self, instance: PrintingInstance, view: TaskInstanceView) -> None:
        """Take in what became of an instance."""
        if began(view):
            if not instance.run.is_that_of(view):
                self._restart(instance)
            instance.run = Run(view.running_time or instance.run.running_time)
        else:
            # It waits to be tried again; what its last run left is shown meanwhile.
            instance.run = Run(instance.run.running_time, over=True)
        if view.task_instance_state == State.RUNNING:
            instance.over, instance.final = None, False
        else:
            instance.over = instance.over or time.monotonic()
        instance.redirect(view.redirect_info)

    def _restart(self, instance: PrintingInstance) -> None:
        instance.over, instance.final, instance.refused = None, False, False
        for output in instance.outputs:
            if output.cursor.restarted:
                # Its own text has told so already.
                output.cursor.restarted = False
            else:
                self._say(instance, output, output.left_out() + output.cursor.restart())
            output.offset, output.done = None, False

    # -- what they print ---------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Look at the previews: of what runs, and of what has ended and will not appear in COS."""
        await self._previews(
            [
                instance
                for instance in self._followed.values()
                if instance.over is None or not all(self._stored(output) for output in instance.outputs)
            ]
        )

    async def _give_up(self) -> None:
        """Do with previews where an object has not appeared in time."""
        overdue = [instance for instance in self._followed.values() if self._overdue(instance)]
        await self._previews(overdue)
        for instance in overdue:
            for output in instance.outputs:
                # What has been begun is given up at the very end only.
                if not output.done and (output.offset is None or self._late):
                    self._end(instance, output)

    def _stored(self, output: Output) -> bool:
        """Whether an output will be in COS when its instance has ended."""
        return self._cos is not None and output.place is not None

    def _overdue(self, instance: PrintingInstance) -> bool:
        if instance.over is None:
            return False
        return self._late or instance.refused or time.monotonic() - instance.over > _LAG

    async def _previews(self, instances: list[PrintingInstance]) -> None:
        wanted: dict[str, list[int]] = {}
        for task, index in (instance.key for instance in instances if not instance.final):
            wanted.setdefault(task, []).append(index)
        for task, indexes in wanted.items():
            for start in range(0, len(indexes), PREVIEWS):
                await self._preview(task, indexes[start : start + PREVIEWS])

    async def _preview(self, task: str, indexes: list[int]) -> None:
        request = DescribeTaskLogs(job_id=self._job_id, task_name=task, task_instance_indexes=indexes)
        entries: Iterable[TaskInstanceLog] = ()
        try:
            entries = (await self._api.acall(request, attempts=1)).task_instance_log_set or ()
        except Throttled:
            raise
        except (NotFound, InvalidRequest) as error:
            # One of them may be to blame: the others need not suffer.
            if len(indexes) > 1:
                for index in indexes:
                    await self._preview(task, [index])
                return
            self._tell(error)
        except TCBatchError as error:
            self._tell(error)
            return
        for entry in entries:
            if instance := self._followed.get((task, entry.task_instance_index)):
                instance.redirect(entry)
                for output, text in zip(instance.outputs, (entry.stdout_log, entry.stderr_log), strict=True):
                    if len(window := preview_bytes(text)) <= LONGEST_WINDOW:
                        self._heed_preview(instance, output, window, 2 * len(indexes))
                    else:
                        self._tell(
                            InfrastructureError(f"DescribeTaskLogs: a preview has more than {LONGEST_WINDOW} bytes")
                        )
        for index in indexes:
            instance = self._followed[task, index]
            instance.final = instance.over is not None

    def _heed_preview(self, instance: PrintingInstance, output: Output, window: bytes, among: int) -> None:
        waits = instance.over is not None and self._stored(output) and not self._overdue(instance)
        if output.offset is None and not waits:  # or else a gap before the window would be a gap for good
            self._show(instance, output, output.cursor.preview(window), among)
            self._slides = self._slides or output.cursor.slides

    async def _read(self, most: int, *, keep: int, last: bool = False) -> None:
        """Read what is in COS.

        :param most: bytes of a stream to read.
        :param keep: bytes of a stream beyond which all but the last ``most`` is left out.
        :param last: what is left after that is not read.
        """
        down = False
        over = [instance for instance in self._followed.values() if instance.over is not None]
        among = sum(not output.done for instance in over for output in instance.outputs)
        for instance in over:
            for output in instance.outputs:
                if output.done:
                    continue
                if not self._stored(output):
                    if instance.final:
                        self._end(instance, output)
                elif not down:
                    try:
                        piece = await self._fetch(output, most, keep, self._overdue(instance))
                        if piece is not None:
                            self._show_piece(instance, output, piece, among)
                            output.done = output.done or last
                        among -= 1
                    except TCBatchError as error:
                        # The others would wait for the same timeout, in vain.
                        down = isinstance(error, InfrastructureError)
                        instance.refused = not (isinstance(error, ApiError) and error.retryable)
                        self._tell(error)

    async def _fetch(self, output: Output, most: int, keep: int, late: bool) -> Piece | None:
        assert self._cos is not None
        reading = asyncio.get_running_loop().run_in_executor(_readers(), output.fetch, self._cos, most, late, keep)
        try:
            with anyio.fail_after(_READ_SECONDS):
                return await reading
        except TimeoutError:
            raise InfrastructureError(
                f"COS has not answered within {_READ_SECONDS:g} s", code="ClientNetworkError", retryable=True
            ) from None

    def _show_piece(self, instance: PrintingInstance, output: Output, piece: Piece, among: int) -> None:
        """Show the end of what was read, as much as may be."""
        cursor, data = output.cursor, piece.data
        notes = cursor.enter(piece.start - piece.skipped) if output.offset is None and not piece.lost else []
        output.offset, output.size = piece.start + len(data), piece.size
        output.done = output.offset >= output.size
        lines, size = self._budget.left(among)
        # Whoever passes something over begins with a whole line.
        start = max(cut_at(data, lines, size), cut_at(data, lines, len(data) - 1) if piece.skipped else 0)
        if start or piece.skipped:
            cursor.leave(data[:start])
            output.leave(
                None if piece.lines is None else piece.lines + data.count(b"\n", 0, start), piece.skipped + start
            )
        data = data[start:]
        if not data:
            shown = []
        elif piece.lost:
            shown = cursor.skip(data, whole=piece.start + start == 0)
        else:
            shown = cursor.more(data)
        self._budget.take(len(shown), len(data))
        self._say(instance, output, notes + (output.left_out() if shown else []) + shown)

    def _end(self, instance: PrintingInstance, output: Output) -> None:
        """End an output of which nothing more is to be had."""
        output.done = True
        if output.offset is not None or output.cursor.cut:
            where = f" in {output.path}" if output.path else ""
            note = f"[... there may be more of this output{where}]"
            self._say(instance, output, [*output.left_out(), *output.cursor.flush(), note])

    def _release(self) -> None:
        """Let go of the instances that have been shown."""
        for key, instance in list(self._followed.items()):
            if instance.done:
                self._flush(instance)
                self._shown[key] = instance.run
                del self._followed[key]

    def _flush(self, instance: PrintingInstance) -> None:
        for output in instance.outputs:
            self._say(instance, output, output.left_out() + output.cursor.flush())

    def _show(self, instance: PrintingInstance, output: Output, lines: list[str], among: int) -> None:
        """Show the last ones of these lines, as many as may be.

        :param among: how many outputs have to do with that.
        """
        if not lines:
            return
        most, size = self._budget.left(among)
        start = len(lines)
        while start and most and (size := size - len(lines[start - 1])) >= 0:
            start, most = start - 1, most - 1
        left, shown = lines[:start], lines[start:]
        if left:
            output.leave(len(left), sum(len(line) + 1 for line in left))
        if shown:
            self._budget.take(len(shown), sum(map(len, shown)))
            self._say(instance, output, output.left_out() + shown)

    def _say(self, instance: PrintingInstance, output: Output, lines: list[str]) -> None:
        for line in lines:
            self._emit(*instance.key, output.name, line)

    def _tell(self, error: TCBatchError) -> None:
        # A message names the request, too: by it, each would be another one.
        what = f"{error.action} {error.code}" if isinstance(error, ApiError) else str(error)
        if what not in self._told:
            self._told.add(what)
            log.info("Output of job %s can't be read now: %s", self._job_id, error)

    def _say_left(self, limit: float) -> None:
        """Say once what has not been read in time."""
        left = [
            f"{output.name} of instance {index} of {task}" + (f" ({output.path})" if output.path else "")
            for (task, index), instance in self._followed.items()
            for output in instance.outputs
            if not output.done
        ]
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        log.warning(
            "Output of job %s: what could be read in %g s ([tcbatch] explain_timeout) is shown; left out is %s",
            self._job_id,
            limit,
            f"the rest of {', '.join(left[:_NAMED])}{more}" if left else "what has not been looked at",
        )

    def _say_full(self) -> None:
        if "full" not in self._told:
            self._told.add("full")
            log.info(
                "Job %s: the output of at most %d instances is followed at a time, that of others when there is room",
                self._job_id,
                self._instances,
            )
