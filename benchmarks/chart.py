"""The chart: what held waits cost, by their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw"]

#: What is drawn: a member of a result, its title, and the limit that holds for it.
_PANELS = (
    ("memory_kb_per_wait", "memory per wait, KB", 10.0),
    ("cpu_ms_per_wait", "CPU per wait, ms", None),
    ("requests_per_poll_interval", "requests per poll interval", None),
    ("start_stall", "loop stall while they start, p99, ms", 20.0),
)


def draw(scaling: list[dict[str, Any]], file: Path) -> None:
    """Draw the chart.

    :param scaling: results of the case ``hold``, from few waits to many.
    :param file: the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    counts = [result["waits"] for result in scaling]
    for number, (member, title, limit) in enumerate(_PANELS, start=1):
        axes = figure.add_subplot(2, 2, number)
        values = [result[member]["p99_ms"] if member.endswith("stall") else result[member] for result in scaling]
        axes.plot(counts, values, marker="o", color="#0052d9")
        for count, value in zip(counts, values, strict=True):
            axes.annotate(f"{value:,.3g}", (count, value), xytext=(0, 7), textcoords="offset points", ha="center")
        if limit is not None:
            axes.axhline(limit, color="#e34d59", linestyle="--", linewidth=1)
        axes.set_xscale("log")
        if member == "requests_per_poll_interval":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.35 * max([*values, limit or 0.0]))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("waits")
        axes.grid(alpha=0.3)
    figure.suptitle("What a held wait costs, by the number of waits (dashed: the limit)")
    figure.savefig(file, dpi=110)
