"""Decisions about compute environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch._lazy import submodules

if TYPE_CHECKING:
    from airflow_provider_tcbatch.policies.compute_env import failure_report as failure_report
    from airflow_provider_tcbatch.policies.compute_env import instance_types as instance_types
    from airflow_provider_tcbatch.policies.compute_env import nodes as nodes
    from airflow_provider_tcbatch.policies.compute_env import scale_down as scale_down

__getattr__ = submodules(__name__, "failure_report", "instance_types", "nodes", "scale_down")
