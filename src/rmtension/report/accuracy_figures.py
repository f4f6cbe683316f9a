"""Figures of accuracy and of the mixed reward model beside its parts."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import polars as pl
from scipy.special import comb

from rmtension.report.drawing import Pages, crossed, dots, estimates, finished, look, parts, unique
from rmtension.study.naming import OVERALL


def by_chance(card: pl.DataFrame) -> pl.Series:
    """Accuracy in percent of random scores for each row of the card of benchmarks."""
    chosen, rejected = (card[side].cast(pl.Float64, strict=False).fill_null(1) for side in ("chosen", "rejected"))
    return pl.Series(100 / comb(chosen + rejected, chosen))


def with_chance(table: pl.DataFrame, card: pl.DataFrame) -> pl.DataFrame:
    """Adds `chance`, the accuracy in percent of random scores: of c chosen and r rejected responses all c are on top in
    one of binomial(c + r, c) orders. Tasks of which the card has no one number count as pairs."""
    chances = card.select("task", chance=by_chance(card))
    chances = chances.group_by("task", maintain_order=True).mean()
    joined = table.join(chances, on="task", how="left", maintain_order="left")
    is_task, chance = pl.col("task") != "average", pl.col("chance").fill_null(50.0)
    mean = chance.filter(is_task).mean().over("orientation")
    return joined.with_columns(chance=pl.when(is_task).then(chance).otherwise(mean))


def radar(table: pl.DataFrame, card: pl.DataFrame) -> Pages:
    """Accuracy on each task: polar panels by model and orientation, a line per regime; dots where tasks are few."""
    table = with_chance(table.filter(pl.col("task") != "average"), card)
    if min(len(unique(part, "task")) for part in parts(table, "orientation").values()) < 3:
        return dots(table, "accuracy", "regime", "accuracy (%)", tick="chance")
    many = table["task"].n_unique() > 10  # names that would not fit beside each other run along the radius
    size = (4.1, 4)
    pages, cells = crossed(table, ["orientation"], *size, subplot_kw={"projection": "polar"})
    regimes = unique(table, "regime")
    for ax, cell in cells:
        tasks = unique(cell, "task")
        angles = np.linspace(0, 2 * np.pi, len(tasks), endpoint=False)
        for (regime,), line in parts(cell, "regime").items():
            closed = pl.concat([line, line.head(1)])
            angle = angles[[tasks.index(task) for task in closed["task"]]]
            mean, low, high = estimates(closed, "accuracy")
            shape = look(regimes, regime)
            ax.fill_between(angle, low, high, color=shape["color"], alpha=0.12, linewidth=0)
            ax.plot(angle, mean, **shape)
        ax.plot(angle, closed["chance"], color="0.3", linewidth=1, linestyle=(0, (1, 2)), label="chance")
        ax.set(theta_offset=np.pi / 2, theta_direction=-1, rlabel_position=180 / len(tasks), ylim=(0, 100))
        ax.set_yticks([25, 50, 75], ["25 %", "50 %", "75 %"], color="0.3", size="small")
        ax.set_xticks(angles, [])
        ax.set_title(ax.get_title(), pad=62 if many else 30)
        for task, angle in zip(tasks, angles, strict=True):
            side = np.sin(angle).round(1)
            turned = 90 - np.degrees(angle) + (180 if side < 0 else 0) if many else 0
            place: dict[str, Any] = {"rotation": turned, "rotation_mode": "anchor", "va": "center", "size": "small"}
            name = ax.text(angle, 112, textwrap.fill(task, 14), **place)
            name.set_horizontalalignment("right" if side < 0 else "left" if side > 0 or many else "center")
    return finished(pages)


def accuracy(table: pl.DataFrame, card: pl.DataFrame) -> Pages:
    """Accuracy of each regime on each task; where there is but one, of each model, beside each other."""
    series = "regime"
    if table["regime"].n_unique() == 1:
        each = table.filter((pl.col("model") != OVERALL) | (pl.col("model") == OVERALL).all())
        table, series = each.with_columns(of=pl.col("model"), model=pl.lit("")), "of"
    return dots(with_chance(table, card), "accuracy", series, "accuracy (%)", tick="chance")


def contrasts(table: pl.DataFrame) -> Pages:
    """Difference in accuracy between two regimes on each task."""
    table = table.with_columns(
        pl.lit(0).alias("no difference"), pair=pl.concat_str("first", pl.lit(" minus "), "second")
    )
    return dots(table, "difference", "pair", "difference in accuracy (points)", tick="no difference")


def retention(table: pl.DataFrame) -> Pages:
    """Retention of each task in the mixed reward model, whole and with sets of neurons zeroed."""
    names = pl.col("ablation").replace("none", "no ablation")
    series = names if table["regime"].n_unique() == 1 else pl.concat_str("regime", names, separator=", ")
    return dots(table.with_columns(series=series), "retention", "series", "retention (fraction kept)")
