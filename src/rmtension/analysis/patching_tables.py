"""Tables of patching: how much of what a mixed reward model falls short by comes back with its parts' activations.

A gap is the accuracy of the part (the donor) minus that of the mixed reward model, on the same comparisons: the mean
over the donor's orientation's tasks, or over its own test split, of the benchmarks on which reward models were patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import polars.selectors as cs

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE, compared, mixed_sizes, mixtures
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Block, Draws, blocks, concat, joined, shares
from rmtension.study.measured import own_tests
from rmtension.study.naming import OWN_TASKS, OWN_TEST
from rmtension.study.sources import regime_sources

GAP = ["model", "regime", "donor", "tasks"]
CONTROLS = [("random", "random"), ("shared", "matched-random")]  # of shared neurons, besides other sets
NOTHING_TO_RECOVER = "the gap's interval holds 0"


class Patched(NamedTuple):
    """Within each seed, in points."""

    gap: Draws  # keyed by GAP and seed: the part minus the mixed reward model
    gain: Draws  # set and control too: patched minus not, draws of a control averaged
    baseline: Draws  # keyed as gap: percent correct of the mixed reward model


def places(results: Results, of_patched: Sequence[Block], donor: str) -> Iterator[tuple[str, Draws]]:
    """OWN_TASKS and OWN_TEST, and percent correct there of every reward model, patched or not, by ablation."""
    own, by = own_tests(results.study), [*REWARD_MODEL, "ablation"]
    tests = regime_sources(results.study, donor, "test")
    tasks = [b for b in of_patched if b.benchmark not in own and b.orientation == donor]
    if tasks:
        of_models = [[b.of_units(pl.col("model") == model) for b in tasks] for model in results.study.models]
        yield OWN_TASKS, concat([results.bootstrap.accuracy(of).mean([*by, *TASK]).mean(by) for of in of_models])
    if splits := [b for b in of_patched if b.benchmark in own and b.task in tests]:
        yield OWN_TEST, results.bootstrap.pooled_accuracy(splits).mean(by)


def with_unpatched(results: Results) -> list[Block]:
    """The patched scores, and before them those of all reward models as they are on the same benchmarks."""
    patched = blocks(results.patched)
    benchmarks = {block.benchmark for block in patched}
    unpatched = [block.of_units(NONE) for block in results.blocks if block.benchmark in benchmarks]
    return joined([*unpatched, *patched])


def find(results: Results) -> Patched | None:
    """None where nothing was patched, or nothing that has a gap."""
    gaps, gains, baselines, on = list[Draws](), list[Draws](), list[Draws](), ["model", "seed"]
    of_patched, study = with_unpatched(results), results.study
    for mixed, donor in mixtures(study, study.mixed_regimes()):
        for tasks, accuracy in places(results, of_patched, donor):
            keys = [pl.lit(word).alias(name) for name, word in (("regime", mixed), ("donor", donor), ("tasks", tasks))]
            ours = accuracy.filter(NONE, regime=mixed)
            names = compared(study, mixed).with_columns(pl.format("{}/{}", pl.lit(donor), "ablation").alias("ablation"))
            patched = accuracy.filter(regime=mixed).joined(names, ["ablation"]).with_columns(*keys)
            by = [*GAP, "seed", "set", "control"]
            gains.append(patched.minus(ours, on).mean(by))
            gaps.append(accuracy.filter(NONE, regime=donor).minus(ours, on).with_columns(*keys).mean(by[:5]))
            baselines.append(ours.with_columns(*keys).mean(by[:5]))
    return Patched(concat(gaps), concat(gains), concat(baselines)) if gaps else None


def patching_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), donor (the part whose activations are written in), tasks (`own tasks`: the average
    over those of the donor's orientation; `own test`: its test split), set, control, n_neurons; baseline, accuracy of
    the mixed reward model, gap, the donor's minus that, delta, change by patching, and recovery, mean delta over mean
    gap, null where the gap's interval holds 0, as note then says. Draws of a control are averaged."""
    by, names = [*GAP, "set", "control"], ["baseline", "gap", "delta", "recovery"]
    columns = [*by, "n_neurons", *(cs.starts_with(f"{name}_") for name in names), "n_seeds", "p", "note"]
    found = find(results)
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
    found = find(results)
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
