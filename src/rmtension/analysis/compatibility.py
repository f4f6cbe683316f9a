"""Where the authors' code departs from the paper's words: this study's figures under either, where both can be had
without training or scoring anew (docs/methods.md, section 9)."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import polars.selectors as cs

from rmtension.analysis.results import Results
from rmtension.analysis.statistics import with_mean_of_models
from rmtension.base.sums import summable
from rmtension.study.measured import own_tests

SCHEMA = {
    **dict.fromkeys(["switch", "key", "setting", "quantity", "model", "regime"], pl.String()),
    **dict.fromkeys(["authors", "corrected", "difference"], pl.Float64()),
}
Tables = Mapping[str, pl.DataFrame]


def compared(value: str, quantity: str, authors: pl.DataFrame, corrected: pl.DataFrame) -> pl.DataFrame:
    """Rows in either frame, with the figure of both: model, regime, quantity, authors, corrected."""
    one, other = (
        frame.select("model", "regime", pl.col(value).alias(name))
        for frame, name in ((authors, "authors"), (corrected, "corrected"))
    )
    both = one.join(other, on=["model", "regime"], how="full", coalesce=True, maintain_order="right_left")
    return both.with_columns(quantity=pl.lit(quantity))


def own_average(table: pl.DataFrame) -> pl.DataFrame:
    """Averages over the tasks of a single-objective regime's own orientation."""
    return table.filter(pl.col("regime") == pl.col("orientation"), task="average")


def magnitude(tables: Tables, results: Results) -> pl.DataFrame:
    """R1: the signed mean or the mean of absolute values, where the study ranks by both."""
    table = own_average(tables["own_ablation"]).filter(replaced_by="zero")
    study = results.study
    names = {"mean": "mean", "mean_abs": "mean_abs"} | {study.neurons.magnitude: "magnitude"}
    sides = (table.filter(pl.col("scoring").is_in([name, names[name]])).unique(["model", "regime"], maintain_order=True)
             for name in ("mean", "mean_abs"))  # fmt: skip
    return compared("delta_mean", "points lost on own tasks without the top neurons", *sides)


def selection(tables: Tables, results: Results) -> pl.DataFrame:
    """R3: sets by percentile of scores averaged over seeds and clipped, or exact sets of each seed."""
    table = tables["neuron_overlap"].filter(scoring=results.study.ablation.scoring)
    table = table.with_columns(regime=pl.format("{}, {}", "first", "second"))
    sides = (table.filter(selection=name) for name in ("authors", "exact"))
    return compared("jaccard_mean", "Jaccard index of the oriented sets", *sides)


def shared(tables: Tables, results: Results) -> pl.DataFrame:
    """R4: the shared set with every neuron of the layers in which one part alone has any, or without."""
    table = tables["shared_ablation"].filter(control="whole", replaced_by="zero", task="average")
    parts = []
    for orientation in results.study.single_regimes():
        sides = (table.filter(orientation=orientation, ablation=name) for name in ("shared-authors", "shared"))
        parts.append(compared("delta_mean", f"points lost on {orientation} tasks without the shared neurons", *sides))
    sides = (
        table.filter(ablation=name).unique(["model", "regime"], maintain_order=True)
        for name in ("shared-authors", "shared")
    )
    return pl.concat([*parts, compared("n_neurons", "neurons in the shared set", *sides)])


def checkpoint(tables: Tables, results: Results) -> pl.DataFrame:
    """R6: the checkpoint chosen on the test split, or on the validation split. One run has one of the two."""
    study = results.study
    table = tables["benchmark_accuracy"].filter(pl.col("benchmark").is_in(own_tests(study)))
    chosen = "" if study.given else study.training.select_on  # nothing is chosen where nothing is trained
    sides = (table if chosen == split else table.clear() for split in ("test", "validation"))
    return compared("accuracy_mean", "accuracy on the regime's own test split (%)", *sides)


def template(tables: Tables, results: Results) -> pl.DataFrame:
    """R7: benchmark texts in the authors' form, or in that of the training texts; both where a study has both."""
    study = results.study
    forms = {name: getattr(benchmark, "template", None) for name, benchmark in study.benchmarks.items()}
    parts = []
    for kind in dict.fromkeys(study.benchmarks[name].kind for name, form in forms.items() if form):
        of_kind = {name: form for name, form in forms.items() if study.benchmarks[name].kind == kind}
        table = tables["benchmark_accuracy"]
        sides = (table.filter(pl.col("benchmark").is_in([n for n, f in of_kind.items() if f == form])).unique(
            ["model", "regime"], keep="first", maintain_order=True) for form in ("paper", "hh"))  # fmt: skip
        parts.append(compared("accuracy_mean", f"accuracy on {kind} (%)", *sides))
    return pl.concat(parts) if parts else pl.DataFrame(schema=SCHEMA)


def rm_bench(_tables: Tables, results: Results) -> pl.DataFrame:
    """R8: responses of one style against each other, or all chosen ones above all rejected ones."""
    kinds = [name for name, benchmark in results.study.benchmarks.items() if benchmark.kind == "rm-bench"]
    scores = results.lists.filter(pl.col("benchmark").is_in(kinds), ablation="none")
    scores = scores.drop_nulls("chosen_scores").cast({cs.categorical(): pl.String}).filter(results.once)
    strict = pl.col("chosen_scores").list.min() > pl.col("rejected_scores").list.max()
    same = scores.explode("chosen_scores", "rejected_scores")
    sides = []
    for frame, correct in ((same, pl.col("chosen_scores") > pl.col("rejected_scores")), (scores, strict)):
        by_seed = frame.group_by("model", "regime", "seed", maintain_order=True).agg(accuracy=100 * correct.mean())
        means = by_seed.group_by("model", "regime", maintain_order=True).agg(summable(pl.col("accuracy")).mean())
        sides.append(with_mean_of_models(means, ["regime"], ["accuracy"]))
    return compared("accuracy", "accuracy on RM-Bench (%)", *sides)


# Switch of docs/methods.md, section 9 -> key of the study file and what is compared.
SWITCHES = {
    "R1": ("neurons.magnitude", magnitude),
    "R3": ("analysis.selection", selection),
    "R4": ("analysis.shared", shared),
    "R6": ("training.select_on", checkpoint),
    "R7": ("benchmarks.*.template", template),
    "R8": ("analysis.rm_bench", rm_bench),
}


def compatibility_table(tables: Tables, results: Results) -> pl.DataFrame:
    """switch, key (of the study file), setting (this study's), quantity, model, regime; the figure under the authors'
    way (authors) and under ours (corrected), and the difference; null where it would take another run."""
    study, parts = results.study, []
    for switch, (key, compare) in SWITCHES.items():
        section, name = key.split(".")[0], key.split(".")[-1]
        held = study.benchmarks.values() if section == "benchmarks" else [getattr(study, section)]
        setting = ", ".join(dict.fromkeys(getattr(s, name) for s in held if hasattr(s, name)))
        named = {"switch": pl.lit(switch), "key": pl.lit(key), "setting": pl.lit(setting)}
        difference = pl.col("authors") - pl.col("corrected")
        rows = compare(tables, results).with_columns(**named, difference=difference)
        parts.append(rows.select(pl.col(column).cast(kind) for column, kind in SCHEMA.items()))
    return pl.concat(parts)
