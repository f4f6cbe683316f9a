"""Figures of rules without a model beside reward models, and of what length does to accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rmtension.base.pages import Rows, kept_together
from rmtension.report.accuracy_figures import with_chance
from rmtension.report.drawing import (
    PAGE_HEIGHT,
    PAGE_WIDTH,
    Pages,
    among,
    crossed,
    estimates,
    finished,
    fitting,
    look,
    name_width,
    numbers,
    panels,
    parts,
    row_axis,
    row_names,
    unique,
)
from rmtension.report.rules import EVERY, is_given, judged, judged_each, ruled
from rmtension.study.naming import AVERAGE, OVERALL, WORDS

BY_LENGTH = {"longer": ">", "shorter": "<"}
ROW = ["heading", "name"]


def surface(
    table: pl.DataFrame, accuracy: pl.DataFrame, tests: pl.DataFrame, card: pl.DataFrame, models_card: pl.DataFrame
) -> Pages:
    """Accuracy of rules without a model as marks, and of each regime's reward models, or of each that is given, as
    intervals: a row for each place, below the name of its benchmark."""
    rules = ruled(table, card)
    chance = with_chance(accuracy, card).select("orientation", "task", "chance").unique()
    given = is_given(models_card)
    models = (judged_each if given else judged)(rules, accuracy, tests).join(
        chance, on=["orientation", "task"], how="left", maintain_order="left"
    )
    rules, models = named(rules), named(models).with_columns(pl.col("chance").fill_null(50))
    regimes, rows = unique(models if given else tests, "regime"), Rows()
    for (heading, benchmark), of in parts(rules, "heading", "benchmark").items():
        rows += [] if benchmark == EVERY else [(heading, heading)]
        rows += [(heading, name) for name in unique(of, "name")]
    height, pages = 0.1 + 0.06 * (1 + len(regimes)), list[Figure]()
    width = min(PAGE_WIDTH, 5.5 + name_width([name for _, name in rows]))
    for on_page in kept_together(rows, fitting(PAGE_HEIGHT - 1.7, height)):
        figure, (ax,) = panels(1, 1, width, height * len(on_page) + 1)
        draw_places(ax, on_page, regimes, *(among(part, ROW, on_page) for part in (rules, models)))
        pages.append(figure)
    return finished(pages, "accuracy (%)", same="x")


def named(places: pl.DataFrame) -> pl.DataFrame:
    """With what is written above and beside each place."""
    rows = row_names(places.select("orientation", "task").rows())
    return places.with_columns(
        pl.format("{}: {}", "orientation", "benchmark").alias("heading"), pl.Series("name", rows)
    )


def draw_places(ax: Axes, rows: Rows, regimes: list[str], rules: pl.DataFrame, models: pl.DataFrame) -> None:
    """Within a row a line for each regime, its own words' rule on it, and a line for the rules that go by length. The
    line is dotted where the rules were judged on more comparisons."""
    row_axis(ax, [(name,) for _, name in rows], 0)
    ax.grid(False, axis="y")
    ax.hlines([i + 0.5 for i in range(len(rows))], -2, 102, color="0.9", linewidth=0.8, zorder=0)
    ax.set_xlim(-2, 102)
    for tick, (heading, name) in zip(ax.yaxis.get_major_ticks(len(rows)), rows, strict=True):
        tick.label1.set_fontweight("bold" if name == heading or heading.endswith(EVERY) else "normal")

    def at(points: pl.DataFrame, line: int) -> np.ndarray:
        aside = 0.8 * ((line + 0.5) / (1 + len(regimes)) - 0.5)
        return np.array([rows.index(row) for row in points.select(ROW).rows()]) + aside

    for i, regime in enumerate(regimes):
        points, words, shape = models.filter(regime=regime), rules.filter(rule=WORDS + regime), look(regimes, regime)
        x, low, high = estimates(points, "accuracy")
        lines: Any = ["solid" if same else "dotted" for same in points["same"]] or "solid"
        ax.hlines(at(points, i), low, high, color=shape["color"], linewidth=1, linestyles=lines)
        ax.plot(x, at(points, i), **shape | {"linestyle": "none"})
        label = WORDS + regime if len(words) else None
        hollow: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "label": label}
        ax.plot(*numbers(words, "accuracy_mean"), at(words, i), **shape | hollow)
    last = len(regimes)
    ax.plot(models["chance"], at(models, last), "|", color="0.3", label="chance")
    of_words = [rule for rule in unique(rules, "rule") if rule not in BY_LENGTH]
    others = [rule for rule in of_words if rule.removeprefix(WORDS) not in regimes]  # of what given ones are no regime
    for rule, marker in {**BY_LENGTH, **dict(zip(others, "odshp*", strict=False))}.items():
        points, hollow = rules.filter(rule=rule), {"markerfacecolor": "white"} if rule in others else {}
        ax.plot(points["accuracy_mean"], at(points, last), marker, color="0.15", markersize=4.5, label=rule, **hollow)


def lead(table: pl.DataFrame, contrasts: pl.DataFrame, lengths: pl.DataFrame) -> Pages:
    """Lead of one regime over another on each task against the share of its pairs of which the longer response is the
    chosen one, over all models; above, the rank correlation of the two over all tasks."""
    longer, shorter = pl.col("n_longer").sum(), pl.col("n_shorter").sum()  # of all regimes, which read the same pairs
    by_task = lengths.filter(model=OVERALL, ablation="none").group_by("orientation", "task", maintain_order=True)
    share = by_task.agg(share=100 * longer / (longer + shorter))
    pairs = table.filter(tasks="all").drop("tasks")
    points = contrasts.join(pairs, on=["model", "first", "second"], maintain_order="left_right")
    points = points.join(share, on=["orientation", "task"], maintain_order="left").filter(pl.col("task") != AVERAGE)
    points = points.with_columns(pair=pl.format("{} minus {}", "first", "second"))
    pages, cells = crossed(points, ["pair"], 4.2, 3.6)
    orientations = unique(points, "orientation")
    for ax, cell in cells:
        ax.axhline(0, color="0.3", linewidth=0.8)
        for (orientation,), tasks in parts(cell, "orientation").items():
            shape = look(orientations, orientation) | {"label": f"{orientation} tasks", "linestyle": "none"}
            mean, low, high = estimates(tasks, "difference")
            ax.vlines(tasks["share"], low, high, color=shape["color"], linewidth=0.8)
            ax.plot(tasks["share"], mean, **shape)
        ax.set_xlim(-3, 103)
        [(found, low, high)] = cell.select(f"correlation_{end}" for end in ("mean", "low", "high")).unique().rows()
        if low is not None:
            ax.set_title(f"{ax.get_title()}\nrank correlation {found:.2f} [{low:.2f}, {high:.2f}]")
    return finished(pages, "pairs of the task that the longer response wins (%)", "lead in accuracy (points)")
