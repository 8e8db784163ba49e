"""Errors that no retry can mend, as Airflow is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_tcbatch.exceptions import InvalidRequest, PermissionDenied

if TYPE_CHECKING:
    from airflow.sdk.exceptions import AirflowFailException
else:
    try:
        from airflow.sdk.exceptions import AirflowFailException
    except ImportError:  # Airflow 3.1
        from airflow.exceptions import AirflowFailException

__all__ = ["PermanentInvalidRequest", "PermanentPermissionDenied", "default_deferrable", "permanent_errors"]


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
        raise permanent from None


def default_deferrable() -> bool:
    """Airflow's ``[operators] default_deferrable``.

    :raises InvalidRequest: if it is no flag.
    """
    from airflow.configuration import conf

    try:
        return conf.getboolean("operators", "default_deferrable", fallback=False)
    except Exception as error:
        given = conf.get("operators", "default_deferrable", fallback="")
        raise InvalidRequest(
            f"[operators] default_deferrable of Airflow's configuration is {given!r}; write True or False"
        ) from error
