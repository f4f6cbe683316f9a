"""Rewards token by token of comparisons of several benchmarks."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import torch

from rmtension.engine.reading import own_template
from rmtension.engine.running_reward import running_rewards


def judged_rewards(folder: Path, comparisons: pl.DataFrame, budget: int, device: torch.device) -> pl.DataFrame:
    """running_rewards, in the form in which the study reads the reward model in `folder`, with each one's benchmark.

    comparisons: benchmark, comparison_id, chosen and rejected (lists of texts).
    """
    texts = comparisons.select(n=pl.col("chosen").list.len() + pl.col("rejected").list.len())["n"]
    benchmark = comparisons.select(pl.col("benchmark").repeat_by(texts)).explode("benchmark")
    return benchmark.hstack(running_rewards(folder, comparisons, own_template(folder), budget, device))
