"""How often the 95 % intervals of a study hold the truth, in simulated studies whose truth is known.

A simulated reward model gets comparison i right with probability sigmoid(mean + ease of i + luck of the seed); the
truth is that probability averaged over all comparisons and seeds there could be. A figure of neurons alone, on which no
comparison has a bearing, is normal over seeds.

python benchmarks/interval_coverage.py
"""

from __future__ import annotations

import numpy as np
import polars as pl

from rmtension.analysis.statistics import Block, Bootstrap

STUDIES, COMPARISONS, LEVEL, EASE = 1000, 100, 0.5, 1.0


def probability(x: np.ndarray) -> np.ndarray:
    share: np.ndarray = 1 / (1 + np.exp(-x))
    return share


def coverage(models: int, seeds: int, luck: float) -> float:
    rng = np.random.default_rng([models, seeds, int(100 * luck)])
    truth = probability(LEVEL + rng.normal(0, np.hypot(EASE, luck), 2_000_000)).mean() * 100
    held = 0
    for study in range(STUDIES):
        ease = rng.normal(0, EASE, COMPARISONS)
        p = probability(LEVEL + ease + rng.normal(0, luck, (models * seeds, 1)))
        chosen = (rng.random(p.shape) < p).astype(np.float32)
        units = pl.DataFrame({
            "model": [f"m{i}" for i in range(models) for _ in range(seeds)], "regime": "r",
            "seed": list(range(seeds)) * models, "ablation": "none",
        })  # fmt: skip
        ids, n = pl.Series([f"{i}" for i in range(COMPARISONS)]), np.full(len(units), COMPARISONS)
        block = Block("b", "o", "t", units, ids, n, chosen, np.full_like(chosen, 0.5))
        bootstrap = Bootstrap(draws=500, seed=study, confidence=0.95)
        row = bootstrap.summary(bootstrap.accuracy([block]), ["model", "regime"], "x").row(-1, named=True)
        held += row["x_low"] <= truth <= row["x_high"]
    return 100 * held / STUDIES


def coverage_of_seeds(models: int, seeds: int) -> float:
    """Of figures that vary over seeds alone."""
    rng, held = np.random.default_rng([models, seeds]), 0
    units = {"model": [f"m{i}" for i in range(models) for _ in range(seeds)], "regime": "r"}
    frame = pl.DataFrame(units | {"seed": list(range(seeds)) * models})
    for study in range(STUDIES):
        bootstrap = Bootstrap(draws=500, seed=study, confidence=0.95)
        figures = bootstrap.constant(frame.with_columns(value=pl.Series(rng.normal(size=len(frame)))), "value")
        row = bootstrap.summary(figures, ["model", "regime"], "x").row(-1, named=True)
        held += row["x_low"] <= 0 <= row["x_high"]
    return 100 * held / STUDIES


if __name__ == "__main__":
    print("| models | seeds | spread between seeds | coverage of 95 % intervals |\n|---:|---:|---:|---:|")
    for models, seeds in ((1, 1), (1, 3), (1, 5), (2, 3), (6, 3)):
        for luck in (0.1, 0.5):
            print(f"| {models} | {seeds} | {luck} | {coverage(models, seeds, luck):.1f} % |", flush=True)
    print("\n| models | seeds | coverage of figures over seeds alone |\n|---:|---:|---:|")
    for models, seeds in ((1, 2), (1, 3), (1, 5), (2, 3), (6, 3)):
        print(f"| {models} | {seeds} | {coverage_of_seeds(models, seeds):.1f} % |", flush=True)
