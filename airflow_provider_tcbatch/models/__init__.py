"""Types of the API's objects, requests and answers.

A module that is used as an attribute (``models.env_actions.DeleteComputeEnv``) is imported when that first happens: a
hook has a method for every action, and a task pays for the types of those that it sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_tcbatch._lazy import submodules

if TYPE_CHECKING:
    from airflow_provider_tcbatch.models import actions as actions
    from airflow_provider_tcbatch.models import env_actions as env_actions
    from airflow_provider_tcbatch.models import env_views as env_views
    from airflow_provider_tcbatch.models import job_reading as job_reading
    from airflow_provider_tcbatch.models import job_writing as job_writing
    from airflow_provider_tcbatch.models import machine_actions as machine_actions
    from airflow_provider_tcbatch.models import named_env as named_env
    from airflow_provider_tcbatch.models import template_actions as template_actions

__getattr__ = submodules(
    __name__,
    "actions",
    "env_actions",
    "env_views",
    "job_reading",
    "job_writing",
    "machine_actions",
    "named_env",
    "template_actions",
)
