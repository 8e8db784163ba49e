"""What a command prints as a table, as JSON, or in another of Airflow's formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["show"]


def show(rows: Sequence[dict[str, Any]], output: str) -> None:
    """Print rows by Airflow's console.

    :param rows: plain JSON.
    :param output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    from airflow.cli.simple_table import AirflowConsole
    from rich.markup import escape

    if output == "table":
        # Its cells are read as markup: "[tcbatch]" would be taken for a style, and be gone.
        rows = [{name: escape(str(value)) for name, value in row.items()} for row in rows]
    console: Any = AirflowConsole()
    console.print_as(data=rows, output=output)
