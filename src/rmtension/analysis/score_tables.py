"""Tables of the scores themselves: how mixing shifts them, and how ablation compresses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from rmtension.analysis.ablation_tables import change
from rmtension.analysis.mixed_tables import paired
from rmtension.analysis.resampling import divide
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixtures, own_sets, with_values
from rmtension.analysis.statistics import REWARD_MODEL, Block, Draws, summed_up, with_mean_of_models
from rmtension.base.sums import summable


def moments(results: Results, block: Block, keyed: list[tuple[pl.DataFrame, dict[str, Any]]]) -> Draws:
    """Sums over a block's comparisons of several terms [rows of keys, comparisons], with the column `term`."""
    keys = [keys.with_columns(term=pl.lit(name)) for keys, terms in keyed for name in terms]
    values = [np.nan_to_num(value, nan=0.0).astype(float) for _, terms in keyed for value in terms.values()]
    return results.bootstrap.sums(block, pl.concat(keys), np.concatenate(values))


def means(summed: Draws, by: list[str], *terms: str) -> list[Draws]:
    """Each term's sum, divided by the sum of the term `n`."""
    return [summed.filter(term=term).over(summed.filter(term="n"), by) for term in terms]


def score_shift_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), single (one of its parts), response; n comparisons that both get right (mean over
    seeds), mean score by the single and by the mixed reward model, closeness (mean |mixed| minus mean |single|) and the
    standard deviation of either's scores. chosen: lowest chosen score; rejected: highest rejected one."""
    by = ["model", "regime", "single", "response"]
    pairs_of, keys = list(mixtures(results.study, results.study.regimes)), [*REWARD_MODEL, "single", "response"]
    if not pairs_of:
        return empty_table(["closeness", "mixed", "single", "mixed_spread", "single_spread"], by, "n")

    def on_task(block: Block) -> Draws:
        keyed = []
        for regime, single in pairs_of:
            pairs = paired(block, regime, single)
            kept = block.correct[pairs["row"]] & block.correct[pairs["part"]]
            for response, scores in (("chosen", block.chosen), ("rejected", block.rejected)):
                mixed, part = (np.where(kept, scores[pairs[side]], np.nan).astype(float) for side in ("row", "part"))
                terms = {"n": kept, "mixed": mixed, "single": part, "closeness": abs(mixed) - abs(part),
                         "mixed_square": mixed**2, "single_square": part**2}  # fmt: skip
                names = {"single": pl.lit(single), "response": pl.lit(response)}
                keyed.append((pairs.drop("row", "part").with_columns(**names), terms))
        return moments(results, block, keyed)

    total = summed_up(map(on_task, results.shared_blocks), [*keys, "term"])
    closeness, *means_ = means(total, keys, "closeness", "mixed", "single", "mixed_square", "single_square")
    figures = dict(zip(["mixed", "single"], means_, strict=False))
    spreads = {f"{n}_spread": Draws(m.keys, np.sqrt(np.maximum(square.values - m.values**2, 0)))
               for (n, m), square in zip(figures.items(), means_[2:], strict=True)}  # fmt: skip
    counts = total.filter(term="n")
    table = results.table(closeness, by, "closeness", **figures, **spreads).drop("p")
    n = results.bootstrap.summary(counts, by, "n").select(*by, n="n_mean")
    return table.join(n, on=by, how="left", maintain_order="left")


