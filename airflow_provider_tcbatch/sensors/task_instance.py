"""Waiting for instances of a task, whoever submitted their job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_tcbatch.exceptions import InvalidRequest, JobFailed
from airflow_provider_tcbatch.execution.job.instance_failure import why_instances_failed
from airflow_provider_tcbatch.operators._base.jobs_waiting import several
from airflow_provider_tcbatch.operators._base.object_argument import known_later
from airflow_provider_tcbatch.policies.arguments import selection
from airflow_provider_tcbatch.policies.job.quorum import Quorum, QuorumVerdict
from airflow_provider_tcbatch.policies.job.targets import states_of
from airflow_provider_tcbatch.sensors._base.sensor import SensesJobs
from airflow_provider_tcbatch.triggers.states import TCBatchQuorumTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.xcom_arg import XComArg

__all__ = ["TCBatchTaskInstanceSensor"]


class TCBatchTaskInstanceSensor(SensesJobs):
    """Wait until enough instances of a task have come to a state: "95 % SUCCEED", "any RUNNING". It only observes.

    It fails as soon as so many instances can't come to it any more that the others are too few. A state that an
    instance leaves by itself counts also where it is further already: one that has SUCCEEDed has been RUNNING.

    Return value: how many instances ``have`` come to it, ``never`` can any more, are ``needed``, are there in
    ``total``.

    :param job_id: the job. (templated)
    :param task_name: its task. (templated)
    :param indexes: which of its instances, counted from 0: one index, a list, a ``range``, text such as ``"0-9, 12"``
        (9 included), or ``all``. (templated)
    :param states: one or more of STARTING, RUNNING, SUCCEED, FAILED, FAILED_INTERRUPTED; one is enough for an instance.
    :param quorum: how many of these instances: ``all``, ``any``, a number of them from 1, or a share such as 0.95 or
        ``"95 %"``. (templated)
    :param tencentcloud_conn_id: id of a connection of type ``tencentcloud``. (templated)
    :param region: region; default is the connection's. (templated)
    :param deferrable: wait in the triggerer, without a worker, whatever ``mode`` says; default is Airflow's
        ``[operators] default_deferrable``.
    :param start_from_trigger: begin in the triggerer, too, without a worker; not for mapped tasks and outputs of other
        tasks.
    :param end_from_trigger: let the trigger end the task where it succeeds, or is skipped by ``soft_fail``.
    :param poke_interval: seconds between two looks; deferred, the longest time between them.
    :param timeout: seconds after which it gives up, as with every sensor; so are ``mode`` and ``soft_fail``.
    :raises InvalidRequest: if states, indexes or quorum are not given as above, when the DAG is parsed.
    :raises NotFound: if there is no such job or task.
    :raises JobFailed: if the quorum can't be reached any more, saying why instances failed. There is no retry, and with
        ``soft_fail`` the Airflow task is skipped.
    """

    trigger_class = TCBatchQuorumTrigger
    template_fields: Sequence[str] = ("job_id", "task_name", "indexes", "quorum", "tencentcloud_conn_id", "region")

    def __init__(
        self,
        *,
        job_id: str | XComArg,
        task_name: str | XComArg,
        indexes: int | str | Sequence[int] | XComArg = "all",
        states: str | Sequence[str] = ("SUCCEED",),
        quorum: str | int | float | XComArg = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.task_name = task_name
        self.indexes = list(indexes) if isinstance(indexes, range) else indexes
        self.states = states
        self.quorum = quorum
        try:
            self._wanted = states_of("states", states)
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None
        if not self._wanted:
            raise InvalidRequest(f"Task {self.task_id!r}: states is empty; write one state or more")
        if not known_later(quorum):
            self._quorum()
        later = isinstance(self.indexes, (list, tuple)) and any(known_later(item) for item in self.indexes)
        if isinstance(self.indexes, (list, tuple)) and later:
            several("indexes", [item for item in self.indexes if not known_later(item)], int, self.task_id)
        elif not known_later(self.indexes):
            self._selection()
        self.prepare_start()

    def see(self, context: Context) -> bool:
        """Look once."""
        from airflow_provider_tcbatch.waits.blocking import run_here
        from airflow_provider_tcbatch.waits.job_parts import QuorumWait, counts_to_json, look_once

        job_id, task_name = self.text("job_id"), self.text("task_name")
        indexes = self._selection()
        self.show_link(context, job_id)
        if self._found is None:
            self.find_job(job_id)  # which may just have been submitted
        chosen = None if indexes is None else frozenset(indexes)
        wait = QuorumWait(job_id, task_name, frozenset(self._wanted), self._quorum(), chosen)
        counts = run_here(look_once(self.hook.settings, wait))
        self._seen = f"{counts}. Console: {self.hook.settings.job_url(job_id)}"
        self.log.info("%s: %s", self.words(), counts)
        if counts.verdict is QuorumVerdict.HOPELESS:
            reasons, codes = why_instances_failed(self.hook, job_id, task_name, chosen)
            said = f"{self.words()} can't be reached any more: {counts}"
            raise JobFailed("\n".join([said, *reasons]), job_id=job_id, exit_codes=codes)
        self._found = counts_to_json(counts)
        return counts.verdict is QuorumVerdict.REACHED

    def told(self, context: Context, event: Mapping[str, Any]) -> dict[str, int]:
        """The numbers of instances."""
        self.show_link(context, self.text("job_id"))
        return dict(event["counts"])

    def trigger_arguments(self) -> dict[str, Any]:
        """What the trigger waits for."""
        return {
            "job_id": self.job_id,
            "task_name": self.task_name,
            "indexes": self.indexes,
            "states": self._wanted,
            "quorum": self.quorum,
        }

    def words(self) -> str:
        """What is waited for."""
        states = " or ".join(self._wanted)
        chosen = "" if self._selection() is None else f" of instances {self.indexes}"
        return f"{self.quorum} {states}{chosen} of task {self.task_name!r} of job {self.job_id}"

    def subject(self) -> str:
        """The job."""
        return str(self.job_id)

    def _quorum(self) -> Quorum:
        try:
            return Quorum.parse(self.quorum)
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None

    def _selection(self) -> list[int] | None:
        """The indexes; ``None`` for all."""
        try:
            return selection(self.indexes)
        except ValueError as error:
            raise InvalidRequest(f"Task {self.task_id!r}: {error}") from None
