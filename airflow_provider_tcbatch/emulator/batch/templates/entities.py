"""Task templates, as the emulator holds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class Template:
    """A task template."""

    template_id: str
    name: str
    description: str
    task: dict[str, Any]
    tags: list[dict[str, str]]
    created_at: float
