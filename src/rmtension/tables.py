"""The study's tables: long frames from the scores and the neuron rankings, and their form for reading.

`<x>_mean` and `<x>_sd` are taken over seeds (population standard deviation); `n_seeds` counts them.
Accuracies are in percent, their differences (delta) in points. Rows follow the study file's order, tasks the
data's. Task tables leave the regimes' own test splits out, as no two regimes share them, and have for each
orientation a row of task "average", averaged over tasks before it is averaged over seeds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl
import polars.selectors as cs

from rmtension.errors import UserError
from rmtension.files import replacing, write_parquet, write_text
from rmtension.naming import ablation_name, tension_names
from rmtension.statistics import (
    REWARD_MODEL,
    TASK,
    accuracy,
    over_seeds,
    retention,
    with_orientation_averages,
)
from rmtension.study import Study

THIRDS = ["early", "middle", "late"]


def load_scores(paths: Mapping[tuple[str, str, int, str], Path]) -> pl.DataFrame:
    """The score files of (model, regime, seed, benchmark) as one frame, in the order given."""
    columns = ["ablation", "comparison_id", "task", "orientation", "correct"]
    return load(paths.items(), [*REWARD_MODEL, "benchmark"], columns)


def load_neurons(paths: Mapping[tuple[str, str, int], Path]) -> pl.DataFrame:
    """The ranking files of (model, regime, seed) as one frame, in the order given."""
    return load(paths.items(), REWARD_MODEL, ["scoring", "layer", "rank"])


def load(files: Iterable[tuple[tuple[str | int, ...], Path]], keys: list[str], columns: list[str]) -> pl.DataFrame:
    frames = []
    for key, path in files:
        if not path.exists():
            raise UserError(f"{path}: no such file; run the stage that makes it first")
        literals = [pl.lit(value).alias(name) for name, value in zip(keys, key, strict=True)]
        frame = pl.scan_parquet(path).select(*literals, *columns)
        # Millions of rows repeat few words: as categories they take four bytes each.
        frames.append(frame.with_columns(cs.string().cast(pl.Categorical)))
    return pl.concat(frames).collect()


@dataclass(frozen=True)
class Results:
    """What every table is made from."""

    scores: pl.DataFrame
    neurons: pl.DataFrame
    study: Study

    @cached_property
    def shared_scores(self) -> pl.DataFrame:
        """Scores on the benchmarks whose comparisons all regimes share."""
        own = [name for name, b in self.study.benchmarks.items() if b.kind == "regime-test"]
        return self.scores.filter(~pl.col("benchmark").is_in(own))

    @cached_property
    def task_accuracy(self) -> pl.DataFrame:
        """Accuracy of each reward model under each ablation on each task, with orientation averages."""
        by_benchmark = accuracy(self.shared_scores).cast({cs.categorical(): pl.String})
        return with_orientation_averages(by_benchmark, [*REWARD_MODEL, "ablation"], "accuracy")

    @cached_property
    def mixed_sets(self) -> pl.DataFrame:
        """regime, ablation: the sets of shared and exclusive neurons ablated in each mixed regime."""
        rows = [(r, name) for r, regime in self.study.regimes.items() for name in tension_names(regime.mixes)]
        return pl.DataFrame(rows, schema={"regime": pl.String, "ablation": pl.String}, orient="row")

    def own_sets(self, percents: Iterable[float]) -> pl.DataFrame:
        """scoring, percent, ablation: the name each scoring's set was ablated under; 0 % is no ablation."""
        scorings = self.study.neurons.scorings
        rows = [(s, float(p), ablation_name(s, p) if p else "none") for s in scorings for p in percents]
        return pl.DataFrame(rows, schema=["scoring", "percent", "ablation"], orient="row")

    def over_seeds(self, frame: pl.DataFrame, by: list[str], *values: str) -> pl.DataFrame:
        """`statistics.over_seeds`, its rows in the study's order of each column of `by`."""
        order: dict[str, Iterable[str]] = {
            "model": self.study.models,
            "regime": self.study.regimes,
            "benchmark": self.study.benchmarks,
            "scoring": self.study.neurons.scorings,
            "ablation": ["none", *self.mixed_sets["ablation"]],
            "orientation": [*self.study.single_regimes(), *self.task_accuracy["orientation"]],
            "task": [*filter("average".__ne__, self.task_accuracy["task"]), "average"],
            "third": THIRDS,
        }
        ranks = [pl.col(k).cast(pl.Enum(list(dict.fromkeys(order[k])))) if k in order else pl.col(k) for k in by]
        return over_seeds(frame.cast({cs.categorical(): pl.String}), by, *values).sort(ranks)


