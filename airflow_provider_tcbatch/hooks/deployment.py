"""Which Airflow this is."""

from __future__ import annotations

__all__ = ["deployment_id"]


def deployment_id() -> str:
    """What tells this Airflow from others that use the same Tencent Cloud account: ``[tcbatch] deployment_id``."""
    from airflow.configuration import conf

    return conf.get("tcbatch", "deployment_id", fallback="") or "airflow"
