"""Tables of patching: how much of what a mixed reward model falls short by comes back with its parts' activations."""

from __future__ import annotations

import polars as pl
import polars.selectors as cs

from rmtension.analysis.patching import GAP
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import mixed_sizes
from rmtension.analysis.statistics import Draws, concat, shares

CONTROLS = [("random", "random"), ("shared", "matched-random")]  # of shared neurons, besides other sets
NOTHING_TO_RECOVER = "the gap's interval holds 0"


def patching_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), donor (the part whose activations are written in), tasks (`own tasks`: the average
    over those of the donor's orientation; `own test`: its test split), set, control, n_neurons; baseline, accuracy of
    the mixed reward model, gap, the donor's minus that, delta, change by patching, and recovery, mean delta over mean
    gap, null where the gap's interval holds 0, as note then says. Draws of a control are averaged."""
    by, names = [*GAP, "set", "control"], ["baseline", "gap", "delta", "recovery"]
    columns = [*by, "n_neurons", *(cs.starts_with(f"{name}_") for name in names), "n_seeds", "p", "note"]
    found = results.patching
    if found is None:
        empty = empty_table(names, by, "p", "n_neurons").drop("recovery_sd")
        return empty.with_columns(note=pl.lit("")).select(columns)
    on, sets = [*GAP, "seed"], found.gain.keys
    beside = {name: draws.joined(sets, on) for name, draws in (("baseline", found.baseline), ("gap", found.gap))}
    table = results.table(found.gain, by, "delta", **beside)
    is_clear = (pl.col("low") > 0) | (pl.col("high") < 0)
    recovery = shares(results.bootstrap, found.gain, by, found.gap, GAP, "recovery", is_clear)
    table = table.join(recovery, on=by, how="left", maintain_order="left")
    sizes = mixed_sizes(results.sizes, results.study)
    table = table.join(sizes, on=["model", "regime", "set", "control"], how="left", maintain_order="left")
    note = pl.when(pl.col("recovery_mean").is_null()).then(pl.lit(NOTHING_TO_RECOVER)).otherwise(pl.lit(""))
    return table.with_columns(note=note).select(columns)


def patching_contrasts_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), donor, tasks (as in patching), against (of the common size: another set, or random
    neurons, or random ones as deep and as loud as the shared ones); difference, the change by patching shared neurons
    minus that by patching those, and recovery_difference, its mean over the mean gap, null where the mixed reward model
    does not fall short of the donor with the whole interval."""
    by, names = [*GAP, "against"], ["difference", "recovery_difference"]
    columns = [*by, *(cs.starts_with(f"{name}_") for name in names), "n_seeds", "p"]
    found = results.patching
    if found is None:
        return empty_table(names, by, "p").drop("recovery_difference_sd").select(columns)
    parts, on = list[Draws](), [*GAP, "seed"]
    shared = found.gain.filter(set="shared", control="size-matched")
    others = found.gain.keys.filter(pl.col("control") != "whole").select("set", "control").unique(maintain_order=True)
    for name, control in others.rows():
        if (name, control) in CONTROLS or (name.endswith("-only") and control == "size-matched"):
            against = name if control == "size-matched" else control
            difference = shared.minus(found.gain.filter(set=name, control=control), on)
            parts.append(difference.with_columns(pl.lit(against).alias("against")))
    contrasts = concat(parts)
    table = results.table(contrasts, by, "difference")
    recovery = shares(results.bootstrap, contrasts, by, found.gap, GAP, "recovery_difference", pl.col("low") > 0)
    table = table.join(recovery, on=by, how="left", maintain_order="left")
    return table.select(columns)
