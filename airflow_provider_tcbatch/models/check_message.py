"""The message that the check of a chain of events sends through it."""

import json

from airflow_provider_tcbatch.models.bounds import EVENT

__all__ = ["check_message", "check_of"]

_MEMBER = "AirflowProviderTCBatchCheck"


def check_message(check: str) -> str:
    """Body of a test message. It holds no event, so nothing waits for it and no DAG starts by it.

    :param check: what tells it from those of other checks.
    """
    return json.dumps({_MEMBER: check})


def check_of(body: str) -> str | None:
    """Which check a message is from; ``None`` if it is no test message."""
    if _MEMBER not in body:
        return None
    try:
        EVENT.check(body)
        return str(json.loads(body)[_MEMBER])
    except (ValueError, KeyError, TypeError):
        return None
