"""Why instances of a task failed, for the error of a sensor whose job may still run."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import TCBatchError

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook

__all__ = ["why_instances_failed"]

log = logging.getLogger(__name__)

#: Most instances that an error explains, and most that are looked through for them.
_EXPLAINED, _LISTED = 5, 1000


def why_instances_failed(
    hook: TCBatchHook, job_id: str, task_name: str, indexes: Collection[int] | None = None
) -> tuple[list[str], list[int | None]]:
    """Lines about the first failed instances, and their exit codes; fewer, or none, where they can't be read.

    :param indexes: the instances that matter; ``None`` for all.
    """
    from airflow_provider_tcbatch.execution.job.failure import Explanation
    from airflow_provider_tcbatch.hooks.batch import failed_instance
    from airflow_provider_tcbatch.models.states import FAILED_STATES

    explanation = Explanation(hook)
    lines: list[str] = []
    codes: list[int | None] = []
    try:
        limit = _EXPLAINED if indexes is None else _LISTED
        views = hook.log_reader.instances(job_id, task_name, FAILED_STATES, limit, explanation.within)
        matter = [view for view in views if indexes is None or view.task_instance_index in indexes][:_EXPLAINED]
        for output in explanation.outputs(job_id, [(task_name, view) for view in matter]):
            lines += failed_instance(output).lines()
            codes.append(output.view.exit_code)
    except TCBatchError as error:
        log.warning("Failed instances of task %r of job %s can't be read: %s", task_name, job_id, error)
    note = explanation.note().strip()
    return [*lines, *([note] if note else []), f"Console: {hook.settings.job_url(job_id)}"], codes
