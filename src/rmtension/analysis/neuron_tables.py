"""Tables about the neurons themselves: where oriented ones lie, how far reward models share them, what they respond to.

Selections: `exact` takes the top neurons of each seed and averages the figure over seeds; `authors` averages scores
over seeds first, clips them at zero and takes all at or above the percentile (docs/methods.md, section 9, R3).
Intervals are over seeds alone.
"""

from __future__ import annotations

from itertools import combinations, groupby

import numpy as np
import polars as pl

from rmtension.analysis.oriented import Mask, by_reward_model
from rmtension.analysis.resampling import Array
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixtures
from rmtension.analysis.statistics import REWARD_MODEL, with_mean_of_models
from rmtension.base.sums import summable
from rmtension.neurons.ranking import NEURON
from rmtension.study.naming import OVERALL, THIRDS


def depth_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, selection, third (of the layers: early, middle, late); share of the oriented neurons that
    lie in it, in percent. Layer l of L is in third floor(3 l / L)."""
    by, rows = ["model", "regime", "scoring", "selection", "third"], []
    for of in results.oriented:
        for regime in of.regimes:
            for selection, seed, held in of.sets(regime):
                in_layers = held.sum(axis=1)
                thirds = 3 * np.arange(len(in_layers)) // len(in_layers)
                for i, third in enumerate(THIRDS):
                    share = 100 * float(in_layers[thirds == i].sum() / in_layers.sum())
                    rows.append((of.model, regime, of.scoring, selection, third, seed, share))
    frame = pl.DataFrame(rows, schema=[*by, "seed", "share"], orient="row")
    return results.table_of_seeds(frame, by, "share")


def top_neurons_table(results: Results) -> pl.DataFrame:
    """model, regime, seed; rank, layer and neuron of the first 10 by the main scoring, their score, and also: the other
    regimes whose oriented neurons they are among, each with their rank there."""
    frames, place = [], [*NEURON]
    for of in results.oriented:
        if of.scoring == results.study.ablation.scoring:
            also = []
            for regime, seed, *at in of.first.select("regime", "seed", *place).rows():
                ranks = of.ranks[:, of.seeds.index(seed), *at]
                others = [(other, rank) for other, rank in zip(of.regimes, ranks, strict=True) if other != regime]
                also.append(", ".join(f"{other} {rank}" for other, rank in others if rank))
            frames.append(of.first.with_columns(pl.Series("also", also), model=pl.lit(of.model)))
    frame = pl.concat(frames).select(*REWARD_MODEL, "rank", *NEURON, "score", "also")
    frame = frame.with_columns(pl.col("seed", "rank", *NEURON).cast(pl.Int32))
    return results.sorted(frame, [*REWARD_MODEL, "rank"])


def overlap(one: Mask, other: Mask, n_all: int) -> tuple[float, int, int, float]:
    """Jaccard index, intersection and union of two sets of n_all neurons, and the index of random sets of those
    sizes."""
    n, m, both = int(one.sum()), int(other.sum()), int((one & other).sum())
    expected = n * m / n_all
    return both / (n + m - both), both, n + m - both, expected / (n + m - expected)


def neuron_overlap_table(results: Results) -> pl.DataFrame:
    """model, first, second (regimes), scoring, selection; Jaccard index of their oriented sets within a seed,
    intersection and union (means), and chance, the index of random sets of those sizes."""
    by, rows = ["model", "first", "second", "scoring", "selection"], []
    for of in results.oriented:
        held = {(regime, *key): mask for regime in of.regimes for *key, mask in of.sets(regime)}
        for first, second in combinations(of.regimes, 2):
            for selection, seed in [key for regime, *key in held if regime == first and (second, *key) in held]:
                one, other = (held[regime, selection, seed] for regime in (first, second))
                figures = overlap(one, other, of.n_all)
                rows.append((of.model, first, second, of.scoring, selection, seed, *figures))
    names = ["jaccard", "intersection", "union", "chance"]
    if not rows:
        return empty_table(["jaccard"], by, "intersection_mean", "union_mean", "chance")
    frame = pl.DataFrame(rows, schema=[*by, "seed", *names], orient="row")
    table = results.table_of_seeds(frame, by, *names)
    dropped = [f"{name}_{part}" for name in ("intersection", "union", "chance") for part in ("sd", "low", "high")]
    return table.drop(dropped).rename({"chance_mean": "chance"})


def neuron_retention_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), scoring, selection; retained |(A or B) and M| / |A or B or M|, with A and B the
    oriented sets of its parts and M its own."""
    by, rows = ["model", "regime", "scoring", "selection"], []
    mixed_ones = dict(mixtures(results.study, results.study.with_neurons()))
    for of in results.oriented:
        nothing = np.zeros_like(of.ranks[0, 0], bool)
        for mixed in mixed_ones:
            first, second = results.study.regimes[mixed].mixes
            a, b, own = (
                {(selection, seed): held for selection, seed, held in of.sets(name)} for name in (first, second, mixed)
            )
            for key in {**a, **b, **own}:
                of_parts, kept = a.get(key, nothing) | b.get(key, nothing), own.get(key, nothing)
                retained = int((of_parts & kept).sum()) / int((of_parts | kept).sum())
                rows.append((of.model, mixed, of.scoring, *key, retained))
    if not rows:
        return empty_table(["retained"], by)
    frame = pl.DataFrame(rows, schema=[*by, "seed", "retained"], orient="row")
    return results.table_of_seeds(frame, by, "retained")


