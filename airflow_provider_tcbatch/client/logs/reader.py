"""Output of task instances: DescribeTaskLogs for a preview, COS for the rest.

The preview is at most 2048 bytes of each stream, base64, sometimes with a ``data:`` prefix and without padding;
whether it is the head or the tail is not documented. The objects in COS appear when an instance has ended, maybe a
moment later.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.client.logs.budget import ALONE
from airflow_provider_tcbatch.client.logs.cursor import LONGEST_WINDOW, cut_at
from airflow_provider_tcbatch.client.time_limit import TimeLimit
from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.models.actions import DescribeTask, DescribeTaskLogs, Filter
from airflow_provider_tcbatch.models.storage import CosLocation

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.api import ApiClient
    from airflow_provider_tcbatch.client.cos import CosClient
    from airflow_provider_tcbatch.models.views import LogLocation, TaskInstanceLog, TaskInstanceView

__all__ = ["PREVIEWS", "InstanceOutput", "LogReader", "decode_preview", "preview_bytes", "redirected"]

log = logging.getLogger(__name__)

#: Most instances that one DescribeTaskLogs takes.
PREVIEWS = 10


@dataclass(frozen=True)
class InstanceOutput:
    """An instance and what it printed.

    :param task_name: task that it belongs to.
    :param view: the instance as DescribeTask shows it.
    :param stdout: text, maybe cut at the front.
    :param stderr: text, maybe cut at the front.
    """

    task_name: str
    view: TaskInstanceView
    stdout: str = ""
    stderr: str = ""


def preview_bytes(text: str | None) -> bytes:
    """Decode a stream of a preview; what is not base64 is taken as it is."""
    if not text:
        return b""
    encoded = text.rpartition("base64,")[2].strip()
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        return text.encode(errors="replace")


def decode_preview(text: str | None) -> str:
    """Decode a stream of a preview to text; undecodable bytes (a character cut in two) are replaced."""
    return preview_bytes(text)[-LONGEST_WINDOW:].decode("utf-8", "replace")


def redirected(stream: str, location: LogLocation | None) -> str | None:
    """Address that a stream (``stdout`` or ``stderr``) of an instance is redirected to, if it is."""
    path = getattr(location, f"{stream}_redirect_path", None)
    name = getattr(location, f"{stream}_redirect_file_name", None)
    return path + name if path and name else None


class LogReader:
    """Reads the output of the instances of jobs.

    :param api: client to ask.
    :param cos: client for the full text; ``None`` to do with previews.
    :param size: most bytes of a stream to read from COS, counted from its end.
    """

    def __init__(self, api: ApiClient, cos: CosClient | None = None, size: int = 16 * 1024) -> None:
        self._api = api
        self._cos = cos
        self._size = size

    def instances(
        self,
        job_id: str,
        task_name: str,
        states: Sequence[str] = (),
        limit: int = 100,
        within: TimeLimit | None = None,
    ) -> list[TaskInstanceView]:
        """Instances of a task, lowest index first.

        :param states: only these states; empty for all.
        :param limit: most instances to return.
        :param within: time to read them in.
        :raises TimeUp: if that is over.
        """
        return (within or TimeLimit()).run(lambda: self._instances(job_id, task_name, states, limit))

    def _instances(self, job_id: str, task_name: str, states: Sequence[str], limit: int) -> list[TaskInstanceView]:
        filters = [Filter(name="task-instance-state", values=list(states))] if states else None
        request = DescribeTask(job_id=job_id, task_name=task_name, filters=filters)
        found: list[TaskInstanceView] = []
        for page in self._api.pages(request, page_size=1000 if states else min(limit, 1000)):
            # The filter's name is documented two ways: what it let through is looked at again.
            found += [
                view for view in page.task_instance_set or () if not states or str(view.task_instance_state) in states
            ]
            if len(found) >= limit:
                break
        return sorted(found, key=lambda view: view.task_instance_index)[:limit]

    def outputs(
        self,
        job_id: str,
        task_name: str,
        views: Sequence[TaskInstanceView],
        size: int | None = None,
        within: TimeLimit | None = None,
    ) -> Iterator[InstanceOutput]:
        """What these instances printed, in order.

        :param size: most bytes of a stream to read from COS; default is the reader's.
        :param within: time to read it in; less is shown where that is over.
        """
        for start in range(0, len(views), PREVIEWS):
            portion = [(task_name, view) for view in views[start : start + PREVIEWS]]
            yield from self.outputs_of(job_id, portion, size, within)

    def outputs_of(
        self,
        job_id: str,
        instances: Sequence[tuple[str, TaskInstanceView]],
        size: int | None = None,
        within: TimeLimit | None = None,
    ) -> Iterator[InstanceOutput]:
        """What instances of several tasks printed, in order: all previews are read first, and then what is in COS.

        :param instances: names of tasks, each with an instance of it.
        :param size: most bytes of a stream to read from COS; default is the reader's.
        :param within: time to read it in; less is shown where that is over.
        """
        within = within or TimeLimit()
        previews: dict[tuple[str, int], TaskInstanceLog] = {}
        by_task: dict[str, list[int]] = {}
        for task_name, view in instances:
            by_task.setdefault(task_name, []).append(view.task_instance_index)
        for task_name, indexes in by_task.items():
            for start in range(0, len(indexes), PREVIEWS):
                request = partial(self._previews, job_id, task_name, indexes[start : start + PREVIEWS])
                try:
                    found = within.run(request)
                except TCBatchError as error:
                    # An instance that never ran has no log, and a missing log must not hide why the job failed.
                    log.warning("Output of task %r of %s can't be read: %s", task_name, job_id, error)
                    continue
                previews |= {(task_name, index): entry for index, entry in found.items()}
        for task_name, view in instances:
            preview = previews.get((task_name, view.task_instance_index))
            yield InstanceOutput(
                task_name,
                view,
                stdout=self._text("stdout", view.redirect_info, preview, size or self._size, within),
                stderr=self._text("stderr", view.redirect_info, preview, size or self._size, within),
            )

    def previews(self, job_id: str, task_name: str, indexes: Sequence[int]) -> dict[int, tuple[str, str]]:
        """Previews of stdout and stderr by index, decoded."""
        found: dict[int, tuple[str, str]] = {}
        for start in range(0, len(indexes), PREVIEWS):
            portion = self._previews(job_id, task_name, list(indexes[start : start + PREVIEWS]))
            found |= {
                index: (decode_preview(entry.stdout_log), decode_preview(entry.stderr_log))
                for index, entry in portion.items()
            }
        return found

    def _previews(self, job_id: str, task_name: str, indexes: list[int]) -> dict[int, TaskInstanceLog]:
        request = DescribeTaskLogs(job_id=job_id, task_name=task_name, task_instance_indexes=indexes)
        answer = self._api.call(request)
        return {entry.task_instance_index: entry for entry in answer.task_instance_log_set or ()}

    def _text(
        self,
        stream: str,
        location: LogLocation | None,
        preview: TaskInstanceLog | None,
        size: int,
        within: TimeLimit,
    ) -> str:
        full = self._from_cos(stream, location, size, within)
        if full is not None:
            return full
        return decode_preview(getattr(preview, f"{stream}_log", None))

    def _from_cos(self, stream: str, location: LogLocation | None, size: int, within: TimeLimit) -> str | None:
        """Text from COS, or ``None`` where it is not, or not yet, to be had."""
        path = redirected(stream, location)
        if self._cos is None or not path:
            return None
        late = within.up
        try:
            place = CosLocation.parse(path)
            data, whole = within.run(partial(self._cos.tail, place.bucket, place.key, size))
        except ValueError:
            return None  # cfs:// and nfs:// can't be read from here
        except TCBatchError as error:
            # The preview will do. That the time is up is told once.
            log.log(
                logging.DEBUG if late else logging.INFO,
                "%s can't be read, showing the preview instead: %s",
                path,
                error,
            )
            return None
        # As many lines as a wait on a worker shows at once: each is a record of Airflow's log.
        start = cut_at(data, ALONE.line_burst, len(data))
        data, whole = data[start:], whole and not start
        text = data.decode("utf-8", "replace")
        return text if whole else f"[... earlier output is in {place}]\n{text}"
