"""Decisions, made from what is known: no I/O.

A module that is used as an attribute (``policies.env_nodes.env_now``) is imported when that first happens, as with
:mod:`airflow_provider_tcbatch.models`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_tcbatch.policies import advice as advice
    from airflow_provider_tcbatch.policies import env_emptying as env_emptying
    from airflow_provider_tcbatch.policies import env_nodes as env_nodes
    from airflow_provider_tcbatch.policies import env_report as env_report
    from airflow_provider_tcbatch.policies import instance_types as instance_types
    from airflow_provider_tcbatch.policies import report as report

_MODULES = ("advice", "env_emptying", "env_nodes", "env_report", "instance_types", "report")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
