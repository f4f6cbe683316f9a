"""Ranking neurons and the sets made of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from rmtension.naming import ablation_name, tension_names

NEURON = ["layer", "neuron"]


def set_size(percent: float, n_neurons: int) -> int:
    """Neurons in the top `percent` of `n_neurons`."""
    return round(percent / 100 * n_neurons)


def seed_of(random_seed: int, *reward_model: str) -> list[int]:
    """Seed of a reward model's random control: other models, regimes and seeds draw other neurons."""
    return [random_seed, zlib.crc32("/".join(reward_model).encode())]


def neuron_scores(statistics: pl.DataFrame, magnitude: str, seed: Sequence[int]) -> pl.DataFrame:
    """Score of every neuron by every scoring (docs/methods.md, section 4): layer, neuron, magnitude, change, random.

    A figure for both responses is the plain average of the chosen and the rejected one. `magnitude` names the column
    that the scoring of that name reads: mean_abs or mean. `seed` drives the random control.
    """
    both = statistics.group_by(NEURON).agg(pl.col(magnitude, "change_rms").mean()).sort(NEURON)
    draws = np.random.default_rng(list(seed)).standard_normal(len(both))
    return both.select(*NEURON, magnitude=pl.col(magnitude), change=pl.col("change_rms"), random=pl.Series(draws))


def rank_neurons(scores: pl.DataFrame, scorings: Iterable[str]) -> pl.DataFrame:
    """Rank all neurons together, best first, ties by (layer, neuron): scoring, layer, neuron, score, rank from 1."""
    ranked = []
    for scoring in scorings:
        one = scores.select(pl.lit(scoring).alias("scoring"), *NEURON, score=pl.col(scoring))
        one = one.sort("score", *NEURON, descending=[True, False, False])
        ranked.append(one.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32)))
    return pl.concat(ranked)


def oriented_set(ranked: pl.DataFrame, scoring: str, percent: float) -> pl.DataFrame:
    """The top `percent` of all neurons by `scoring`: layer, neuron."""
    one = ranked.filter(pl.col("scoring") == scoring)
    return one.filter(pl.col("rank") <= set_size(percent, len(one))).select(NEURON).sort(NEURON)


def oriented_sets(ranked: pl.DataFrame, scorings: Iterable[str], percents: Iterable[float]) -> dict[str, pl.DataFrame]:
    """Every scoring's set at every percent, by ablation name."""
    return {ablation_name(s, p): oriented_set(ranked, s, p) for s in scorings for p in percents}


def tension_sets(singles: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Sets to be ablated in a mixed reward model, from the oriented sets of its two single-objective ones.

    shared: in both; `{regime}-only`: in that regime's and not in the other's (docs/methods.md, section 5).
    """
    first, second = singles.values()
    sets = (
        first.join(second, on=NEURON, how="semi"),
        first.join(second, on=NEURON, how="anti"),
        second.join(first, on=NEURON, how="anti"),
    )
    return dict(zip(tension_names(list(singles)), sets, strict=True))


def sets_to_frame(sets: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Named sets as one frame: ablation, layer, neuron. An empty set has no row."""
    return pl.concat([s.select(pl.lit(name).alias("ablation"), *NEURON).sort(NEURON) for name, s in sets.items()])
