"""Tables of conflict: how far the gradients of a mixture's two objectives oppose each other, by set and by layer.

Sums are over a set's neurons of products of gradients (docs/methods.md, section 14); intervals are over seeds alone.
"""

from __future__ import annotations

import polars as pl
import polars.selectors as cs

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.statistics import REWARD_MODEL
from rmtension.study.naming import OVERALL

FIGURES = ["cosine", "opposed"]
MIXTURE = ["model", "regime", "mixture"]


def shares(results: Results, kept: pl.Expr) -> pl.DataFrame:
    """Of the sums that are `kept`, cosine and opposed beside their keys."""
    own, other = pl.col("first_first"), pl.col("second_second")
    cosine = pl.when(own > 0, other > 0).then(pl.col("first_second") / (own * other).sqrt())
    opposed = pl.when(pl.col("square") > 0).then(pl.col("opposed") / pl.col("square"))
    return results.conflicts.filter(kept).select(*REWARD_MODEL, "mixture", "set", "control", "layer", "n_neurons",
                                                 cosine=cosine, opposed=opposed)  # fmt: skip


def conflict_table(results: Results) -> pl.DataFrame:
    """model, regime (the mixed one, or a part of it), mixture (the mixed one whose parts' objectives and sets they
    are), set (all neurons, or those of the mixture), control, n_neurons; cosine of the two objectives' gradients at the
    set's neurons, without sampling noise, null where a square is not above it; opposed, share of the gradients' squares
    that lies at weights which the objectives push opposite ways. Draws of a control are taken together."""
    by = [*MIXTURE, "set", "control"]
    columns = [*by, "n_neurons", cs.starts_with("cosine_"), cs.starts_with("opposed_"), "n_seeds"]
    frame = shares(results, pl.col("layer").is_null())
    if frame.is_empty():
        return empty_table(FIGURES, by, "n_neurons").select(columns)
    draws = {name: results.bootstrap.constant(frame.select(*by, "seed", name), name) for name in ("cosine", "opposed")}
    table = results.table(draws["cosine"], by, "cosine", opposed=draws["opposed"]).drop("p")
    both = pl.concat([frame, frame.with_columns(model=pl.lit(OVERALL))])
    sizes = both.group_by(by, maintain_order=True).agg(pl.col("n_neurons").mean())
    return table.join(sizes, on=by, how="left", maintain_order="left").select(columns)


def conflict_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, mixture (as in conflict), against (of the common size: another set, or random neurons, or random
    ones as deep and as loud as the shared ones); cosine_difference, at shared neurons minus at those: below 0, the
    objectives oppose each other more at shared ones; opposed_difference likewise: above 0."""
    by = [*MIXTURE, "against"]
    names = [f"{name}_difference" for name in FIGURES]
    frame = shares(results, pl.col("layer").is_null() & (pl.col("control") != "whole"))
    if frame.is_empty():
        return empty_table(names, by, "p").select(pl.exclude("n_seeds", "p"), "n_seeds", "p")
    keys, sized = [*MIXTURE, "seed"], pl.col("control") == "size-matched"
    shared = frame.filter(sized, set="shared").select(*keys, *FIGURES)
    of_shared = (pl.col("set") == "shared") & (pl.col("control") == "matched-random")
    others = frame.filter((sized & (pl.col("set") != "shared")) | of_shared | (pl.col("control") == "random"))
    others = others.with_columns(against=pl.when(sized).then("set").otherwise("control"))
    joined = others.join(shared, on=keys, suffix="_shared", maintain_order="left")
    differences = joined.select(
        *by, "seed", **{f"{name}_difference": pl.col(f"{name}_shared") - pl.col(name) for name in FIGURES}
    )
    draws = [results.bootstrap.constant(differences.select(*by, "seed", name), name) for name in names]
    return results.table(draws[0], by, names[0], **{names[1]: draws[1]})


def conflict_layers_table(results: Results) -> pl.DataFrame:
    """model, regime, mixture (as in conflict), layer; cosine and opposed of all neurons of the layer. Models differ in
    their layers, so that there are no rows for all of them."""
    by = [*MIXTURE, "layer"]
    frame = shares(results, pl.col("layer").is_not_null())
    if frame.is_empty():
        return empty_table(FIGURES, by)
    draws = {name: results.bootstrap.constant(frame.select(*by, "seed", name), name) for name in FIGURES}
    table = results.table(draws["cosine"], by, "cosine", opposed=draws["opposed"]).drop("p")
    return table.filter(pl.col("model") != OVERALL)
