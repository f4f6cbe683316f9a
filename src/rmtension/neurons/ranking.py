"""Ranking neurons and attention heads, and the sets made of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import polars as pl
from scipy.optimize import linear_sum_assignment

from rmtension.base.errors import UserError
from rmtension.study.data import MATCHED as AS_SHARED
from rmtension.study.naming import (
    THIRDS,
    ablation_name,
    exclusive_names,
    ranks_heads,
    set_size,
    sized,
    tension_names,
    tension_sets_index,
    thirds_names,
)
from rmtension.study.scorings import Neurons

NEURON = ["layer", "neuron"]
UNIT = ["unit", *NEURON]  # unit: neuron or head; `neuron` is the index in the layer of either
MATCHED = "matched-random"
# What the files of stages hold that is read here and in what follows.
PLACE = {"layer": pl.Int32(), "neuron": pl.Int32()}
SETS = {"ablation": pl.String(), "unit": pl.String(), **PLACE}
NO_SETS = pl.DataFrame(schema=SETS)
RANKINGS = {"scoring": pl.String(), "unit": pl.String(), **PLACE, "score": pl.Float64(), "rank": pl.Int32()}
ATTRIBUTIONS = {"unit": pl.String(), **PLACE, "attribution": pl.Float64(), "attribution_abs": pl.Float64()}
# Scoring -> score, out of a neuron's statistics averaged over both responses, and of its attributions where the study
# asks for them (docs/methods.md, section 4).
SCORES = {
    "mean": pl.col("mean"),
    "mean_abs": pl.col("mean_abs"),
    "change": pl.col("change_rms"),
    "probability": pl.col("frac_positive"),
    "attribution": pl.col("attribution"),
    "attribution-abs": pl.col("attribution_abs"),
}
HEAD_SCORES = {"head-norm": pl.col("mean_norm"), "head-attribution": pl.col("attribution")}  # likewise, of heads
TAKEN = dict.fromkeys(name for score in SCORES.values() for name in score.meta.root_names())
MEASURED = [name for name in TAKEN if name not in ATTRIBUTIONS]
STATISTICS = {**PLACE, "response": pl.String(), **dict.fromkeys(MEASURED, pl.Float64())}
HEADS = {"layer": pl.Int32(), "head": pl.Int32(), "response": pl.String(), "mean_norm": pl.Float64()}


def seed_of(random_seed: int, *names: str) -> list[int]:
    """Seed of what is drawn for a reward model: other models, regimes, seeds and controls draw other neurons."""
    return [random_seed, zlib.crc32("/".join(names).encode())]


# --- scores and ranks -----------------------------------------------------------------------------------------


def of_both_responses(statistics: pl.DataFrame, unit: str, *columns: str) -> pl.DataFrame:
    """layer, neuron (index of the unit) and the plain averages of the chosen and the rejected texts' columns."""
    by = ["layer", unit]
    return statistics.group_by(by).agg(pl.col(*columns).mean()).sort(by).rename({unit: "neuron"})


def mean_values(statistics: pl.DataFrame) -> pl.DataFrame:
    """layer, neuron, mean: what a neuron is replaced by under `ablation.values: mean`. statistics: see STATISTICS."""
    return of_both_responses(statistics, "neuron", "mean")


def with_attributions(figures: pl.DataFrame, attributions: pl.DataFrame, unit: str) -> pl.DataFrame:
    """Figures of neurons or heads (layer, neuron, ...) with their ATTRIBUTIONS; null where there are none."""
    place = pl.col(NEURON).cast(PLACE["neuron"])
    own = attributions.filter(unit=unit).with_columns(place)
    return figures.with_columns(place).join(own, on=NEURON, how="left", maintain_order="left")


def neuron_scores(
    statistics: pl.DataFrame, attributions: pl.DataFrame, magnitude: str, seed: Sequence[int]
) -> pl.DataFrame:
    """layer, neuron, and the score by every scoring of neurons but matched-random.

    `magnitude` names the scoring that the one of that name is: mean_abs or mean. `seed` drives `random`.
    """
    both = of_both_responses(statistics, "neuron", *MEASURED)
    scores = with_attributions(both, attributions, "neuron").select(*NEURON, **SCORES)
    draws = np.random.default_rng(list(seed)).standard_normal(len(scores))
    return scores.with_columns(magnitude=pl.col(magnitude), random=pl.Series(draws))


def head_scores(statistics: pl.DataFrame, attributions: pl.DataFrame, seed: Sequence[int]) -> pl.DataFrame:
    """layer, neuron (index of the head), and the score by every scoring of heads."""
    both = of_both_responses(statistics, "head", "mean_norm")
    scores = with_attributions(both, attributions, "head").select(*NEURON, **HEAD_SCORES)
    draws = np.random.default_rng(list(seed)).standard_normal(len(scores))
    return scores.with_columns(pl.Series("head-random", draws))


def ranking(scores: pl.DataFrame, scoring: str) -> pl.DataFrame:
    """All units together, best first, ties by (layer, neuron): unit, layer, neuron, score, rank from 1."""
    unit = pl.lit("head" if ranks_heads(scoring) else "neuron").alias("unit")
    one = scores.select(unit, *NEURON, score=scoring).sort("score", *NEURON, descending=[True, False, False])
    return one.with_columns(rank=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))


