"""What an operator and its job have to do with each other until the job has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.operators._base.operator import TCBatchOperator, flag
from airflow_provider_tcbatch.policies.job.outcome import judge

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
    from airflow_provider_tcbatch.execution.ownership.state_store import Records
    from airflow_provider_tcbatch.models.actions import DescribeJobResult

__all__ = ["OwnsJob"]

#: Seconds to wait for the end of a job that was terminated because its task fails.
_END_SECONDS = 120.0


class OwnsJob(TCBatchOperator):
    """Base of operators with a job of their own: they keep a record of it, and see to it that nothing of it stays.

    An operator hands its arguments to :meth:`own` when it is made. They are no ``__init__`` of this class, because
    Airflow merges the DAG's defaults anew for each ``__init__`` on the way to its own.
    """

    durable: bool
    cancel_on_kill: bool
    cancel_on_failure: bool

    # Of a run; while a DAG is parsed they are not set.
    _kill_switch: KillSwitch | None = None
    _killed: bool = False
    _kept: Records | None = None

    def own(self, *, durable: bool, cancel_on_kill: bool, cancel_on_failure: bool) -> None:
        """Keep what concerns the job as a whole.

        :param durable: ``False`` to keep nothing about the job between tries.
        :param cancel_on_kill: terminate the job when the task is killed.
        :param cancel_on_failure: terminate the job when the task fails although the job still runs.
        """
        self.keep(
            durable=flag("durable", durable, self.task_id),
            cancel_on_kill=flag("cancel_on_kill", cancel_on_kill, self.task_id),
            cancel_on_failure=flag("cancel_on_failure", cancel_on_failure, self.task_id),
        )

    def records(self, context: Context) -> Records:
        """Where this task's record is kept."""
        from airflow_provider_tcbatch.execution.ownership.state_store import records_for

        if self._kept is None:
            self._kept = records_for(context, durable=self.durable)
        return self._kept

    def handed_over(self, context: Context) -> dict[str, Any] | None:
        """The record for the process that goes on with this try, where it is not kept and says something."""
        records = self.records(context)
        record = None if records.durable else records.load()
        return record.to_json() if record is not None and (record.token or record.job_id) else None

    def take_over(self, context: Context, record: Mapping[str, Any] | None) -> None:
        """Go on with a record that another process of this try has handed over."""
        from airflow_provider_tcbatch.policies.ownership.record import Record

        if record is not None and not self.records(context).durable:
            self.records(context).save(Record.from_json(record))

    def to_end(self, context: Context) -> list[str]:
        """What a user who puts an end to the task now ends with it: the job that its record names, if there is one."""
        if not self.cancel_on_kill:
            return []
        record = self.records(context).load()
        return [] if record is None or record.job_id is None or record.done else [record.job_id]

    def mark_done(self, context: Context) -> None:
        records = self.records(context)
        record = records.load()
        if record is not None and not record.done:
            records.save(replace(record, done=True))

    def is_retried(self, context: Context) -> bool:
        """Whether another try will come and can go on with the job."""
        ti = context["ti"]
        return self.records(context).durable and ti.try_number <= (ti.max_tries or 0)

    def abandon(self, context: Context) -> None:
        """End the job of an earlier try, if there is one: this try can't go on with it, and none will come after it."""
        record = self.records(context).load()
        if record is None or record.job_id is None or record.done:
            return
        words = self.end_job(context, record.job_id, "abandoned")[1]
        self.log.warning("Job %s of an earlier try: %s", record.job_id, words)

    # -- its end -------------------------------------------------------------------------------------

    def end_job(self, context: Context, job_id: str, reason: str) -> tuple[DescribeJobResult | None, str]:
        """End the job and wait for its end; the job as it is then, and words for the error."""

        from airflow_provider_tcbatch.policies.ownership.record import Ending

        if not self.cancel_on_failure:
            return None, "it goes on (cancel_on_failure=False)"
        records = self.records(context)
        record = records.load()
        if record is not None and record.job_id == job_id:
            records.save(replace(record, ending=Ending(reason, time.time())))
        try:
            view = self.hook.end_job(job_id, patience=_END_SECONDS)
        except TCBatchError as error:
            return None, f"it could not be terminated: {error}"
        if view is not None and not judge(view.job_state).is_final:
            return view, f"its termination was asked for, but it is still {view.job_state}"
        return view, "it was terminated"

    def ask_for_end(self, context: Context, job_id: str, reason: str) -> str:
        """Ask for the end of a job that can't be looked at; words for what is known then.

        Reading and ending may be out of order apart.
        """
        from airflow_provider_tcbatch.policies.ownership.record import Ending

        if not self.cancel_on_failure:
            return "it may still be running (cancel_on_failure=False)"
        records = self.records(context)
        record = records.load()
        if record is not None and record.job_id == job_id:
            records.save(replace(record, ending=Ending(reason, time.time())))
        try:
            self.hook.terminate_job(job_id)
        except TCBatchError as error:
            return (
                f"its end could not be asked for either ({error}), so it may still be running: end what no task waits "
                "for with `airflow tcbatch orphans --end`"
            )
        return "its termination was asked for, and whether it has ended is not known"

    def arm(self, context: Context, job_id: str) -> None:
        """From now on a killed worker can end the job. Client and keys are there: none are made while it dies."""
        if not self.cancel_on_kill:
            return
        from airflow_provider_tcbatch.execution.airflow_context import owner_of
        from airflow_provider_tcbatch.execution.ownership.kill_switch import KillSwitch
        from airflow_provider_tcbatch.models import job_writing  # noqa: F401 - as are the types

        ti = context["ti"]
        records = self.records(context)
        self._kill_switch = KillSwitch(self.hook.apart(), job_id, owner_of(context), str(ti.id), records)
        if self._killed:
            # It was killed while the job was on its way: some of its five seconds are left.
            self._kill_switch.pull()
            self.check_alive()

    def check_alive(self) -> None:
        """Do not begin anything new once the task has been killed.

        :raises TCBatchError: if it has.
        """
        if self._killed and self.cancel_on_kill:
            raise TCBatchError(f"Task {self.task_id!r} was killed")

    def on_kill(self) -> None:
        """Terminate the job if nobody else needs it, in the few seconds that Airflow gives."""
        self._killed = True
        if self._kill_switch is not None:
            self._kill_switch.pull()
