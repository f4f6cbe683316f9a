"""Estimates with intervals: ratios of sums over comparisons, averaged over tasks, seeds and models, with their
bootstrap draws carried along, so that whatever is computed from them has an interval too (docs/methods.md, section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control

from rmtension.analysis.resampling import Array, Terms, divide, is_constant, product, resampled_counts, tiles
from rmtension.base.sums import summable
from rmtension.study.naming import AVERAGE, OVERALL

REWARD_MODEL = ["model", "regime", "seed"]
TASK = ["orientation", "task"]
ID = "comparison_id"


def membership(frame: pl.DataFrame, by: Sequence[str]) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """The distinct keys of `by` in order of appearance, and each row's number among them."""
    keys = frame.select(by).unique(maintain_order=True)
    codes = frame.select(by).join(
        keys.with_row_index("code"), on=by, how="left", nulls_equal=True, maintain_order="left"
    )
    return keys, codes["code"].to_numpy().astype(np.int64)


def occurring(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The codes that occur, ascending, and each one's number among them."""
    occurs = np.bincount(codes) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


@dataclass(frozen=True)
class Draws:
    """A figure for each row of `keys`: values [rows, 1 + draws], the estimate first, then its bootstrap draws.

    NaN stands for a figure that is not defined, as a share of nothing.
    """

    keys: pl.DataFrame
    values: Array

    def frame(self, name: str) -> pl.DataFrame:
        """Keys and estimates, without their draws; null where not defined."""
        return self.keys.with_columns(pl.Series(name, self.values[:, 0]).fill_nan(None))

    def filter(self, *predicates: pl.Expr, **equal: object) -> Draws:
        kept = self.keys.with_row_index("_row").filter(*predicates, **equal)
        is_whole = len(kept) == len(self.keys)  # then it is no copy
        return self if is_whole else Draws(kept.drop("_row"), self.values[kept["_row"].to_numpy()])

    def with_columns(self, *columns: pl.Expr) -> Draws:
        return Draws(self.keys.with_columns(*columns), self.values)

    def joined(self, names: pl.DataFrame, on: Sequence[str]) -> Draws:
        """Each row once for each match in `names`, whose other columns are added; rows without one are left out."""
        rows = self.keys.with_row_index("_row").join(names, on=on, how="inner", maintain_order="left_right")
        return Draws(rows.drop("_row"), self.values[rows["_row"].to_numpy()])

    def summed(
        self, by: Sequence[str], weights: Array | None = None, of: NDArray[np.int64] | None = None
    ) -> tuple[Draws, Array]:
        """Sums over the rows of each group, and of their weights, which are [groups, 1] where no draw has others;
        undefined values count for nothing. weights: [n, 1 + draws], of each row those of number `of`; 1 without."""
        keys, codes = membership(self.keys, by)
        group = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), shape=(len(keys), len(codes)))
        holed = np.isnan(self.values.min(initial=0))
        if weights is None and not holed:
            return Draws(keys, group @ self.values), group.sum(axis=1)[:, None]
        total, weight = np.empty((2, len(keys), self.values.shape[1]))
        for columns in tiles(self.values.shape[1]):
            values = self.values[columns]
            times = np.ones_like(values) if weights is None else weights[columns][of]
            if holed:
                defined = ~np.isnan(values)
                values, times = np.where(defined, values, 0), defined * times
            total[columns], weight[columns] = group @ (values * times), group @ times
        return Draws(keys, total), weight

    def mean(self, by: Sequence[str]) -> Draws:
        """Plain mean over each group's rows that have a value."""
        total, count = self.summed(by)
        return Draws(total.keys, divide(total.values, count))

    def minus(self, other: Draws, on: Sequence[str]) -> Draws:
        """Differences from the row of `other` with the same `on`, draw by draw; keeps this one's keys."""
        return self.combined(other, on, np.subtract)

    def over(self, other: Draws, on: Sequence[str]) -> Draws:
        """Ratios to the row of `other` with the same `on`, draw by draw; keeps this one's keys."""
        return self.combined(other, on, divide)

    def combined(self, other: Draws, on: Sequence[str], operation: Callable[[Array, Array], Array]) -> Draws:
        """An operation on single numbers with the row of `other` with the same `on`; keeps this one's keys."""
        beside = other.keys.select(on).with_row_index("_right")
        rows = self.keys.with_row_index("_left").join(
            beside, on=on, how="inner", nulls_equal=True, maintain_order="left"
        )
        values = np.empty((len(rows), self.values.shape[1]))
        left, right = (rows[side].to_numpy() for side in ("_left", "_right"))
        for columns in tiles(self.values.shape[1]):
            values[columns] = operation(self.values[columns][left], other.values[columns][right])
        return Draws(rows.drop("_left", "_right"), values)

    def with_averages(self, by: Sequence[str]) -> Draws:
        """These rows, and for each of `by` and orientation a row of task AVERAGE, the plain mean over its tasks.

        A task that is part of two benchmarks counts once, as the mean of the two.
        """
        tasks = self.mean([*by, *TASK])
        averages = tasks.mean([*by, "orientation"]).with_columns(pl.lit(AVERAGE).alias("task"))
        return concat([tasks, averages])


