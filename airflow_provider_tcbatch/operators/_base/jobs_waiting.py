"""Operators that do something to jobs that are there already, and wait for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_tcbatch.exceptions import ApiUnavailable, ExecutionTimeout, InvalidRequest, JobError, JobTimeout
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.links import TCBatchJobLink
from airflow_provider_tcbatch.operators._base.job_argument import known_later
from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout
from airflow_provider_tcbatch.operators._base.waiting import WAIT_ERRORS, CanWait
from airflow_provider_tcbatch.policies.arguments import listed, several_of
from airflow_provider_tcbatch.triggers.jobs import TCBatchJobsTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

    from airflow_provider_tcbatch.execution.job.termination import Views
    from airflow_provider_tcbatch.policies.deadlines import Limit

__all__ = ["Waits", "WaitsForJobs", "several"]


class Waits(CanWait):
    """Base of operators that wait for jobs, or instances of them."""

    operator_extra_links = (TCBatchJobLink(),)

    def show_link(self, context: Context, job_id: str) -> None:
        push(context, TCBatchJobLink.key, self.hook.settings.job_url(job_id))

    def errors_after(self, event: Mapping[str, Any], job_id: str) -> int:
        """How often waiting has failed, after another time.

        :raises JobError: if that is too often.
        """
        if event["status"] == "away":
            return int(event["errors"])  # it can be asked again
        errors = int(event["errors"]) + 1
        if errors > WAIT_ERRORS:
            raise JobError(f"Waiting failed {errors} times, the last time with: {event.get('message')}", job_id=job_id)
        if event["status"] == "error":
            self.log.warning("Waiting failed, but the service answers; going on. It was: %s", event.get("message"))
        return errors

    def give_up(
        self, limit: Limit, waiting: Mapping[str, object], job_id: str, words: str = "", report: str = ""
    ) -> NoReturn:
        """Fail: a limit is reached.

        :param waiting: states of what has not ended, by what it is called.
        :param words: what becomes of it.
        :param report: lines that say how far it is.
        """

        from airflow_provider_tcbatch.policies.deadlines import Limit

        kind, length = (
            (JobTimeout, f"timeout ({self.timeout or 0:.0f} s from the beginning of the task)")
            if limit is Limit.TIMEOUT
            else (ExecutionTimeout, f"execution_timeout ({self.execution_timeout} from the beginning of this try)")
        )
        names = [f"{name} ({state})" for name, state in waiting.items()]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        text = (
            f"{', '.join(names[:5])}{more}: did not end within {length}{words}. See "
            f"{self.hook.settings.job_url(job_id)}"
        )
        raise kind("\n".join(filter(None, (text, report))), job_id=job_id)


class WaitsForJobs(Waits):
    """Base of operators that take ids of jobs.

    :param job_ids: the jobs: one id, several, or the output of other tasks. Nothing is done where it turns out to be
        empty, or to be an XCom that is not there. (templated)
    """

    template_fields: Sequence[str] = ("job_ids", "tencentcloud_conn_id", "region")

    def __init__(self, *, job_ids: str | Sequence[str] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_ids = job_ids
        if not known_later(job_ids):
            several("job_ids", [item for item in listed(job_ids) if not known_later(item)], str, self.task_id)

    # -- what an operator says -------------------------------------------------------------------------

    #: Whether FAILED_INTERRUPTED is an end.
    interrupted_ends: bool = True

    #: Whether the trigger terminates the jobs when the user puts an end to the task.
    cancels: bool = False

    def begin(self, context: Context, job_ids: Sequence[str]) -> Views:
        """Do what is to be done before the wait; the jobs as they are then."""
        raise NotImplementedError

    def finish(self, context: Context, views: Views) -> None:
        """Do what is to be done after the wait, if there was one."""

    def arm(self, context: Context, job_ids: Sequence[str]) -> None:
        """From now on a killed worker can end the jobs, if that is wanted."""

    def abandon(self, job_ids: Sequence[str]) -> str:
        """A limit is reached: words for what becomes of the jobs."""
        return ""

    # -- a run -----------------------------------------------------------------------------------------

    def execute(self, context: Context) -> list[str]:
        """Begin, wait, finish; the ids of the jobs."""
        since = self.began
        with permanent_errors():
            job_ids = several("job_ids", self.job_ids, str, self.task_id)
            if not job_ids:
                self.log.warning("job_ids is empty: there is nothing to do")
                return []
            if len(job_ids) == 1:
                self.show_link(context, job_ids[0])
            # Before they are looked at: while the API is away that takes long, and the task may be killed meanwhile.
            self.arm(context, job_ids)
            views = self.begin_patiently(
                context, lambda: self.begin(context, job_ids), job_ids=job_ids if self.cancels else ()
            )
            return self._go_on(context, views, {"job_ids": job_ids, "since": since, "errors": 0})

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[str]:
        """Go on after the triggerer has waited.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.jobs.TCBatchJobsTrigger` yielded.
        """
        if event["status"] == "again":
            began_again: list[str] = self.begin_again(context, event)
            return began_again
        with permanent_errors():
            self.arm(context, event["job_ids"])
            views, carried = self._look_again(event)
            return self._go_on(context, views, carried)

    def pending(self, views: Views) -> list[str]:
        from airflow_provider_tcbatch.waits.jobs import has_ended

        return [
            job_id
            for job_id, view in views.items()
            if view is not None and not has_ended(str(view.job_state), interrupted=self.interrupted_ends)
        ]

    def _go_on(self, context: Context, views: Views, carried: Mapping[str, Any]) -> list[str]:
        while self.wait_for_completion and (pending := self.pending(views)):
            views, carried = self._look_again(self._wait(context, pending, carried))
        states = {job_id: None if view is None else str(view.job_state) for job_id, view in views.items()}
        push(context, "tcbatch_states", states)
        resume = {**carried, "status": "ended", "limit": None, "message": None, "outage": self._outage}
        self.patiently(lambda: self.finish(context, views), resume)
        return list(views)

    def _wait(self, context: Context, job_ids: Sequence[str], carried: Mapping[str, Any]) -> Mapping[str, Any]:
        deadlines = self.deadlines(context, carried["since"])
        if self.deferrable:
            self.log.info("Waiting for %d jobs: %s", len(job_ids), ", ".join(job_ids))
            trigger = TCBatchJobsTrigger(
                job_ids=job_ids,
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                poll_interval=self.poll_interval,
                deadlines=deadlines.to_json(),
                interrupted=self.interrupted_ends,
                cancel_on_kill=self.cancels,
                carried=carried,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        from airflow_provider_tcbatch.policies.deadlines import Limit
        from airflow_provider_tcbatch.waits.jobs import JobsEnd, JobsWait
        from airflow_provider_tcbatch.waits.sessions import wait_here

        try:
            self.log.info("Waiting for %d jobs: %s", len(job_ids), ", ".join(job_ids))
            wait = JobsWait(
                job_ids,
                poll_interval=self.poll_interval,
                deadlines=self.limits_here(deadlines),
                interrupted=self.interrupted_ends,
                log_line=self.log.info,
            )
            end = wait_here(self.hook.settings, wait)
        except AirflowTaskTimeout:
            end = JobsEnd("timeout", limit=Limit.EXECUTION_TIMEOUT)
        return {**end.to_event(), **carried}

    def _look_again(self, event: Mapping[str, Any]) -> tuple[Views, Mapping[str, Any]]:
        """The wait is over: look at the jobs once, whatever has been heard.

        Airflow's timer for ``execution_timeout`` may strike meanwhile: in an outage that takes long. It strikes once.
        """
        try:
            return self._conclude(event)
        except AirflowTaskTimeout:
            from airflow_provider_tcbatch.policies.deadlines import Limit

            self.log.warning("execution_timeout is over: looking at the jobs once more")
            late = {"status": "timeout", "limit": Limit.EXECUTION_TIMEOUT.value, "patient_from": time.time()}
            return self._conclude({"states": {}, **event, **late})

    def _conclude(self, event: Mapping[str, Any]) -> tuple[Views, Mapping[str, Any]]:
        from airflow_provider_tcbatch.execution.job.failure import Explanation, unfinished_report
        from airflow_provider_tcbatch.execution.job.termination import look
        from airflow_provider_tcbatch.policies.deadlines import Limit

        carried = {name: event[name] for name in ("job_ids", "since", "errors")}
        self._outage = event.get("outage")
        self.tell_outage(self._outage)
        try:
            views = self.patiently(
                lambda: look(self.hook, event["job_ids"]), event, job_ids=event["job_ids"] if self.cancels else ()
            )
        except ApiUnavailable as error:
            if event["status"] != "timeout":
                raise
            words = f"{self.abandon(event['job_ids'])}; they can't be looked at: {error}"
            self.give_up(
                Limit(event["limit"]),
                event["states"] or dict.fromkeys(event["job_ids"], "unknown"),
                event["job_ids"][0],
                words,
            )
        if not self.wait_for_completion or not (pending := self.pending(views)):
            return views, carried  # without a wait, it is what follows that was put off
        if event["status"] == "timeout":
            states = {job_id: view.job_state for job_id in pending if (view := views[job_id]) is not None}
            # Before they are ended: afterwards those that still ran look like those that failed.
            report = unfinished_report(self.hook, pending, Explanation(self.hook))
            self.give_up(Limit(event["limit"]), states, pending[0], self.abandon(pending), report)
        return views, {**carried, "errors": self.errors_after(event, pending[0])}


def several(name: str, given: object, kind: type, task_id: str) -> list[Any]:
    """What an argument names: one thing, or several, each once; also as text that Jinja made of a list.

    :param name: the argument, for the message.
    :param kind: ``str`` or ``int``.
    :param task_id: the task, for the message.
    :raises InvalidRequest: if it is neither.
    """
    try:
        return several_of(name, given, kind)
    except ValueError as error:
        raise InvalidRequest(f"Task {task_id!r}: {error}") from None
