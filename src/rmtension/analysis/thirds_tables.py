"""The table of thirds: what equally many, equally loud neurons do in the early, the middle and the late layers."""

from __future__ import annotations

import polars as pl

from rmtension.analysis.ablation_tables import change, where_held
from rmtension.analysis.patching import places
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mean_sizes
from rmtension.analysis.statistics import Draws, concat
from rmtension.study.naming import THIRDS, thirds_names

NO_SET = "no decile of loudness has neurons in every third of the layers"


def deltas(results: Results, sets: pl.DataFrame) -> Draws | None:
    """Keyed by reward model, orientation, tasks and ablation: percent correct with the set at zero, minus that without,
    NaN where there is no set. Of each regime the orientations that it was trained for; None where no test is of one.

    sets: third, ablation.
    """
    study, parts = results.study, list[Draws]()
    kept = pl.col("ablation").is_in(["none", *sets["ablation"]])
    for orientation in study.single_regimes():
        own = [name for name in study.with_neurons() if orientation in (study.regimes[name].mixes or [name])]
        scored = [block.of_units(kept, pl.col("regime").is_in(own)) for block in results.blocks]
        for tasks, accuracy in places(results.study, results.bootstrap, scored, orientation):
            side = pl.lit(orientation).alias("orientation"), pl.lit(tasks).alias("tasks")
            parts.append(change(accuracy, sets)[2].with_columns(*side))
    return where_held(results, concat(parts)) if parts else None


def thirds_table(results: Results) -> pl.DataFrame:
    """model, regime, orientation (one that it was trained for), tasks (`own tasks`: the average over those of the
    orientation; `own test`: its test split), third (of the layers), n_neurons; delta, change in accuracy with random
    neurons of that third at zero, in each as many of every decile of loudness, draws averaged; difference, that minus
    the early third's. Null where there is no such set, as note then says."""
    by = ["model", "regime", "orientation", "tasks", "third"]
    names = thirds_names(results.study.ablation.control_draws)
    sets = pl.DataFrame({"third": names.values(), "ablation": names.keys()})
    every = deltas(results, sets)
    if every is None:
        empty = empty_table(["delta", "difference"], by, "n_neurons").with_columns(note=pl.lit(""))
        return empty.select(*by, "n_neurons", pl.exclude(*by, "n_neurons"))
    delta = every.mean([*by, "seed"])
    later, early = delta.filter(pl.col("third") != THIRDS[0]), delta.filter(third=THIRDS[0])
    difference = later.minus(early, [*by[:-1], "seed"])
    table = results.table(delta, by, "delta", difference=difference).drop("p")
    sizes = mean_sizes(results.sizes, results.study, sets, ["third"])
    table = table.join(sizes, on=["model", "regime", "third"], how="left", maintain_order="left")
    note = pl.when(pl.col("delta_mean").is_null()).then(pl.lit(NO_SET)).otherwise(pl.lit("")).alias("note")
    return table.select(*by, "n_neurons", pl.exclude(*by, "n_neurons"), note)
