"""Which Airflow this is, and what it is set to."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from airflow_provider_tcbatch.policies.backoff import LONGEST

__all__ = ["API_PATIENCE", "EXPLAIN_TIMEOUT", "api_patience", "deployment_id", "explain_timeout", "seconds_of"]

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

    A value that is no number from 0 on is told in the log, and the default is taken, see :func:`seconds_of`.
    """
    return seconds_of("tcbatch", "api_patience", API_PATIENCE)


def explain_timeout() -> float:
    """For how many seconds at most to read what a job printed, and other things that only explain how it ended.

    A value that is no number from 0 on is told in the log, and the default is taken, see :func:`seconds_of`.
    """
    return seconds_of("tcbatch", "explain_timeout", EXPLAIN_TIMEOUT)


def seconds_of(section: str, option: str, default: float, tell: Callable[..., Any] = log.warning) -> float:
    """An option of Airflow's configuration that is a number of seconds.

    A value that is none, or below 0, is told, and the default is taken: where these are read a task is being deferred,
    say, or the API is away, and that is no time to fail for a misspelt option. One of more than a hundred years
    (``inf``, say) is as many.

    :param default: where it is not set.
    :param tell: takes what a log shows: a format and its arguments.
    """
    from airflow.configuration import conf

    text = conf.get(section, option, fallback="") or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        words = "[%s] %s of Airflow's configuration is %r; write seconds from 0 on, or leave it out. Taking %g"
        tell(words, section, option, text, default)
        return default
    return min(seconds, LONGEST)
