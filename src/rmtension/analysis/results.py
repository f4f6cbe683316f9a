"""What a study's jobs have left in its folder, read and brought into the forms that tables are made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf
from pathlib import Path
from typing import NamedTuple

import polars as pl
import polars.selectors as cs

from rmtension.analysis.statistics import REWARD_MODEL, TASK, Block, Bootstrap, Draws, blocks
from rmtension.base.files import Columns, scan_table
from rmtension.base.sums import summable
from rmtension.neurons.ranking import NEURON, RANKINGS, SETS, STATISTICS
from rmtension.study.benchmarks import UNORIENTED
from rmtension.study.naming import AVERAGE, OVERALL, THIRDS, ablation_name, tension_sets_index
from rmtension.study.study import Study

CONTROLS = ["whole", "size-matched", "matched-random", "random"]
# What is read of a scores file.
SCORES = {
    **dict.fromkeys(["ablation", "comparison_id", *TASK], pl.String()),
    **dict.fromkeys(["chosen_scores", "rejected_scores"], pl.List(pl.Float32())),
}


class Unit(NamedTuple):
    """What a figure is counted in, and what it can be at least and at most."""

    name: str
    least: float = -inf
    greatest: float = inf


PERCENT, POINTS, FRACTION = Unit("%", 0, 100), Unit("points", -100, 100), Unit("fraction", 0, 1)
RATIO, NEURONS, ACTIVATION = Unit("ratio", 0), Unit("neurons", 0), Unit("activation", 0)
REWARD, REWARD_SIZE = Unit("reward"), Unit("reward", 0)
# Every figure of a table, by the name that its columns begin with.
UNITS = (
    dict.fromkeys(["accuracy", "baseline", "ablated", "share", "value"], PERCENT)
    | dict.fromkeys(["delta", "difference"], POINTS)
    | dict.fromkeys(["retention", "overlap", "jaccard", "retained", "chance"], FRACTION)
    | dict.fromkeys(["ratio", "margin_ratio"], RATIO)
    | dict.fromkeys(["closeness", "mixed", "single", "left", "right"], REWARD)
    | dict.fromkeys(["mixed_spread", "single_spread", "before", "after"], REWARD_SIZE)
    | dict.fromkeys(["n_neurons", "intersection", "union"], NEURONS)
    | dict.fromkeys(["rmsd", "level"], ACTIVATION)
)


def held(summary: pl.DataFrame, name: str) -> pl.DataFrame:
    """A summary with the limits of its interval within what the figure can be: corrected for the small number of seeds,
    they can reach beyond. An estimate that does so itself (RewardBench 2's Ties goes to 101) stays between them."""
    unit, mean = UNITS[name], pl.col(f"{name}_mean")
    least, greatest = pl.min_horizontal(pl.lit(unit.least), mean), pl.max_horizontal(pl.lit(unit.greatest), mean)
    return summary.with_columns(pl.col(f"{name}_low", f"{name}_high").clip(least, greatest))


def same_style(scores: pl.LazyFrame) -> pl.LazyFrame:
    """Response i against response i only, each a comparison of its own: how the authors read RM-Bench."""
    sides = ["chosen_scores", "rejected_scores"]
    style = pl.int_ranges(pl.col("chosen_scores").list.len()).alias("style")
    lists = [pl.concat_list(side).alias(side) for side in sides]
    exploded = scores.with_columns(style).explode("style", *sides)
    return exploded.with_columns(*lists, comparison_id=pl.format("{}/{}", "comparison_id", "style")).drop("style")


def load_scores(folder: Path, study: Study, lists: bool = False) -> pl.DataFrame:
    """Every score file of a study: model, regime, seed, benchmark, ablation, comparison_id, orientation, task; chosen,
    the lowest score of the chosen responses, and rejected, the highest of the rejected ones.

    lists: chosen_scores and rejected_scores instead, of each reward model unablated and without its own top neurons.
    """
    main = ["none", ablation_name(study.ablation.scoring, study.ablation.percent)]
    frames = []
    for (*reward_model, seed), benchmark in product(reward_models(study), study.benchmarks):
        path = folder / "scores" / Path(*reward_model) / f"seed-{seed}" / f"{benchmark}.parquet"
        frame = scan(path, SCORES, zip([*REWARD_MODEL, "benchmark"], [*reward_model, seed, benchmark], strict=True))
        if study.benchmarks[benchmark].kind == "rm-bench" and study.analysis.rm_bench == "same-style" and not lists:
            frame = same_style(frame)
        rewards = (
            [pl.col("chosen_scores", "rejected_scores")]
            if lists
            else [
                pl.col("chosen_scores").list.min().alias("chosen"),
                pl.col("rejected_scores").list.max().alias("rejected"),
            ]
        )
        keys = [*REWARD_MODEL, "benchmark", "ablation", "comparison_id", *TASK]
        frame = frame.filter(pl.col("ablation").is_in(main)) if lists else frame
        # Millions of rows repeat few words: as categories they take four bytes each.
        frames.append(frame.select(*keys, *rewards).with_columns(cs.string().cast(pl.Categorical)))
    return pl.concat(frames).collect()


def reward_models(study: Study) -> Iterator[tuple[str, str, int]]:
    """model, regime, seed of every reward model, in the study's order."""
    return product(study.models, study.regimes, study.seeds)


def scan(path: Path, columns: Columns, keys: Iterator[tuple[str, str | int]]) -> pl.LazyFrame:
    """A stage's parquet file with the names it stands for as columns."""
    return scan_table(path, columns).select(*columns).with_columns(**{name: pl.lit(value) for name, value in keys})


def load_stage(folder: Path, study: Study, stage: str, columns: Columns) -> pl.LazyFrame:
    """The files of a stage that writes one for each reward model, with model, regime and seed as columns."""
    frames = []
    for reward_model in reward_models(study):
        model, regime, seed = reward_model
        path = folder / stage / model / regime / f"seed-{seed}.parquet"
        frames.append(scan(path, columns, zip(REWARD_MODEL, reward_model, strict=True)))
    return pl.concat(frames)


def load_control_overlaps(folder: Path, study: Study) -> pl.DataFrame:
    """model, regime, seed, set, share: how much of each matched control lies in the very set it is a control of."""
    scoring, percent = study.ablation.scoring, study.ablation.percent
    frames = []
    for model, regime, seed in reward_models(study):
        index = tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
        matched = [
            (s.name, s.name.replace("-matched-", "-sized-"), s.set) for s in index if s.control == "matched-random"
        ]
        own = (ablation_name("matched-random", percent), ablation_name(scoring, percent), scoring)
        named = pl.LazyFrame([own, *matched], schema=["ablation", "target", "set"], orient="row")
        path = folder / "selected" / model / regime / f"seed-{seed}" / "sets.parquet"
        sets = scan(path, SETS, zip(REWARD_MODEL, (model, regime, seed), strict=True))
        place = [*REWARD_MODEL, "layer", "neuron"]
        targets = sets.select(*place, target="ablation").with_columns(met=True)
        both = sets.join(named, on="ablation").join(targets, on=[*place, "target"], how="left")
        by_control = both.group_by(*REWARD_MODEL, "set", "ablation", maintain_order=True)
        frames.append(by_control.agg(share=100 * pl.col("met").is_not_null().mean()))
    by_set = pl.concat(frames).group_by(*REWARD_MODEL, "set", maintain_order=True)
    return by_set.agg(summable(pl.col("share")).mean()).collect()


@dataclass(frozen=True)
class Results:
    """What every table is made from.

    scores: see load_scores; lists: the same with the scores of all responses. sizes: model, regime, seed, ablation,
    n_neurons. control_overlaps: see load_control_overlaps. neurons: model, regime, seed, scoring, layer, neuron, score,
    rank of all rankings. activations: model, regime, seed, layer, neuron, response, mean.
    """

    study: Study
    scores: pl.DataFrame
    lists: pl.DataFrame
    sizes: pl.DataFrame
    control_overlaps: pl.DataFrame
    neurons: pl.DataFrame
    activations: pl.DataFrame

    @classmethod
    def load(cls, folder: Path, study: Study) -> Results:
        sets = load_stage(folder, study, "selected", SETS).group_by(*REWARD_MODEL, "ablation", maintain_order=True)
        columns = [*REWARD_MODEL, "scoring", "layer", "neuron", "score", "rank"]
        neurons = (
            load_stage(folder, study, "neurons", RANKINGS)
            .select(columns)
            .with_columns(cs.string().cast(pl.Categorical))
        )
        activations = load_stage(folder, study, "activations", STATISTICS)
        return cls(
            study,
            load_scores(folder, study),
            load_scores(folder, study, lists=True),
            sets.agg(n_neurons=pl.len()).collect(),
            load_control_overlaps(folder, study),
            neurons.collect(),
            activations.select(*REWARD_MODEL, "layer", "neuron", "response", "mean").collect(),
        )

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
        own = {name for name, b in self.study.benchmarks.items() if b.kind == "regime-test"}
        shared = [b for b in self.blocks if b.benchmark not in own and b.orientation != UNORIENTED]
        return shared or [self.blocks[0].without_units()]

    @cached_property
    def task_accuracy(self) -> Draws:
        """Percent correct of each reward model under each ablation on each task, with orientation averages."""
        return self.bootstrap.accuracy(self.shared_blocks).with_averages([*REWARD_MODEL, "ablation"])

    @cached_property
    def benchmark_accuracy(self) -> Draws:
        """Percent correct of each reward model under each ablation on a benchmark's comparisons all together."""
        return self.bootstrap.pooled_accuracy(self.blocks)

    @cached_property
    def mixed_sets(self) -> pl.DataFrame:
        """regime, ablation (its name in the scores), set, control: what is ablated in each mixed regime."""
        rows = [
            (regime, s.name, s.set, s.control)
            for regime, settings in self.study.regimes.items()
            for s in tension_sets_index(settings.mixes, self.study.ablation.control_draws)
        ]
        return pl.DataFrame(
            rows, schema=dict.fromkeys(["regime", "ablation", "set", "control"], pl.String), orient="row"
        )

    @cached_property
    def oriented(self) -> pl.DataFrame:
        """The oriented neurons: model, regime, seed, scoring, selection, layer, neuron, and n_all, of how many.

        Under selection `authors` there is one set for all seeds, under the study's first seed.
        """
        groups = self.neurons.select("model", "regime").unique(maintain_order=True).rows()
        # One model and regime at a time: rankings are the largest of all that is read.
        return pl.concat(self.selections(self.neurons.filter(model=model, regime=regime)) for model, regime in groups)

    def selections(self, ranked: pl.DataFrame) -> pl.DataFrame:
        """`oriented`, of the rankings of one model and regime."""
        share, place = self.study.ablation.percent / 100, ["scoring", *NEURON]
        ranked = ranked.with_columns(n_all=pl.len().over("seed", "scoring"))
        exact = ranked.filter(pl.col("rank") <= (share * pl.col("n_all")).round())
        first = pl.first("model", "regime", "n_all"), pl.lit(self.study.seeds[0], ranked.schema["seed"]).alias("seed")
        score = summable(pl.col("score")).mean().clip(0)
        averaged = ranked.group_by(place, maintain_order=True).agg(*first, score)
        limit = pl.col("score").quantile(1 - share, interpolation="linear").over("scoring")
        drawn = pl.col("scoring").cast(pl.String).str.contains("random")
        sets = {"exact": exact, "authors": averaged.filter(pl.col("score") >= limit, ~drawn)}
        named = [of.with_columns(selection=pl.lit(selection)) for selection, of in sets.items()]
        columns = [*REWARD_MODEL, "scoring", "selection", *NEURON, "n_all"]
        return pl.concat(of.select(columns) for of in named).cast({cs.categorical(): pl.String})

    def own_sets(self, *percents: float) -> pl.DataFrame:
        """scoring, percent, ablation: the name each scoring's set was ablated under; 0 % is no ablation."""
        scorings = self.study.neurons.scorings
        schema = {"scoring": pl.String, "percent": pl.Float64, "ablation": pl.String}
        rows = [(s, float(p), ablation_name(s, p) if p else "none") for s in scorings for p in dict.fromkeys(percents)]
        return pl.DataFrame(rows, schema=schema, orient="row")

    @cached_property
    def own_sizes(self) -> pl.DataFrame:
        """model, regime, scoring, percent; n_neurons, the mean size of that set."""
        percents = [0, self.study.ablation.percent, *self.study.ablation.sweep]
        return self.mean_sizes(self.own_sets(*percents), ["scoring", "percent"])

    @cached_property
    def set_sizes(self) -> pl.DataFrame:
        """model, regime, set, control; n_neurons, the mean size over draws and seeds."""
        return self.mean_sizes(self.mixed_sets, ["set", "control"])

    def mean_sizes(self, named: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        """An empty set has no rows in its file: its size is 0."""
        rows = pl.DataFrame(list(reward_models(self.study)), schema=REWARD_MODEL, orient="row")
        every = rows.join(named, on="regime") if "regime" in named.columns else rows.join(named, how="cross")
        sizes = self.sizes.cast({cs.categorical(): pl.String, "seed": pl.Int64})
        joined = every.join(sizes, on=[*REWARD_MODEL, "ablation"], how="left").with_columns(
            pl.col("n_neurons").fill_null(0)
        )
        both = pl.concat([joined, joined.with_columns(model=pl.lit(OVERALL))])
        return both.group_by("model", "regime", *by, maintain_order=True).agg(pl.col("n_neurons").mean())

    @property
    def main_ablation(self) -> str:
        """The name that a reward model's own set, of the main scoring and size, is ablated under."""
        return ablation_name(self.study.ablation.scoring, self.study.ablation.percent)

    @cached_property
    def swept(self) -> Draws:
        """Of `benchmark_accuracy`, the benchmarks on which sizes are swept."""
        return self.benchmark_accuracy.filter(pl.col("benchmark").is_in(self.study.ablation.sweep_benchmarks))

    @cached_property
    def order(self) -> Mapping[str, list[str]]:
        """Column -> its words in the order that all tables have them."""
        study = self.study
        regimes, singles = list(study.regimes), study.single_regimes()
        sets = [*self.mixed_sets["set"].unique(maintain_order=True), *study.neurons.scorings]
        return {
            "model": [*study.models, OVERALL],
            **{key: [*regimes, *study.neurons.scorings] for key in ("regime", "first", "second", "single")},
            "against": [*sets, *CONTROLS],
            "benchmark": list(study.benchmarks),
            "scoring": list(study.neurons.scorings),
            "ablation": ["none", self.main_ablation, *sets],
            **dict.fromkeys(("family", "set"), sets),
            "control": ["", *CONTROLS],
            "orientation": [*singles, *(b.orientation for b in self.blocks)],
            "task": [*(b.task for b in self.blocks), AVERAGE],
            "third": THIRDS,
        }

    def table(self, figures: Draws, by: list[str], name: str, **others: Draws) -> pl.DataFrame:
        """`Bootstrap.summary` of one or more figures side by side, rows in the study's order of each of `by`."""
        frame = held(self.bootstrap.summary(figures, by, name), name)
        for other, draws in others.items():
            beside = held(self.bootstrap.summary(draws, by, other), other).drop("p", "n_seeds")
            frame = frame.join(beside, on=by, how="left", nulls_equal=True, maintain_order="left")
        last = [column for column in ("n_seeds", "p") if column in frame.columns]
        return self.sorted(frame.select(pl.exclude(last), *last), by)

    def sorted(self, frame: pl.DataFrame, by: list[str]) -> pl.DataFrame:
        ranks = [
            pl.col(key).cast(pl.Enum(list(dict.fromkeys(self.order[key])))) if key in self.order else pl.col(key)
            for key in by
        ]
        return frame.sort(ranks, maintain_order=True)

    def empty(self, names: list[str], by: list[str], *more: str) -> pl.DataFrame:
        """The table of figures that a study has no data for."""
        values = [f"{name}_{part}" for name in names for part in ("mean", "sd", "low", "high")] + [*more]
        kinds = {key: pl.Float64 if key == "percent" else pl.String for key in by}
        return pl.DataFrame(schema={**kinds, **dict.fromkeys(values, pl.Float64), "n_seeds": pl.UInt32})
