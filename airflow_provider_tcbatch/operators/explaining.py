"""The error that says why jobs failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import JobFailed, JobMachinesFailed, TCBatchError

if TYPE_CHECKING:
    from airflow_provider_tcbatch.client.logs import InstanceOutput
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["failure_of", "readable_outputs"]

log = logging.getLogger(__name__)

#: Most failed jobs that an error explains.
_EXPLAINED = 5


def failure_of(
    hook: TCBatchHook, failed: Sequence[str], outputs_of: Callable[[DescribeJobResult], list[InstanceOutput]]
) -> JobFailed:
    """The error for jobs that ended badly.

    :param failed: ids of the jobs, at least one.
    :param outputs_of: what failed instances of a job printed, as :func:`readable_outputs` returns it.
    :returns: :class:`JobMachinesFailed` if no program of them is to blame, else :class:`JobFailed`.
    """
    reports: list[str] = []
    codes: list[int | None] = []
    machines = True
    for job_id in failed[:_EXPLAINED]:
        view = hook.describe_job(job_id)
        outputs = outputs_of(view)
        reports.append(hook.explain_failure(view, outputs))
        codes += (own := [output.view.exit_code for output in outputs])
        # Where nothing is known of the instances, a program may be to blame.
        machines = machines and bool(own) and not any(own)
    if len(failed) > _EXPLAINED:
        reports.append(f"{len(failed) - _EXPLAINED} more jobs failed: {', '.join(failed[_EXPLAINED:])}")
    kind = JobMachinesFailed if machines else JobFailed
    return kind("\n\n".join(reports), job_id=failed[0], exit_codes=codes)


def readable_outputs(hook: TCBatchHook, view: DescribeJobResult, limit: int) -> list[InstanceOutput]:
    """What failed instances printed; less, or nothing, where it can't be read: the job's end matters more.

    :param view: the job.
    :param limit: most instances.
    """
    outputs: list[InstanceOutput] = []
    try:
        outputs.extend(hook.instance_outputs(view, limit=limit))
    except TCBatchError as error:
        log.warning("Output of job %s can't be read: %s", view.job_id, error)
    return outputs
