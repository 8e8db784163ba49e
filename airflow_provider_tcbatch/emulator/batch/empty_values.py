"""What stands for nothing in an answer, which Tencent's documentation does not say."""

from __future__ import annotations

from typing import Any, Literal

EmptyValues = Literal["mixed", "null", "empty", "absent"]

_EMPTY: dict[str, Any] = {"EndTime": "", "LaunchTime": "", "RunningTime": "", "StateReason": "", "Tags": []}


def with_empty_values(answer: dict[str, Any], style: EmptyValues) -> dict[str, Any]:
    """An answer whose members without content are null, empty or left out, wherever they are."""
    # The views write the mixture themselves; a listing of many thousand is not walked through for nothing.
    return answer if style == "mixed" else _object(answer, style)


def _object(value: dict[str, Any], style: EmptyValues) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, item in value.items():
        if name not in _EMPTY or item:
            result[name] = _any(item, style)
        elif style != "absent":
            result[name] = _EMPTY[name] if style == "empty" else None
    return result


def _any(value: Any, style: EmptyValues) -> Any:
    if isinstance(value, dict):
        return _object(value, style)
    if isinstance(value, list):
        return [_any(item, style) for item in value]
    return value
