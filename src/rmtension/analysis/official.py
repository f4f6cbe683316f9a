"""The benchmarks' own metrics, reported beside the paper's accuracies (docs/methods.md, section 6)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import polars as pl

from rmtension.base.files import RESOURCES
from rmtension.base.sums import summable
from rmtension.data.tasks import TIES

SECTIONS_FILE = RESOURCES / "official.csv"

CHOSEN, REJECTED = pl.col("chosen_scores"), pl.col("rejected_scores")
BOTH = pl.concat_list(CHOSEN, REJECTED)
AT_THE_TOP = BOTH.list.eval(pl.element() == pl.element().max()).list.sum()
CELLS = {(i, j): f": chosen style {i + 1}, rejected style {j + 1}" for i, j in product(range(3), range(3))}
# Kind of benchmark -> what a metric's name has behind that of its section -> what a comparison earns, null if unscored.
EARNED = {
    "reward-bench": {"": CHOSEN.list.first() > REJECTED.list.first()},
    "reward-bench-2": {"": (CHOSEN.list.first() == BOTH.list.max()) / AT_THE_TOP},
    "rm-bench": {name: CHOSEN.list.get(i) > REJECTED.list.get(j) for (i, j), name in CELLS.items()},
}
# The same for plain means of some of these.
MEANS = {
    "rm-bench": {
        ": easy": [name for (i, j), name in CELLS.items() if i > j],
        ": normal": [name for (i, j), name in CELLS.items() if i == j],
        ": hard": [name for (i, j), name in CELLS.items() if i < j],
        ": average": list(CELLS.values()),
    }
}


def sections(kind: str) -> pl.DataFrame:
    """section, subset, weight of the subset within its section; empty for a kind without official metrics."""
    return pl.read_csv(SECTIONS_FILE).filter(benchmark=kind).drop("benchmark")


def ties_values(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """*keys, ties: percent by the formula for Ties (docs/methods.md, section 6), null without a pair of questions.

    comparison_id ends in ref:N (one correct response) or tied:N (several) for the same question N.
    """
    name = pl.col("comparison_id").cast(pl.String)
    lowest = CHOSEN.list.min().cast(pl.Float64)
    measured = frame.filter(pl.col("subset") == TIES).select(
        *keys,
        question=name.str.extract(r":(\d+)$"),
        is_tied=name.str.contains(r"tied:\d+$"),
        gap=lowest - REJECTED.list.max(),
        spread=CHOSEN.list.max() - lowest,
    )
    tied, reference, spread = pl.col("tied"), pl.col("reference"), pl.col("spread")
    pairs = measured.group_by(*keys, "question", maintain_order=True).agg(
        pl.col("gap").filter(~pl.col("is_tied")).first().alias("reference"),
        pl.col("gap", "spread").filter(pl.col("is_tied")).first().name.replace("gap", "tied"),
    )
    is_pair = reference.is_not_null() & tied.is_not_null()
    least = pl.min_horizontal(reference, tied).filter(is_pair)
    margin = (least / spread.filter(is_pair) - 1).tanh().fill_nan(0)  # 0/0
    value = (
        30 * (tied > 0).mean()
        + 30 * (reference > 0).mean()
        + 20 * (tied > spread).filter(is_pair).mean()
        + 20 * (least > spread.filter(is_pair)).mean()
        + summable(margin).mean()
    )
    return pairs.group_by(keys, maintain_order=True).agg(ties=value)


def subset_values(frame: pl.DataFrame, kind: str, keys: Sequence[str]) -> pl.DataFrame:
    """*keys, subset, n_comparisons, n_unscored, and a column of percentages for each name in EARNED."""
    values = frame.group_by(*keys, "subset", maintain_order=True).agg(
        pl.len().alias("n_comparisons"),
        CHOSEN.null_count().alias("n_unscored"),
        *((100 * summable(earned).mean()).alias(name) for name, earned in EARNED[kind].items()),
    )
    if kind != "reward-bench-2":
        return values
    values = values.join(ties_values(frame, keys), on=keys, how="left", maintain_order="left")
    by_formula = pl.when(pl.col("subset") == TIES).then("ties").otherwise(pl.col(""))
    return values.with_columns(by_formula.alias("")).drop("ties")


def weighted(frame: pl.DataFrame, names: Sequence[str], by: Sequence[str]) -> pl.DataFrame:
    """Means weighted by column `weight`, null where one of the values is: a part never passes for the whole."""
    weight = pl.col("weight")
    means = [summable(pl.col(name) * weight).sum() / weight.sum() for name in names]
    whole = [pl.col(name).null_count() == 0 for name in names]
    return frame.group_by(*by, maintain_order=True).agg(
        pl.col("n_comparisons", "n_unscored").sum(),
        *(pl.when(w).then(mean).alias(name) for w, mean, name in zip(whole, means, names, strict=True)),
    )


def official_metrics(frame: pl.DataFrame, kind: str, by: Sequence[str]) -> pl.DataFrame:
    """*by, benchmark, metric, value (percent, null where a subset is missing), n_comparisons, n_unscored of these.

    frame: *by, benchmark, comparison_id, subset (upstream name), chosen_scores and rejected_scores (lists, null where
    the comparison could not be scored: it does not count). Empty for a kind without official metrics.
    """
    keys = [*by, "benchmark"]
    columns = {"metric": pl.String, "value": pl.Float64, "n_comparisons": pl.UInt32, "n_unscored": pl.UInt32}
    if kind not in EARNED:
        return frame.select(keys).clear().with_columns(pl.lit(None, t).alias(name) for name, t in columns.items())
    values = subset_values(frame.cast({"subset": pl.String}), kind, keys)
    groups, names = values.select(keys).unique(maintain_order=True), list(EARNED[kind])
    every = groups.join(sections(kind), how="cross").join(values, on=[*keys, "subset"], how="left")
    parts = weighted(every, names, [*keys, "section"])
    overall = weighted(parts.with_columns(section=pl.lit("overall"), weight=1), names, [*keys, "section"])
    # One after the other: polars' mean_horizontal adds a part for each thread.
    means = [pl.concat_list(several).list.mean().alias(name) for name, several in MEANS.get(kind, {}).items()]
    return (
        pl.concat([parts, overall])
        .with_columns(means)
        .unpivot(index=[*keys, "section", "n_comparisons", "n_unscored"])
        .with_columns(metric=pl.concat_str("section", "variable"))
        .select(*keys, *(pl.col(name).cast(kind) for name, kind in columns.items()))
    )
