"""No module of the package needs itself, however far around and however late."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import airflow_provider_tcbatch

PACKAGE = airflow_provider_tcbatch.__name__
ROOT = Path(airflow_provider_tcbatch.__file__).parent


def modules() -> dict[str, Path]:
    """All modules of the package by name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports: at its top, in a function, or for its types only."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"line {node.lineno}: imports are absolute in this package"
            assert not node.level, f"line {node.lineno}: imports are absolute in this package"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in known else node.module)
    return found & known.keys()


def circle(graph: dict[str, set[str]]) -> str | None:
    """The modules of a circle in the order in which they import one another, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # It tells who is needed before who needs it.
        return " -> ".join(name.removeprefix(f"{PACKAGE}.") for name in reversed(error.args[1]))
    return None


def test_imports_form_no_circle() -> None:
    known = modules()
    graph = {name: imports_of(path.read_text(), known) - {name} for name, path in known.items()}
    assert sum(len(needed) for needed in graph.values()) > len(known) > 200, "the test must see what is imported"
    found = circle(graph)
    assert found is None, f"a circle of imports: {found}"


@pytest.mark.parametrize(
    "source",
    [
        f"from {PACKAGE}.emulator.host import Host",
        f"from {PACKAGE}.emulator import host",
        f"import {PACKAGE}.emulator.host",
        f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from {PACKAGE}.emulator.host import Host",
        f"def late():\n    from {PACKAGE}.emulator.host import Host",
    ],
)
def test_an_import_is_seen_wherever_it_stands(source: str) -> None:
    assert imports_of(source, modules()) == {f"{PACKAGE}.emulator.host"}


def test_a_circle_is_told_by_its_members() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) is None
    found = circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})
    assert found in ("b -> c -> b", "c -> b -> c")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c")
