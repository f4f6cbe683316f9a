"""The study's tables: long frames, one function each, from what its jobs have left.

`{x}_mean` and `{x}_sd` are mean and population standard deviation over seeds, `{x}_low` and `{x}_high` the limits of a
hierarchical bootstrap interval, `n_seeds` the seeds with a value; rows of the model "all models" are plain means over
models. Accuracies are in percent, their differences (delta, difference) in points; p is a two-sided bootstrap p-value
and q the same adjusted over the tasks of a row group. Task tables leave the regimes' own test splits out, as no two
regimes share them, and have for each orientation a row of task "average".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from rmtension.analysis.compatibility import compatibility_table
from rmtension.analysis.neuron_tables import (
    depth_table,
    neuron_overlap_table,
    neuron_retention_table,
    rmsd_table,
    stability_table,
)
from rmtension.analysis.official import official_metrics
from rmtension.analysis.published import twin
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE, main_set, mixed_sets, mixed_sizes, own_sets, own_sizes
from rmtension.analysis.statistics import (
    REWARD_MODEL,
    TASK,
    Block,
    Draws,
    concat,
    discovery_rates,
    divide,
)
from rmtension.base.sums import summable
from rmtension.data.tasks import subset_names
from rmtension.study.naming import OVERALL, ranks_heads


def mixes(results: Results) -> Iterator[tuple[str, str]]:
    """Each mixed regime with each of its parts."""
    return ((regime, single) for regime, settings in results.study.regimes.items() for single in settings.mixes)


# --- accuracy ------------------------------------------------------------------------------------------------


def benchmark_accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark; accuracy over all its comparisons together; n_comparisons and, of these, n_unscored
    (means over seeds and models)."""
    by = ["model", "regime", "benchmark"]
    unablated = results.scores.filter(NONE).cast({cs.categorical(): pl.String})
    counts = unablated.group_by([*by, "seed"], maintain_order=True).agg(
        n_comparisons=pl.len(), n_unscored=pl.col("chosen").null_count()
    )
    counts = pl.concat([counts, counts.with_columns(model=pl.lit(OVERALL))])
    counts = counts.group_by(by, maintain_order=True).agg(pl.col("n_comparisons", "n_unscored").mean())
    table = results.table(results.benchmark_accuracy.filter(NONE), by, "accuracy").drop("p")
    return table.join(counts, on=by, how="left", maintain_order="left")


def accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, orientation, task; accuracy."""
    return results.table(results.task_accuracy.filter(NONE), ["model", "regime", *TASK], "accuracy").drop("p")


def contrasts_table(results: Results) -> pl.DataFrame:
    """model, first, second (regimes), orientation, task; difference, accuracy of the first minus that of the second
    on the same comparisons."""
    unablated = results.task_accuracy.filter(NONE)
    by = ["model", "first", "second", *TASK]
    parts = []
    for first, second in combinations(results.study.regimes, 2):
        names = pl.lit(first).alias("first"), pl.lit(second).alias("second")
        difference = unablated.filter(regime=first).minus(unablated.filter(regime=second), ["model", "seed", *TASK])
        parts.append(difference.with_columns(*names))
    if not parts:
        return empty_table(["difference"], by, "p", "q")
    return discovery_rates(results.table(concat(parts), by, "difference"), ["model", "first", "second"])


# --- the mixed reward model beside its parts -----------------------------------------------------------------


def paired(block: Block, mixed: str, single: str, ablation: Any = "none") -> pl.DataFrame:
    """Units of a mixed regime under `ablation` (all of them: None), with the row of the unablated part of the same
    model and seed: row, part."""
    parts = block.rows(regime=single, ablation="none").select("model", "seed", part="row")
    chosen = {} if ablation is None else {"ablation": ablation}
    return block.rows(regime=mixed, **chosen).join(parts, on=["model", "seed"], maintain_order="left")


def retention_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (none, or a set zeroed in the mixed reward model), orientation, task;
    retention |M and (A or B)| / |A or B|, of the parts' unablated A and B; what M could not score is not counted."""
    sets = mixed_sets(results.study)
    unablated = sets.with_columns(ablation=pl.lit("none"), set=pl.lit("none"), control=pl.lit("whole"))
    named = pl.concat([sets, unablated]).unique(maintain_order=True)
    parts = []
    for regime, settings in results.study.regimes.items():
        for block in results.shared_blocks if settings.mixes else []:
            first, second = (paired(block, regime, single, None) for single in settings.mixes)
            either = block.correct[first["part"]] | block.correct[second["part"]]
            either &= block.scored[first["row"]]
            kept = block.correct[first["row"]] & either
            parts.append(results.bootstrap.ratio(block, first.drop("row", "part"), kept, either))
    if not parts:
        return empty_table(["retention"], ["model", "regime", "ablation", *TASK])
    by_set = concat(parts).joined(named.filter(control="whole"), on=["regime", "ablation"])
    averaged = by_set.with_averages([*REWARD_MODEL, "ablation"])
    return results.table(averaged, ["model", "regime", "ablation", *TASK], "retention").drop("p")


