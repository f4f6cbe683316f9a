"""The figure of repairs: what each gains on either orientation, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rmtension.report.cause_figures import of_several
from rmtension.report.drawing import Pages, colour, crossed, estimates, finished, unique
from rmtension.report.repairs import cost
from rmtension.study.naming import OWN_TEST

WIDTH = 2.9  # inches of a panel, names of repairs included
MEASURES: dict[str, dict[str, Any]] = {
    "accuracy": {"color": "0.15", "marker": "o", "label": "accuracy"},
    "balanced": {"color": "0.5", "marker": "s", "label": "length-balanced accuracy", "markerfacecolor": "white"},
}


def repair(table: pl.DataFrame) -> Pages:
    """Accuracy of each repair minus that of the mixed reward model, beside the gap between this and the part of that
    orientation: a row per model, a column per orientation, of its tasks and of its test split."""
    where = pl.format("{}, {}", "orientation", "tasks") + of_several(table, "mixture")
    table = table.sort(pl.col("tasks") != OWN_TEST, maintain_order=True).with_columns(where=where)
    regimes = unique(table, "regime")
    pages, cells = crossed(table, ["where"], WIDTH, 0.5 * len(regimes) + 0.8, sharex=True)
    for ax, cell in cells:
        ax.axvline(0, color="0.3", linewidth=1, label="mixed reward model")
        for mean, low, high in zip(*estimates(cell.filter(measure="accuracy")[:1], "gap"), strict=True):
            ax.axvspan(low, high, color=colour(2), alpha=0.15, linewidth=0, label="interval of the gap")
            ax.axvline(mean, color=colour(2), linewidth=1.4, linestyle="--", label="single-objective one")
        by_repair(ax, cell, regimes)
        ax.set_yticks(range(len(regimes)), names(ax, table.join(cell, on="model", how="semi"), regimes), size="small")
    return finished(pages, "accuracy minus that of the mixed reward model (points)", same="x")


def by_repair(ax: Axes, cell: pl.DataFrame, regimes: Sequence[str]) -> None:
    """Gains of each repair by both measures, and right of them the share of the gap that it closes.

    regimes: the repairs in all panels, so that a row is of one repair in each.
    """
    plain = cell.filter(measure="accuracy")
    for measure, shape in MEASURES.items():
        points = cell.filter(measure=measure)
        mean, low, high = estimates(points, "gain")
        y = [regimes.index(regime) + (0.14 if measure == "balanced" else -0.14) for regime in points["regime"]]
        ax.hlines(y, low, high, color=shape["color"], linewidth=1.2)
        ax.plot(mean, y, **shape, markersize=4.5, linestyle="none")
    closed = plain.drop_nulls("closed_mean").select("regime", "closed_mean").rows()
    shares = [(regimes.index(regime), f"{100 * share:.0f} %") for regime, share in closed]
    for row, text in [(-0.75, "closed"), *shares] if shares else []:
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", size="small")
    ax.set_ylim(len(regimes) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")


def names(ax: Axes, of_model: pl.DataFrame, regimes: Sequence[str]) -> list[str]:
    """Of each repair its name and what it costs, left of the first panel of a row."""
    place = ax.get_subplotspec()
    assert place is not None
    written = {row["regime"]: "\n".join([row["regime"], *cost(row)]) for row in of_model.iter_rows(named=True)}
    return [written.get(regime, regime) if place.is_first_col() else "" for regime in regimes]
