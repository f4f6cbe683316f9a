"""Quantities over reward models: pure functions over the long frame of scored comparisons.

A score frame has one row per reward model (model, regime, seed), benchmark, ablation and comparison, with its
task, the task's orientation, and `correct`, which is null where the comparison could not be scored.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

REWARD_MODEL = ["model", "regime", "seed"]
TASK = ["orientation", "task"]


def accuracy(scores: pl.DataFrame, by: Sequence[str] = (*REWARD_MODEL, "benchmark", "ablation", *TASK)) -> pl.DataFrame:
    """Percent correct of each group of comparisons, by default each task of each reward model and ablation.

    Adds accuracy (over the comparisons that could be scored; null where none could), n_comparisons (all of
    them) and n_unscored. Rows keep the data's order.
    """
    return scores.group_by(by, maintain_order=True).agg(
        accuracy=100 * pl.col("correct").mean(),
        n_comparisons=pl.len(),
        n_unscored=pl.col("correct").null_count(),
    )


def with_orientation_averages(frame: pl.DataFrame, by: Sequence[str], value: str) -> pl.DataFrame:
    """Each task's `value`, and for each orientation a row of task "average", the plain mean over its tasks.

    A task that is part of two benchmarks counts once, as the mean of the two. Null values are left out.
    """
    by = [*by, "orientation"]
    tasks = frame.group_by(*by, "task", maintain_order=True).agg(pl.col(value).mean())
    averages = tasks.group_by(by, maintain_order=True).agg(pl.lit("average").alias("task"), pl.col(value).mean())
    return pl.concat([tasks, averages])


def over_seeds(frame: pl.DataFrame, by: Sequence[str], *values: str) -> pl.DataFrame:
    """Mean and population standard deviation of each value over seeds; n_seeds counts those with a value."""
    return frame.group_by(by, maintain_order=True).agg(
        *[pl.col(value).mean().alias(f"{value}_mean") for value in values],
        *[pl.col(value).std(ddof=0).alias(f"{value}_sd") for value in values],
        n_seeds=pl.col(values[0]).count(),
    )


def retention(scores: pl.DataFrame, mixed: str, singles: Sequence[str], ablation: str = "none") -> pl.DataFrame:
    """|M and (He or Ha)| / |He or Ha|: what the mixed reward model keeps of what the single ones get right.

    M is what the mixed reward model gets right under `ablation`; He and Ha are what the single-objective ones
    of the same model and seed get right unablated. What the mixed one could not score is not counted at all.
    Columns: model, regime, seed, benchmark, ablation, orientation, task; retention (null where He or Ha is
    empty), n_comparisons (the size of He or Ha).
    """
    place = ["model", "seed", "benchmark", *TASK, "comparison_id"]
    right = pl.col("regime").is_in(list(singles)) & (pl.col("ablation") == "none") & pl.col("correct")
    either = scores.filter(right).select(place).unique().with_columns(known=True)
    kept = pl.col("correct").filter(pl.col("known").fill_null(False))
    return (
        scores.filter(pl.col("regime") == mixed, pl.col("ablation") == ablation)
        .join(either, on=place, how="left", maintain_order="left")
        .group_by(*REWARD_MODEL, "benchmark", "ablation", *TASK, maintain_order=True)
        .agg(retention=kept.mean(), n_comparisons=kept.count())
    )