def agreement_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), single (one of its parts), orientation, task; overlap |M and S| / |M or S| of what
    the two get right, of the comparisons that both could score."""
    by = ["model", "regime", "single", *TASK]
    parts = []
    for regime, single in mixes(results):
        for block in results.shared_blocks:
            pairs = paired(block, regime, single)
            one, other = pairs["row"], pairs["part"]
            scored = block.scored[one] & block.scored[other]
            either, both = block.correct[one] | block.correct[other], block.correct[one] & block.correct[other]
            keys = pairs.drop("row", "part").with_columns(single=pl.lit(single))
            parts.append(results.bootstrap.ratio(block, keys, both & scored, either & scored))
    if not parts:
        return empty_table(["overlap"], by)
    return results.table(concat(parts).with_averages([*REWARD_MODEL, "single"]), by, "overlap").drop("p")


# --- ablation ------------------------------------------------------------------------------------------------


def change(figures: Draws, sets: pl.DataFrame) -> tuple[Draws, Draws, Draws]:
    """Accuracy without ablation, under each of the named sets, and the change, within reward model and seed."""
    on = [column for column in ("model", "regime", "seed", "benchmark", *TASK) if column in figures.keys.columns]
    ablated = figures.joined(sets, [column for column in ("regime", "ablation") if column in sets.columns])
    delta = ablated.minus(figures.filter(NONE), on)
    return Draws(ablated.keys, ablated.values - delta.values), ablated, delta


def own_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, percent (its own top neurons or heads by that scoring, zeroed), orientation, task;
    baseline, ablated and delta, their difference within a seed."""
    by = ["model", "regime", "scoring", "percent", *TASK]
    sets = own_sets(results.study, results.study.ablation.percent)
    baseline, ablated, delta = change(results.task_accuracy, sets)
    table = results.table(delta, by, "delta", baseline=baseline, ablated=ablated)
    return discovery_rates(table, by[:4])


def shared_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (shared, or exclusive to one part, or random), control (whole, or a set of
    the common size), n_neurons, orientation, task; baseline, ablated, delta. Draws of a control are averaged."""
    by = ["model", "regime", "ablation", "control", *TASK]
    sizes = mixed_sizes(results.sizes, results.study).rename({"set": "ablation"})
    figures = [over_control_draws(part) for part in change(results.task_accuracy, mixed_sets(results.study))]
    table = results.table(figures[2], by, "delta", baseline=figures[0], ablated=figures[1])
    table = table.join(sizes, on=by[:4], how="left", maintain_order="left")
    return discovery_rates(table.select(*by[:4], "n_neurons", pl.exclude(*by[:4], "n_neurons")), by[:4])


def over_control_draws(figures: Draws) -> Draws:
    """A mixed regime's sets under their names in tables, the draws of each control averaged."""
    named = figures.with_columns(pl.col("set").alias("ablation"))
    kept = [c for c in (*REWARD_MODEL, "ablation", "control", "benchmark", *TASK) if c in named.keys.columns]
    return named.mean(kept)


