"""What all operators of this provider have in common."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.bases.operator import BaseOperatorMeta

from airflow_provider_tcbatch.exceptions import ApiError, ApiUnavailable, InvalidRequest, TCBatchError, Throttled
from airflow_provider_tcbatch.execution.errors import default_deferrable
from airflow_provider_tcbatch.operators._base.worker import OnWorker
from airflow_provider_tcbatch.policies.backoff import LONGEST

if TYPE_CHECKING:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.policies.outage import Outage
else:
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "Patient",
    "TCBatchOperator",
    "TCBatchOperatorMeta",
    "deferral",
    "duration",
    "flag",
]

T = TypeVar("T")

#: Seconds that a try which has reached its ``execution_timeout`` takes at most to learn what has become of a job.
_LAST_SECONDS = 120.0

_PACKAGE = __name__.split(".")[0]


def duration(name: str, value: float | timedelta, task_id: str) -> float:
    """An argument in seconds.

    :param name: the argument, for the message.
    :param value: seconds, or a timedelta.
    :param task_id: the task, for the message.
    :raises InvalidRequest: if it is not above 0, or longer than a hundred years.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST:
        most = f" of at most {LONGEST:.0f} s" if isinstance(seconds, (int, float)) and seconds > LONGEST else ""
        raise InvalidRequest(f"Task {task_id!r}: {name} is {value!r}; write seconds above 0, or a timedelta{most}")
    return float(seconds)


def flag(name: str, value: object, task_id: str) -> bool:
    """An argument that is ``True`` or ``False``.

    :param name: the argument, for the message.
    :param value: it. Text is refused, as it comes from a variable or a file: ``"false"`` is true in Python.
    :param task_id: the task, for the message.
    :raises InvalidRequest: if it is neither.
    """
    if not isinstance(value, bool):
        raise InvalidRequest(f"Task {task_id!r}: {name} is {value!r}; write True or False")
    return value


def deferral(deferrable: bool | None, task_id: str) -> bool:
    """Argument ``deferrable``; ``None`` for Airflow's default.

    :raises InvalidRequest: if it is no flag.
    """
    return default_deferrable() if deferrable is None else flag("deferrable", deferrable, task_id)


class Patient:
    """Mixin of operators and sensors: what a worker asks the API for is asked for again while the API is away.

    That the API can't be asked says nothing about a job. So a step of a run that fails for it is done again: where the
    task is deferrable it gives its worker back meanwhile.
    """

    deferrable: bool = False
    tencentcloud_conn_id: str
    region: str | None
    #: The outage of an event that a step has been done after.
    _past: Mapping[str, Any] | None = None

    def patiently(
        self,
        step: Callable[[], T],
        resume: Mapping[str, Any] | None,
        *,
        limit: float | None = None,
        subject: str = "",
        job_ids: Sequence[str] | Callable[[], Sequence[str]] = (),
        env_id: str | Callable[[], str | None] | None = None,
    ) -> T:
        """Do a step of a run. While the API can't be asked, do it again, deferred in between or with growing pauses.

        A limit that was over before this step does not cut it short: only with an answer it is known what has become of
        what was waited for. A try that has reached its ``execution_timeout`` takes two minutes more at most.

        :param step: what is to be done. It must do no harm to do it twice, as with another try of the task.
        :param resume: the event with which ``execute_complete`` begins with this step again; ``None`` to stay on the
            worker. If it comes from an outage that is not over, that one's beginning counts; so it does where something
            else was answered meanwhile, and this step never was.
        :param limit: unix seconds at which a limit of the task's own is reached: then it, and not ``[tcbatch]
            api_patience``, says when to give up.
        :param subject: what is known of the job, for the error: a sentence.
        :param job_ids: jobs to terminate if the user puts an end to the deferred task; a function, where the step may
            come to one before it fails.
        :param env_id: a compute environment whose nodes are to go then, or likewise a function.
        :raises ApiUnavailable: when it is time to give up. Nothing has been ended for it.
        """
        if resume is not None and resume["status"] == "timeout":
            # Whatever was waited for in an outage: from its limit on there is time to learn what has become of it.
            resume = {"patient_from": time.time(), **resume}
        outage: Outage | None = None
        failures = 0
        while True:
            try:
                result = step()
            except ApiError as error:
                from airflow_provider_tcbatch.policies.outage import can_not_be_asked

                if not can_not_be_asked(error):
                    raise
                failures += 1
                outage = self._endure(error, outage, resume, failures, limit, subject, job_ids, env_id)
            else:
                if outage is not None:
                    self.tell_outage({**outage.to_json(), "until": time.time()})
                self._past = (resume or {}).get("outage")
                return result

    def tell_outage(self, outage: Mapping[str, Any] | None) -> None:
        """Say in the task's log that the API can be asked again, if it was away; once, if that does not help the step.

        :param outage: as the event of a trigger tells it.
        """
        if not outage or outage.get("until") is None or outage.get("rounds", 1) > 1:
            return
        from airflow_provider_tcbatch.policies.outage import Outage

        self.log.info("%s", Outage(outage["since"], "", outage["until"]))  # type: ignore[attr-defined]

    def _endure(
        self,
        error: ApiError,
        outage: Outage | None,
        resume: Mapping[str, Any] | None,
        failures: int,
        limit: float | None,
        subject: str,
        job_ids: Sequence[str] | Callable[[], Sequence[str]],
        env_id: str | Callable[[], str | None] | None,
    ) -> Outage:
        """Wait until the step is to be done again; the outage as it is known then."""
        from airflow_provider_tcbatch.policies.outage import Outage, outage_pause, utc

        before: Mapping[str, Any] = (resume or {}).get("outage") or {}
        if before is self._past and before.get("asked") != error.action:
            before = {}  # another step failed then, and has been done since
        first = outage is None
        if outage is None:
            # An answer to somebody else's question is none to this step's.
            lasts = bool(before) and (before.get("until") is None or "rounds" in before)
            since = (error.since if isinstance(error, Throttled) else None) or time.time()
            outage = Outage(min(before["since"], since) if lasts else since, str(error))
            first = not lasts
        until, why = _until(outage.since, resume or {}, limit)
        if time.time() >= until:
            unavailable = ApiUnavailable(
                f"The API of Batch can't be asked since {utc(outage.since)} ({time.time() - outage.since:.0f} s; "
                f"{why}): {error}. {subject}".rstrip(),
                code=error.code,
                action=error.action,
                request_id=error.request_id,
                retryable=True,
            )
            unavailable.maybe_done = error.maybe_done
            raise unavailable from None
        if first:
            self.log.warning("%s", outage)  # type: ignore[attr-defined]
        if self.deferrable and resume is not None:
            from airflow_provider_tcbatch.triggers.api import TCBatchApiTrigger

            trigger = TCBatchApiTrigger(
                event={name: value for name, value in resume.items() if name != "outage"},
                since=outage.since,
                until=until,
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                action=error.action if isinstance(error, Throttled) else None,
                job_ids=job_ids() if callable(job_ids) else job_ids,
                env_id=env_id() if callable(env_id) else env_id,
                rounds=before.get("rounds", 0) + 1,
                asked=error.action,
            )
            self.defer(trigger=trigger, method_name="execute_complete")  # type: ignore[attr-defined]
        time.sleep(max(0.0, min(outage_pause(failures, random.random()), until - time.time())))
        return outage


