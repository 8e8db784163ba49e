"""Where a task's record of its job is kept: Airflow's task state store, which survives retries and clears."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_tcbatch.exceptions import TCBatchError
from airflow_provider_tcbatch.execution.airflow_calls import airflow_call
from airflow_provider_tcbatch.policies.ownership.record import Record

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ENV_KEY", "KEY", "Records", "StoredRecords", "VolatileRecords", "records_for", "warn_of_loss"]

log = logging.getLogger(__name__)

#: Key of the record in the store. (One per task instance: the store is scoped to dag, run, task and map index.)
KEY = "tcbatch_job"

#: Key of the record of a compute environment: its ``job_id`` and ``job_name`` are those of the environment.
ENV_KEY = "tcbatch_env"

_LOSSES = {
    KEY: (
        "Nothing is kept about this task's job between tries ({why}): a try that dies after SubmitJob was sent leaves "
        "its job running and the next one submits another; clearing the task while it is deferred leaves its job "
        "running, too."
    ),
    ENV_KEY: (
        "Nothing is kept about this task's compute environment between tries ({why}): an environment that a try made "
        "and did not live to name is looked for by its name and its owner's mark."
    ),
}


class Records(Protocol):
    """Keeps one record."""

    #: Whether what is saved is there for the next try.
    durable: bool

    def load(self) -> Record | None:
        """What was saved last."""

    def save(self, record: Record) -> None:
        """Save a record; an error means that this try must not go on."""


class StoredRecords:
    """Keeps the record in Airflow's task state store.

    :param accessor: ``context["task_state_store"]``.
    :param key: key of the record in the store.
    """

    durable = True

    def __init__(self, accessor: Any, key: str = KEY) -> None:
        self._accessor = accessor
        self._key = key

    def load(self) -> Record | None:
        """What was saved last.

        :raises TCBatchError: if it can't be read.
        """
        with airflow_call():
            data = self._accessor.get(self._key)
        if data is None:
            return None
        try:
            return Record.from_json(data)
        except ValueError as error:
            raise TCBatchError(
                f"What this task has stored about its job can't be read: {error}. Its job, if it has one, is named in "
                f"XCom job_id and in the logs of earlier tries. Use the provider's newer version, or delete "
                f"{self._key!r} from the task's state store after making sure that no job is left"
            ) from error

    def save(self, record: Record) -> None:
        """Save a record.

        This is the fence: the store refuses a try that has been replaced by another one, and its error ends this try
        before it can do any harm.
        """
        from airflow.sdk.execution_time.context import NEVER_EXPIRE

        # Retries and deferrals may last longer than the default retention of a value. Deleting the run deletes it.
        with airflow_call():
            self._accessor.set(self._key, record.to_json(), retention=NEVER_EXPIRE)


class VolatileRecords:
    """Keeps the record for this process only.

    :param why: why it is not kept for the next try.
    """

    durable = False

    def __init__(self, why: str = "") -> None:
        self.why = why
        self._record: Record | None = None

    def load(self) -> Record | None:
        """What this process saved last."""
        return self._record

    def save(self, record: Record) -> None:
        """Save a record."""
        self._record = record


def records_for(context: Context, *, durable: bool, key: str = KEY) -> Records:
    """The records of a try.

    :param durable: ``False`` if the user does not want them to last.
    :param key: key of the record in the store.
    """
    accessor = context.get("task_state_store")
    if durable and accessor is not None:
        return StoredRecords(accessor, key)
    return VolatileRecords("durable=False" if not durable else "the task state store needs Airflow 3.3")


def warn_of_loss(records: Records, key: str = KEY) -> None:
    """Say once for each try what is lost where records do not last."""
    if isinstance(records, VolatileRecords):
        log.warning(_LOSSES[key].format(why=records.why))