def shared_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), control, against, orientation, task; difference, the change by the shared set minus
    that by the set `against`: as they are (whole), or all of the common size."""
    by = ["model", "regime", "control", "against", *TASK]
    sets = mixed_sets(results.study)
    delta = over_control_draws(change(results.task_accuracy, sets)[2])
    exclusive = sets.filter(pl.col("set").str.ends_with("-only"))["set"].unique(maintain_order=True)
    whole = "shared-authors" if results.study.analysis.shared == "authors" else "shared"
    sized = [("random", "random"), ("shared", "matched-random")]
    parts = []
    for control, shared in (("whole", whole), ("size-matched", "shared")):
        others = [(name, control) for name in exclusive] + (sized if control == "size-matched" else [])
        ours = delta.filter(control=control, ablation=shared)
        for name, of in others:
            difference = ours.minus(delta.filter(control=of, ablation=name), [*REWARD_MODEL, *TASK])
            against = of if of in ("random", "matched-random") else name
            parts.append(difference.with_columns(pl.lit(against).alias("against")))
    return discovery_rates(results.table(concat(parts), by, "difference"), by[:4])


def control_overlap_table(results: Results) -> pl.DataFrame:
    """model, regime, set (of a scoring, or of the mixed reward model); share in percent of its matched-random control
    that lies in the set itself. Where it is high, loudness alone nearly fixes the set, and the control says little."""
    by = ["model", "regime", "set"]
    return results.table(results.bootstrap.constant(results.control_overlaps, "share"), by, "share").drop("p")


def ablation_curve_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, scoring, percent (of the neurons or heads, zeroed; 0: none), n_neurons (so many);
    accuracy over all comparisons of the benchmark together, and delta, its change from 0 %. Empty without sizes."""
    by = ["model", "regime", "benchmark", "scoring", "percent"]
    sweep = results.study.ablation.sweep
    _, ablated, delta = change(results.swept, own_sets(results.study, *([0, *sweep] if sweep else [])))
    table = results.table(ablated, by, "accuracy", delta=delta).drop("p")
    sizes = own_sizes(results.sizes, results.study).select(["model", "regime", "scoring", "percent", "n_neurons"])
    return table.join(sizes, on=["model", "regime", "scoring", "percent"], how="left", maintain_order="left")


def scoring_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, percent, first, second (scorings); difference, the change by the first one's set minus
    that by the second's: below zero the first hurts more."""
    study = results.study
    by = ["model", "regime", "benchmark", "percent", "first", "second"]
    delta = change(results.swept, own_sets(study, *(p for p in study.ablation.sweep if p < 100)))[2]
    names = study.neurons.scorings
    main = [(study.ablation.scoring, other) for other in names if other != study.ablation.scoring]
    pairs = [p for p in (*main, *((s, "random") for s in names), ("head-norm", "head-random")) if set(p) <= set(names)]
    parts = []
    for first, second in dict.fromkeys(p for p in pairs if p[0] != p[1] and len({*map(ranks_heads, p)}) == 1):
        ours, other = (delta.filter(scoring=scoring) for scoring in (first, second))
        difference = ours.minus(other, [*REWARD_MODEL, "benchmark", "percent"])
        parts.append(difference.with_columns(pl.lit(first).alias("first"), pl.lit(second).alias("second")))
    return results.table(concat(parts), by, "difference") if parts else empty_table(["difference"], by, "p")


