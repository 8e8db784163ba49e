"""Decisions, made from what is known: no I/O.

A module that is used as an attribute (``policies.compute_env.nodes.env_now``) is imported when that first happens, as
with :mod:`airflow_provider_tcbatch.models`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch._lazy import submodules

if TYPE_CHECKING:
    from airflow_provider_tcbatch.policies import compute_env as compute_env
    from airflow_provider_tcbatch.policies import failure_hints as failure_hints
    from airflow_provider_tcbatch.policies import job as job

__getattr__ = submodules(__name__, "compute_env", "failure_hints", "job")
