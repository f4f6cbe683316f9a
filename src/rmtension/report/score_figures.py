"""Figures of the scores themselves: how they move when a reward model is mixed, or its neurons set to zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rmtension.report.drawing import Pages, colour, crossed, finished, numbers, parts, unique


def histograms(table: pl.DataFrame, order: pl.DataFrame) -> Pages:
    """Rewards in two states, one filled and one hatched, of chosen responses upwards and rejected ones downwards."""
    keys = [key for key in ("model", "regime", "single") if key in order.columns]
    in_order = order.select(keys).unique(maintain_order=True).join(table, on=keys, maintain_order="left_right")
    table = in_order.sort(pl.col("state").is_in(["mixed", "after"]), maintain_order=True)
    pages, cells = crossed(table, ["regime", "single"], 2.9, 1.9, sharex=True, sharey="row")
    states = unique(table, "state")
    filled: dict[str, Any] = {"fill": True, "color": colour(0), "alpha": 0.45, "linewidth": 0}
    hatched: dict[str, Any] = {"fill": False, "edgecolor": "0.15", "hatch": "////"}
    lines: list[dict[str, Any]] = [{"color": colour(0), "linestyle": "-"}, {"color": "0.15", "linestyle": "--"}]
    for ax, cell in cells:
        for (state, response), bins in parts(cell, "state", "response").items():
            i, sign = states.index(state), 1 if response == "chosen" else -1
            labels = [state, f"mean, {state}"] if response == "chosen" else ["", ""]
            left, right, share = numbers(bins, "left", "right", "share")
            ax.stairs(sign * 100 * share, [*left, right[-1]], label=labels[0], **[filled, hatched][i])
            mean, end = np.average((left + right) / 2, weights=share), 115 * sign * share.max()
            ax.vlines(mean, 0, end, label=labels[1], **lines[i])
        ax.axhline(0, color="0.3", linewidth=0.8)
        ax.yaxis.set_major_formatter(lambda y, _: f"{abs(y):g}")
    return finished(pages, "reward", "scores in a bin (%): chosen up, rejected down", same="x")