def concat(parts: Sequence[Draws]) -> Draws:
    """Rows of several, which share their columns."""
    columns = parts[0].keys.columns
    keys = pl.concat([part.keys.select(columns) for part in parts])
    return Draws(keys, np.concatenate([part.values for part in parts]))


def with_overall(per_model: Draws, overall: Draws) -> Draws:
    """Figures of each model, and those of all of them together under the model OVERALL."""
    both = concat([per_model, overall.with_columns(pl.lit(OVERALL).alias("model"))])
    np.round(both.values, 12, out=both.values)  # the last digits of sums must not give a zero a sign
    return Draws(both.keys, np.add(both.values, 0.0, out=both.values))


def with_mean_of_models(of_models: pl.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """Rows of each of `by`, and under the model OVERALL the plain means of the columns; `by`: keys but `model`."""
    means = of_models.group_by(by, maintain_order=True).agg(summable(pl.col(columns)).mean(), model=pl.lit(OVERALL))
    return pl.concat([of_models, means.select(of_models.columns)])


def summed_up(parts: Iterable[Draws], by: Sequence[str]) -> Draws:
    """Sums over the rows of each group in all parts together, of which no two need be held at once."""

    piles: list[Draws] = []  # of parts with the same keys, as most have
    for part in parts:
        keys = part.keys.select(by)
        place = next((i for i, pile in enumerate(piles) if pile.keys.equals(keys)), len(piles))
        piles[place:] = [Draws(keys, piles[place].values + part.values if place < len(piles) else part.values)]
    return concat(piles).summed(by)[0]


def between(figures: Draws, regimes: Sequence[str]) -> list[Draws]:
    """Of each two regimes, the figures of the first minus those of the second, within model, seed and task; keyed by
    `first` and `second` too."""
    parts = []
    for first, second in combinations(regimes, 2):
        difference = figures.filter(regime=first).minus(figures.filter(regime=second), ["model", "seed", *TASK])
        parts.append(difference.with_columns(pl.lit(first).alias("first"), pl.lit(second).alias("second")))
    return parts


@dataclass(frozen=True)
class Block:
    """All scores of one task of one benchmark: arrays [units, comparisons], NaN where there is no score.

    chosen: the lowest score of a comparison's chosen responses; rejected: the highest of its rejected ones.
    """

    benchmark: str
    orientation: str
    task: str
    units: pl.DataFrame  # model, regime, seed, ablation
    ids: pl.Series  # comparison_id
    held: NDArray[np.int64]  # how many of the comparisons each unit was given
    chosen: NDArray[np.float32]
    rejected: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Strictly: a tie is wrong (docs/methods.md, section 6)."""
        return self.chosen > self.rejected

    @property
    def scored(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.chosen)

    def of_units(self, *predicates: pl.Expr) -> Block:
        """Of those units alone that match."""
        kept = self.units.with_row_index("row").filter(*predicates)
        row = kept["row"].to_numpy()
        chosen, rejected, held = self.chosen[row], self.rejected[row], self.held[row]
        return replace(self, units=kept.drop("row"), held=held, chosen=chosen, rejected=rejected)

    def rows(self, **equal: object) -> pl.DataFrame:
        """The units that match, with their row number as `row`."""
        return self.units.with_row_index("row").filter(**equal)


def blocks(frames: Iterable[pl.DataFrame]) -> list[Block]:
    """One block a task of all frames: model, regime, seed, benchmark, ablation, comparison_id, orientation, task,
    chosen, rejected (null where not scored)."""
    return joined(block for frame in frames for block in own_blocks(frame))


def own_blocks(scores: pl.DataFrame) -> Iterator[Block]:
    tasks, task = membership(scores, ["benchmark", *TASK])
    (units, unit), (ids, comparison) = membership(scores, [*REWARD_MODEL, "ablation"]), membership(scores, [ID])
    units, named = units.cast({cs.categorical(): pl.String}), ids[ID].cast(pl.String)
    sides = [scores[side].cast(pl.Float32).fill_null(np.nan).to_numpy() for side in ("chosen", "rejected")]
    for number, (benchmark, orientation, name) in enumerate(tasks.rows()):
        here = np.flatnonzero(task == number)
        (own, row), (of, column) = occurring(unit[here]), occurring(comparison[here])
        chosen, rejected = np.full((2, len(own), len(of)), np.nan, dtype=np.float32)
        for side, values in zip(sides, (chosen, rejected), strict=True):
            values[row, column] = side[here]
        held = np.bincount(row, minlength=len(own))
        yield Block(benchmark, orientation, name, units[own], named[of], held, chosen, rejected)


def joined(made: Iterable[Block]) -> list[Block]:
    """Those of one task as one block, of the units and the comparisons of all of them."""
    by_task: dict[tuple[str, ...], list[Block]] = {}
    for block in made:
        by_task.setdefault((block.benchmark, block.orientation, block.task), []).append(block)
    whole = []
    for several in by_task.values():
        ids = pl.concat([block.ids for block in several]).unique(maintain_order=True)
        units, held = pl.concat([block.units for block in several]), np.concatenate([block.held for block in several])
        chosen, rejected = np.full((2, len(units), len(ids)), np.nan, dtype=np.float32)
        first = 0
        for block in several:
            rows, columns = slice(first, first + len(block.units)), block.ids.cast(pl.Enum(ids)).to_physical()
            chosen[rows, columns.to_numpy()], rejected[rows, columns.to_numpy()] = block.chosen, block.rejected
            first = rows.stop
        whole.append(replace(several[0], units=units, ids=ids, held=held, chosen=chosen, rejected=rejected))
    return whole


def limits(figures: Draws, confidence: float) -> pl.DataFrame:
    """low and high: percentiles of the draws; p: twice the smaller share of draws on one side of zero."""
    drawn, tail = figures.values[:, 1:], 50 * (1 - confidence)
    if not len(drawn):
        return pl.DataFrame(schema={"low": pl.Float64, "high": pl.Float64, "p": pl.Float64})
    undefined, holed = np.isnan(drawn).all(axis=1), np.isnan(drawn).any(axis=1)
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=1)
    some = holed & ~undefined  # rows with holes are rare, and the function for them is slow
    low[some], high[some] = np.nanpercentile(drawn[some], [tail, 100 - tail], axis=1) if some.any() else (0, 0)
    # One is added so that no p-value is zero.
    below, above = ((side.sum(axis=1) + 1) / figures.values.shape[1] for side in (drawn <= 0, drawn >= 0))
    p = np.minimum(1, 2 * np.minimum(below, above))
    frame = pl.DataFrame({"low": low, "high": high, "p": p})
    return frame.with_columns(pl.when(~pl.Series(undefined)).then(pl.all()))


@dataclass(frozen=True)
class Bootstrap:
    """Hierarchical resampling: comparisons within a task, the same for all reward models, and seeds within a model.

    draws: how many; seed: of all draws; confidence: of the intervals.
    """

    draws: int
    seed: int
    confidence: float

    def counts(self, n: int, *name: str) -> NDArray[np.float32]:
        """How often each of n things is drawn: [n, 1 + draws], the first column once each. Seeded by `name`."""
        return resampled_counts(n, self.draws, self.seed, name)

    def ratio(self, block: Block, keys: pl.DataFrame, numerator: Terms, denominator: Terms) -> Draws:
        """Sum of numerator over sum of denominator over the block's comparisons, both [rows of keys, comparisons]."""
        total, count = self.sums(block, keys, numerator), self.sums(block, keys, denominator)
        return Draws(total.keys, divide(total.values, count.values))

    def sums(self, block: Block, keys: pl.DataFrame, terms: Terms) -> Draws:
        """Sums over the block's comparisons."""
        weights = self.counts(terms.shape[1], block.benchmark, block.task)
        names = [pl.lit(getattr(block, name)).alias(name) for name in ("benchmark", *TASK)]
        return Draws(keys.with_columns(names), product(terms, weights, is_whole=terms.dtype == np.bool_))

    def accuracy(self, made: Sequence[Block]) -> Draws:
        """Percent correct of every unit on every task, of the comparisons that could be scored."""
        return concat([scaled(self.ratio(b, b.units, b.correct, b.scored), 100) for b in made])

    def pooled_accuracy(self, made: Sequence[Block]) -> Draws:
        """Percent correct of every unit on all comparisons of a benchmark together."""
        by = [*REWARD_MODEL, "ablation", "benchmark"]
        right = summed_up((self.sums(b, b.units, b.correct) for b in made), by)
        scored = summed_up((self.sums(b, b.units, b.scored) for b in made), by)
        return scaled(right.over(scored, by), 100)

    def constant(self, frame: pl.DataFrame, value: str) -> Draws:
        """Figures that depend on no comparison: one column of a frame, the others its keys."""
        frame = frame.sort(pl.exclude(value))  # the order of a sum shows in its last digit
        column = frame[value].cast(pl.Float64).fill_null(np.nan).to_numpy()
        return Draws(frame.drop(value), np.broadcast_to(column[:, None], (len(column), self.draws + 1)))

    def over_seeds(self, figures: Draws, by: Sequence[str]) -> Draws:
        """Mean over seeds, their draws spread by resampling seeds within each model."""
        return self.of_means([figures], by, lambda mean: mean)

    def of_means(self, figures: Sequence[Draws], by: Sequence[str], function: Callable[..., Array]) -> Draws:
        """A function of the means over seeds of several figures with the same keys, its draws spread by resampling
        seeds within each model, the same for all figures.

        A resampled mean of n values has (n - 1) / n of the variance of a mean: with three seeds that is a third too
        little, so deviations are scaled up by the root of n / (n - 1).
        """
        seeds, code = membership(figures[0].keys, ["model", "seed"])
        weights = np.empty((len(seeds), self.draws + 1))
        for (model,), rows in seeds.with_row_index("row").sort("seed").group_by("model", maintain_order=True):
            weights[rows["row"].to_numpy()] = self.counts(len(rows), "seeds", str(model))
        plain = [figure.summed(by) for figure in figures]
        resampled = [figure.summed(by, weights, code) for figure in figures]
        found, drawn = (function(*(divide(total.values, n) for total, n in of)) for of in (plain, resampled))
        keys, n = plain[0][0].keys, plain[0][1]
        return Draws(keys, found + np.sqrt(divide(n, np.maximum(n - 1, 1))) * (drawn - found))

    def averaged(self, figures: Draws, by: Sequence[str]) -> Draws:
        """Means over seeds for each of `by` (which holds `model`), and under the model OVERALL their plain means over
        models."""
        per_model = self.over_seeds(figures, by)
        return with_overall(per_model, per_model.mean([key for key in by if key != "model"]))

    def summary(self, figures: Draws, by: Sequence[str], name: str) -> pl.DataFrame:
        """One row for each of `by` (which holds `model`): {name}_mean, _sd, _low, _high, p and n_seeds.

        figures: keyed by `by` and seed. Rows of the model OVERALL are plain means over models. sd is the population
        standard deviation over seeds, in OVERALL rows that of the models' mean. Where no comparison was resampled,
        p is null, as draws of a few seeds have none to speak of; with one seed nothing varies, low and high are, too.
        """
        rest = [key for key in by if key != "model"]
        overall = pl.lit(OVERALL).alias("model")
        averaged = self.averaged(figures, by)
        by_seed = Draws(figures.keys, figures.values[:, :1])
        by_seed = concat([by_seed.mean([*by, "seed"]), by_seed.mean([*rest, "seed"]).with_columns(overall)])
        spread = (
            by_seed.frame("value")
            .group_by(by, maintain_order=True)
            .agg(sd=summable(pl.col("value")).std(ddof=0), n_seeds=pl.col("value").count())
        )
        ends = limits(averaged, self.confidence)
        frame = averaged.frame("mean").hstack(ends)
        frame = frame.join(spread, on=by, how="left", nulls_equal=True, maintain_order="left")
        if is_constant(figures.values):
            known = pl.col("n_seeds") > 1
            frame = frame.with_columns(pl.when(known).then(pl.col("low", "high")), p=pl.lit(None, pl.Float64))
        stems = {column: f"{name}_{column}" for column in ("mean", "sd", "low", "high")}
        return frame.rename(stems).select(*by, *stems.values(), "p", "n_seeds")


def shares(
    bootstrap: Bootstrap,
    figures: Draws,
    by: Sequence[str],
    wholes: Draws,
    of: Sequence[str],
    name: str,
    clear: pl.Expr,
) -> pl.DataFrame:
    """`by`, {name}_mean, _low and _high: the mean figure over the mean of its whole, over seeds (and models) each,
    draw by draw; null but where the whole, whose limits are low and high, is `clear`.

    figures: keyed by `by` and seed; wholes: by `of`, which are some of `by`, and seed.
    """
    whole = bootstrap.averaged(wholes, of)
    ratio = bootstrap.averaged(figures, by).over(whole, of)
    is_clear = whole.keys.hstack(limits(whole, bootstrap.confidence)).select(*of, clear=clear)
    kept = ratio.keys.join(is_clear, on=of, maintain_order="left")["clear"].fill_null(value=False).to_numpy()
    ratio = Draws(ratio.keys, np.where(kept[:, None], ratio.values, np.nan))
    ends = limits(ratio, bootstrap.confidence).select(pl.col("low", "high").name.prefix(f"{name}_"))
    return ratio.frame(f"{name}_mean").hstack(ends).select(*by, cs.starts_with(f"{name}_"))


def scaled(figures: Draws, factor: float) -> Draws:
    return Draws(figures.keys, figures.values * factor)


def discovery_rates(table: pl.DataFrame, family: Sequence[str]) -> pl.DataFrame:
    """Adds q: p-values adjusted by Benjamini and Hochberg over the tasks of each family; null for averages."""

    def adjusted(p: pl.Series) -> pl.Series:
        return pl.Series(false_discovery_control(p.to_numpy()) if len(p) else [], dtype=pl.Float64)

    is_test = (pl.col("task") != AVERAGE) & pl.col("p").is_not_null()
    numbered = table.with_row_index("_row")
    tested = numbered.filter(is_test).with_columns(
        q=pl.col("p").map_batches(adjusted, return_dtype=pl.Float64).over(family)
    )
    return numbered.join(tested.select("_row", "q"), on="_row", how="left", maintain_order="left").drop("_row")
