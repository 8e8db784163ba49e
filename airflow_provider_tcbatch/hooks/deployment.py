"""Which Airflow this is, and what it is set to."""

from __future__ import annotations

import logging
import math

__all__ = ["API_PATIENCE", "api_patience", "deployment_id"]

log = logging.getLogger(__name__)

#: ``[tcbatch] api_patience`` where it is not set, in seconds.
API_PATIENCE = 3600.0


def deployment_id() -> str:
    """What tells this Airflow from others that use the same Tencent Cloud account: ``[tcbatch] deployment_id``."""
    from airflow.configuration import conf

    return conf.get("tcbatch", "deployment_id", fallback="") or "airflow"


def api_patience() -> float:
    """For how many seconds to go on while the API can't be asked, where no limit of the task's own decides.

    A value that is no number from 0 on is told in the log, and the default is taken: an outage is no time to fail for
    a misspelt option.
    """
    from airflow.configuration import conf

    text = conf.get("tcbatch", "api_patience", fallback="") or str(API_PATIENCE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        log.warning("[tcbatch] api_patience is %r; write seconds from 0 on. Taking %.0f", text, API_PATIENCE)
        return API_PATIENCE
    return seconds
