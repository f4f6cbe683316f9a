"""How much of what a mixed reward model falls short by comes back with its parts' activations.

A gap is the accuracy of the part (the donor) minus that of the mixed reward model, on the same comparisons: the mean
over the donor's orientation's tasks, or over its own test split, of the benchmarks on which reward models were patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from rmtension.analysis.sets import NONE, compared, mixtures
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Block, Bootstrap, Draws, concat, joined
from rmtension.study.measured import own_tests
from rmtension.study.naming import OWN_TASKS, OWN_TEST
from rmtension.study.sources import regime_sources
from rmtension.study.study import Study

GAP = ["model", "regime", "donor", "tasks"]


class Patched(NamedTuple):
    """Within each seed, in points."""

    gap: Draws  # keyed by GAP and seed: the part minus the mixed reward model
    gain: Draws  # set and control too: patched minus not, draws of a control averaged
    baseline: Draws  # keyed as gap: percent correct of the mixed reward model


def places(study: Study, bootstrap: Bootstrap, of_patched: Sequence[Block], donor: str) -> Iterator[tuple[str, Draws]]:
    """OWN_TASKS and OWN_TEST, and percent correct there of every reward model, patched or not, by ablation."""
    own, by = own_tests(study), [*REWARD_MODEL, "ablation"]
    tests = regime_sources(study, donor, "test")
    tasks = [b for b in of_patched if b.benchmark not in own and b.orientation == donor]
    if tasks:
        of_models = [[b.of_units(pl.col("model") == model) for b in tasks] for model in study.models]
        yield OWN_TASKS, concat([bootstrap.accuracy(of).mean([*by, *TASK]).mean(by) for of in of_models])
    if splits := [b for b in of_patched if b.benchmark in own and b.task in tests]:
        yield OWN_TEST, bootstrap.pooled_accuracy(splits).mean(by)


def with_unpatched(scored: Sequence[Block], patched: Sequence[Block]) -> list[Block]:
    """The patched scores, and before them those of all reward models as they are on the same benchmarks."""
    benchmarks = {block.benchmark for block in patched}
    unpatched = [block.of_units(NONE) for block in scored if block.benchmark in benchmarks]
    return joined([*unpatched, *patched])


def find(study: Study, bootstrap: Bootstrap, scored: Sequence[Block], patched: Sequence[Block]) -> Patched | None:
    """None where nothing was patched, or nothing that has a gap. scored: all scores; patched: see load_patched."""
    gaps, gains, baselines, on = list[Draws](), list[Draws](), list[Draws](), ["model", "seed"]
    of_patched = with_unpatched(scored, patched)
    for mixed, donor in mixtures(study, study.mixed_regimes()):
        for tasks, accuracy in places(study, bootstrap, of_patched, donor):
            keys = [pl.lit(word).alias(name) for name, word in (("regime", mixed), ("donor", donor), ("tasks", tasks))]
            ours = accuracy.filter(NONE, regime=mixed)
            names = compared(study, mixed).with_columns(pl.format("{}/{}", pl.lit(donor), "ablation").alias("ablation"))
            theirs = accuracy.filter(regime=mixed).joined(names, ["ablation"]).with_columns(*keys)
            by = [*GAP, "seed", "set", "control"]
            gains.append(theirs.minus(ours, on).mean(by))
            gaps.append(accuracy.filter(NONE, regime=donor).minus(ours, on).with_columns(*keys).mean(by[:5]))
            baselines.append(ours.with_columns(*keys).mean(by[:5]))
    return Patched(concat(gaps), concat(gains), concat(baselines)) if gaps else None
