"""What a trigger hands to Airflow to be made again in another process."""

from __future__ import annotations

import functools
import inspect
from typing import Any

__all__ = ["SignatureMixin"]


class SignatureMixin:
    """Mixin of triggers, in front of Airflow's base: ``__init__`` keeps each argument in an attribute of its name.

    Where an empty collection says the same as the default, the default is kept in its place.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again in another process: those arguments that are not what they are by
        default.

        Airflow encrypts them, and a triggerer goes through all its rows several times in each of its turns: with
        thousands of waits their length counts.
        """
        kind: type = type(self)
        path, defaults = _signature(kind)
        return path, {name: value for name, default in defaults if (value := getattr(self, name)) != default}


@functools.cache
def _signature(kind: type) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """A trigger's path, and the defaults of its arguments: also of those that it hands to its base as ``**common``."""
    defaults: dict[str, Any] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base):
            _, *parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            common = [parameter for parameter in parameters if parameter.kind is parameter.VAR_KEYWORD]
            defaults = {p.name: p.default for p in parameters if p not in common} | defaults
            if not common:
                break
    return f"{kind.__module__}.{kind.__qualname__}", tuple(defaults.items())
