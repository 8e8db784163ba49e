"""Judging a job with all that has to be asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch.policies.job.outcome import Outcome, SuccessPolicy, Verdict, counts_of, judge

if TYPE_CHECKING:
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["judge_job"]


def judge_job(hook: TCBatchHook, view: DescribeJobResult, policy: SuccessPolicy) -> Outcome:
    """Judge a job as it was read; the exit codes of its failed instances are asked for only where they matter.

    :param view: the job as DescribeJob showed it.
    :raises ApiError: if they matter and can't be read.
    """
    outcome = judge(view.job_state, counts_of(view), policy)
    if outcome.verdict is not Verdict.FAILURE or outcome.early or not policy.skip_on_exit_code:
        return outcome
    codes = [instance.exit_code for instance in hook.failed_instances(view)]
    return judge(view.job_state, counts_of(view), policy, codes)
