"""The figure of repairs: what each gains on either orientation, and what it costs."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rmtension.report.cause_figures import of_several
from rmtension.report.drawing import Pages, colour, crossed, estimates, finished, unique
from rmtension.report.repairs import cost

WIDTH = 2.9  # inches of a panel, names of repairs included
MEASURES: dict[str, dict[str, Any]] = {
    "accuracy": {"color": "0.15", "marker": "o", "label": "accuracy"},
    "balanced": {"color": "0.5", "marker": "s", "label": "length-balanced accuracy", "markerfacecolor": "white"},
}


def repair(table: pl.DataFrame) -> Pages:
    """Accuracy of each repair minus that of the mixed reward model, beside the gap between this and the part of that
    orientation: a row per model, a column per orientation."""
    table = table.with_columns(where=pl.col("orientation") + of_several(table, "mixture"))
    height = 0.5 * table["regime"].n_unique() + 0.8
    pages, cells = crossed(table, ["where"], WIDTH, height, sharex=True)
    for ax, cell in cells:
        ax.axvline(0, color="0.3", linewidth=1, label="mixed reward model")
        for mean, low, high in zip(*estimates(cell.filter(measure="accuracy")[:1], "gap"), strict=True):
            ax.axvspan(low, high, color=colour(2), alpha=0.15, linewidth=0, label="its interval")
            ax.axvline(mean, color=colour(2), linewidth=1.4, linestyle="--", label="single-objective one")
        by_repair(ax, cell)
    return finished(pages, "accuracy minus that of the mixed reward model (points)", same="x")


def by_repair(ax: Axes, cell: pl.DataFrame) -> None:
    """Gains of each repair by both measures, what it costs left of them, and right the share of the gap that it
    closes."""
    regimes, plain = unique(cell, "regime"), cell.filter(measure="accuracy")
    for measure, shape in MEASURES.items():
        points = cell.filter(measure=measure)
        mean, low, high = estimates(points, "gain")
        y = [regimes.index(regime) + (0.14 if measure == "balanced" else -0.14) for regime in points["regime"]]
        ax.hlines(y, low, high, color=shape["color"], linewidth=1.2)
        ax.plot(mean, y, **shape, markersize=4.5, linestyle="none")
    shares = ["" if share is None else f"{100 * share:.0f} %" for share in plain["closed_mean"]]
    for row, text in [(-0.75, "closed" if any(shares) else ""), *enumerate(shares)]:
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", size="small")
    place = ax.get_subplotspec()
    assert place is not None
    names = ["\n".join([of["regime"], *cost(of)]) if place.is_first_col() else "" for of in plain.to_dicts()]
    ax.set_yticks(range(len(names)), names, size="small")
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")
