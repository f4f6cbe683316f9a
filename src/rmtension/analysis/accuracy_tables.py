"""Tables of accuracy: of benchmarks and tasks, between regimes, and by the benchmarks' official metrics."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import polars as pl
import polars.selectors as cs

from rmtension.analysis.official import official_metrics
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Draws, between, concat, discovery_rates, limits
from rmtension.analysis.units import held
from rmtension.data.tasks import subset_names
from rmtension.study.measured import own_tests
from rmtension.study.naming import OVERALL


def benchmark_accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark; accuracy over all its comparisons together; n_comparisons and, of these, n_unscored
    (means over seeds and models)."""
    by = ["model", "regime", "benchmark"]
    found = [
        block.units.with_columns(benchmark=pl.lit(block.benchmark), n_comparisons=block.held,
                                 n_unscored=block.held - block.scored.sum(axis=1))
        for block in results.blocks
    ]  # fmt: skip
    unablated = pl.concat(found).filter(NONE, results.once_each)
    counts = unablated.group_by([*by, "seed"], maintain_order=True).agg(pl.col("n_comparisons", "n_unscored").sum())
    counts = pl.concat([counts, counts.with_columns(model=pl.lit(OVERALL))])
    counts = counts.group_by(by, maintain_order=True).agg(pl.col("n_comparisons", "n_unscored").mean())
    table = results.table(results.benchmark_accuracy.filter(results.once_each), by, "accuracy").drop("p")
    return table.join(counts, on=by, how="left", maintain_order="left")


def accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, orientation, task; accuracy."""
    accuracy = results.task_accuracy.filter(results.once)
    return results.table(accuracy, ["model", "regime", *TASK], "accuracy").drop("p")


def contrasts_table(results: Results) -> pl.DataFrame:
    """model, first, second (regimes), orientation, task; difference, accuracy of the first minus that of the second
    on the same comparisons."""
    by = ["model", "first", "second", *TASK]
    parts = between(results.task_accuracy, results.study.distinct_regimes())
    if not parts:
        return empty_table(["difference"], by, "p", "q")
    return discovery_rates(results.table(concat(parts), by, "difference"), ["model", "first", "second"])


def model_contrasts_table(results: Results) -> pl.DataFrame:
    """first, second (models), regime, orientation, task; difference, accuracy of the first one's minus that of the
    second's on the same comparisons. Own test splits have their sources as tasks, and are in no average."""
    keys, by = ["regime", *TASK], ["first", "second", "regime", *TASK]
    own = [block.of_units(NONE) for block in results.blocks if block.benchmark in own_tests(results.study)]
    parts = [results.task_accuracy.filter(results.once)]
    if own:
        of_tests = results.bootstrap.accuracy(own).filter(results.once_each)
        parts.append(of_tests.mean([*REWARD_MODEL, "ablation", *TASK]))
    figures = results.bootstrap.over_seeds(concat(parts), ["model", *keys])
    frames = [empty_table(["difference"], by, "p", "q").drop("difference_sd", "n_seeds")]
    for first, second in combinations(results.study.models, 2):
        difference = figures.filter(model=first).minus(figures.filter(model=second), keys)
        difference = Draws(difference.keys, np.round(difference.values, 12) + 0.0)
        frame = difference.frame("difference_mean").hstack(limits(difference, results.bootstrap.confidence))
        named = frame.select(*keys, "difference_mean", difference_low="low", difference_high="high", p="p",
                             first=pl.lit(first), second=pl.lit(second))  # fmt: skip
        named = results.floored(held(named, "difference"))
        frames.append(discovery_rates(named, ["regime"]).select(frames[0].columns))
    return results.sorted(pl.concat(frames), by)


def official_table(results: Results) -> pl.DataFrame:
    """model, regime, ablation (none, or the own main set), benchmark, metric; value in percent, as the benchmark's
    makers define it; the interval is over seeds alone."""
    by = ["model", "regime", "ablation", "benchmark", "metric"]
    ablations, frames = ["none", results.study.ablation.main_set], []
    of_each = product(results.study.benchmarks.items(), results.study.models)
    for (name, benchmark), model in of_each:  # words of all take a gigabyte
        scores = results.lists.filter(pl.col("ablation").is_in(ablations), benchmark=name, model=model)
        scores = scores.cast({cs.categorical(): pl.String}).filter(results.once)
        named = scores.join(subset_names(benchmark.kind), on="task", how="left", maintain_order="left")
        named = named.with_columns(subset=pl.coalesce("subset", "task"))
        frames.append(official_metrics(named, benchmark.kind, [*REWARD_MODEL, "ablation"]))
    frames = [frame.select(*by, "seed", "value") for frame in frames if len(frame)]
    return results.table_of_seeds(pl.concat(frames), by, "value") if frames else empty_table(["value"], by)
