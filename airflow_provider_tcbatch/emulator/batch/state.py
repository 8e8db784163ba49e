"""What the Batch service remembers besides jobs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_tcbatch.emulator.batch.env_entities import ComputeEnv
from airflow_provider_tcbatch.emulator.batch.monitor import Monitor


@dataclass(eq=False)
class Template:
    """A task template."""

    template_id: str
    name: str
    description: str
    task: dict[str, Any]
    tags: list[dict[str, str]]
    created_at: float


@dataclass(eq=False)
class BatchState:
    """Environments and templates by id, oldest first, and small things around them."""

    envs: dict[str, ComputeEnv] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    #: Environment id, digest of the request and time by ClientToken.
    env_tokens: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    #: How often a reason of the setting cvm_failures was given, by its key and text.
    failures_used: Counter[tuple[str, str]] = field(default_factory=Counter)
    monitor: Monitor = field(default_factory=Monitor)
