"""Ending single instances of a task."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, NotFound
from airflow_provider_tcbatch.execution.errors import permanent_errors
from airflow_provider_tcbatch.operators._base.job_argument import known_later
from airflow_provider_tcbatch.operators._base.jobs_waiting import Waits, several
from airflow_provider_tcbatch.operators._base.operator import AirflowTaskTimeout
from airflow_provider_tcbatch.triggers.jobs import TCBatchTaskInstancesTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = ["TCBatchTerminateTaskInstanceOperator"]

#: Seconds to go on where an instance is not known: its job may just have been submitted.
_UNKNOWN_SECONDS = 10.0


class TCBatchTerminateTaskInstanceOperator(Waits):
    """End instances of a task, which become FAILED, and wait until they have ended; the rest of the job goes on.

    What has ended is left alone, so it does no harm to do it twice. The machine of a running instance is destroyed, or
    rebooted in a compute environment, which takes its time. The service takes few of these requests a second (2, of
    which a process uses the connection's ``api_share``): to end all of a job use :class:`.TCBatchTerminateJobOperator`.

    XCom: the indexes (return value).

    :param job_id: the job. (templated)
    :param task_name: its task. (templated)
    :param indexes: which instances of the task: one index, counted from 0, or several. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param wait_for_completion: ``False`` to succeed as soon as the requests are accepted, whatever ``deferrable`` says.
    :param deferrable: wait in the triggerer, without a worker; default is Airflow's ``[operators]
        default_deferrable``.
    :param poll_interval: longest time in seconds between two looks at the instances.
    :param timeout: seconds from the beginning of the task after which they have to be over; ``None`` for ever.
    :raises NotFound: if the job has no such instance.
    :raises JobTimeout: if one did not end within ``timeout``;
        :class:`~airflow_provider_tcbatch.exceptions.ExecutionTimeout` within ``execution_timeout``.
    """

    template_fields: Sequence[str] = ("job_id", "task_name", "indexes", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        job_id: str | XComArg,
        task_name: str | XComArg,
        indexes: int | str | Sequence[int] | XComArg,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = indexes
        if isinstance(indexes, (list, tuple)):
            several("indexes", [item for item in indexes if not known_later(item)], int, self.task_id)
        elif not known_later(indexes):
            several("indexes", indexes, int, self.task_id)

    def execute(self, context: Context) -> list[int]:
        """Ask for the ends, and wait for them."""
        since = self.began
        with permanent_errors():
            job_id, task_name = self._text("job_id"), self._text("task_name")
            indexes: list[int] = several("indexes", self.indexes, int, self.task_id)
            if not indexes:
                self.log.warning("indexes is empty: there is nothing to do")
                return []
            self.show_link(context, job_id)
            # The service may run an instance again that has ended: after an outage that one is not meant.
            done: list[int] = self.asked.setdefault("done", [])

            def ask() -> None:
                for index in indexes:
                    if index not in done:
                        self._terminate(job_id, task_name, index)
                        done.append(index)

            self.begin_patiently(context, ask)
            self.log.info("Terminating instances %s of task %r of job %s", indexes, task_name, job_id)
            if not self.wait_for_completion:
                return indexes
            carried = {"job_id": job_id, "task_name": task_name, "indexes": indexes, "since": since, "errors": 0}
            return self._wait(context, carried)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> list[int]:
        """Go on after the triggerer has waited.

        :param event: what :class:`~airflow_provider_tcbatch.triggers.jobs.TCBatchTaskInstancesTrigger` yielded.
        """
        if event["status"] == "again":
            began_again: list[int] = self.begin_again(context, event)
            return began_again
        with permanent_errors():
            return self._go_on(context, event)

    def _text(self, name: str) -> str:
        value = getattr(self, name)
        if not isinstance(value, str) or value.strip() in ("", "None"):
            raise InvalidRequest(f"Task {self.task_id!r}: {name} is {value!r}; write one name")
        return value

    def _terminate(self, job_id: str, task_name: str, index: int) -> None:
        until = time.monotonic() + _UNKNOWN_SECONDS
        while True:
            try:
                self.hook.terminate_task_instance(job_id, task_name, index)
                return
            except NotFound as error:
                if time.monotonic() >= until:
                    raise NotFound(
                        f"Job {job_id} has no instance {index} of a task {task_name!r}: {error}", code=error.code
                    ) from error
            time.sleep(1.0)

    def _wait(self, context: Context, carried: Mapping[str, Any]) -> list[int]:
        deadlines = self.deadlines(context, carried["since"])
        if self.deferrable:
            trigger = TCBatchTaskInstancesTrigger(
                job_id=carried["job_id"],
                task_name=carried["task_name"],
                indexes=carried["indexes"],
                tencentcloud_conn_id=self.tencentcloud_conn_id,
                region=self.region,
                poll_interval=self.poll_interval,
                deadlines=deadlines.to_json(),
                carried=carried,
            )
            self.defer(trigger=trigger, method_name="execute_complete")
        from airflow_provider_tcbatch.policies.deadlines import Limit
        from airflow_provider_tcbatch.waits.blocking import run_here
        from airflow_provider_tcbatch.waits.jobs import InstancesWait, JobsEnd

        wait = InstancesWait(
            carried["job_id"],
            carried["task_name"],
            set(carried["indexes"]),
            poll_interval=self.poll_interval,
            deadlines=self.limits_here(deadlines),
            log_line=self.log.info,
        )
        try:
            end = run_here(wait.run(self.hook.settings))
        except AirflowTaskTimeout:
            end = JobsEnd("timeout", limit=Limit.EXECUTION_TIMEOUT)
        return self._go_on(context, {**end.to_event(), **carried})

    def _go_on(self, context: Context, event: Mapping[str, Any]) -> list[int]:
        from airflow_provider_tcbatch.policies.deadlines import Limit

        self.tell_outage(event.get("outage"))
        if event["status"] == "ended":
            return list(event["indexes"])
        if event["status"] == "timeout":
            waiting = {f"instance {index} of {event['task_name']!r}": state for index, state in event["states"].items()}
            self.give_up(Limit(event["limit"]), waiting or {event["job_id"]: "unknown"}, event["job_id"])
        # Whether it can be looked at at all: if not, this says why.
        self.patiently(lambda: self.hook.describe_job(event["job_id"]), event)
        carried = {name: event[name] for name in ("job_id", "task_name", "indexes", "since")}
        return self._wait(context, {**carried, "errors": self.errors_after(event, event["job_id"])})