def _until(since: float, resume: Mapping[str, Any], limit: float | None) -> tuple[float, str]:
    """Until when to ask again (unix seconds), and why no longer.

    :param since: when the outage began.
    :param resume: where the step belongs to, see :meth:`Patient.patiently`.
    :param limit: when a limit of the task's own is reached.
    """
    from airflow_provider_tcbatch.connection.deployment import api_patience
    from airflow_provider_tcbatch.policies.outage import patient_until

    patient_from = resume.get("patient_from")
    if patient_from is not None and resume.get("limit") == "execution_timeout":
        return patient_from + _LAST_SECONDS, "execution_timeout is over"
    patience = api_patience()
    until = patient_until(max(since, patient_from or 0.0), limit, patience)
    if limit is not None and until == limit:
        return until, "a limit of the task is over"
    return until, f"longer than [tcbatch] api_patience, which is {patience:.0f} s"


class TCBatchOperatorMeta(BaseOperatorMeta):
    """Says which task of which line of a DAG file can't be made."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make the operator.

        :raises TCBatchError: with the task and the place in front of the message.
        """
        try:
            return super().__call__(*args, **kwargs)
        except TCBatchError as error:
            begin = f"Task {kwargs.get('task_id')!r}"
            message = str(error).removeprefix(f"{begin}: ")
            if not message.startswith(f"{begin} ("):
                place = _written_at()
                error.args = (f"{begin}{place and f' ({place})'}: {message}",)
            raise


def _written_at() -> str:
    """File and line that make the operator; empty where Airflow makes it: a mapped one, on a worker."""
    frame = sys._getframe(2)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module.split(".")[0] == "airflow" and module != BaseOperator.__module__:
            return ""
        if module != BaseOperator.__module__ and not module.startswith(f"{_PACKAGE}."):
            return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


class TCBatchOperator(Patient, OnWorker, BaseOperator, metaclass=TCBatchOperatorMeta):
    """Base of the operators.

    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    """

    ui_color = "#e5f0ff"

    def __init__(
        self, *, tencentcloud_conn_id: str = "tencentcloud_default", region: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region

    def keep(self, **attributes: Any) -> None:
        """Set many attributes of an operator that is being made.

        Airflow looks for a converter of its own with every attribute that is set, which takes 2 µs each; there are none
        for ours, and what it sees to afterwards begins when the operator has been made.
        """
        vars(self).update(attributes)

    @cached_property
    def hook(self) -> TCBatchHook:
        """Hook for the operator's connection and region."""
        from airflow_provider_tcbatch.hooks.batch import TCBatchHook

        return TCBatchHook(self.tencentcloud_conn_id, self.region)
