"""The figure of calibration: how often reward models are right that are so sure."""

from __future__ import annotations

from math import ceil

import numpy as np
import polars as pl

from rmtension.report.drawing import Pages, crossed, estimates, finished, look, numbers, parts, unique

BELOW = 50  # what a panel has for its histogram, where accuracy has 100


def calibration(table: pl.DataFrame) -> Pages:
    """Share right of the pairs that a regime's reward models are so sure of, and below it how many these are: a column
    for each benchmark, a row without ablation and one for the own top neurons set to zero."""
    state = pl.when(ablation="none").then(pl.lit("as trained")).otherwise(pl.format("{} set to zero", "ablation"))
    table = table.with_columns(state=pl.format("{}\n{}", "model", state))
    pages, cells = crossed(table, ["benchmark"], 2.9, 3.3, down="state", sharex=True)
    regimes, most = unique(table, "regime"), 10 * ceil(max(table["share_mean"].drop_nulls()) / 10)
    for ax, cell in cells:
        below = ax.twinx()
        ax.plot([50, 100], [50, 100], color="0.3", linewidth=0.8, linestyle=(0, (1, 3)), label="calibrated")
        ax.axhline(0, color="0.3", linewidth=0.8)
        for (regime,), bins in parts(cell, "regime").items():
            shape = look(regimes, regime)
            share, sure, left, right = numbers(bins, "share_mean", "confidence_mean", "left", "right")
            accuracy, low, high = estimates(bins, "accuracy")
            ax.fill_between(100 * sure, low, high, color=shape["color"], alpha=0.12, linewidth=0)
            ax.plot(100 * sure, accuracy, **shape | {"linewidth": 1.2, "markersize": 3.5})
            line = {key: shape[key] for key in ("color", "linestyle")}
            below.stairs(share, 100 * np.append(left, right[-1:]), baseline=None, **line)
        ax.set(ylim=(-BELOW, 102), yticks=range(0, 101, 25), xlim=(49, 101))
        below.set(ylim=(0, most * (BELOW + 102) / (BELOW - 4)), yticks=[0, most])
        below.yaxis.set_major_formatter("{x:.0f}")
        below.grid(False)
    x, y = (
        "confidence: probability of the preferred response (%)",
        "pairs that are right (%); below, pairs in the bin (%)",
    )
    return finished(pages, x, y)