def compression_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, replaced_by (zero, or mean); mean |score| before and after the reward model's own top
    neurons by that scoring are ablated, its ratio (after over before), and margin_ratio, the same of |chosen minus
    rejected|."""
    by, keys = ["model", "regime", "scoring", "replaced_by"], [*REWARD_MODEL, "ablation"]
    sets = with_values(own_sets(results.study, results.study.ablation.percent), results.study)
    kept = pl.col("ablation").is_in(["none", *sets["ablation"]])

    def on_task(block: Block) -> Draws:
        of = block.of_units(kept)
        chosen, rejected = of.chosen.astype(float), of.rejected.astype(float)
        terms = {"n": ~np.isnan(chosen), "score": (abs(chosen) + abs(rejected)) / 2, "margin": abs(chosen - rejected)}
        return moments(results, of, [(of.units, terms)])

    score, margin = means(summed_up(map(on_task, results.shared_blocks), [*keys, "term"]), keys, "score", "margin")
    before, after, _ = change(score, sets)
    without, ablated, _ = change(margin, sets)
    ratio, margin_ratio = (Draws(a.keys, divide(a.values, b.values)) for b, a in ((before, after), (without, ablated)))
    return results.table(ratio, by, "ratio", before=before, after=after, margin_ratio=margin_ratio).drop("p")


def score_histogram_table(results: Results) -> pl.DataFrame:
    """model, figure (shift: scores of both on comparisons that both get right; compression: before and after the own
    main set is zeroed), regime, single ("" for compression), state (single, mixed, before, after), response; left and
    right edge of a bin, and share of the scores in it (mean over seeds). The two end bins hold what lies beyond."""
    main = results.study.ablation.main_set
    frames = []
    for block in results.shared_blocks:
        for regime, single in mixtures(results.study, results.study.regimes):
            pairs = paired(block, regime, single)
            kept = block.correct[pairs["row"]] & block.correct[pairs["part"]]
            for state, side in (("mixed", "row"), ("single", "part")):
                keys = pairs.select("model", "regime", "seed", figure=pl.lit("shift"), single=pl.lit(single))
                frames += [listed(block, keys.with_columns(state=pl.lit(state)), pairs[side], kept)]
        for state, ablation in (("before", "none"), ("after", main)):
            # An ensemble, for one, is never ablated.
            rows = block.rows(ablation=ablation).filter(pl.col("regime").is_in(results.study.with_neurons()))
            keys = rows.select("model", "regime", "seed", figure=pl.lit("compression"), single=pl.lit(""))
            frames += [listed(block, keys.with_columns(state=pl.lit(state)), rows["row"], block.scored[rows["row"]])]
    return results.sorted(histogram(pl.concat(frames)), ["model"])


def listed(block: Block, keys: pl.DataFrame, rows: pl.Series, kept: Any) -> pl.DataFrame:
    """The kept scores of some of a block's units, one a row."""
    scores = [keys.with_columns(response=pl.lit(response), score=pl.Series(
        [values[k] for values, k in zip(side[rows], kept, strict=True)], dtype=pl.List(pl.Float32)))
        for response, side in (("chosen", block.chosen), ("rejected", block.rejected))]  # fmt: skip
    return pl.concat(scores).explode("score", empty_as_null=False)


def histogram(scores: pl.DataFrame, bins: int = 40) -> pl.DataFrame:
    """Shares of a frame's scores in bins of each figure, between its 0.5th and its 99.5th percentile."""
    shape = ["figure", "regime", "single", "state", "response"]
    limits = pl.col("score").quantile(0.005).alias("least"), pl.col("score").quantile(0.995).alias("most")
    ends = scores.group_by("figure", maintain_order=True).agg(limits)
    width = (pl.col("most") - pl.col("least")) / bins
    bin_ = ((pl.col("score") - pl.col("least")) / width).floor().clip(0, bins - 1).cast(pl.Int32).alias("bin")
    counted = scores.join(ends, on="figure").with_columns(bin_, width=width)
    counted = counted.group_by("model", "seed", *shape, "bin", maintain_order=True).agg(
        pl.first("least", "width"), n=pl.len()
    )
    groups = counted.group_by("model", "seed", *shape, maintain_order=True).agg(
        pl.first("least", "width"), total=pl.col("n").sum()
    )
    grid = groups.join(pl.DataFrame({"bin": range(bins)}, schema={"bin": pl.Int32}), how="cross")
    on = ["model", "seed", *shape, "bin"]
    shares = grid.join(counted.select(*on, "n"), on=on, how="left").with_columns(
        share=pl.col("n").fill_null(0) / pl.col("total"),
        left=pl.col("least") + pl.col("bin") * pl.col("width"),
        right=pl.col("least") + (pl.col("bin") + 1) * pl.col("width"),
    )
    over = shares.group_by("model", *shape, "bin", "left", "right", maintain_order=True)
    means = over.agg(summable(pl.col("share")).mean())
    both = with_mean_of_models(means, [*shape, "bin", "left", "right"], ["share"])
    keys = ["model", *shape]
    return both.sort(*keys, "bin").select(*keys, "left", "right", "share")
