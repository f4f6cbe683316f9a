"""Tables about rules without a model, and about what length has to do with what reward models prefer."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rmtension.analysis.length import COUNTED, lead_correlations, longer_shares
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE, shared_set
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Draws, between, concat, limits
from rmtension.analysis.surface import surface
from rmtension.study.naming import AVERAGE, OVERALL


def with_rest(figures: Draws, by: Sequence[str]) -> pl.DataFrame:
    """`by` (which holds `model`) and TASK; n_tasks, how many tasks have a figure, and of_tasks, of how many: of an
    average those that it is over, of a task itself 1 or 0 of 1. In the reward model that has fewest of them.

    figures: keyed by `by`, seed and TASK, and by what else tells reward models apart.
    """
    unit = [key for key in figures.keys.columns if key not in ("benchmark", "task")]
    tasks = figures.frame("value").filter(pl.col("task") != AVERAGE).group_by([*unit, "task"], maintain_order=True)
    each = tasks.agg(n_tasks=(pl.col("value").count() > 0).cast(pl.UInt32), of_tasks=pl.lit(1, pl.UInt32))
    averages = each.group_by(unit, maintain_order=True).agg(pl.col("n_tasks", "of_tasks").sum().cast(pl.UInt32))
    every = pl.concat([each, averages.with_columns(task=pl.lit(AVERAGE)).select(each.columns)])
    both = pl.concat([every, every.with_columns(model=pl.lit(OVERALL))])
    return both.group_by([*by, *TASK], maintain_order=True).agg(pl.col("n_tasks").min(), pl.col("of_tasks").max())


def surface_table(results: Results) -> pl.DataFrame:
    """benchmark, orientation, task, rule (longer or shorter: the response with more or fewer tokens of its own;
    words:REGIME: the one whose words that regime's train pairs prefer); n_comparisons, and accuracy, its interval over
    comparisons. A tie is wrong."""
    frame = surface(results.bootstrap, results.pairs.rules)
    return results.sorted(frame, ["benchmark", *TASK, "rule"])


def length_table(results: Results) -> pl.DataFrame:
    """model, regime, orientation, task, ablation (none, the own main set; in mixed ones shared and what is exclusive to
    a part); accuracy over pairs of a chosen and a rejected response of which the chosen one is the longer (longer) or
    the shorter one (shorter), the mean of the two (balanced), and n_longer, n_shorter, how many those pairs are (means
    over seeds and models); n_tasks, how many tasks an average is over, and of_tasks, of how many. The three are null
    where either side has fewer than 5 comparisons."""
    by = ["model", "regime", *TASK, "ablation"]
    balanced = results.pairs.length["balanced"].filter(results.once)
    sides = results.pairs.by_length("longer", "shorter")  # for this table alone, and large
    longer, shorter = (side.filter(results.once) for side in sides.values())
    table = results.table(balanced, by, "balanced", longer=longer, shorter=shorter).drop("p")
    for name in COUNTED:
        per_model = results.pairs.length[name].filter(results.once).mean(by)
        overall = per_model.mean(by[1:]).with_columns(pl.lit(OVERALL).alias("model"))
        table = table.join(concat([per_model, overall]).frame(name), on=by, how="left", maintain_order="left")
    return beside_rest(table, balanced, by)


def beside_rest(table: pl.DataFrame, figures: Draws, by: Sequence[str]) -> pl.DataFrame:
    """A table with n_tasks and of_tasks (see with_rest) of its figures behind its keys, which are `by`."""
    rest = with_rest(figures, [key for key in by if key not in TASK])
    joined = table.join(rest, on=by, how="left", maintain_order="left")
    return joined.select(*by, "n_tasks", "of_tasks", pl.exclude(*by, "n_tasks", "of_tasks"))


def length_contrasts_table(results: Results) -> pl.DataFrame:
    """model, first, second (regimes), orientation, task; difference, balanced accuracy of the first minus that of the
    second on the same pairs, n_tasks and of_tasks as in length."""
    by = ["model", "first", "second", *TASK]
    parts = between(results.pairs.length["balanced"].filter(NONE), results.study.distinct_regimes())
    if not parts:
        none = results.pairs.length["balanced"].filter(pl.lit(value=False))
        none = none.with_columns(pl.lit("").alias("first"), pl.lit("").alias("second"))
        return beside_rest(empty_table(["difference"], by, "p"), none, by)
    difference = concat(parts)
    return beside_rest(results.table(difference, by, "difference"), difference, by)


def length_change_table(results: Results) -> pl.DataFrame:
    """model, regime, ablation, against (none, or in a mixed regime another set than shared), orientation, task;
    difference, balanced accuracy under the ablation minus that under `against`, n_tasks and of_tasks as in length."""
    by = ["model", "regime", "ablation", "against", *TASK]
    balanced, on = results.pairs.length["balanced"], [*REWARD_MODEL, *TASK]
    parts = [balanced.filter(~NONE).minus(balanced.filter(NONE), on).with_columns(pl.lit("none").alias("against"))]
    shared = balanced.filter(ablation=shared_set(results.study))
    for name in balanced.keys.filter(pl.col("ablation").str.ends_with("-only"))["ablation"].unique(maintain_order=True):
        parts.append(shared.minus(balanced.filter(ablation=name), on).with_columns(pl.lit(name).alias("against")))
    difference = concat(parts)
    return beside_rest(results.table(difference, by, "difference"), difference, by)


def length_correlation_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, orientation, task; correlation, Spearman's over pairs of a chosen and a rejected
    response, of their difference in reward and their difference in length."""
    by = ["model", "regime", "benchmark", *TASK]
    return results.table(results.pairs.length_correlations.filter(results.once_each), by, "correlation").drop("p")


def length_lead_table(results: Results) -> pl.DataFrame:
    """model, first, second (single-objective regimes), tasks (all, or an orientation's); correlation, Spearman's over
    tasks, of the first one's lead in accuracy with the share of the task's pairs of different length (n_longer and
    n_shorter of `length`) of which the chosen response is the longer one, null of fewer than 6 tasks; n_tasks. The
    interval is over tasks and seeds."""
    by = ["model", "first", "second", "tasks"]
    accuracy = results.task_accuracy.filter(pl.col("task") != AVERAGE).mean([*REWARD_MODEL, *TASK])
    distinct = results.study.distinct_regimes()
    parts = between(accuracy, [regime for regime in results.study.single_regimes() if regime in distinct])
    if not parts or parts[0].keys.is_empty():
        return empty_table(["correlation"], by, "n_tasks").drop("correlation_sd")
    frame = concat(parts).frame("lead").select("model", "seed", "first", "second", *TASK, "lead")
    leads = results.bootstrap.over_seeds(results.bootstrap.constant(frame, "lead"), ["model", "first", "second", *TASK])
    overall = leads.mean(["first", "second", *TASK]).with_columns(pl.lit(OVERALL).alias("model"))
    counts = {name: results.pairs.length[name].filter(NONE, pl.col("task") != AVERAGE) for name in COUNTED}
    figure = lead_correlations(results.bootstrap, concat([leads, overall]), longer_shares(counts))
    names = {"low": "correlation_low", "high": "correlation_high"}
    table = figure.frame("correlation_mean").hstack(
        limits(figure, results.bootstrap.confidence).select("low", "high").rename(names)
    )
    of = ["model", "first", "second"]
    both = pl.concat([frame, frame.with_columns(model=pl.lit(OVERALL))])
    seeds = both.group_by(of).agg(n_seeds=pl.col("seed").n_unique())
    ends = [f"correlation_{end}" for end in ("mean", "low", "high")]
    return results.sorted(table.join(seeds, on=of, maintain_order="left").select(*by, *ends, "n_tasks", "n_seeds"), by)


def set_length_table(results: Results) -> pl.DataFrame:
    """model, regime, set (the own main set, and random neurons as loud); correlation, Spearman's over the texts of the
    own test split, of the mean activation of the set's neurons with the number of tokens of the text's own."""
    by = ["model", "regime", "set"]
    figure = results.pairs.set_correlations.with_columns(pl.col("ablation").alias("set"))
    return results.table(figure, by, "correlation").drop("p")