def stability_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring; Jaccard index of the oriented sets of two seeds: mean, least (low) and greatest (high)
    over the n_pairs pairs, and chance, that of random sets of those sizes. Without rows for a single seed."""
    by, rows = ["model", "regime", "scoring"], []
    for of in results.oriented:
        for regime in of.regimes:
            exact = [held for selection, _, held in of.sets(regime) if selection == "exact"]
            for one, other in combinations(exact, 2):
                jaccard, *_, chance = overlap(one, other, of.n_all)
                rows.append((of.model, regime, of.scoring, jaccard, chance))
    figures = pl.DataFrame(
        rows, schema=dict.fromkeys(by, pl.String) | dict.fromkeys(["jaccard", "chance"], pl.Float64), orient="row"
    )
    aggregates = [
        summable(pl.col("jaccard")).mean().alias("jaccard_mean"),
        pl.col("jaccard").min().alias("jaccard_low"),
        pl.col("jaccard").max().alias("jaccard_high"),
        summable(pl.col("chance")).mean(),
        pl.len().alias("n_pairs"),
    ]
    per_model = figures.group_by(by, maintain_order=True).agg(aggregates)
    overall = figures.group_by(by[1:], maintain_order=True).agg(aggregates).with_columns(model=pl.lit(OVERALL))
    return results.sorted(pl.concat([per_model, overall.select(per_model.columns)]), by)


def mean_activations(activations: pl.DataFrame) -> Array:
    """Of a reward model's neurons [2, L, N]: gap, mean activation on chosen minus on rejected texts, and the mean of
    both."""
    sides = []
    for response in ("chosen", "rejected"):
        of = activations.filter(response=response)
        layer, neuron = (of[name].to_numpy() for name in NEURON)
        side = np.full((layer.max() + 1, neuron.max() + 1), np.nan)
        side[layer, neuron] = of["mean"].to_numpy()
        sides.append(side)
    chosen, rejected = sides
    return np.stack([chosen - rejected, (chosen + rejected) / 2])


def rmsd_table(results: Results) -> pl.DataFrame:
    """model, regime; over neuron indices the mean of the root mean square over layers of (mean activation on chosen
    minus on rejected): rmsd, of activations averaged over seeds first, as the paper has it, and rmsd_mean and so on, of
    each seed's; level, the same of the mean activation itself, and ratio, rmsd over level."""
    by, names = ["model", "regime"], ["rmsd", "level", "ratio"]

    def spread(neurons: Array) -> tuple[float, ...]:
        rmsd, level = np.nanmean(np.sqrt(np.nanmean(neurons**2, axis=1)), axis=1).tolist()
        return rmsd, level, rmsd / level

    by_seed, averaged = [], []
    for (model, regime), of_seeds in groupby(by_reward_model(results.activations), lambda found: found[0][:2]):
        neurons = []
        for reward_model, activations in of_seeds:
            neurons.append(mean_activations(activations))
            by_seed.append((*reward_model, *spread(neurons[-1])))
        averaged.append((model, regime, spread(np.mean(neurons, axis=0))[0]))
    figures = pl.DataFrame(by_seed, schema=[*REWARD_MODEL, *names], orient="row")
    per_model = pl.DataFrame(averaged, schema=[*by, "rmsd"], orient="row")
    first = with_mean_of_models(per_model, ["regime"], ["rmsd"])
    table = results.table_of_seeds(figures, by, *names)
    return table.join(first, on=by, maintain_order="left").select(*by, "rmsd", pl.exclude(*by, "rmsd"))
