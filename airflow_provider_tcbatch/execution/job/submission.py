"""One generation of a task, one job.

It carries out what :mod:`~airflow_provider_tcbatch.policies.job.submission` decides.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_tcbatch import policies
from airflow_provider_tcbatch.exceptions import (
    ApiError,
    InfrastructureError,
    InvalidRequest,
    JobError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    ResourceBusy,
    Throttled,
)
from airflow_provider_tcbatch.execution.job.evaluation import judge_job
from airflow_provider_tcbatch.execution.job.lookup import find_job
from airflow_provider_tcbatch.execution.job.repair import run_again
from airflow_provider_tcbatch.hooks.batch import UNKNOWN_SECONDS, has_machines
from airflow_provider_tcbatch.models.job import Job
from airflow_provider_tcbatch.models.wire import to_wire_form
from airflow_provider_tcbatch.policies.job.notifications import FINAL_JOB_EVENTS
from airflow_provider_tcbatch.policies.job.outcome import SuccessPolicy, judge
from airflow_provider_tcbatch.policies.job.submission import (
    TOKEN_WINDOW,
    Decision,
    JobNow,
    OnRetry,
    Step,
    decide,
    token_patience,
)
from airflow_provider_tcbatch.policies.outage import can_not_be_asked
from airflow_provider_tcbatch.policies.ownership.marks import OWNER_TAG, Mark, Owner, marked
from airflow_provider_tcbatch.policies.ownership.record import Ending, Record, Repair, ThisTry

if TYPE_CHECKING:
    from airflow_provider_tcbatch.execution.ownership.state_store import Records
    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult, SubmitJob

__all__ = ["JobSpec", "Settled", "Submission"]

log = logging.getLogger(__name__)

#: Seconds to wait for a job that is ending.
ENDING_SECONDS = 300.0

#: A look at a job that fails for a passing reason is repeated for so many seconds.
LOOK_SECONDS = 30.0


@dataclass(frozen=True)
class JobSpec:
    """What is to be submitted, without what depends on the generation.

    :param job: the job, rendered and checked.
    :param owner: the task instance that it belongs to.
    :param mark: where the job says so.
    :param events: events that it publishes to the connection's topic.
    """

    job: Job
    owner: Owner
    mark: Mark = Mark.TAG
    zone: str | None = None
    placement: Mapping[str, Any] | None = None
    events: Sequence[str] = FINAL_JOB_EVENTS

    def request(self, hook: TCBatchHook, token: str, variables: Mapping[str, str]) -> SubmitJob:
        """The exact request.

        :param token: ClientToken.
        :param variables: environment variables for every instance.
        """
        # A job has at most ten tags.
        full = self.mark is Mark.TAG and len(self.job.tags or ()) >= 10
        mark = Mark.NAME if full else self.mark
        wire = marked(self.job.to_wire(), self.owner, token, mark=mark, variables=variables)
        return hook.submission(wire, zone=self.zone, placement=self.placement, client_token=token, events=self.events)


class Settled(NamedTuple):
    """What a try has come to.

    :param job_id: the job of this generation.
    :param record: what is kept about it.
    :param done: the task's work is done already.
    :param waiting_since: unix seconds from which its limits count.
    :param fresh: whether this try submitted it just now.
    """

    job_id: str
    record: Record
    done: bool = False
    fresh: bool = False

    @property
    def waiting_since(self) -> float | None:
        """Unix seconds from which the job's limits count: its submission, or its last repair."""
        return self.record.repairs[-1].requested_at if self.record.repairs else self.record.submitted_at


