"""Figures of causes: what patching brings back, and where the objectives' gradients oppose each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rmtension.report.ablation_figures import set_name
from rmtension.report.drawing import Pages, colour, crossed, estimates, finished, look, parts, row_axis, unique

LARGEST = 1e3  # beyond any axis
WIDTH = 2.9  # inches of a panel, names of sets included


def by_set(ax: Axes, cell: pl.DataFrame, value: str, names: Sequence[str], kinds: Sequence[str]) -> None:
    """`value` of each set as a mark with its interval, one set below another; those of no value have none.

    names, kinds: of the sets in all panels, so that a set has one place and one mark.
    """
    for name in unique(cell, "name"):
        points = cell.filter(name=name)
        shape = look(kinds, points["set"][0]) | {"linestyle": "none", "label": None}
        filled = points["control"][0] in ("", "whole")
        mean, low, high = estimates(points, value)
        y = [names.index(name)] * len(points)
        ax.hlines(y, low, high, color=shape["color"], linewidth=1.2)
        ax.plot(mean, y, **shape | {"markerfacecolor": shape["color"] if filled else "white"})
    row_axis(ax, [(name,) for name in names], 0)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="x")


def patching(table: pl.DataFrame) -> Pages:
    """Change of the mixed reward model's accuracy with a donor's activations at each set, beside the gap between the
    two: a row per model, a column per mixed regime, donor and tasks."""
    where = pl.format("{}'s activations,\n{}", "donor", "tasks")
    table = table.with_columns(name=set_name("set"), where=where + of_several(table, "regime"))
    names, kinds = unique(table, "name"), unique(table, "set")
    pages, cells = crossed(table, ["where"], WIDTH, 0.22 * len(names) + 0.8, sharex=True, sharey=True)
    for ax, cell in cells:
        ax.axvline(0, color="0.3", linewidth=1, label="mixed reward model as it is")
        for mean, low, high in zip(*estimates(cell[:1], "gap"), strict=True):
            ax.axvspan(low, high, color=colour(2), alpha=0.15, linewidth=0, label="interval of the donor")
            ax.axvline(mean, color=colour(2), linewidth=1.4, linestyle="--", label="donor")
        by_set(ax, cell, "delta", names, kinds)
    return finished(pages, "accuracy with patched neurons, minus that of the mixed reward model (points)", same="x")


def conflict(table: pl.DataFrame) -> Pages:
    """Cosine of the two objectives' gradients at each set's neurons: a row per model, a column per reward model."""
    where = "in " + pl.col("regime") + of_several(table, "mixture")
    table = table.with_columns(name=set_name("set").replace("all", "all neurons"), where=where)
    names, kinds = unique(table, "name"), unique(table, "set")
    pages, cells = crossed(table, ["where"], WIDTH, 0.22 * len(names) + 0.8, sharex=True, sharey=True)
    for ax, cell in cells:
        opposing(ax.axvspan, ax.axvline)
        by_set(ax, cell, "cosine", names, kinds)
        for name in cell.filter(pl.col("cosine_mean").is_null())["name"]:
            ax.text(0.02, names.index(name), "noise alone", transform=ax.get_yaxis_transform(), va="center",
                    color="0.4", size="small")  # fmt: skip
        ax.set_xlim(*limits(table))
    return finished(pages, "cosine of the objectives' gradients, without sampling noise", same="x")


def conflict_layers(table: pl.DataFrame) -> Pages:
    """The same of all neurons of each layer: a line for each regime's reward models."""
    regimes = unique(table, "regime")
    pages, cells = crossed(table, ["model"], 3.6, 2.6, down="mixture", sharey=True)
    for ax, cell in cells:
        opposing(ax.axhspan, ax.axhline)
        for (regime,), line in parts(cell, "regime").items():
            shape = look(regimes, regime)
            mean, low, high = estimates(line, "cosine")
            ax.fill_between(line["layer"], low, high, color=shape["color"], alpha=0.15, linewidth=0)
            ax.plot(line["layer"], mean, **shape)
        ax.set_ylim(*limits(table))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return finished(pages, "layer", "cosine of the objectives' gradients")


def of_several(table: pl.DataFrame, mixture: str) -> pl.Expr:
    """What to add to a title where a study has several mixed regimes."""
    return pl.format("\n({})", mixture) if table[mixture].n_unique() > 1 else pl.lit("")


def opposing(span: Any, line: Any) -> None:
    """The side on which objectives oppose each other, shaded."""
    span(-LARGEST, 0, color="0.5", alpha=0.12, linewidth=0, label="the objectives oppose each other")
    line(0, color="0.3", linewidth=1)


def limits(table: pl.DataFrame) -> tuple[float, float]:
    """From -1 to 1, and as far as estimates lie beyond; intervals of few seeds may be cut."""
    ends = table["cosine_mean"].drop_nulls().to_list()
    return 1.1 * min([-1, *ends]), 1.1 * max([1, *ends])
