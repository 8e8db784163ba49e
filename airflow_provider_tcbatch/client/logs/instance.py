"""An instance whose output is shown while it runs: what is known of it, and where its output is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.logs.cursor import Cursor
from airflow_provider_tcbatch.client.logs.reader import redirected
from airflow_provider_tcbatch.models.states import State
from airflow_provider_tcbatch.models.storage import CosLocation

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.cos import CosClient
    from airflow_provider_tcbatch.models.views import LogLocation, TaskInstanceView

__all__ = ["Key", "Output", "Piece", "PrintingInstance", "Run", "began", "ended", "never_ran"]

#: Bytes of an output whose lines are counted when they are left out. To count them, they are read.
COUNTED = 8 * 1024 * 1024

#: Task name and index of an instance.
Key = tuple[str, int]


def began(view: TaskInstanceView) -> bool:
    """Whether an instance runs or has ended, and does not wait for its first or its next try."""
    return view.task_instance_state == State.RUNNING or ended(view)


def ended(view: TaskInstanceView) -> bool:
    """Whether an instance has come to its end."""
    return isinstance(view.task_instance_state, State) and view.task_instance_state.is_terminal


def never_ran(view: TaskInstanceView) -> bool:
    """Whether an instance ended before it ran."""
    return ended(view) and view.exit_code is None and not view.running_time and not view.launch_time


@dataclass(frozen=True)
class Run:
    """Tells the runs of an instance apart: a retry is shown anew.

    :param running_time: when it began to run, as the service writes it.
    :param over: whether it had given way to a later one, which had not begun to run.
    """

    running_time: str | None = None
    over: bool = False

    def is_that_of(self, view: TaskInstanceView) -> bool:
        """Whether an instance that began is still at this run, as far as can be told."""
        times = (self.running_time, view.running_time)
        return not self.over and not (all(times) and times[0] != times[1])


@dataclass(frozen=True)
class Piece:
    """Part of an output, from COS.

    :param start: its offset.
    :param data: its bytes.
    :param size: size of the whole output.
    :param lost: whether something may be missing between it and what was shown before.
    :param skipped: bytes before it that were passed over.
    :param lines: lines of these; ``None`` if they were too many to count.
    """

    start: int
    data: bytes
    size: int
    lost: bool
    skipped: int = 0
    lines: int | None = 0


@dataclass
class Output:
    """One stream of an instance.

    :param name: ``stdout`` or ``stderr``.
    :param cursor: how far it has been shown.
    :param path: where the service puts it at the instance's end, if it does.
    :param offset: how far the object in COS has been read; ``None`` before that has begun.
    :param size: size of that object.
    :param done: whether it has been shown as far as it can be.
    :param left_lines: lines that have been left out since the last one that was shown, or was said to be.
    :param left_size: bytes of these, and of what was not counted.
    :param uncounted: whether some of that was not counted.
    """

    name: str
    cursor: Cursor
    path: str | None = None
    offset: int | None = None
    size: int = 0
    done: bool = False
    left_lines: int = 0
    left_size: int = 0
    uncounted: bool = False

    def leave(self, lines: int | None, size: int) -> None:
        """Note what is left out.

        :param lines: how many lines it has; ``None`` if they were not counted.
        :param size: how many bytes.
        """
        self.left_lines += lines or 0
        self.left_size += size
        self.uncounted = self.uncounted or lines is None

    def left_out(self) -> list[str]:
        """The line that says what has been left out, if something has; it is said once."""
        if not self.left_size:
            return []
        if self.uncounted or not self.left_lines:
            what = f"{self.left_size:,} bytes"
        else:
            what = f"{self.left_lines:,} line{'s' if self.left_lines > 1 else ''}"
        self.left_lines, self.left_size, self.uncounted = 0, 0, False
        if self.path:
            kind = "COS: " if self.path.startswith("cos:") else ""
            return [f"[... {what} left out, all of it in {kind}{self.path}]"]
        return [f"[... {what} left out. What to do: redirect the job's output to COS (RedirectInfo), which takes all]"]

    @property
    def place(self) -> CosLocation | None:
        """Where it can be read; ``None`` for ``cfs://`` and ``nfs://``."""
        try:
            return CosLocation.parse(self.path) if self.path else None
        except ValueError:
            return None

    def fetch(self, cos: CosClient, most: int, late: bool, keep: int) -> Piece | None:
        """Read what comes next from COS, where its place is; blocks, and changes nothing.

        :param most: bytes to read at most.
        :param late: whether to show the object's end if what was seen is not to be found in it.
        :param keep: bytes beyond which all but the last ``most`` are passed over.
        :return: ``None`` if there is nothing to read yet.
        """
        place = self.place
        if place is None:
            return None

        def read(start: int, size: int) -> bytes:
            return (cos.range(place.bucket, place.key, start, size) or b"") if size > 0 else b""

        start, size, lost = self.offset, self.size, False
        if start is None:
            found = cos.size(place.bucket, place.key)
            if found is None:
                return None
            size, start = found, self.cursor.locate(found, read)
            if start is None:
                if not late:
                    return None  # maybe the object of an earlier run, which will be replaced
                start, lost = max(0, size - most), True
        skipped = 0
        lines: int | None = 0
        if size - start > keep:
            skipped = size - start - most
            lines = cos.count_lines(place.bucket, place.key, start, skipped) if skipped <= COUNTED else None
            start += skipped
        return Piece(start, read(start, min(most, size - start)), size, lost, skipped, lines)


@dataclass
class PrintingInstance:
    """An instance whose output is shown.

    :param key: task name and index.
    :param anew: line to show when it begins anew.
    :param outputs: its stdout and its stderr.
    :param run: which of its runs is shown.
    :param over: since when (``time.monotonic()``) it does not run any more.
    :param final: whether its preview was looked at after that.
    :param refused: whether COS will not give its output.
    """

    key: Key
    anew: str
    outputs: tuple[Output, Output]
    run: Run = field(default_factory=Run)
    over: float | None = None
    final: bool = False
    refused: bool = False

    @classmethod
    def of(cls, key: Key, slides: bool) -> PrintingInstance:
        """One of which nothing has been shown.

        :param slides: whether it is known that previews show the end of an output.
        """
        anew = f"[instance {key[1]} was started again]"
        stdout, stderr = (Cursor(anew, slides=slides) for _ in range(2))
        return cls(key, anew, (Output("stdout", stdout), Output("stderr", stderr)))

    @property
    def done(self) -> bool:
        """Whether all that it printed has been shown, as far as it can be."""
        return all(output.done for output in self.outputs)

    def redirect(self, location: LogLocation | None) -> None:
        """Note where its outputs go."""
        for output in self.outputs:
            output.path = redirected(output.name, location) or output.path
