"""Tables about the neurons themselves: where oriented ones lie, how far reward models share them, what they respond to.

Selections: `exact` takes the top neurons of each seed and averages the figure over seeds; `authors` averages scores
over seeds first, clips them at zero and takes all at or above the percentile (docs/methods.md, section 9, R3).
Intervals are over seeds alone.
"""

from __future__ import annotations

from itertools import combinations

import polars as pl
import polars.selectors as cs

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixtures
from rmtension.analysis.statistics import REWARD_MODEL
from rmtension.base.sums import summable
from rmtension.neurons.ranking import NEURON
from rmtension.study.naming import OVERALL, THIRDS

GROUP = [*REWARD_MODEL, "scoring", "selection"]
FIRST = 10  # neurons of each reward model in `top_neurons`


def depth_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, selection, third (of the layers: early, middle, late); share of the oriented neurons that
    lie in it, in percent. Layer l of L is in third floor(3 l / L)."""
    layers = results.neurons.group_by(pl.col("model").cast(pl.String), maintain_order=True).agg(
        layers=pl.col("layer").max() + 1
    )
    third = (3 * pl.col("layer") // pl.col("layers")).cast(pl.Int32)
    shares = [(third == i).mean().mul(100).alias(name) for i, name in enumerate(THIRDS)]
    by_seed = results.oriented.join(layers, on="model").group_by(GROUP, maintain_order=True).agg(shares)
    long = by_seed.unpivot(THIRDS, index=GROUP, variable_name="third", value_name="share")
    by = ["model", "regime", "scoring", "selection", "third"]
    return results.table(results.bootstrap.constant(long, "share"), by, "share").drop("p")


def top_neurons_table(results: Results) -> pl.DataFrame:
    """model, regime, seed; rank, layer and neuron of the first 10 by the main scoring, their score, and also: the other
    regimes whose oriented neurons they are among, each with their rank there."""
    main, place = results.study.ablation.scoring, ["model", "seed", *NEURON]
    ranked = results.neurons.filter(pl.col("scoring") == main).cast({cs.categorical(): pl.String})
    first = ranked.filter(pl.col("rank") <= FIRST).select(*REWARD_MODEL, "rank", *NEURON, "score")
    sets = results.oriented.filter(scoring=main, selection="exact").select(*REWARD_MODEL, *NEURON)
    others = ranked.join(sets, on=sets.columns, how="semi").select(*place, other="regime", at="rank")
    met = results.sorted(others.rename({"other": "regime"}), ["regime"]).rename({"regime": "other"})
    both = first.join(met, on=place, maintain_order="left_right").filter(pl.col("other") != pl.col("regime"))
    also = both.group_by(*REWARD_MODEL, *NEURON, maintain_order=True).agg(
        also=pl.format("{} {}", "other", "at").str.join(", ")
    )
    joined = first.join(also, on=[*REWARD_MODEL, *NEURON], how="left").with_columns(pl.col("also").fill_null(""))
    return results.sorted(joined, [*REWARD_MODEL, "rank"])


def neuron_overlap_table(results: Results) -> pl.DataFrame:
    """model, first, second (regimes), scoring, selection; Jaccard index of their oriented sets within a seed,
    intersection and union (means), and chance, the index of random sets of those sizes."""
    by, frames = ["model", "first", "second", "scoring", "selection"], []
    sets = results.oriented
    for first, second in combinations(results.study.with_neurons(), 2):
        group = ["model", "seed", "scoring", "selection", "n_all"]
        one, other = (sets.filter(regime=regime) for regime in (first, second))
        sizes = (
            one.group_by(group, maintain_order=True)
            .len("a")
            .join(other.group_by(group, maintain_order=True).len("b"), on=group)
        )
        both = (
            one.join(other, on=[*group, *NEURON], how="semi").group_by(group, maintain_order=True).len("intersection")
        )
        joined = sizes.join(both, on=group, how="left").with_columns(pl.col("intersection").fill_null(0))
        frames.append(joined.with_columns(first=pl.lit(first), second=pl.lit(second)))
    if not frames:
        return empty_table(["jaccard"], by, "intersection_mean", "union_mean", "chance")
    both = pl.concat(frames).with_columns(
        union=pl.col("a") + pl.col("b") - pl.col("intersection"), met=pl.col("a") * pl.col("b") / pl.col("n_all")
    )
    figures = both.with_columns(
        jaccard=pl.col("intersection") / pl.col("union"),
        chance=pl.col("met") / (pl.col("a") + pl.col("b") - pl.col("met")),
    ).sort("model", "seed")
    draws = {name: results.bootstrap.constant(figures.select(*by, "seed", name), name)
             for name in ("jaccard", "intersection", "union", "chance")}  # fmt: skip
    table = results.table(draws.pop("jaccard"), by, "jaccard", **draws).drop("p")
    dropped = [f"{name}_{part}" for name in ("intersection", "union", "chance") for part in ("sd", "low", "high")]
    return table.drop(dropped).rename({"chance_mean": "chance"})


def neuron_retention_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), scoring, selection; retained |(A or B) and M| / |A or B or M|, with A and B the
    oriented sets of its parts and M its own."""
    by, frames = ["model", "regime", "scoring", "selection"], []
    group, sets = ["model", "seed", "scoring", "selection"], results.oriented
    for regime in dict(mixtures(results.study, results.study.with_neurons())):
        mixes = results.study.regimes[regime].mixes
        of = sets.filter(pl.col("regime").is_in([regime, *mixes]))
        single = pl.col("regime").is_in(mixes)
        places = of.group_by([*group, *NEURON], maintain_order=True).agg(part=single.any(), mixed=(~single).any())
        retained = places.group_by(group, maintain_order=True).agg(retained=(pl.col("part") & pl.col("mixed")).mean())
        frames.append(retained.with_columns(regime=pl.lit(regime)))
    if not frames:
        return empty_table(["retained"], by)
    return results.table(results.bootstrap.constant(pl.concat(frames), "retained"), by, "retained").drop("p")


