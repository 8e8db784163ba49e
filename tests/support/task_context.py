"""As much of Airflow's context as an operator sees, for tests that call it directly."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowRescheduleException,
        AirflowSkipException,
        TaskDeferred,
    )
else:
    try:
        from airflow.sdk.exceptions import (
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSkipException,
            TaskDeferred,
        )
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import (
            AirflowFailException,
            AirflowRescheduleException,
            AirflowSkipException,
            TaskDeferred,
        )

__all__ = [
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSkipException",
    "Replaced",
    "Store",
    "Task",
    "TaskDeferred",
    "TaskInstance",
    "instance_in",
]


class Replaced(RuntimeError):
    """The store refuses a task instance that has been replaced."""


class Store:
    """Airflow's task state store for one task: survives tries, lets only the current one write."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {}
        self.current: uuid.UUID | None = None
        self.writes: list[Any] = []
        #: Called before (``<save``) and after (``save>``) every write.
        self.step: Callable[[str], None] = lambda name: None

    def accessor(self, ti_id: uuid.UUID) -> Accessor:
        return Accessor(self, ti_id)


class Accessor:
    """What ``context["task_state_store"]`` is."""

    def __init__(self, store: Store, ti_id: uuid.UUID) -> None:
        self._store = store
        self._ti_id = ti_id

    def get(self, key: str, default: Any = None) -> Any:
        # Airflow hides "no such task instance" behind "no such key".
        if self._ti_id != self._store.current:
            return default
        return copy.deepcopy(self._store.data.get(key, default))

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        self._store.step("<save")
        if self._ti_id != self._store.current:
            raise Replaced("404 task instance not found")
        self._store.data[key] = copy.deepcopy(value)
        self._store.writes.append(copy.deepcopy(value))
        self._store.step("save>")


class TaskInstance:
    """As much of Airflow's as an operator sees."""

    def __init__(self, try_number: int = 1, max_tries: int = 0, task_id: str = "submit") -> None:
        self.id = uuid.uuid4()
        self.dag_id = "a_dag"
        self.run_id = "manual__2026-01-31"
        self.task_id = task_id
        self.map_index: int | None = -1
        self.try_number = try_number
        self.max_tries: int | None = max_tries
        self.start_date = datetime.now(timezone.utc)
        self.xcoms: dict[str, Any] = {}
        #: When a sensor in mode reschedule gave its worker back for the first time.
        self.first_rescheduled: datetime | None = None

    def get_first_reschedule_date(self, context: Any) -> datetime | None:
        return self.first_rescheduled

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value


def instance_in(context: Context) -> TaskInstance:
    """The task instance of a context that was made here, with what Airflow's does not show."""
    ti: object = context["ti"]
    assert isinstance(ti, TaskInstance)
    return ti


class Task:
    """A task over its tries: each ``next_try`` or ``clear`` makes the context of another one.

    :param retries: the operator's ``retries``.
    :param durable: whether Airflow has a task state store.
    """

    def __init__(self, retries: int = 0, *, durable: bool = True) -> None:
        self.store = Store()
        self._durable = durable
        self._retries = retries
        self._try = 0
        self._max_tries = retries

    def next_try(self) -> Context:
        """A retry, or the first try."""
        self._try += 1
        ti = TaskInstance(self._try, self._max_tries)
        self.store.current = ti.id
        run = SimpleNamespace(
            logical_date=datetime(2026, 1, 31, tzinfo=timezone.utc),
            data_interval_start=datetime(2026, 1, 30, tzinfo=timezone.utc),
            data_interval_end=None,
        )
        context: dict[str, Any] = {"ti": ti, "dag_run": run}
        if self._durable:
            context["task_state_store"] = self.store.accessor(ti.id)
        # Airflow's, as far as an operator looks: the values are of types of their own.
        return cast("Context", context)

    def clear(self) -> Context:
        """The user clears the task: it may be tried as often as before."""
        self._max_tries = self._try + self._retries
        return self.next_try()

    @property
    def record(self) -> dict[str, Any]:
        """What is stored about the job."""
        [record] = self.store.data.values()
        return dict(record)
