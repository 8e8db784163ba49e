"""What a trigger hands to Airflow to be made again in another process."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any

__all__ = ["given"]


@functools.cache
def _defaults(trigger: type) -> Mapping[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(trigger).parameters.items()}


def given(trigger: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a trigger's arguments that are not what they are by default.

    Airflow encrypts them, and a triggerer goes through all its rows several times in each of its turns: with thousands
    of waits their length counts.

    :param trigger: whose defaults they are.
    :param arguments: all arguments by name. An empty collection counts as ``None``.
    """
    defaults = _defaults(trigger)
    return {
        name: value for name, value in arguments.items() if (None if value in ({}, [], ()) else value) != defaults[name]
    }
