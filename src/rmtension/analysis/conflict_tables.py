"""Tables of conflict: how far the gradients of a mixture's two objectives oppose each other, by set and by layer.

Sums are over a set's neurons of products of gradients, and over seeds (docs/methods.md, section 14); intervals are over
seeds alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import polars.selectors as cs

from rmtension.analysis.resampling import Array, divide
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.statistics import Draws, limits, with_overall
from rmtension.analysis.units import held
from rmtension.study.naming import OVERALL

MIXTURE = ["model", "regime", "mixture"]
NOISE = (pl.col("first_first") <= 0) | (pl.col("second_second") <= 0)


def cosine(both: Array, first: Array, second: Array) -> Array:
    """NaN where a square is not above 0: then there is no gradient beyond noise."""
    known = (first > 0) & (second > 0)
    return np.where(known, divide(both, np.sqrt(np.where(known, first * second, 1))), np.nan)


# Figure -> the function of the sums that it is, and their names.
FIGURES: dict[str, tuple[Callable[..., Array], list[str]]] = {
    "cosine": (cosine, ["first_second", "first_first", "second_second"]),
    "opposed": (divide, ["opposed", "square"]),
}


def pooled(results: Results, sums: pl.DataFrame, by: Sequence[str]) -> dict[str, Draws]:
    """FIGURES of each of `by`, of sums over seeds; seeds in which there is noise alone count as the others do.

    Not a mean over seeds of their figures: one whose squares are little above 0 would decide it, and leaving out those
    with none would leave out what chance has made small.
    """
    draws = {name: results.bootstrap.constant(sums.select(*by, "seed", name), name)
             for _, names in FIGURES.values() for name in names}  # fmt: skip
    return {figure: results.bootstrap.of_means([draws[name] for name in names], by, function)
            for figure, (function, names) in FIGURES.items()}  # fmt: skip


def with_all(per_model: Draws, by: Sequence[str]) -> Draws:
    """These rows, and under the model OVERALL the plain mean over the models that have an estimate; a draw in which one
    of them has none is none."""
    defined = ~np.isnan(per_model.values[:, 0])
    known = Draws(per_model.keys.filter(pl.Series(defined)), per_model.values[defined])
    rest = [key for key in by if key != "model"]
    mean, holes = known.mean(rest), Draws(known.keys, np.isnan(known.values).astype(np.float64)).mean(rest)
    return with_overall(per_model, Draws(mean.keys, np.where(holes.values > 0, np.nan, mean.values)))


def estimates(results: Results, figure: Draws, by: Sequence[str], name: str) -> pl.DataFrame:
    """`by`, {name}_mean, _low, _high and p. No interval where more draws have no figure than lie beyond either limit:
    they could lie anywhere."""
    figure, confidence = with_all(figure, by), results.bootstrap.confidence
    unknown = np.isnan(figure.values[:, 1:]).mean(axis=1) > (1 - confidence) / 2
    ends = limits(figure, confidence).with_columns(pl.when(~pl.Series(unknown)).then(pl.all()))
    stems = {end: f"{name}_{end}" for end in ("low", "high")}
    return held(figure.frame(f"{name}_mean").hstack(ends.rename(stems)), name)


def counted(sums: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """`by`; n_noise, in how many reward models (of all models, together) there is noise alone, and n_seeds."""
    both = pl.concat([sums, sums.with_columns(model=pl.lit(OVERALL))])
    n_noise = pl.col("is_noise").sum().cast(pl.UInt32)
    return both.group_by(by, maintain_order=True).agg(n_noise=n_noise, n_seeds=pl.col("seed").n_unique())


def table(results: Results, figures: Mapping[str, Draws], sums: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """`by`, {figure}_mean, _low and _high of each, n_noise, n_seeds, and p of the first; rows in the study's order.

    sums: of each seed, with `by` and is_noise.
    """
    found = counted(sums, by)
    for name, figure in figures.items():
        of_figure = estimates(results, figure, by, name)
        p = "p" if name == next(iter(figures)) else f"{name}_p"
        found = found.join(of_figure.rename({"p": p}), on=by, how="left", maintain_order="left")
    varied = cs.ends_with("_low", "_high") | cs.by_name("p")  # nothing varies of one seed
    found = found.with_columns(pl.when(pl.col("n_seeds") > 1).then(varied))
    ends = [f"{name}_{end}" for name in figures for end in ("mean", "low", "high")]
    return results.sorted(found.select(*by, *ends, "n_noise", "n_seeds", "p"), by)


def empty(names: Sequence[str], by: list[str]) -> pl.DataFrame:
    columns = empty_table([*names], by, "p").drop(cs.ends_with("_sd")).with_columns(n_noise=pl.lit(0, pl.UInt32))
    return columns.select(pl.exclude("n_noise", "n_seeds", "p"), "n_noise", "n_seeds", "p")


def conflict_table(results: Results) -> pl.DataFrame:
    """model, regime (the mixed one, or a part of it), mixture (the mixed one whose parts' objectives and sets they
    are), set (all neurons, or those of the mixture), control, n_neurons; cosine of the two objectives' gradients at the
    set's neurons, without sampling noise, of sums over seeds, null where a square is not above noise; opposed, share of
    the gradients' squares that lies at weights which the objectives push opposite ways; n_noise, in how many reward
    models (over all models, theirs together) there is no gradient beyond noise by itself: they are in the sums. Draws
    of a control are taken together."""
    by = [*MIXTURE, "set", "control"]
    sums = results.conflicts.filter(pl.col("layer").is_null()).with_columns(is_noise=NOISE)
    if sums.is_empty():
        made = empty([*FIGURES], by).drop("p")
        return made.select(*by, pl.lit(0.0).alias("n_neurons"), pl.exclude(by))
    made = table(results, pooled(results, sums, by), sums, by).drop("p")
    both = pl.concat([sums, sums.with_columns(model=pl.lit(OVERALL))])
    sizes = both.group_by(by, maintain_order=True).agg(pl.col("n_neurons").mean())
    made = made.join(sizes, on=by, how="left", maintain_order="left")
    return made.select(*by, "n_neurons", pl.exclude(*by, "n_neurons"))


def conflict_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, mixture (as in conflict), against (of the common size: another set, or random neurons, or random
    ones as deep and as loud as the shared ones); cosine_difference, at shared neurons minus at those: below 0, the
    objectives oppose each other more at shared ones; opposed_difference likewise: above 0; n_noise, in how many reward
    models either has no gradient beyond noise by itself."""
    by = [*MIXTURE, "against"]
    sized = pl.col("control") == "size-matched"
    sums = results.conflicts.filter(pl.col("layer").is_null() & (pl.col("control") != "whole"))
    sums = sums.with_columns(is_noise=NOISE)
    if sums.is_empty():
        return empty([f"{name}_difference" for name in FIGURES], by)
    of_shared = (pl.col("set") == "shared") & (pl.col("control") == "matched-random")
    others = sums.filter((sized & (pl.col("set") != "shared")) | of_shared | (pl.col("control") == "random"))
    others = others.with_columns(against=pl.when(sized).then("set").otherwise("control"))
    shared = sums.filter(sized, set="shared")
    at_shared, at_others = pooled(results, shared, MIXTURE), pooled(results, others, by)
    differences = {
        f"{name}_difference": at_others[name].combined(at_shared[name], MIXTURE, lambda other, shared: shared - other)
        for name in FIGURES
    }
    noisy = shared.select(*MIXTURE, "seed", of_shared="is_noise")
    either = others.join(noisy, on=[*MIXTURE, "seed"], maintain_order="left")
    either = either.with_columns(is_noise=pl.col("is_noise") | pl.col("of_shared"))
    return table(results, differences, either, by)


def conflict_layers_table(results: Results) -> pl.DataFrame:
    """model, regime, mixture (as in conflict), layer; cosine and opposed of all neurons of the layer, and n_noise.
    Models differ in their layers, so that there are no rows for all of them."""
    by = [*MIXTURE, "layer"]
    sums = results.conflicts.filter(pl.col("layer").is_not_null()).with_columns(is_noise=NOISE)
    if sums.is_empty():
        return empty([*FIGURES], by).drop("p")
    return table(results, pooled(results, sums, by), sums, by).drop("p").filter(pl.col("model") != OVERALL)
