"""Rules without a model beside reward models: the accuracy of both in the same places, over all models."""

from __future__ import annotations

import polars as pl

from rmtension.base.sums import summable
from rmtension.study.naming import AVERAGE, OVERALL, UNORIENTED

OWN = "own test"  # stands for the tasks of a single-objective regime's own test split
EVERY = "all tasks"  # stands for the benchmarks where an orientation's tasks are averaged
PLACE = ["orientation", "benchmark", "task"]
ESTIMATE = ["accuracy_mean", "accuracy_low", "accuracy_high"]


def ruled(surface: pl.DataFrame, card: pl.DataFrame) -> pl.DataFrame:
    """PLACE, own, rule, n_comparisons, accuracy_mean, of (the benchmarks that its comparisons are of): of each
    orientation its own test split (own), its tasks, and their average.

    A task of two benchmarks counts once, as the mean of the two. Places of an orientation follow each other, and so do
    those of a benchmark.
    """
    n, accuracy, columns = pl.col("n_comparisons"), pl.col("accuracy_mean"), [*PLACE, "own", "rule"]
    mean, pooled = (summable(numbers) for numbers in (accuracy, n * accuracy))
    of = pl.col("benchmark").unique(maintain_order=True)
    is_own = pl.col("benchmark").is_in(card.filter(kind="regime-test")["benchmark"].to_list())
    oriented = surface.filter(pl.col("orientation") != UNORIENTED).with_columns(own=is_own)
    tests = oriented.filter("own").with_columns(task=pl.lit(OWN)).group_by(columns, maintain_order=True)
    own = tests.agg(n.sum(), accuracy_mean=pooled.sum() / n.sum(), of=of)
    shared = oriented.filter(~pl.col("own")).group_by("orientation", "task", "own", "rule", maintain_order=True)
    tasks = shared.agg(n.sum(), accuracy_mean=mean.mean(), benchmark=pl.col("benchmark").str.join(" and "), of=of)
    averages = tasks.group_by("orientation", "own", "rule", maintain_order=True).agg(
        n.sum(), accuracy_mean=mean.mean(), benchmark=pl.lit(EVERY), task=pl.lit(AVERAGE), of=pl.col("of").explode()
    )
    columns += ["n_comparisons", "accuracy_mean", "of"]
    rows, row = pl.concat(part.select(columns) for part in (own, tasks, averages)).with_row_index("row"), pl.col("row")
    return rows.sort(row.min().over("orientation"), row.min().over(PLACE[:2]), row).drop("row")


def is_given(card: pl.DataFrame) -> bool:
    """Whether a study's reward models are given; card: the table models_card."""
    return (card["kind"] == "given").all() if len(card) else False


def judged_each(places: pl.DataFrame, accuracy: pl.DataFrame, tests: pl.DataFrame) -> pl.DataFrame:
    """`judged` of each model by itself, its name in the place of the regime: of given reward models, which are judged
    as they are, on own tests under the regime whose test it is."""
    found = []
    for model in tests.filter(pl.col("model") != OVERALL)["model"].unique(maintain_order=True):
        alone = (frame.filter(model=model).with_columns(model=pl.lit(OVERALL)) for frame in (accuracy, tests))
        found.append(judged(places, *alone).with_columns(regime=pl.lit(model)))
    return pl.concat(found) if found else judged(places, accuracy, tests)


def judged(places: pl.DataFrame, accuracy: pl.DataFrame, tests: pl.DataFrame) -> pl.DataFrame:
    """regime, PLACE, ESTIMATE, same of the reward models in the places of `ruled`; accuracy, tests: the tables accuracy
    and benchmark_accuracy. On an own test split those of its regime alone, and if they were judged on the same
    comparisons. same: whether they scored all comparisons of the benchmarks there, as rules do.
    """
    key, count = [*PLACE, "own", "n_comparisons"], pl.col("n_comparisons")
    places = places.select(*key, "of").unique(key, keep="first", maintain_order=True)
    own, shared = places.filter("own"), places.filter(~pl.col("own"))
    tests = tests.with_columns(count.cast(places.schema["n_comparisons"]), orientation="regime")
    found = [
        tests.join(own, on=["orientation", "benchmark", "n_comparisons"], maintain_order="left"),
        accuracy.join(shared, on=["orientation", "task"], maintain_order="left"),
    ]
    rows = pl.concat(part.filter(model=OVERALL).select("regime", *PLACE, *ESTIMATE, "of") for part in found)
    return rows.with_columns(pl.Series("same", are_whole(rows, tests.filter(model=OVERALL)), pl.Boolean)).drop("of")


def are_whole(rows: pl.DataFrame, tests: pl.DataFrame) -> list[bool]:
    """Of each row, whether its regime left no comparison of the benchmarks `of` unscored. Of one task alone that is not
    known: benchmark_accuracy tells it of all tasks of a benchmark together."""
    partly = set(tests.filter(pl.col("n_unscored") > 0).select("regime", "benchmark").rows())
    return [partly.isdisjoint((regime, name) for name in of or []) for regime, of in rows.select("regime", "of").rows()]
