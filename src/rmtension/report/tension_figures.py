"""The figure of tension: what each set of neurons does for either objective, at a glance."""

from __future__ import annotations

import polars as pl
from matplotlib.ticker import MaxNLocator

from rmtension.report.ablation_figures import set_name
from rmtension.report.cause_figures import of_several
from rmtension.report.drawing import Pages, crossed, estimates, finished, look, parts, row_axis, unique

VALUE = {"zero": "at zero", "mean": "at their means"}


def tension(table: pl.DataFrame) -> Pages:
    """Change in accuracy with each set replaced, a mark for each orientation: whole sets filled, controls hollow; a row
    of panels per model, a column for each place where it is judged and each value that neurons are replaced by."""
    state = pl.format("{},\n{}", "tasks", pl.col("replaced_by").replace(VALUE))
    table = table.with_columns(name=set_name("set"), where=state + of_several(table, "regime"))
    names, orientations = unique(table, "name"), unique(table, "orientation")
    pages, cells = crossed(table, ["where"], 2.5, 0.26 * len(names) + 0.8, sharex=True, sharey=True)
    for ax, cell in cells:
        ax.axvline(0, color="0.3", linewidth=1)
        for (orientation, control), points in parts(cell, "orientation", "control").items():
            is_whole, place = control == "whole", (orientations.index(orientation) + 0.5) / len(orientations)
            shape = look(orientations, orientation) | {"linestyle": "none"}
            shape |= {"label": f"{orientation} tasks"} if is_whole else {"label": None, "markerfacecolor": "white"}
            mean, low, high = estimates(points, "delta")
            y = [names.index(name) + 0.72 * (place - 0.5) for name in points["name"]]
            ax.hlines(y, low, high, color=shape["color"], linewidth=1)
            ax.plot(mean, y, **shape)
        row_axis(ax, [(name,) for name in names], 0)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    return finished(pages, "change in accuracy without the set (points); hollow: controls", same="x")