def loudness_cells(statistics: pl.DataFrame) -> pl.DataFrame:
    """unit, layer, neuron, decile: of mean |a| within the layer, from 0, the quietest."""
    loudness = pl.col("mean_abs").rank("ordinal").over("layer") - 1
    decile = (10 * loudness // pl.len().over("layer")).cast(pl.Int32)
    both = of_both_responses(statistics, "neuron", "mean_abs")
    return both.select(pl.lit("neuron").alias("unit"), *NEURON, decile=decile)


def matched(neurons: pl.DataFrame, cells: pl.DataFrame, seed: Sequence[int]) -> pl.DataFrame:
    """The rows of `neurons`, each neuron replaced by a random one of its layer and loudness decile.

    One permutation within `cells` (see loudness_cells) moves all of them, so that the images of any set are as many
    as the set's neurons in every cell. An image may be a neuron of the set.
    """
    draws = np.random.default_rng(list(seed)).random(len(cells))
    cells = cells.sort("layer", "decile", "neuron")
    images = cells.with_columns(draw=pl.Series(draws)).sort("layer", "decile", "draw")["neuron"]
    moves = cells.select(*NEURON, image=images)
    return neurons.join(moves, on=NEURON, how="left", maintain_order="left").with_columns(neuron="image").drop("image")


def rankings(
    statistics: pl.DataFrame,
    heads: pl.DataFrame,
    attributions: pl.DataFrame,
    settings: Neurons,
    target: str,
    reward_model: Sequence[str],
) -> pl.DataFrame:
    """A reward model's units under every scoring of the study: scoring, unit, layer, neuron, score, rank.

    statistics, heads: see activations.Statistics; attributions: ATTRIBUTIONS, without rows where no scoring takes them.
    matched-random ranks the images of the neurons in the order of the scoring `target`, each with the score of the
    neuron that it stands for. `reward_model`: model, regime and seed, from which the seeds of what is drawn follow.
    """
    seed = seed_of(settings.random_seed, *reward_model)
    scores = neuron_scores(statistics, attributions, settings.magnitude, seed)
    by_head = head_scores(heads, attributions, seed_of(settings.random_seed, *reward_model, "heads"))
    ranked = []
    for scoring in settings.scorings:
        if scoring == MATCHED:
            seed = seed_of(settings.random_seed, *reward_model, MATCHED)
            one = matched(ranking(scores, target), loudness_cells(statistics), seed)
        else:
            one = ranking(by_head if ranks_heads(scoring) else scores, scoring)
        ranked.append(one.select(pl.lit(scoring).alias("scoring"), pl.all()))
    return pl.concat(ranked)


# --- sets -----------------------------------------------------------------------------------------------------


def oriented_set(ranked: pl.DataFrame, scoring: str, size: float | str) -> pl.DataFrame:
    """The top `size`, a percent or a count, of all units by `scoring`: unit, layer, neuron."""
    one = ranked.filter(pl.col("scoring") == scoring)
    return one.filter(pl.col("rank") <= set_size(size, len(one))).select(UNIT).sort(UNIT)


def oriented_sets(
    ranked: pl.DataFrame, scorings: Sequence[str], sizes: Sequence[float | str]
) -> dict[str, pl.DataFrame]:
    """Every scoring's set at every size, by ablation name.

    UserError where one would hold no neuron, or there are fewer neurons than it counts. A set of heads may hold none or
    all: there are few of them.
    """
    for scoring, size in product((s for s in scorings if not ranks_heads(s)), sizes):
        n = ranked.select((pl.col("scoring") == scoring).sum()).item()
        percent, count = sized(size)
        if set_size(size, n) == 0:
            raise UserError(f"ablation: {percent:g} % of {n} neurons by '{scoring}' are none: give a greater percent")
        if count and count > n:
            raise UserError(f"ablation.sweep: {size}: there are {n} neurons: give a smaller count")
    return {ablation_name(s, size): oriented_set(ranked, s, size) for s in scorings for size in sizes}


def whole_sets(singles: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Sets ablated in a mixed reward model, from the oriented sets of its two single-objective ones.

    shared: in both; `{regime}-only`: in that regime's and not in the other's; shared-authors: shared, and of a layer
    in which only one of the two has neurons, those neurons (docs/methods.md, section 5).
    """
    first, second = singles.values()
    shared = first.join(second, on=UNIT, how="semi")
    one_sided = [a.join(b, on="layer", how="anti") for a, b in ((first, second), (second, first))]
    sets = (
        shared,
        first.join(second, on=UNIT, how="anti"),
        second.join(first, on=UNIT, how="anti"),
        pl.concat([shared, *one_sided]),
    )
    return dict(zip(tension_names(list(singles)), sets, strict=True))


def thirds_sets(
    statistics: pl.DataFrame, percent: float, draws: int, random_seed: int, reward_model: Sequence[str]
) -> dict[str, pl.DataFrame]:
    """thirds_names(draws): random neurons of a third of the layers, in each as many of every decile of loudness.

    Deciles are of mean |a| over the whole network. In all a set has `percent` of the network's neurons, as evenly over
    the deciles as whole numbers can be; less where a third lacks neurons of a decile: then as many as it has, in each
    third. Empty where no decile is in every third. Layer l of L is in third floor(3 l / L).
    """
    loud = of_both_responses(statistics, "neuron", "mean_abs").with_columns(
        third=(3 * pl.col("layer") // (pl.col("layer").max() + 1)).cast(pl.Int64),
        decile=(10 * (pl.col("mean_abs").rank("ordinal").cast(pl.Int64) - 1) // pl.len()).cast(pl.Int64),
    )
    held = np.zeros((len(THIRDS), 10), dtype=int)
    np.add.at(held, (loud["third"].to_numpy(), loud["decile"].to_numpy()), 1)
    wanted = np.diff(set_size(percent, len(loud)) * np.arange(11) // 10)
    common = pl.DataFrame({"decile": range(10), "common": np.minimum(wanted, held.min(axis=0))})
    loud, sets = loud.join(common, on="decile", maintain_order="left"), {}
    for name, third in thirds_names(draws).items():
        draw = np.random.default_rng(seed_of(random_seed, *reward_model, name)).random(len(loud))
        of_third = loud.with_columns(draw=pl.Series(draw)).filter(third=THIRDS.index(third))
        chosen = of_third.filter(pl.col("draw").rank("ordinal").over("decile") <= pl.col("common"))
        sets[name] = chosen.select(pl.lit("neuron").alias("unit"), *NEURON)
    return sets


def subsample(neurons: pl.DataFrame, size: int, seed: Sequence[int]) -> pl.DataFrame:
    """`size` of the rows, drawn without replacement."""
    return neurons[np.random.default_rng(list(seed)).choice(len(neurons), size, replace=False)]


def tension_sets(
    singles: Mapping[str, pl.DataFrame], cells: pl.DataFrame, draws: int, random_seed: int, reward_model: Sequence[str]
) -> dict[str, pl.DataFrame]:
    """whole_sets and their controls, in the order of naming.tension_sets_index (docs/methods.md, section 5).

    cells: loudness_cells of the mixed reward model. All controls have the size of the smallest of `shared` and the
    two `-only` sets; each is drawn with a seed of its own.
    """
    sets = whole_sets(singles)
    size = min(len(sets[name]) for name in exclusive_names(list(singles)))
    for one in tension_sets_index(list(singles), draws):
        seed = seed_of(random_seed, *reward_model, one.name)
        if one.control == "size-matched":
            sets[one.name] = subsample(sets[one.set], size, seed)
        elif one.control == "matched-random":
            sets[one.name] = matched(sets[f"{one.set}-sized-{one.draw}"], cells, seed)
        elif one.control == "random":
            sets[one.name] = subsample(cells.select(UNIT), size, seed)
    return sets


def like(neurons: pl.DataFrame, statistics: pl.DataFrame) -> pl.DataFrame:
    """As many other neurons of each layer, in all as near in mean |a| as can be: unit, layer, neuron.

    Not drawn within deciles: of the loudest neurons of all, those of the same decile are they themselves. Of a layer
    more than half of which is in the set, all others. statistics: see STATISTICS.
    """
    both = of_both_responses(statistics, "neuron", "mean_abs")
    found: list[pl.DataFrame] = []
    for of_layer in both.partition_by("layer"):
        members = of_layer.join(neurons, on=NEURON, how="semi")
        others = of_layer.join(neurons, on=NEURON, how="anti")
        distances = np.abs(members["mean_abs"].to_numpy()[:, None] - others["mean_abs"].to_numpy())
        _, chosen = linear_sum_assignment(distances)
        found.append(others[chosen.tolist()].select(pl.lit("neuron").alias("unit"), *NEURON))
    return pl.concat(found)


def frozen_set(
    name: str, singles: Mapping[str, pl.DataFrame], statistics: pl.DataFrame, reward_model: Sequence[str]
) -> pl.DataFrame:
    """What training leaves as it is: one of exclusive_names, or `matched`, others as deep and loud as `shared`.

    singles: the oriented sets of the parts; statistics: those of both parts together. UserError where it is empty.
    """
    whole = whole_sets(singles)["shared" if name == AS_SHARED else name]
    held = like(whole, statistics) if name == AS_SHARED else whole
    if held.is_empty():
        model, regime, seed = reward_model
        other = "smaller" if len(whole) else "greater"
        raise UserError(
            f"regimes.{regime}.frozen: '{name}' of {' and '.join(singles)} holds no neuron of {model}, seed {seed}: "
            f"give a {other} ablation.percent, or freeze another set"
        )
    return held


def sets_to_frame(sets: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Named sets as one frame: ablation, unit, layer, neuron. An empty set has no row; without any there is none."""
    named = [s.select(pl.lit(name).alias("ablation"), *UNIT).sort(UNIT) for name, s in sets.items()]
    return pl.concat([NO_SETS, *named], how="vertical_relaxed")
