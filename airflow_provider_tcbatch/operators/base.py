"""What all operators of this provider have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_tcbatch.exceptions import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

    from airflow_provider_tcbatch.hooks.batch import TCBatchHook
else:
    try:
        from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowFailException, AirflowSkipException, AirflowTaskTimeout

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "PermanentInvalidRequest",
    "PermanentPermissionDenied",
    "TCBatchOperator",
    "default_deferrable",
    "duration",
    "permanent_errors",
]


class PermanentInvalidRequest(InvalidRequest, AirflowFailException):
    """An :class:`InvalidRequest` that fails its task without a retry: the same request would be refused again."""


class PermanentPermissionDenied(PermissionDenied, AirflowFailException):
    """A :class:`PermissionDenied` that fails its task without a retry."""


_PERMANENT = {InvalidRequest: PermanentInvalidRequest, PermissionDenied: PermanentPermissionDenied}


@contextlib.contextmanager
def permanent_errors() -> Iterator[None]:
    """Turn errors that no retry can mend into ones that Airflow does not retry."""
    try:
        yield
    except (InvalidRequest, PermissionDenied) as error:
        kind = _PERMANENT.get(type(error))
        if kind is None:
            raise
        permanent = kind(str(error))
        permanent.__dict__.update(error.__dict__)
        raise permanent from error


def default_deferrable() -> bool:
    """Airflow's ``[operators] default_deferrable``."""
    from airflow.configuration import conf

    return conf.getboolean("operators", "default_deferrable", fallback=False)


def duration(name: str, value: float | timedelta, task_id: str) -> float:
    """An argument in seconds.

    :param name: the argument, for the message.
    :param value: seconds, or a timedelta.
    :param task_id: the task, for the message.
    :raises InvalidRequest: if it is not above 0.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < float("inf"):
        raise InvalidRequest(f"Task {task_id!r}: {name} is {value!r}; write seconds above 0, or a timedelta")
    return float(seconds)


class TCBatchOperator(BaseOperator):
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
