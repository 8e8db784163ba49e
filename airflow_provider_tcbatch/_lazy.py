"""Modules that are imported when they are first used as an attribute of their package."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["submodules"]


def submodules(package: str, *names: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package that imports these modules of its own when they are asked for.

    :param package: the package's ``__name__``.
    :param names: modules in it.
    """

    def find(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find
