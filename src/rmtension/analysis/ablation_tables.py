"""Tables of ablation: how accuracy changes when sets of neurons, or of attention heads, are set to zero."""

from __future__ import annotations

import numpy as np
import polars as pl

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE, mixed_sets, mixed_sizes, own_sets, own_sizes, shared_set, with_values
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Draws, concat, discovery_rates
from rmtension.study.naming import MEAN, ranks_heads
from rmtension.study.study import Study


def change(figures: Draws, sets: pl.DataFrame) -> tuple[Draws, Draws, Draws]:
    """Accuracy without ablation, under each of the named sets, and the change, within reward model and seed."""
    on = [column for column in ("model", "regime", "seed", "benchmark", *TASK) if column in figures.keys.columns]
    ablated = figures.joined(sets, [column for column in ("regime", "ablation") if column in sets.columns])
    delta = ablated.minus(figures.filter(NONE), on)
    return Draws(ablated.keys, ablated.values - delta.values), ablated, delta


def where_held(results: Results, figures: Draws) -> Draws:
    """Figures keyed by reward model and ablation; NaN of a set that holds nothing, whose ablation changes nothing."""
    sizes = results.sizes.select(pl.col(*REWARD_MODEL[:2], "ablation").cast(pl.String), pl.col("seed").cast(pl.Int64))
    names = figures.keys.select(*REWARD_MODEL, pl.col("ablation").str.strip_suffix(MEAN))
    is_held = names.join(sizes.with_columns(is_held=True), on=names.columns, how="left", maintain_order="left")
    held = is_held["is_held"].fill_null(value=False).to_numpy()
    return Draws(figures.keys, np.where(held[:, None], figures.values, np.nan))


def own_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, percent (its own top neurons or heads by that scoring), replaced_by (zero, or mean),
    orientation, task; baseline, ablated and delta, their difference within a seed."""
    by = ["model", "regime", "scoring", "percent", "replaced_by", *TASK]
    sets = with_values(own_sets(results.study, results.study.ablation.percent), results.study)
    changes = [change(accuracy, sets) for accuracy in results.ablated_accuracy(sets)]
    baseline, ablated, delta = map(concat, zip(*changes, strict=True))
    table = results.table(delta, by, "delta", baseline=baseline, ablated=ablated)
    return discovery_rates(table, by[:5])


def shared_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (shared, or exclusive to one part, or random), control (whole, or a set of
    the common size), replaced_by (zero, or mean), n_neurons, orientation, task; baseline, ablated, delta. Draws of a
    control are averaged."""
    by = ["model", "regime", "ablation", "control", "replaced_by", *TASK]
    sizes = mixed_sizes(results.sizes, results.study).rename({"set": "ablation"})
    sets = with_values(mixed_sets(results.study), results.study)
    changes = [
        [over_control_draws(where_held(results, figures)) for figures in change(accuracy, sets)]
        for accuracy in results.ablated_accuracy(sets)
    ]
    baseline, ablated, delta = map(concat, zip(*changes, strict=True))
    table = results.table(delta, by, "delta", baseline=baseline, ablated=ablated)
    table = table.join(sizes, on=by[:4], how="left", maintain_order="left")
    return discovery_rates(table.select(*by[:5], "n_neurons", pl.exclude(*by[:5], "n_neurons")), by[:5])


def over_control_draws(figures: Draws) -> Draws:
    """A mixed regime's sets under their names in tables, the draws of each control averaged."""
    named = figures.with_columns(pl.col("set").alias("ablation"))
    keys = (*REWARD_MODEL, "ablation", "control", "replaced_by", "benchmark", *TASK)
    kept = [column for column in keys if column in named.keys.columns]
    return named.mean(kept)


