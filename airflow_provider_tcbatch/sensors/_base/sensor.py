"""What all sensors of this provider have in common: the hook, deferring, and how a wait ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_tcbatch.exceptions import (
    ApiError,
    ApiUnavailable,
    InvalidRequest,
    JobError,
    JobFailed,
    JobMachinesFailed,
    NotFound,
    TCBatchError,
)
from airflow_provider_tcbatch.execution.airflow_calls import push
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.links import TCBatchJobLink
from airflow_provider_tcbatch.operators._base.operator import AirflowFailException, AirflowSkipException, Patient
from airflow_provider_tcbatch.policies.arguments import text_of
from airflow_provider_tcbatch.sensors._base.start_from_trigger import SensorTrigger
from airflow_provider_tcbatch.triggers._base.sensor_trigger import WAIT_KEY, wait_of

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context
    from airflow.sdk.exceptions import AirflowSensorTimeout

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
    from airflow_provider_tcbatch.models.actions import DescribeJobResult
else:
    try:
        from airflow.sdk.exceptions import AirflowSensorTimeout
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowSensorTimeout

__all__ = [
    "AirflowSensorTimeout",
    "PermanentJobError",
    "PermanentJobFailed",
    "PermanentJobMachinesFailed",
    "SensesJobs",
    "TCBatchSensor",
]

#: How often a deferred wait goes on after an error.
_WAIT_ERRORS = 3


class PermanentJobError(JobError, AirflowFailException):
    """A :class:`JobError` that fails its sensor without a retry: what has ended is the same at the next look.

    Airflow skips the task instead, with ``soft_fail``, and does not look again, with ``silent_fail``.
    """


class PermanentJobFailed(JobFailed, AirflowFailException):
    """A :class:`JobFailed` that fails its sensor without a retry."""


class PermanentJobMachinesFailed(JobMachinesFailed, AirflowFailException):
    """A :class:`JobMachinesFailed` that fails its sensor without a retry."""


_PERMANENT: dict[type[JobError], type[JobError]] = {
    JobError: PermanentJobError,
    JobFailed: PermanentJobFailed,
    JobMachinesFailed: PermanentJobMachinesFailed,
}


class TCBatchSensor(Patient, SensorTrigger):
    """Base of the sensors. A sensor says how to look, and which trigger waits in its place.

    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    """

    #: What the last look has found, if it has come true: the return value.
    _found: Any = None
    #: What the last look has seen, if it has not, in words.
    _seen: str = ""
    #: Unix seconds since when the API can't be asked.
    _away_since: float | None = None

    def __init__(
        self,
        *,
        tencentcloud_conn_id: str = "tencentcloud_default",
        region: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.tencentcloud_conn_id = tencentcloud_conn_id
        self.region = region

    # -- what a sensor says ----------------------------------------------------------------------------

    def look(self, context: Context, event: Mapping[str, Any] | None = None) -> bool:
        """Look once; whether it has come true. What it found goes to ``_found``.

        :param event: what the trigger yielded, if one has waited.
        """
        raise NotImplementedError

    def told(self, context: Context, event: Mapping[str, Any]) -> Any:
        """The trigger has seen it come true: the return value."""
        raise NotImplementedError

    def words(self) -> str:
        """What is waited for, as the beginning of a sentence that goes on with "did not come true"."""
        raise NotImplementedError

    def broken(self, message: str) -> TCBatchError:
        """The error that says that waiting fails again and again."""
        raise NotImplementedError

    # -- a run -----------------------------------------------------------------------------------------

    @cached_property
    def hook(self) -> TCBatchHook:
        """Hook for the sensor's connection and region."""
        from airflow_provider_tcbatch.hooks.batch import TCBatchHook

        return TCBatchHook(self.tencentcloud_conn_id, self.region)

    def poke(self, context: Context) -> bool:
        """Look once. Where the API can't be asked it has not come true yet: ``timeout`` says when to give up."""
        with permanent_errors():
            return bool(self._look_if_possible(context))

    def _look_if_possible(self, context: Context, event: Mapping[str, Any] | None = None) -> bool | None:
        """:meth:`look`; ``None`` while the API can't be asked, which the log says once."""
        from airflow_provider_tcbatch.policies.outage import Outage, can_not_be_asked

        try:
            reached = self.look(context, event)
        except ApiError as error:
            if not can_not_be_asked(error):
                raise
            if self._away_since is None and not self.deferrable:  # else its trigger says so, if that lasts
                self._away_since = time.time()
                self.log.warning("%s", Outage(self._away_since, str(error)))
            return None
        self._say_it_is_back()
        return reached

    def _say_it_is_back(self) -> None:
        if self._away_since is not None:
            self.tell_outage({"since": self._away_since, "until": time.time()})

    def tell_outage(self, outage: Mapping[str, Any] | None) -> None:
        super().tell_outage(outage)
        if outage and outage.get("until") is not None:
            self._away_since = None

    def execute(self, context: Context) -> Any:
        """Look; if it has not come true, go on in the triggerer, or as every sensor does."""
        if not self.deferrable:
            super().execute(context)
            return self._found
        if self.poke(context):
            return self._found
        return self._defer({"errors": 0, "give_up_at": time.time() + self.timeout})

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on after the triggerer has waited.

        :param event: what the sensor's trigger yielded. Where Airflow has started the trigger, nothing of the sensor
            has run on a worker before.
        """
        outage = event.get("outage") or {}
        self.tell_outage(outage)
        if outage and outage["until"] is None:
            self._away_since = outage["since"]  # the log says so already
        with permanent_errors():
            if event["status"] == "reached":
                push(context, WAIT_KEY, wait_of(event))
                return self.told(context, event)
            reached = self._look_patiently(context, event)
        if reached:
            return self._found
        if reached is None or event["status"] == "timeout":
            unknown = "; the API of Batch can't be asked at the moment" if reached is None else ""
            seen = f". Last seen: {self._seen}" if self._seen else ""
            raise AirflowSensorTimeout(f"{self.words()} did not come true within {self.timeout:.0f} s{unknown}{seen}")
        if event["status"] == "away":
            # That the API can't be asked is no trouble of the wait, which goes on as long as `timeout` allows.
            return self._defer({"errors": event["errors"], "give_up_at": event["give_up_at"]})
        errors = int(event["errors"]) + 1
        if errors > _WAIT_ERRORS:
            message = event.get("message") or f"the triggerer said {event['status']!r}, which the service does not show"
            raise self.broken(f"failed {errors} times, the last time with: {message}")
        self.log.warning("Waiting ended with %s; going on. It was: %s", event["status"], event.get("message"))
        return self._defer({"errors": errors, "give_up_at": event["give_up_at"]})

    def _look_patiently(self, context: Context, event: Mapping[str, Any]) -> bool | None:
        """:meth:`look`, after a trigger has ended; ``None`` if the API can't be asked until ``timeout`` is over.

        To wait as before would be no pause: what has ended one trigger may end the next one at once.
        """
        give_up_at = event.get("give_up_at")
        if event["status"] == "timeout" or (give_up_at is not None and time.time() >= give_up_at):
            return self._look_if_possible(context, event)
        if self._away_since is not None:  # the log need not be told again
            event = {"outage": {"since": self._away_since, "until": None}, **event}
        try:
            reached = self.patiently(lambda: self.look(context, event), event, limit=give_up_at)
        except ApiUnavailable:
            if give_up_at is None:
                raise
            return None
        self._say_it_is_back()
        return reached

    def _defer(self, carried: Mapping[str, Any]) -> NoReturn:
        from airflow_provider_tcbatch.policies.deadlines import Deadlines

        deadlines = Deadlines(timeout=carried["give_up_at"]).to_json()
        self.defer(trigger=self.make_trigger(deadlines, carried), method_name="execute_complete")


class SensesJobs(TCBatchSensor):
    """Base of sensors for jobs and their parts: when these end otherwise, so does the sensor, without a retry."""

    operator_extra_links: tuple[BaseOperatorLink, ...] = (TCBatchJobLink(),)

    def see(self, context: Context) -> bool:
        """Look once; whether it has come true.

        :raises JobError: if it can't come true any more.
        """
        raise NotImplementedError

    def subject(self) -> str:
        """Id of the job, or its name, for errors."""
        raise NotImplementedError

    def look(self, context: Context, event: Mapping[str, Any] | None = None) -> bool:
        try:
            return self.see(context)
        except JobError as error:
            kind = _PERMANENT.get(type(error))
            if kind is None:
                raise
            permanent = kind(str(error), job_id=error.job_id)
            permanent.__dict__.update(error.__dict__)
            raise permanent from None

    def execute(self, context: Context) -> Any:
        """Look; if it has not come true, go on in the triggerer, or as every sensor does."""
        try:
            return super().execute(context)
        except AirflowFailException as error:
            # Airflow itself heeds these after each poke, and after a deferral, but not before the first one.
            if self.soft_fail or self.never_fail:
                choice = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"Skipping due to {choice} is set to True.") from error
            raise

    def broken(self, message: str) -> TCBatchError:
        return JobError(f"Waiting for {self.words()} {message}", job_id=self.subject())

    def show_link(self, context: Context, job_id: str) -> None:
        """Let the task's button lead to the job."""
        push(context, TCBatchJobLink.key, self.hook.settings.job_url(job_id))

    def find_job(self, job_id: str) -> DescribeJobResult:
        """A job, which may just have been submitted, as DescribeJob shows it.

        :raises NotFound: if there is none.
        """
        from airflow_provider_tcbatch.execution.job.termination import UNKNOWN_SECONDS

        until = time.monotonic() + UNKNOWN_SECONDS
        while True:
            try:
                return self.hook.describe_job(job_id)
            except NotFound:
                if time.monotonic() >= until:
                    raise
            time.sleep(1.0)

    def text(self, name: str) -> str:
        """An argument that names something."""
        try:
            return text_of(name, getattr(self, name))
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None