def stability_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring; Jaccard index of the oriented sets of two seeds: mean, least (low) and greatest (high)
    over the n_pairs pairs, and chance, that of random sets of those sizes. Without rows for a single seed."""
    by = ["model", "regime", "scoring"]
    sets = results.oriented.filter(selection="exact")
    size = sets.group_by(*by, "seed", "n_all", maintain_order=True).len("size")
    pairs = size.join(size, on=[*by, "n_all"], suffix="_b").filter(pl.col("seed") < pl.col("seed_b"))
    met = sets.join(sets, on=[*by, *NEURON], suffix="_b").filter(pl.col("seed") < pl.col("seed_b"))
    met = met.group_by(*by, "seed", "seed_b", maintain_order=True).len("both")
    joined = pairs.join(met, on=[*by, "seed", "seed_b"], how="left").with_columns(pl.col("both").fill_null(0))
    expected = pl.col("size") * pl.col("size_b") / pl.col("n_all")
    figures = joined.with_columns(
        jaccard=pl.col("both") / (pl.col("size") + pl.col("size_b") - pl.col("both")),
        chance=expected / (pl.col("size") + pl.col("size_b") - expected),
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


def mean_activations(activations: pl.DataFrame) -> pl.DataFrame:
    """Of each reward model's neurons: gap, mean activation on chosen minus on rejected texts, and mean, of both."""
    place = [*REWARD_MODEL, *NEURON]
    one, other = (
        activations.filter(response=r).select(*place, pl.col("mean").alias(r)) for r in ("chosen", "rejected")
    )
    both, chosen, rejected = one.join(other, on=place, maintain_order="left"), pl.col("chosen"), pl.col("rejected")
    return both.select(*place, gap=chosen - rejected, mean=(chosen + rejected) / 2)


def rmsd_table(results: Results) -> pl.DataFrame:
    """model, regime; over neuron indices the mean of the root mean square over layers of (mean activation on chosen
    minus on rejected): rmsd, of activations averaged over seeds first, as the paper has it, and rmsd_mean and so on, of
    each seed's; level, the same of the mean activation itself, and ratio, rmsd over level."""
    by, mean = ["model", "regime"], summable(pl.col("gap", "mean")).mean()

    def spread(frame: pl.DataFrame, groups: list[str]) -> pl.DataFrame:
        squares = [summable(pl.col(name).pow(2)).mean().sqrt() for name in ("gap", "mean")]
        indices = frame.group_by(*groups, "neuron", maintain_order=True).agg(squares)
        figures = indices.group_by(groups, maintain_order=True).agg(mean).rename({"gap": "rmsd", "mean": "level"})
        return figures.with_columns(ratio=pl.col("rmsd") / pl.col("level"))

    by_seed, averaged = [], []
    # One model and regime at a time: there are millions of neurons.
    for model, regime in results.activations.select(by).unique(maintain_order=True).rows():
        neurons = mean_activations(results.activations.filter(model=model, regime=regime))
        by_seed.append(spread(neurons, REWARD_MODEL))
        averaged.append(spread(neurons.group_by(*by, *NEURON, maintain_order=True).agg(mean), by))
    per_model, over_models = pl.concat(averaged), summable(pl.col("rmsd")).mean()
    overall = per_model.group_by("regime", maintain_order=True).agg(over_models, model=pl.lit(OVERALL))
    first = pl.concat([per_model.select(*by, "rmsd"), overall.select(*by, "rmsd")])
    draws = {
        name: results.bootstrap.constant(pl.concat(by_seed).select(*REWARD_MODEL, name), name)
        for name in ("rmsd", "level", "ratio")
    }
    table = results.table(draws.pop("rmsd"), by, "rmsd", **draws).drop("p")
    return table.join(first, on=by, maintain_order="left").select(*by, "rmsd", pl.exclude(*by, "rmsd"))
