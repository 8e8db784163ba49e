"""Figures: what was measured on either side, what it should be, and the tables that show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "as_json", "show"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    :param key: its name in the JSON.
    :param what: what it is, for people.
    :param unit: of both sides and the target.
    :param ours: this provider.
    :param peer: the other side: the peer, or the floor.
    :param target: what ours should not exceed; ``None`` if nothing is asked for.
    :param target_of_ratio: the target is one of ours divided by the other side.
    :param note: what has to be known about it.
    """

    key: str
    what: str
    unit: str
    ours: float
    peer: float | None = None
    target: float | None = None
    target_of_ratio: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours divided by the other side."""
        return round(self.ours / self.peer, 5) if self.peer else None

    @property
    def met(self) -> bool | None:
        """Whether ours is as asked for."""
        judged = self.ratio if self.target_of_ratio else self.ours
        return None if self.target is None or judged is None else judged <= self.target


def show(console: Console, title: str, peer: str, figures: list[Figure]) -> None:
    """Print a table.

    :param peer: name of the other side.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("what", overflow="fold", ratio=5)
    for name in (peer, "ours", "ratio", "target", ""):
        table.add_column(name, justify="right")
    for figure in figures:
        target = "" if figure.target is None else f"≤ {_number(figure.target)}"
        if figure.target_of_ratio and target:
            target += " times"
        table.add_row(
            f"{figure.what}{f' ({figure.note})' if figure.note else ''}",
            "-" if figure.peer is None else f"{_number(figure.peer)} {figure.unit}",
            f"{_number(figure.ours)} {figure.unit}",
            "" if figure.ratio is None else _number(figure.ratio),
            target if figure.target_of_ratio or not target else f"{target} {figure.unit}",
            {True: "met", False: "MISSED", None: ""}[figure.met],
        )
    console.print(table)


def as_json(figures: list[Figure]) -> dict[str, dict[str, Any]]:
    """All figures by key."""
    return {
        figure.key: {
            **{k: v for k, v in asdict(figure).items() if k != "key"},
            "ratio": figure.ratio,
            "met": figure.met,
        }
        for figure in figures
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
