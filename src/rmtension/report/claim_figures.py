"""The figure of the claims: each part's interval beside its threshold and its controls."""

from __future__ import annotations

from typing import Any

import polars as pl
from matplotlib.axes import Axes

from rmtension.base.pages import evenly
from rmtension.report.drawing import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    Pages,
    among,
    crossed,
    finished,
    look,
    name_width,
    number_axis,
    numbers,
    panels,
    parts,
    row_axis,
    unique,
)

# The part of a claim that is about one size of a set: where, p (a percent) or n (a number), how much, what.
SWEPT = r"^(.+), ([pn]) = ([\d.e+-]+)(?: %)?: (.+)$"
SIZES = {"n": "neurons in the set (number, logarithmic scale)", "p": "neurons in the set (%)"}
VERDICTS = {"holds": "#00613a", "undecided": "0.35", "does not hold": "#9b1c00"}  # in the colours of the report's words


def claims(table: pl.DataFrame) -> Pages:
    """Estimate and interval of each part of each claim beside its threshold and its controls, marked by verdict: in
    rows, and as curves where a claim is about every size of a set."""
    kind = pl.col("part").str.extract(SWEPT, 2)
    listed, curves = table.filter(kind.is_null()), [table.filter(kind == sizes) for sizes in SIZES]
    return [
        *(verdict_rows(listed) if len(listed) else []),
        *(page for curve in curves if len(curve) for page in verdict_curves(curve)),
    ]


def verdict_rows(table: pl.DataFrame) -> Pages:
    """A row for each part, a panel for each claim, as many on a page as have room."""
    pieces = [
        among(group, ["part"], [(name,) for name in names])
        for group in parts(table, "claim", "unit").values()
        for names in evenly(unique(group, "part"), 36)
    ]
    heights, on_pages = [0.22 * (piece["part"].n_unique() + 2) for piece in pieces], [list[int]()]
    for i, height in enumerate(heights):
        if on_pages[-1] and sum(heights[j] for j in on_pages[-1]) + height > PAGE_HEIGHT - 0.9:
            on_pages.append([])
        on_pages[-1].append(i)
    pages = []
    for chosen in on_pages:
        tall = [heights[i] for i in chosen]
        size = (min(PAGE_WIDTH, 4.5 + name_width(unique(table, "part"))), sum(tall) + 0.9)
        figure, axes = panels(len(chosen), 1, *size, height_ratios=tall)
        for ax, i in zip(axes, chosen, strict=True):
            verdict_panel(ax, pieces[i])
        pages.append(figure)
    return finished(pages)


def verdict_panel(ax: Axes, group: pl.DataFrame) -> None:
    row_axis(ax, [(part,) for part in unique(group, "part")], 0)
    ax.set_title(f"{group['claim'][0]} ({group['unit'][0]})", loc="left")
    ax.grid(axis="x")
    place = (1 + pl.int_range(pl.len()).over("part")) / pl.len().over("part")
    rows = group.with_columns(y=pl.col("part").rle_id(), below=0.45 * place)
    y, below, threshold = numbers(rows, "y", "below", "threshold")
    control, low, high = numbers(rows, "control_estimate", "control_low", "control_high")
    ax.plot(threshold, y, "|", color="0.15", markersize=12, markeredgewidth=1.5, label="threshold")
    ax.hlines(y + below, low, high, color="0.55", linewidth=1)
    ax.plot(control, y + below, "x", color="0.55", markersize=4, label="control")
    for (verdict,), of in parts(rows, "verdict").items():
        estimate, low, high, place = numbers(of, "estimate", "low", "high", "y")
        ax.hlines(place, low, high, color=VERDICTS[verdict])
        ax.plot(estimate, place, **verdict_look(verdict))


def verdict_look(verdict: str) -> dict[str, Any]:
    return look([*VERDICTS], verdict) | {"linestyle": "none", "color": VERDICTS[verdict]}


def verdict_curves(table: pl.DataFrame) -> Pages:
    """A curve over sizes of a set, all percents or all numbers, for each place and comparison, and those of its
    controls."""
    where, kind, size, what = (pl.col("part").str.extract(SWEPT, i) for i in (1, 2, 3, 4))
    place = pl.format("{} ({}): {}", "claim", "unit", where)
    table = table.with_columns(place=place, kind=kind, size=size.cast(pl.Float64), what=what)
    [kinds] = unique(table, "kind")
    pages, cells = crossed(table, ["what"], 4, 2.4, down="place", sharex=True)
    for ax, cell in cells:
        if kinds == "n":
            number_axis(ax)
        for (_,), of in parts(cell, "control").items():
            control, low, high = numbers(of, "control_estimate", "control_low", "control_high")
            ax.fill_between(of["size"], low, high, color="0.55", alpha=0.2, linewidth=0)
            ax.plot(of["size"], control, "x--", color="0.55", linewidth=1, markersize=4, label="control")
        curve = cell.unique("part", keep="first", maintain_order=True)
        estimate, low, high, threshold = numbers(curve, "estimate", "low", "high", "threshold")
        ax.plot(curve["size"], threshold, color="0.15", linewidth=1.5, label="threshold")
        if len(curve) == 1:  # a line of one point would not be seen
            ax.plot(curve["size"], threshold, "_", color="0.15", markersize=12)
            ax.vlines(curve["size"], low, high, color="0.15", linewidth=1)
        ax.fill_between(curve["size"], low, high, color="0.15", alpha=0.12, linewidth=0)
        ax.plot(curve["size"], estimate, color="0.15", linewidth=1)
        for (verdict,), of in parts(curve, "verdict").items():
            ax.plot(of["size"], of["estimate"], **verdict_look(verdict))
    return finished(pages, SIZES[kinds], same="x")