def benchmark_accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark; accuracy over all its comparisons together (_mean, _sd), n_seeds;
    n_comparisons and, of these, n_unscored (means over seeds)."""
    unablated = results.scores.filter(pl.col("ablation") == "none")
    by_seed = accuracy(unablated, [*REWARD_MODEL, "benchmark"])
    by = ["model", "regime", "benchmark"]
    counts = by_seed.group_by(by).agg(pl.col("n_comparisons", "n_unscored").mean())
    table = results.over_seeds(by_seed, by, "accuracy")
    return table.join(counts.cast({cs.categorical(): pl.String}), on=by, how="left", maintain_order="left")


def accuracy_table(results: Results) -> pl.DataFrame:
    """model, regime, orientation, task; accuracy (_mean, _sd), n_seeds."""
    unablated = results.task_accuracy.filter(pl.col("ablation") == "none")
    return results.over_seeds(unablated, ["model", "regime", *TASK], "accuracy")


def retention_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (none, or a set zeroed in the mixed reward model), orientation,
    task; retention (_mean, _sd), a fraction; n_seeds."""
    scores, sets = results.shared_scores, results.mixed_sets
    cases = pl.concat([sets.with_columns(ablation=pl.lit("none")).unique(), sets]).rows()
    kept = [retention(scores, regime, results.study.regimes[regime].mixes, name) for regime, name in cases]
    # Without a mixed regime the table is there, and empty.
    retained = pl.concat([retention(scores.clear(), "", []), *kept])
    averaged = with_orientation_averages(
        retained.cast({cs.categorical(): pl.String}), [*REWARD_MODEL, "ablation"], "retention"
    )
    return results.over_seeds(averaged, ["model", "regime", "ablation", *TASK], "retention")


def ablation_curve_table(results: Results) -> pl.DataFrame:
    """model, regime, benchmark, scoring, percent (of the neurons, zeroed; 0: none), n_neurons (so many);
    accuracy over all comparisons of the benchmark together, and delta, its change from 0 % (_mean, _sd);
    n_seeds."""
    settings = results.study.ablation
    swept = results.scores.filter(pl.col("benchmark").is_in(settings.sweep_benchmarks))
    pooled = accuracy(swept, [*REWARD_MODEL, "benchmark", "ablation"]).cast({cs.categorical(): pl.String})
    neurons = results.neurons.group_by(pl.col("model").cast(pl.String)).agg(all_neurons=pl.col("rank").max())
    curve = (
        effects(pooled, results.own_sets([0, *settings.sweep]))
        .join(neurons, on="model")
        .with_columns(n_neurons=(pl.col("percent") / 100 * pl.col("all_neurons")).round().cast(pl.Int64))
        .rename({"ablated": "accuracy"})
    )
    by = ["model", "regime", "benchmark", "scoring", "percent", "n_neurons"]
    return results.over_seeds(curve, by, "accuracy", "delta")


