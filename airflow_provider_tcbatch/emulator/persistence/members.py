"""What of a thing is written down as it is."""

from __future__ import annotations

from typing import Any


def members(thing: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Some members of a thing by name."""
    return {name: getattr(thing, name) for name in names}
