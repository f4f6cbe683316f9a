"""A study's results as tables are made from them: what was read, the accuracies, and the order of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from rmtension.analysis import patching
from rmtension.analysis.calibration import UNABLATED
from rmtension.analysis.loading import (
    Frames,
    load_activations,
    load_conflicts,
    load_control_overlaps,
    load_lengths,
    load_lists,
    load_loudness,
    load_pairs_seen,
    load_patched,
    load_rankings,
    load_scores,
    load_sizes,
    load_texts,
    load_validation,
    load_words,
)
from rmtension.analysis.oriented import Oriented, oriented
from rmtension.analysis.pair_figures import PairFigures
from rmtension.analysis.sets import NONE, mixed_sets
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Block, Bootstrap, Draws, blocks
from rmtension.analysis.surface import LONGER, SHORTER
from rmtension.analysis.units import held
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, BOTH, OVERALL, OWN_TASKS, OWN_TEST, THIRDS, UNORIENTED, WORDS
from rmtension.study.study import Study

REGIMES = ("regime", "donor", "mixture")  # columns that hold one
NUMBERED: dict[str, pl.DataType] = {"percent": pl.Float64(), "count": pl.Int64(), "layer": pl.Int32()}
CONTROLS = ["whole", "size-matched", "matched-random", "random"]


@dataclass(frozen=True)
class Results:
    """What every table is made from.

    neurons (of all rankings): see load_rankings; all others: see the function load_NAME.
    """

    study: Study
    scores: Frames
    lists: pl.DataFrame
    sizes: pl.DataFrame
    control_overlaps: pl.DataFrame
    neurons: Frames
    activations: Frames
    lengths: pl.DataFrame
    words: pl.DataFrame
    validation: pl.DataFrame
    texts: pl.DataFrame
    patched: Frames
    conflicts: pl.DataFrame
    pairs_seen: pl.DataFrame
    loudness: pl.DataFrame

    @cached_property
    def bootstrap(self) -> Bootstrap:
        settings = self.study.analysis
        return Bootstrap(settings.draws, settings.seed, settings.confidence)

    @cached_property
    def blocks(self) -> list[Block]:
        return blocks(self.scores)

    @cached_property
    def shared_blocks(self) -> list[Block]:
        """Oriented tasks of the benchmarks whose comparisons all regimes share.

        Where a study has none, one task that nobody was scored on: tables without rows, but with their columns.
        """
        own = own_tests(self.study)
        shared = [b for b in self.blocks if b.benchmark not in own and b.orientation != UNORIENTED]
        return shared or [self.blocks[0].of_units(pl.lit(False))]

    @cached_property
    def task_accuracy(self) -> Draws:
        """Percent correct of each reward model, without ablation, on each task, with orientation averages."""
        unablated = [block.of_units(NONE) for block in self.shared_blocks]
        return self.bootstrap.accuracy(unablated).with_averages([*REWARD_MODEL, "ablation"])

    def ablated_accuracy(self, sets: pl.DataFrame) -> Iterator[Draws]:
        """The same without ablation and under each of the named sets, of one model after the other: draws for all
        ablations of all models take gigabytes."""
        kept = pl.col("ablation").is_in(["none", *sets["ablation"]])
        for model in self.study.models:
            of_model = [block.of_units(kept, pl.col("model") == model) for block in self.shared_blocks]
            yield self.bootstrap.accuracy(of_model).with_averages([*REWARD_MODEL, "ablation"])

    @cached_property
    def benchmark_accuracy(self) -> Draws:
        """Percent correct of each reward model, without ablation, on a benchmark's comparisons all together."""
        return self.bootstrap.pooled_accuracy([block.of_units(NONE) for block in self.blocks])

    @cached_property
    def swept(self) -> Draws:
        """The same under each ablation too, on the benchmarks on which sizes are swept."""
        swept = [block for block in self.blocks if block.benchmark in self.study.ablation.sweep_benchmarks]
        return self.bootstrap.pooled_accuracy(swept or [self.blocks[0].of_units(pl.lit(False))])

    @cached_property
    def patching(self) -> patching.Patched | None:
        return patching.find(self.study, self.bootstrap, self.blocks, blocks(self.patched))

    @cached_property
    def pairs(self) -> PairFigures:
        read = self.lists, self.lengths, self.words, self.validation, self.texts
        return PairFigures(self.study, self.bootstrap, *read)

    @property
    def once(self) -> pl.Expr:
        """Of what reward models do as they are, the rows that say it once: of given ones not those of each place. What
        they do under an ablation differs from place to place."""
        return ~NONE | pl.col("regime").is_in(self.study.distinct_regimes())

    @property
    def once_each(self) -> pl.Expr:
        """`once` by benchmark; own tests are of the regimes that have data of their own."""
        regimes = self.study.single_regimes() if self.study.given else list(self.study.regimes)
        own = pl.col("benchmark").is_in(own_tests(self.study))
        return ~NONE | pl.when(own).then(pl.col("regime").is_in(regimes)).otherwise(self.once)

    @cached_property
    def oriented(self) -> list[Oriented]:
        """The oriented neurons of every model by every scoring."""
        return [*oriented(self.neurons, self.study)]

    @cached_property
    def order(self) -> Mapping[str, list[str]]:
        return study_order(self.study, self.blocks)

    @cached_property
    def least_p(self) -> pl.DataFrame:
        """orientation, task, least: the p-value of a sign test of a task's comparisons that are all of one mind. No
        bootstrap's means anything below: of five that agree, all its draws do."""
        counts = pl.DataFrame([(b.orientation, b.task, len(b.ids)) for b in self.blocks], [*TASK, "n"], orient="row")
        n = pl.col("n").sum().cast(pl.Float64)
        return counts.group_by(TASK, maintain_order=True).agg(least=2.0 ** (1 - n))

    def floored(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of tasks with no p below the least."""
        beside = frame.join(self.least_p, on=TASK, how="left", maintain_order="left")
        least = pl.when(pl.col("p").is_not_null()).then("least")
        return beside.with_columns(p=pl.max_horizontal("p", least)).drop("least")

    def table(self, figures: Draws, by: list[str], name: str, **others: Draws) -> pl.DataFrame:
        """`Bootstrap.summary` of one or more figures side by side, rows in the study's order of each of `by`."""
        frame = held(self.bootstrap.summary(figures, by, name), name)
        frame = self.floored(frame) if {*TASK} <= {*by} else frame
        for other, draws in others.items():
            beside = held(self.bootstrap.summary(draws, by, other), other).drop("p", "n_seeds")
            frame = frame.join(beside, on=by, how="left", nulls_equal=True, maintain_order="left")
        last = [column for column in ("n_seeds", "p") if column in frame.columns]
        return self.sorted(frame.select(pl.exclude(last), *last), by)

    def table_of_seeds(self, frame: pl.DataFrame, by: list[str], name: str, *others: str) -> pl.DataFrame:
        """The table of figures on which no comparison has a bearing: columns of a frame, beside `by` and seed."""
        draws = {n: self.bootstrap.constant(frame.select(*by, "seed", n), n) for n in (name, *others)}
        return self.table(draws.pop(name), by, name, **draws).drop("p")

    def sorted(self, frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        ranks = [
            pl.col(key).cast(pl.Enum(list(dict.fromkeys(self.order[key])))) if key in self.order else pl.col(key)
            for key in by
        ]
        return frame.sort(ranks, maintain_order=True)


def load_results(folder: Path, study: Study) -> Results:
    return Results(
        study,
        load_scores(folder, study),
        load_lists(folder, study),
        load_sizes(folder, study),
        load_control_overlaps(folder, study),
        load_rankings(folder, study),
        load_activations(folder, study),
        load_lengths(folder, study),
        load_words(folder, study),
        load_validation(folder, study),
        load_texts(folder, study),
        load_patched(folder, study),
        load_conflicts(folder, study),
        load_pairs_seen(folder, study),
        load_loudness(folder, study),
    )


def study_order(study: Study, made: list[Block]) -> Mapping[str, list[str]]:
    """Column -> its words in the order that all tables have them; made: the study's blocks."""
    regimes, singles = list(study.regimes), study.single_regimes()
    sets = [*mixed_sets(study)["set"].unique(maintain_order=True), *study.neurons.scorings]
    return {
        "model": [*study.models, OVERALL],
        **{key: [*regimes, *study.neurons.scorings, *study.models] for key in (*REGIMES, "first", "second", "single")},
        "against": ["none", *regimes, UNABLATED, *sets, *CONTROLS],
        "benchmark": list(study.benchmarks),
        "scoring": list(study.neurons.scorings),
        "ablation": ["none", study.ablation.main_set, *sets],
        **{key: [study.ablation.main_set, study.ablation.matched_set, "all", *sets] for key in ("family", "set")},
        "control": ["", *CONTROLS],
        "replaced_by": ["zero", "mean"],
        "orientation": [*singles, *(b.orientation for b in made), BOTH],
        "task": [*(b.task for b in made), AVERAGE],
        "third": THIRDS,
        "rule": [LONGER, SHORTER, *(WORDS + regime for regime in regimes)],
        "tasks": ["all", *singles, *(b.orientation for b in made), OWN_TASKS, OWN_TEST],
    }


def empty_table(names: list[str], by: list[str], *more: str) -> pl.DataFrame:
    """The table of figures that a study has no data for."""
    values = [f"{name}_{part}" for name in names for part in ("mean", "sd", "low", "high")] + [*more]
    kinds = {key: NUMBERED.get(key, pl.String()) for key in by}
    return pl.DataFrame(schema={**kinds, **dict.fromkeys(values, pl.Float64), "n_seeds": pl.UInt32})
