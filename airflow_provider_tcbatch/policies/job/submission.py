"""Submit, attach, repair or done: what a try of a task does about its Batch job.

One *generation* of an Airflow task owns one job, whatever dies. A record of what was sent is kept where it survives
the try (Airflow's task state store); this module decides from the record, the try and the job as it is now. It is
pure: it calls nothing, has no clock, and knows no Airflow.

The record is written *before* anything is sent: a worker that dies between the call and the answer leaves a token
behind, and the same token with the same body brings the same job.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from airflow_provider_tcbatch.policies.job.on_retry import OnRetry
from airflow_provider_tcbatch.policies.job.outcome import Verdict
from airflow_provider_tcbatch.policies.ownership.record import Record, ThisTry

__all__ = ["Decision", "JobNow", "OnRetry", "Step", "decide", "token_patience"]


#: Seconds for which a ClientToken is trusted to bring the same job again. The service's own window is not
#: documented; past this one the job is looked for by its name instead. However long a task puts up with an API that is
#: away (``[tcbatch] api_patience``), no request waits longer than this for its turn to be sent again under one.
TOKEN_WINDOW = 3600.0


class JobNow(NamedTuple):
    """The job as one DescribeJob shows it.

    :param verdict: judged by ``outcome.py``; ``None`` if the job does not exist any more.
    :param terminating: whether the service is already ending it (``NextAction``).
    :param must_be_ended: judged, but it still has machines: FAILED_INTERRUPTED keeps them until it is terminated, and a
        job that can't succeed any more (``fail_fast``) still runs.
    """

    verdict: Verdict | None
    terminating: bool = False
    must_be_ended: bool = False


class Step(Enum):
    """What to do next."""

    #: Submit under a new token.
    SUBMIT = "submit"
    #: Send the same token and body again, and attach to what comes back.
    RESEND = "resend"
    #: The token is too old to be trusted: look for the job by name; attach, or else submit.
    FIND = "find"
    #: Wait for the job that is there.
    ATTACH = "attach"
    #: The job is ending: wait for its end (bounded), then decide again as after a failure.
    AWAIT_END = "await end"
    #: Nothing to do: the work is done.
    DONE = "done"
    #: Run the failed instances of the job again.
    REPAIR = "repair"


class Decision(NamedTuple):
    """What a try does.

    :param step: what to do.
    :param supersede: first end the job of the generation before: the one named by the record, or the one that its
        token (``resolve``) brings.
    :param resolve: how to find that job where the record has no id: RESEND or FIND.
    :param terminate: first end the record's job, which keeps its machines.
    :param report: the old job's failure is to be summed up in the log: nobody else will.
    """

    step: Step
    supersede: bool = False
    resolve: Step | None = None
    terminate: bool = False
    report: bool = False


def decide(
    record: Record | None,
    this: ThisTry,
    job: JobNow | None,
    *,
    now: float,
    on_retry: OnRetry = OnRetry.RESUBMIT,
    token_window: float = TOKEN_WINDOW,
    end_superseded: bool = True,
) -> Decision:
    """Decide what a try does about its job.

    =========================== ================================ ===================================
    record and job              same generation (retry, crash)   new generation (cleared)
    =========================== ================================ ===================================
    no record, nothing sent     submit                           submit
    done                        done                             submit
    token, no job id            resend (old token: find)         resolve the old token, end, submit
    active                      attach                           end, submit
    active and ending           await its end, then as failure   the same, then submit
    success                     done                             submit
    failure                     report; resubmit or repair       submit
    gone                        submit                           submit
    =========================== ================================ ===================================

    :param record: what the store holds.
    :param this: the try that asks.
    :param job: the job that the record names; ``None`` if it names none.
    :param now: unix seconds.
    :param on_retry: what to do about a failed job.
    :param token_window: seconds for which a token is trusted.
    :param end_superseded: ``False`` to leave the job of an earlier generation running.
    """
    if record is None:
        return Decision(Step.SUBMIT)
    same = record.owner.max_tries == this.max_tries
    if record.done:
        return Decision(Step.DONE if same else Step.SUBMIT)
    if record.job_id is None and not record.token:
        return Decision(Step.SUBMIT)
    if record.job_id is None:
        find = Step.RESEND if now - record.token_sent_at <= token_window else Step.FIND
        if same:
            return Decision(find)
        return Decision(Step.SUBMIT, supersede=end_superseded, resolve=find if end_superseded else None)
    if job is None:
        raise ValueError("the record names a job: it must be looked at before deciding")
    if job.verdict is None:
        return Decision(Step.SUBMIT)
    if job.verdict is Verdict.ACTIVE:
        return _active(record, job, same=same, end_superseded=end_superseded)
    if not same:
        return Decision(Step.SUBMIT, terminate=job.must_be_ended and end_superseded)
    if job.verdict in (Verdict.SUCCESS, Verdict.SKIP):
        return Decision(Step.DONE)
    # A repair needs the job itself; one that keeps its machines has to be ended, and RetryJobs takes it from there.
    step = Step.REPAIR if on_retry is OnRetry.REPAIR else Step.SUBMIT
    # What this very try has asked for, before the API was away, it goes on with.
    own = record.repair_by(this)
    # Instances of a repair that was accepted may run while the job still reads FAILED.
    begun = own is not None and own.accepted and step is Step.REPAIR
    return Decision(step, terminate=job.must_be_ended and not begun, report=own is None)


def _active(record: Record, job: JobNow, *, same: bool, end_superseded: bool) -> Decision:
    if record.ending is not None or job.terminating:
        # Terminating is asynchronous: to attach to a dying job would burn this try.
        return Decision(Step.AWAIT_END) if same or end_superseded else Decision(Step.SUBMIT)
    if same:
        return Decision(Step.ATTACH)
    return Decision(Step.SUBMIT, supersede=end_superseded)


def token_patience(patience: float, age: float = 0.0) -> float:
    """For how many seconds a request may be sent again under its token while it is refused for its rate.

    An earlier answer may have been lost: once the service has forgotten the token, the same request makes another job.
    Who still has patience then looks for the job, and decides anew.

    :param patience: seconds that the task would wait.
    :param age: seconds since the token was sent.
    """
    return max(0.0, min(patience, TOKEN_WINDOW - age))