def own_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, percent (of the reward model's neurons: its own top ones, zeroed), orientation,
    task; baseline, ablated and delta, their difference within a seed (_mean, _sd); n_seeds."""
    changed = effects(results.task_accuracy, results.own_sets([results.study.ablation.percent]))
    by = ["model", "regime", "scoring", "percent", *TASK]
    return results.over_seeds(changed, by, "baseline", "ablated", "delta")


def shared_ablation_table(results: Results) -> pl.DataFrame:
    """model, regime (a mixed one), ablation (shared, or exclusive to one of its parts), orientation, task;
    baseline, ablated and delta, their difference within a seed (_mean, _sd); n_seeds."""
    changed = effects(results.task_accuracy, results.mixed_sets)
    return results.over_seeds(changed, ["model", "regime", "ablation", *TASK], "baseline", "ablated", "delta")


def depth_table(results: Results) -> pl.DataFrame:
    """model, regime, scoring, third (of the layers: early, middle, late); share of the oriented neurons that
    lie in it, in percent (_mean, _sd); n_seeds. Layer l of L is in third floor(3 l / L)."""
    oriented = pl.col("rank") <= (results.study.ablation.percent / 100 * pl.len()).round()
    third = 3 * pl.col("layer") // (pl.col("layer").max() + 1)
    shares = [(third.filter(oriented) == i).mean().mul(100).alias(name) for i, name in enumerate(THIRDS)]
    ranking = [*REWARD_MODEL, "scoring"]
    by_seed = results.neurons.group_by(ranking, maintain_order=True).agg(shares)
    long = by_seed.unpivot(THIRDS, index=ranking, variable_name="third", value_name="share")
    return results.over_seeds(long, ["model", "regime", "scoring", "third"], "share")


def effects(accuracies: pl.DataFrame, ablations: pl.DataFrame) -> pl.DataFrame:
    """Accuracy without ablation (baseline), under each of `ablations` (ablated), and the change (delta)."""
    key = [column for column in accuracies.columns if column in (*REWARD_MODEL, "benchmark", *TASK)]
    unablated = accuracies.filter(pl.col("ablation") == "none").select(*key, baseline="accuracy")
    ablated = accuracies.join(ablations, on=[c for c in ablations.columns if c in accuracies.columns])
    joined = ablated.rename({"accuracy": "ablated"}).join(unablated, on=key)
    return joined.with_columns(delta=pl.col("ablated") - pl.col("baseline"))


TABLES: dict[str, Callable[[Results], pl.DataFrame]] = {
    "benchmark_accuracy": benchmark_accuracy_table,
    "accuracy": accuracy_table,
    "retention": retention_table,
    "ablation_curve": ablation_curve_table,
    "own_ablation": own_ablation_table,
    "shared_ablation": shared_ablation_table,
    "depth": depth_table,
}


def make_tables(scores: pl.DataFrame, neurons: pl.DataFrame, study: Study) -> dict[str, pl.DataFrame]:
    """Every table of the study, by name."""
    results = Results(scores, neurons, study)
    return {name: table(results) for name, table in TABLES.items()}


# --- for reading --------------------------------------------------------------------------------------------

KEYS = ["model", "regime", "benchmark", "scoring", "percent", "ablation"]
# z: a change that rounds to zero has no sign of its own.
DECIMALS = {"accuracy": ".1f", "delta": "+z.1f", "retention": ".2f", "share": ".1f"}


def readable(table: pl.DataFrame) -> pl.DataFrame:
    """Text cells "mean ± sd": one row per ablation, one column per task, size, third or benchmark."""
    value = next(name for name in DECIMALS if f"{name}_mean" in table.columns)
    across = next(name for name in ("task", "percent", "third", "benchmark") if name in table.columns)
    rows = [name for name in KEYS if name in table.columns and name != across]

    def cell(row: dict[str, float]) -> str:
        mean = format(row[f"{value}_mean"], DECIMALS[value])
        # One seed has no spread to show.
        return f"{mean} ± {row[f'{value}_sd']:{DECIMALS[value].strip('+z')}}" if row["n_seeds"] > 1 else mean

    cells = pl.struct(f"{value}_mean", f"{value}_sd", "n_seeds").map_elements(cell, return_dtype=pl.String)
    head = pl.format("{}: {}", *TASK) if across == "task" else pl.col(across)
    percent = cs.by_name("percent", require_all=False).cast(pl.String).str.strip_suffix(".0") + " %"
    long = table.drop_nulls(f"{value}_mean").with_columns(percent)
    return long.select(*rows, head=head, cell=cells).pivot("head", index=rows, values="cell").fill_null("")


def as_markdown(grid: pl.DataFrame) -> str:
    lines = [grid.columns, ["---" if name in KEYS else "---:" for name in grid.columns], *grid.rows()]
    return "".join("| " + " | ".join(word.replace("|", "\\|") for word in line) + " |\n" for line in lines)


LATEX = {ord(c): f"\\{c}" for c in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}", ord("~"): r"\textasciitilde{}", ord("^"): r"\textasciicircum{}",
    ord("±"): r"$\pm$", ord("<"): "$<$", ord(">"): "$>$",
}  # fmt: skip


def as_latex(grid: pl.DataFrame) -> str:
    """A tabular that needs \\usepackage{booktabs} and nothing else."""
    # A minus sign is one in mathematics only; in text it would be a hyphen.
    escaped = [[re.sub(r"^([+-])(?=\d)", r"$\1$", word.translate(LATEX)) for word in line]
               for line in [grid.columns, *grid.rows()]]  # fmt: skip
    head, *body = [" & ".join(line) + r" \\" for line in escaped]
    columns = "".join("l" if name in KEYS else "r" for name in grid.columns)
    start = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", head, r"\midrule"]
    return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", ""])


def write_table(table: pl.DataFrame, path: Path) -> None:
    """The long table as parquet at `path` and as .csv beside it; for reading, as .md and .tex."""
    write_parquet(table, path)
    with replacing(path.with_suffix(".csv")) as temporary:
        table.write_csv(temporary)
    write_text(as_markdown(readable(table)), path.with_suffix(".md"))
    write_text(as_latex(readable(table)), path.with_suffix(".tex"))