def set_size_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, family (a scoring, or a set of the mixed reward model), control ("" for a scoring's),
    percent (null for the mixed one's), n_neurons; delta on all comparisons of a swept benchmark together."""
    by = ["model", "regime", "benchmark", "family", "control", "percent"]
    study = results.study
    own = change(results.swept, own_sets(study, study.ablation.percent, *study.ablation.sweep))[2]
    own = own.with_columns(pl.col("scoring").alias("family"), pl.lit("").alias("control"))
    mixed = over_control_draws(change(results.swept, mixed_sets(study))[2])
    mixed = mixed.with_columns(pl.col("ablation").alias("family"), pl.lit(None, pl.Float64).alias("percent"))
    columns = [*REWARD_MODEL, "benchmark", "family", "control", "percent"]
    both = concat([Draws(d.keys.select(columns), d.values) for d in (own, mixed)])
    of_own = own_sizes(results.sizes, study).rename({"scoring": "family"}).with_columns(control=pl.lit(""))
    of_mixed = mixed_sizes(results.sizes, study).rename({"set": "family"})
    sizes = pl.concat([of_own, of_mixed], how="diagonal")
    table = results.table(both, by, "delta").drop("p")
    on = ["model", "regime", "family", "control", "percent"]
    return table.join(sizes, on=on, how="left", nulls_equal=True, maintain_order="left")


# --- scores --------------------------------------------------------------------------------------------------


def moments(results: Results, block: Block, keyed: list[tuple[pl.DataFrame, dict[str, Any]]]) -> Draws:
    """Sums over a block's comparisons of several terms [rows of keys, comparisons], with the column `term`."""
    keys = [keys.with_columns(term=pl.lit(name)) for keys, terms in keyed for name in terms]
    values = [np.nan_to_num(value, nan=0.0).astype(float) for _, terms in keyed for value in terms.values()]
    return results.bootstrap.sums(block, pl.concat(keys), np.concatenate(values))


def means(total: Draws, by: list[str], *terms: str) -> list[Draws]:
    """Each term's sum over all tasks, divided by the sum of the term `n`."""
    summed, _ = total.summed([*by, "term"])
    return [summed.filter(term=term).over(summed.filter(term="n"), by) for term in terms]


def score_shift_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), single (one of its parts), response; n comparisons that both get right (mean over
    seeds), mean score by the single and by the mixed reward model, closeness (mean |mixed| minus mean |single|) and the
    standard deviation of either's scores. chosen: lowest chosen score; rejected: highest rejected one."""
    by = ["model", "regime", "single", "response"]
    pairs_of, parts = list(mixes(results)), []
    for block in results.shared_blocks if pairs_of else []:
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
        parts.append(moments(results, block, keyed))
    if not parts:
        return empty_table(["closeness", "mixed", "single", "mixed_spread", "single_spread"], by, "n")
    total, keys = concat(parts), [*REWARD_MODEL, "single", "response"]
    closeness, *means_ = means(total, keys, "closeness", "mixed", "single", "mixed_square", "single_square")
    figures = dict(zip(["mixed", "single"], means_, strict=False))
    spreads = {f"{n}_spread": Draws(m.keys, np.sqrt(np.maximum(square.values - m.values**2, 0)))
               for (n, m), square in zip(figures.items(), means_[2:], strict=True)}  # fmt: skip
    counts, _ = total.filter(term="n").summed(keys)
    table = results.table(closeness, by, "closeness", **figures, **spreads).drop("p")
    n = results.bootstrap.summary(counts, by, "n").select(*by, n="n_mean")
    return table.join(n, on=by, how="left", maintain_order="left")


def compression_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring; mean |score| before and after the reward model's own top neurons by that scoring are
    zeroed, its ratio (after over before), and margin_ratio, the same of |chosen minus rejected|."""
    by, keys = ["model", "regime", "scoring"], [*REWARD_MODEL, "ablation"]
    sets, parts = own_sets(results.study, results.study.ablation.percent), []
    for block in results.shared_blocks:
        rows = block.units.with_row_index("row").filter(pl.col("ablation").is_in(["none", *sets["ablation"]]))
        chosen, rejected = (side[rows["row"]].astype(float) for side in (block.chosen, block.rejected))
        terms = {"n": ~np.isnan(chosen), "score": (abs(chosen) + abs(rejected)) / 2, "margin": abs(chosen - rejected)}
        parts.append(moments(results, block, [(rows.drop("row"), terms)]))
    score, margin = means(concat(parts), keys, "score", "margin")
    before, after, _ = change(score, sets)
    without, ablated, _ = change(margin, sets)
    ratio, margin_ratio = (Draws(a.keys, divide(a.values, b.values)) for b, a in ((before, after), (without, ablated)))
    return results.table(ratio, by, "ratio", before=before, after=after, margin_ratio=margin_ratio).drop("p")


def score_histogram_table(results: Results) -> pl.DataFrame:
    """model, figure (shift: scores of both on comparisons that both get right; compression: before and after the own
    main set is zeroed), regime, single ("" for compression), state (single, mixed, before, after), response; left and
    right edge of a bin, and share of the scores in it (mean over seeds). The two end bins hold what lies beyond."""
    main = main_set(results.study)
    frames = []
    for block in results.shared_blocks:
        for regime, single in mixes(results):
            pairs = paired(block, regime, single)
            kept = block.correct[pairs["row"]] & block.correct[pairs["part"]]
            for state, side in (("mixed", "row"), ("single", "part")):
                keys = pairs.select("model", "regime", "seed", figure=pl.lit("shift"), single=pl.lit(single))
                frames += [listed(block, keys.with_columns(state=pl.lit(state)), pairs[side], kept)]
        for state, ablation in (("before", "none"), ("after", main)):
            rows = block.rows(ablation=ablation)
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
    share = summable(pl.col("share")).mean()
    over = shares.group_by("model", *shape, "bin", "left", "right", maintain_order=True).agg(share)
    overall = over.group_by(*shape, "bin", "left", "right", maintain_order=True).agg(share, model=pl.lit(OVERALL))
    keys = ["model", *shape]
    return pl.concat([over, overall.select(over.columns)]).sort(*keys, "bin").select(*keys, "left", "right", "share")


# --- official metrics ----------------------------------------------------------------------------------------


def official_table(results: Results) -> pl.DataFrame:
    """model, regime, ablation (none, or the own main set), benchmark, metric; value in percent, as the benchmark's
    makers define it; the interval is over seeds alone."""
    by = ["model", "regime", "ablation", "benchmark", "metric"]
    frames = []
    for name, benchmark in results.study.benchmarks.items():
        scores = results.lists.filter(pl.col("benchmark") == name).cast({cs.categorical(): pl.String})
        named = scores.join(subset_names(benchmark.kind), on="task", how="left", maintain_order="left")
        named = named.with_columns(subset=pl.coalesce("subset", "task"))
        frames.append(official_metrics(named, benchmark.kind, [*REWARD_MODEL, "ablation"]))
    frames = [frame.select(*REWARD_MODEL, *by[2:], "value") for frame in frames if len(frame)]
    if not frames:
        return empty_table(["value"], by)
    return results.table(results.bootstrap.constant(pl.concat(frames), "value"), by, "value").drop("p")


def published_table(tables: Mapping[str, pl.DataFrame], results: Results) -> pl.DataFrame:
    """table (of this study), model, regime, ablation, single, orientation, task, quantity; the paper's figure of the
    same cell (published), ours with the limits of our interval (low, high), their difference, whether the published one
    lies inside ours, and note, what keeps the two from being of one thing: the published sets are made by signed mean
    activations, and stand beside our scoring `mean` where the study has it. Retention under ablation is not as printed
    but un-mixed (docs/replication-audit.md). Only models, regimes, sets and tasks that are the paper's: empty in other
    studies."""
    return twin(tables, results.study)


TABLES: dict[str, Callable[[Results], pl.DataFrame]] = {
    "benchmark_accuracy": benchmark_accuracy_table,
    "accuracy": accuracy_table,
    "contrasts": contrasts_table,
    "retention": retention_table,
    "agreement": agreement_table,
    "score_shift": score_shift_table,
    "ablation_curve": ablation_curve_table,
    "scoring_contrasts": scoring_contrasts_table,
    "depth": depth_table,
    "rmsd": rmsd_table,
    "neuron_overlap": neuron_overlap_table,
    "neuron_retention": neuron_retention_table,
    "stability": stability_table,
    "own_ablation": own_ablation_table,
    "compression": compression_table,
    "score_histogram": score_histogram_table,
    "shared_ablation": shared_ablation_table,
    "shared_contrasts": shared_contrasts_table,
    "control_overlap": control_overlap_table,
    "set_size": set_size_table,
    "official": official_table,
}
# Made from other tables.
DERIVED: dict[str, Callable[[Mapping[str, pl.DataFrame], Results], pl.DataFrame]] = {
    "compatibility": compatibility_table,
    "published": published_table,
}


def make_tables(results: Results) -> dict[str, pl.DataFrame]:
    """Every table of the study but its cards, by name."""
    tables = {name: table(results) for name, table in TABLES.items()}
    return tables | {name: table(tables, results) for name, table in DERIVED.items()}