class Submission:
    """A try that sees to its job: submits it, or finds it, or ends it and submits another.

    :param hook: for the calls.
    :param records: where the record is kept.
    :param this: the try.
    :param make: makes what is to be submitted; called only when it is needed: a task template that the job comes from
        may be gone, which is no matter to a job that is there already.
    :param variables: environment variables for the instances, as this try would set them.
    :param policy: what counts as success.
    :param on_retry: what to do about a failed job.
    :param end_superseded: whether to end the job of an earlier generation.
    :param attempts: how often this try has been refused by a quota.
    :param patience: for how many seconds to send a job again, in its turn, while the service refuses it for its rate;
        default is that of the client.
    :param on_job: called with the id of this generation's job as soon as it is known and this try owns it.
    :param check: called before a job is made; raises if the task has been killed meanwhile.
    :param preflight: called before a new submission is recorded; raises if it would be in vain.
    """

    def __init__(
        self,
        hook: TCBatchHook,
        records: Records,
        this: ThisTry,
        make: Callable[[], JobSpec],
        variables: Mapping[str, str],
        *,
        policy: SuccessPolicy | None = None,
        on_retry: OnRetry = OnRetry.RESUBMIT,
        end_superseded: bool = True,
        attempts: int = 0,
        patience: float | None = None,
        on_job: Callable[[str], None] = lambda job_id: None,
        check: Callable[[], None] = lambda: None,
        preflight: Callable[[JobSpec], None] = lambda spec: None,
    ) -> None:
        self._hook = hook
        self._records = records
        self._this = this
        self._make = make
        self._made: JobSpec | None = None
        self._variables = dict(variables)
        self._policy = policy or SuccessPolicy()
        self._on_retry = on_retry
        self._end_superseded = end_superseded
        self._attempts = attempts
        self._patience = patience
        self._on_job = on_job
        self._check = check
        self._preflight = preflight

    @property
    def _spec(self) -> JobSpec:
        """What is to be submitted."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def settle(self) -> Settled:
        """Come to the one job of this generation.

        :raises QuotaExceeded: if the account's quota does not allow it now.
        :raises JobError: if a job that is ending does not end in time.
        """
        record = self._records.load()
        if record is not None:
            # Whatever comes next: from here on, a try that has been replaced by this one can't write any more, and
            # if this one has been replaced itself, the store says so now.
            record = self._save(record.claimed_by(self._this))
            if record.job_id is not None and not record.done:
                # Before it is looked at: while the API is away that takes long, and the task may be killed meanwhile.
                self._on_job(record.job_id)
        return self._decide(record)

    def _decide(self, record: Record | None) -> Settled:
        while True:
            view = self._look(record)
            decision = decide(
                record,
                self._this,
                self._now(record, view),
                now=time.time(),
                on_retry=self._on_retry,
                end_superseded=self._end_superseded,
            )
            if decision.step is not Step.AWAIT_END:
                return self._carry_out(decision, record, view)
            assert record is not None
            assert record.job_id is not None
            log.info("Job %s of an earlier try is ending; waiting for its end first", record.job_id)
            self._end(record, record.job_id, "ending", strict=True)

    def _save(self, record: Record) -> Record:
        self._records.save(record)
        return record

    # -- looking -------------------------------------------------------------------------------------

    def _look(self, record: Record | None) -> DescribeJobResult | None:
        """The job that the record names, as it is now."""
        if record is None or record.job_id is None or record.done:
            return None
        until = time.monotonic() + LOOK_SECONDS
        told = False
        known_since = record.submitted_at or 0.0
        while True:
            try:
                return self._hook.describe_job(record.job_id)
            except NotFound:
                # Just after its submission a job may be unknown for a moment.
                if time.time() - known_since > UNKNOWN_SECONDS or time.monotonic() >= until:
                    return None
            except ApiError as error:
                if not error.retryable or time.monotonic() >= until:
                    raise
                if not told:
                    log.warning("Looking at job %s failed, trying again: %s", record.job_id, error)
                told = True
            time.sleep(1.0)

    def _now(self, record: Record | None, view: DescribeJobResult | None) -> JobNow | None:
        if record is None or record.job_id is None or record.done:
            return None
        if view is None:
            return JobNow(None)
        outcome = judge_job(self._hook, view, self._policy)
        return JobNow(
            outcome.verdict,
            terminating=bool(view.next_action),
            must_be_ended=outcome.early or has_machines(view),
        )

    # -- carrying out --------------------------------------------------------------------------------

    def _carry_out(self, decision: Decision, record: Record | None, view: DescribeJobResult | None) -> Settled:
        if record is not None and view is not None and decision.report:
            self._report(view, record)
        if record is not None and decision.supersede:
            self._supersede(decision, record)
        if record is not None and record.job_id is not None and decision.terminate:
            self._end(record, record.job_id, "failed", strict=False)
        if record is not None and decision.step is Step.DONE:
            log.info("The work of this task is done: job %s", record.job_id)
            return Settled(record.job_id or "", record, done=True)
        if record is not None and decision.step is Step.ATTACH:
            assert record.job_id is not None
            self._on_job(record.job_id)
            log.info("Going on with job %s, which an earlier try submitted", record.job_id)
            return Settled(record.job_id, record)
        if record is not None and decision.step is Step.REPAIR:
            own = record.repair_by(self._this)
            # What was accepted is gone on with, whatever has been edited since.
            if (own is not None and own.accepted) or self._unchanged(record):
                return self._repair(record)
            log.info("The job has changed since it was submitted: submitting it anew instead of repairing it")
            return self._submit()
        if record is not None and decision.step is Step.RESEND:
            return self._resend(record)
        if record is not None and decision.step is Step.FIND:
            return self._find_or_submit(record)
        return self._submit()

    def _report(self, view: DescribeJobResult, record: Record) -> None:
        """Sum up a failure that no try has shown, or that only the log of an earlier try shows."""
        from airflow_provider_tcbatch.execution.job.failure import Explanation

        explanation = Explanation(self._hook)
        outputs = explanation.failed(view)
        act = policies.job.failure_report.ended_for(record.ending.reason if record.ending is not None else None)
        report = self._hook.explain_failure(view, outputs, act=act)
        log.warning("The job of an earlier try failed. %s%s", report, explanation.note())

    def _supersede(self, decision: Decision, record: Record) -> None:
        """End the job of the generation before, which nobody waits for any more."""
        job_id = record.job_id
        if job_id is None and decision.resolve is not None:
            job_id = self._find(record)
            if job_id is None and decision.resolve is Step.RESEND:
                # The try before this one may only be asleep, about to send its request: if its token is used up now,
                # what it gets is the job that is ended here. (There may be none yet; then this makes one for a moment.)
                job_id = self._send_again(record)
        if job_id is None:
            log.info("The try before this one has left no job")
            return
        log.info("The task was cleared: ending its job %s, which still runs", job_id)
        self._end(record, job_id, "superseded", strict=False)

    def _end(self, record: Record, job_id: str, reason: str, *, strict: bool) -> None:
        """End a job; what can't be ended in time is told, or, if ``strict``, an error."""
        if record.ending is None or record.job_id is None:
            self._save(replace(record, job_id=job_id, ending=Ending(reason, time.time())))
        try:
            view = self._hook.end_job(job_id, patience=ENDING_SECONDS)
        except ApiError as error:
            if strict or can_not_be_asked(error):
                raise  # while the API is away nothing can be submitted either
            log.warning("Job %s could not be ended, it may still be running: %s", job_id, error)
            return
        if view is None:
            log.info("Job %s does not exist any more", job_id)
            return
        if judge(view.job_state).is_final:
            from airflow_provider_tcbatch.execution.job.failure import counts_in_words

            log.info("Job %s has ended: %s. %s", job_id, view.job_state, counts_in_words(view))
            return
        text = f"Job {job_id} is still {view.job_state}, {ENDING_SECONDS:.0f} s after its end was asked for"
        if strict:
            raise JobError(
                f"{text}; another try will look again. See {self._hook.settings.job_url(job_id)}", job_id=job_id
            )
        log.warning("%s. Going on without waiting for it", text)

    # -- submitting ----------------------------------------------------------------------------------

    def _submit(self) -> Settled:
        self._preflight(self._spec)
        return self._submit_now()

    def _submit_now(self) -> Settled:
        token = self._new_token()
        request = self._spec.request(self._hook, token, self._variables)
        record = Record(
            owner=self._this,
            token=token,
            token_sent_at=time.time(),
            context=self._variables,
            spec_digest=_digest(request),
            job_name=request.job.job_name or "",
        )
        return self._send(self._save(record), request)

    def _new_token(self) -> str:
        if self._records.durable:
            return uuid.uuid4().hex
        # Nothing is remembered: the same try comes to the same token, whatever happens to an answer.
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self._this.ti_id}/{self._attempts}/{self._spec.mark.value}").hex

    def _send(self, record: Record, request: SubmitJob) -> Settled:
        # It may have to wait long for its turn: neither the job nor its token is older than the last request, or, where
        # an answer was lost, than the first one of these.
        sent_at = record.token_sent_at

        def before_send() -> None:
            nonlocal sent_at
            self._check()
            sent_at = time.time()

        self._check()
        try:
            patience = self._token_patience()
            job_id = self._hook.api.call(request, patience=patience, before_send=before_send).job_id
        except (QuotaExceeded, Throttled, InfrastructureError) as error:
            # If an answer was lost, the request may have made a job all the same, which fills the quota itself: then
            # the token stays. Else there is nothing to look for: that takes requests of a rate that is lower still.
            self._save(record.after(error, sent_at) if error.maybe_done else replace(record, token=""))
            raise
        except (InvalidRequest, NotFound, PermissionDenied, ResourceBusy) as error:
            # Likewise it may be the token that was refused, or keys that ran out in between.
            record = record.after(error, sent_at)
            found = self._find(record, patient=error.maybe_done)
            if found is not None:
                log.info("The request was refused the second time (%s), the first one had made job %s", error, found)
                return Settled(found, self._known(record, found), fresh=True)
            if error.maybe_done:
                self._save(record)  # the next try looks again: what was made may show late
                raise
            self._save(replace(record, token=""))
            if not isinstance(error, PermissionDenied) or not _tagged(request):
                raise
            log.warning("Submitting a job with a tag was refused, putting its owner into its name instead: %s", error)
            self._made = replace(self._spec, mark=Mark.NAME)
            return self._submit_now()
        log.info("Submitted job %s (%s)", job_id, request.job.job_name)
        return Settled(job_id, self._known(replace(record, token_sent_at=sent_at), job_id), fresh=True)

    def _token_patience(self, age: float = 0.0) -> float:
        patience = self._hook.api.settings.patience if self._patience is None else self._patience
        return token_patience(patience, age)

    def _known(self, record: Record, job_id: str) -> Record:
        record = self._save(replace(record, job_id=job_id, submitted_at=record.token_sent_at))
        self._on_job(job_id)
        return record

    def _resend(self, record: Record) -> Settled:
        """Send the same request under the same token: the same job comes back, whether or not it was made before.

        How long the service remembers a token is not documented, so the job is looked for first.
        """
        job_id = self._find(record, patient=False) or self._send_again(record)
        if job_id is None:
            return self._find_or_submit(record)
        log.info("Job %s is the one which an earlier try submitted and did not live to hear of", job_id)
        return self._decide(self._known(record, job_id))  # it may be ending, or over

    def _send_again(self, record: Record) -> str | None:
        """Id of the job that the record's token brings; ``None`` if the token can't be used any more."""
        try:
            request = self._request_of(record)
        except (InvalidRequest, NotFound, PermissionDenied) as error:
            # A task template that it came from was deleted, say.
            log.info("The job can't be made as it was sent, looking for it instead: %s", error)
            return None
        if _digest(request) != record.spec_digest:
            # Another body under the same token: what the service would do is not documented.
            log.info("The job has changed since it was first sent: looking for it instead")
            return None
        age = time.time() - record.token_sent_at
        if age >= TOKEN_WINDOW:
            log.info("The job's token has become old meanwhile: looking for the job instead")
            return None
        try:
            patience = self._token_patience(age)
            return self._hook.api.call(request, patience=patience).job_id
        except (QuotaExceeded, Throttled):
            found = self._find(record, patient=False)
            if found is None:
                raise
            return found
        except (InvalidRequest, ResourceBusy, NotFound, PermissionDenied) as error:
            # Maybe the token is refused (also one that this very call used up, if its answer was lost), maybe the job.
            log.info("Sending the job again was refused, looking for it instead: %s", error)
            return self._find(record, patient=False)

    def _request_of(self, record: Record) -> SubmitJob:
        """The request as it was sent under the record's token, if the job is still the same."""
        fell_back = self._spec.mark is Mark.TAG and record.job_name.startswith(self._spec.owner.prefix())
        spec = replace(self._spec, mark=Mark.NAME) if fell_back else self._spec
        return spec.request(self._hook, record.token, record.context)

    def _unchanged(self, record: Record) -> bool:
        try:
            return _digest(self._request_of(record)) == record.spec_digest
        except NotFound as error:
            # Nothing else can be submitted, but what is there can be repaired.
            log.warning("Whether the job has changed since it was submitted can't be told: %s", error)
            return True

    def _find_or_submit(self, record: Record) -> Settled:
        job_id = self._find(record)
        if job_id is None:
            log.info("No job of an earlier try was found")
            return self._submit()
        log.info("Job %s is the one which an earlier try submitted", job_id)
        return self._decide(self._known(record, job_id))

    def _find(self, record: Record, *, patient: bool = True) -> str | None:
        return find_job(self._hook, record, patient=patient)

    # -- repairing -----------------------------------------------------------------------------------

    def _repair(self, record: Record) -> Settled:
        """Let the failed instances of the job run again."""
        assert record.job_id is not None
        before = self._hook.describe_job(record.job_id)
        # A kill that came meanwhile has noted that the job is to end.
        self._check()
        # What was to end, maybe since the record was read, has ended: what runs from here on is not to be taken for it.
        record = self._save(replace(record, ending=None))
        if not judge(before.job_state).is_final:
            # An earlier try has asked for it already, and it has begun since this try looked.
            return Settled(before.job_id, record)
        repair = record.repair_by(self._this)
        if repair is None:
            repair = Repair(time.time(), before.end_time, self._this.ti_id)
            record = self._save(replace(record, repairs=(*record.repairs, repair)))
        elif before.end_time != repair.end_time_before:
            # This try has asked for it, and then could not ask for a while: once is what a try does.
            log.info("The failed instances of job %s have run again, and it has failed again", record.job_id)
            self._on_job(before.job_id)
            return Settled(before.job_id, record)
        self._check()
        self._on_job(before.job_id)
        log.info("Running the failed instances of job %s again", record.job_id)
        accepted = [before.job_id] if repair.accepted else []
        run_again(self._hook, [before], accepted=accepted, on_accepted=self._repair_accepted)
        return Settled(before.job_id, record)

    def _repair_accepted(self, job_ids: Sequence[str]) -> None:
        """The service has taken the repair: should the API be away from now on, it is not to be asked for again."""
        record = self._records.load()  # a kill may have written into it
        if record is not None and record.repairs:
            accepted = replace(record.repairs[-1], accepted=True)
            self._save(replace(record, repairs=(*record.repairs[:-1], accepted)))


def _tagged(request: SubmitJob) -> bool:
    return any(tag.key == OWNER_TAG for tag in request.job.tags or ())


def _digest(request: SubmitJob) -> str:
    """Digest of what is sent, without secrets."""
    body = [to_wire_form(Job, request.job).data, request.placement.to_wire()]
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
