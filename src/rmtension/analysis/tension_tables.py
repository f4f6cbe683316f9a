"""The table of tension: what the sets of a mixture do for its two objectives inside one reward model."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs

from rmtension.analysis.ablation_tables import change, where_held
from rmtension.analysis.patching import places
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixed_sets, mixed_sizes, with_values
from rmtension.analysis.statistics import Draws, concat

SIDE = ["model", "regime", "orientation", "tasks"]
FIGURES = ["baseline", "delta", "difference"]


def tension_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), orientation (of one of its parts), tasks (`own tasks`: the average over those of the
    orientation; `own test`: its test split), set, control, replaced_by (zero, or mean), n_neurons; baseline, accuracy
    without ablation, delta, its change, draws of a control averaged; and of sets of the common size (size-matched)
    difference, that change minus the one by as many random neurons, as deep and as loud (matched-random). Null of a set
    without neurons."""
    by, study = [*SIDE, "set", "control", "replaced_by"], results.study
    columns = [*by, "n_neurons", *(cs.starts_with(f"{name}_") for name in FIGURES), "n_seeds"]
    sets = with_values(mixed_sets(study), study)
    kept = pl.col("ablation").is_in(["none", *sets["ablation"]])
    baselines, deltas = list[Draws](), list[Draws]()
    for mixed in study.mixed_regimes():
        scored = [block.of_units(kept, pl.col("regime") == mixed) for block in results.blocks]
        for orientation in study.regimes[mixed].mixes:
            for tasks, accuracy in places(results.study, results.bootstrap, scored, orientation):
                side = pl.lit(orientation).alias("orientation"), pl.lit(tasks).alias("tasks")
                baseline, _, delta = change(accuracy, sets)
                baselines.append(where_held(results, baseline).with_columns(*side))
                deltas.append(where_held(results, delta).with_columns(*side))
    if not deltas:
        return empty_table(FIGURES, by, "n_neurons").select(columns)
    baseline, delta = (concat(parts).mean([*by, "seed"]) for parts in (baselines, deltas))
    matched = delta.filter(control="matched-random")
    difference = delta.filter(control="size-matched").minus(matched, [*SIDE, "seed", "set", "replaced_by"])
    table = results.table(delta, by, "delta", baseline=baseline, difference=difference)
    sizes = mixed_sizes(results.sizes, study)
    table = table.join(sizes, on=["model", "regime", "set", "control"], how="left", maintain_order="left")
    return table.select(columns)
