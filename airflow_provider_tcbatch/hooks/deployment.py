"""Which Airflow this is, and what it is set to."""

from __future__ import annotations

import logging
import math

__all__ = ["API_PATIENCE", "EXPLAIN_TIMEOUT", "api_patience", "deployment_id", "explain_timeout"]

log = logging.getLogger(__name__)

#: ``[tcbatch] api_patience`` where it is not set, in seconds.
API_PATIENCE = 3600.0

#: ``[tcbatch] explain_timeout`` where it is not set, in seconds.
EXPLAIN_TIMEOUT = 30.0


def deployment_id() -> str:
    """What tells this Airflow from others that use the same Tencent Cloud account: ``[tcbatch] deployment_id``."""
    from airflow.configuration import conf

    return conf.get("tcbatch", "deployment_id", fallback="") or "airflow"


def api_patience() -> float:
    """For how many seconds to go on while the API can't be asked, where no limit of the task's own decides.

    A value that is no number from 0 on is told in the log, and the default is taken: an outage is no time to fail for
    a misspelt option.
    """
    return _seconds("api_patience", API_PATIENCE)


def explain_timeout() -> float:
    """For how many seconds at most to read what a job printed, and other things that only explain how it ended.

    A value that is no number from 0 on is told in the log, and the default is taken.
    """
    return _seconds("explain_timeout", EXPLAIN_TIMEOUT)


def _seconds(option: str, default: float) -> float:
    from airflow.configuration import conf

    text = conf.get("tcbatch", option, fallback="") or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        log.warning("[tcbatch] %s is %r; write seconds from 0 on. Taking %.0f", option, text, default)
        return default
    return seconds
