"""All actions of the Batch API by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_tcbatch.emulator.batch.envs import actions as envs
from airflow_provider_tcbatch.emulator.batch.jobs import actions as jobs
from airflow_provider_tcbatch.emulator.batch.machine import actions as machine
from airflow_provider_tcbatch.emulator.batch.service import BatchService
from airflow_provider_tcbatch.emulator.batch.templates import actions as templates

Handler = Callable[[BatchService, dict[str, Any]], dict[str, Any]]

HANDLERS: dict[str, Handler] = {**jobs.HANDLERS, **envs.HANDLERS, **templates.HANDLERS, **machine.HANDLERS}