def shared_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), control, against, replaced_by (zero, or mean), orientation, task; difference, the
    change by the shared set minus that by the set `against`: as they are (whole), or all of the common size."""
    by = ["model", "regime", "control", "against", "replaced_by", *TASK]
    sets = with_values(mixed_sets(results.study), results.study)
    deltas = (change(accuracy, sets)[2] for accuracy in results.ablated_accuracy(sets))
    delta = concat([over_control_draws(where_held(results, figures)) for figures in deltas])
    exclusive = sets.filter(pl.col("set").str.ends_with("-only"))["set"].unique(maintain_order=True)
    whole = shared_set(results.study)
    sized = [("random", "random"), ("shared", "matched-random")]
    parts = []
    for control, shared in (("whole", whole), ("size-matched", "shared")):
        others = [(name, control) for name in exclusive] + (sized if control == "size-matched" else [])
        ours = delta.filter(control=control, ablation=shared)
        for name, of in others:
            difference = ours.minus(delta.filter(control=of, ablation=name), [*REWARD_MODEL, "replaced_by", *TASK])
            against = of if of in ("random", "matched-random") else name
            parts.append(difference.with_columns(pl.lit(against).alias("against")))
    return discovery_rates(results.table(concat(parts), by, "difference"), by[:5])


def control_overlap_table(results: Results) -> pl.DataFrame:
    """model, regime, set (of a scoring, or of the mixed reward model); share in percent of its matched-random control
    that lies in the set itself. Where it is high, loudness alone nearly fixes the set, and the control says little."""
    return results.table_of_seeds(results.control_overlaps, ["model", "regime", "set"], "share")


def ablation_curve_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, scoring, percent (of the neurons or heads, zeroed; 0: none) or count of them, n_neurons
    (so many they are); accuracy over all comparisons of the benchmark together, and delta, its change from 0 %. Of
    regimes whose neurons are ranked. Empty without sizes."""
    by = ["model", "regime", "benchmark", "scoring", "percent", "count"]
    sweep = results.study.ablation.sweep
    ranked = results.swept.filter(pl.col("regime").is_in(results.study.with_neurons()))
    _, ablated, delta = change(ranked, own_sets(results.study, *([0, *sweep] if sweep else [])))
    table = results.table(ablated, by, "accuracy", delta=delta).drop("p")
    on = ["model", "regime", "scoring", "percent", "count"]
    sizes = own_sizes(results.sizes, results.study).select([*on, "n_neurons"])
    return table.join(sizes, on=on, how="left", nulls_equal=True, maintain_order="left")


# Held against each other whatever the main scoring is; besides, each is against that one and against random ones.
ALWAYS = [
    ("magnitude", "change"),
    ("magnitude", "matched-random"),
    ("attribution", "magnitude"),
    ("attribution", "matched-random"),
    ("head-attribution", "head-norm"),
]


def contrasted(study: Study) -> list[tuple[str, str]]:
    """Pairs of scorings that both rank neurons or both heads, each one way round."""
    names = study.neurons.scorings
    pairs = [(study.ablation.scoring, other) for other in names]
    pairs += [(scoring, control) for scoring in names for control in ("random", "head-random")]
    once: dict[frozenset[str], tuple[str, str]] = {}
    for first, second in [*pairs, *ALWAYS]:
        if first != second and {first, second} <= set(names) and ranks_heads(first) == ranks_heads(second):
            once.setdefault(frozenset([first, second]), (first, second))
    return list(once.values())


def scoring_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, percent or count (of both sets), first, second (scorings); difference, the change by
    the first one's set minus that by the second's: below zero the first hurts more."""
    study = results.study
    by = ["model", "regime", "benchmark", "percent", "count", "first", "second"]
    delta = change(results.swept, own_sets(study, *study.ablation.parts_of_all))[2]
    parts = []
    for first, second in contrasted(study):
        ours, other = (delta.filter(scoring=scoring) for scoring in (first, second))
        difference = ours.minus(other, [*REWARD_MODEL, "benchmark", "percent", "count"])
        parts.append(difference.with_columns(pl.lit(first).alias("first"), pl.lit(second).alias("second")))
    return results.table(concat(parts), by, "difference") if parts else empty_table(["difference"], by, "p")


def set_size_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, family (a scoring, or a set of the mixed reward model), control ("" for a scoring's),
    percent or count (both null for the mixed one's), n_neurons; delta on all comparisons of a swept benchmark
    together."""
    by = ["model", "regime", "benchmark", "family", "control", "percent", "count"]
    study = results.study
    own = change(results.swept, own_sets(study, study.ablation.percent, *study.ablation.sweep))[2]
    own = own.with_columns(pl.col("scoring").alias("family"), pl.lit("").alias("control"))
    mixed = over_control_draws(where_held(results, change(results.swept, mixed_sets(study))[2]))
    sizeless = [pl.lit(None, pl.Float64).alias("percent"), pl.lit(None, pl.Int64).alias("count")]
    mixed = mixed.with_columns(pl.col("ablation").alias("family"), *sizeless)
    columns = [*REWARD_MODEL, "benchmark", "family", "control", "percent", "count"]
    both = concat([Draws(d.keys.select(columns), d.values) for d in (own, mixed)])
    of_own = own_sizes(results.sizes, study).rename({"scoring": "family"}).with_columns(control=pl.lit(""))
    of_mixed = mixed_sizes(results.sizes, study).rename({"set": "family"})
    sizes = pl.concat([of_own, of_mixed], how="diagonal")
    table = results.table(both, by, "delta").drop("p")
    on = ["model", "regime", "family", "control", "percent", "count"]
    return table.join(sizes, on=on, how="left", nulls_equal=True, maintain_order="left")
