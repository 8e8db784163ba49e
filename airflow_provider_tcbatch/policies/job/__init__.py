"""Decisions about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch._lazy import submodules

if TYPE_CHECKING:
    from airflow_provider_tcbatch.policies.job import failure_report as failure_report

__getattr__ = submodules(__name__, "failure_report")
