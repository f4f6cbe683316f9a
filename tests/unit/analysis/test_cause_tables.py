"""Tables of patching and of conflict against naive loops over an example's rows."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import polars as pl
import pytest
from example_results import SETTINGS, STUDY, example

from rmtension.analysis.conflict_tables import conflict_contrasts_table, conflict_layers_table, conflict_table
from rmtension.analysis.patching_tables import patching_contrasts_table, patching_table
from rmtension.study.measured import compared_sets
from rmtension.study.study import Study

RESULTS = example()
SCORES, PATCHED = pl.concat(RESULTS.scores), pl.concat(RESULTS.patched)
SEEDS, MODELS, SINGLES = STUDY.seeds, [*STUDY.models], ["helpful", "harmless"]
# Donor -> of its orientation's tasks the (benchmark, task) that average makes one of.
TASKS = {
    "helpful": [[("one", "sums"), ("two", "sums")], [("two", "focus_50%")]],
    "harmless": [[("one", "tact & <tone>")]],
}


def percent(frame: pl.DataFrame, **keys: Any) -> float:
    right = [row["chosen"] > row["rejected"] for row in frame.filter(**keys).to_dicts() if row["chosen"] is not None]
    return 100 * float(np.mean(right))


def accuracy(frame: pl.DataFrame, tasks: str, donor: str, **keys: Any) -> float:
    if tasks == "own test":
        return percent(frame, benchmark="own-test", task=donor, **keys)
    of_tasks = [[percent(frame, benchmark=b, task=t, **keys) for b, t in places] for places in TASKS[donor]]
    return float(np.mean([np.mean(one) for one in of_tasks]))


def figures(model: str, donor: str, tasks: str, of: list[str]) -> tuple[float, float, float]:
    """Means over seeds: accuracy of the mixed reward model, of the donor, and patched with each of the sets `of`."""
    found = []
    for seed in SEEDS:
        keys = {"model": model, "seed": seed}
        mixed = accuracy(SCORES, tasks, donor, regime="mixed", ablation="none", **keys)
        single = accuracy(SCORES, tasks, donor, regime=donor, ablation="none", **keys)
        patched = [accuracy(PATCHED, tasks, donor, ablation=f"{donor}/{name}", **keys) for name in of]
        found.append((mixed, single, float(np.mean(patched))))
    mixed, single, patched = np.mean(found, axis=0).tolist()
    return mixed, single, patched


def names(name: str, control: str) -> list[str]:
    return [one.name for one in compared_sets(STUDY, "mixed") if (one.set, one.control) == (name, control)]


PLACES = [("shared", "whole"), ("shared", "size-matched"), ("shared", "matched-random"), ("helpful-only", "whole"),
          ("random", "random")]  # fmt: skip


@pytest.mark.parametrize(("donor", "tasks"), [*product(SINGLES, ["own tasks", "own test"])])
def test_recovery_is_the_gain_over_the_gap(donor: str, tasks: str) -> None:
    table = patching_table(RESULTS).filter(donor=donor, tasks=tasks)
    for model, (name, control) in product(MODELS, PLACES):
        row = table.filter(model=model, set=name, control=control).row(0, named=True)
        mixed, single, patched = figures(model, donor, tasks, names(name, control))
        means = [row[f"{figure}_mean"] for figure in ("baseline", "gap", "delta")]
        assert means == pytest.approx([mixed, single - mixed, patched - mixed])
        if row["gap_low"] > 0 or row["gap_high"] < 0:
            assert row["recovery_mean"] == pytest.approx((patched - mixed) / (single - mixed)) and row["note"] == ""
        else:
            assert row["recovery_mean"] is row["recovery_low"] is None and row["note"] == "the gap's interval holds 0"
    whole = table.filter(model="all models", set="shared", control="whole").row(0, named=True)
    every = np.array([figures(model, donor, tasks, ["shared"]) for model in MODELS]).mean(axis=0)
    assert whole["delta_mean"] == pytest.approx(every[2] - every[0])
    if whole["recovery_mean"] is not None:
        assert whole["recovery_mean"] == pytest.approx((every[2] - every[0]) / (every[1] - every[0]))


def test_recovery_is_there_where_the_mixed_one_falls_short() -> None:
    """Of a mixed one that gets nothing right, patched or not but for the shared set, all comes back."""
    mixed = pl.col("regime") == "mixed"
    right = {"chosen": pl.lit(1, pl.Float32), "rejected": pl.lit(0, pl.Float32)}
    scores = SCORES.with_columns(pl.when(mixed).then(0 - value).otherwise(value).alias(side)
                                         for side, value in right.items())  # fmt: skip
    shared = pl.col("ablation").str.contains("/shared($|-sized)")
    patched = PATCHED.with_columns(pl.when(shared).then(value).otherwise(0 - value).alias(side)
                                           for side, value in right.items())  # fmt: skip
    made = replace(RESULTS, scores=[scores], patched=[patched])
    table = patching_table(made)
    assert set(table["gap_mean"]) == {100} and set(table["note"]) == {""}
    given = table.select("set", "control", "recovery_mean").unique().rows()
    back = {(name, control) for name, control, recovery in given if recovery == 1}
    assert back == {("shared", "whole"), ("shared", "size-matched")} and len(given) == 10
    assert {recovery for *_, recovery in given} == {0, 1}
    contrasts = patching_contrasts_table(made)
    assert set(contrasts["against"]) == {"random", "matched-random", "helpful-only", "harmless-only"}
    lowest = contrasts.select("difference_mean", "difference_low", "recovery_difference_low")
    assert lowest.unique().rows() == [(100, 100, 1)]


def test_contrasts_of_patching_are_of_one_size() -> None:
    table = patching_contrasts_table(RESULTS)
    for model, donor, (against, control) in product(
        MODELS, SINGLES, [("random", "random"), ("shared", "matched-random"), ("harmless-only", "size-matched")]
    ):
        key = control if against == "shared" else against
        row = table.filter(model=model, donor=donor, tasks="own tasks", against=key).row(0, named=True)
        shared = figures(model, donor, "own tasks", names("shared", "size-matched"))[2]
        other = figures(model, donor, "own tasks", names(against, control))[2]
        assert row["difference_mean"] == pytest.approx(shared - other)


def cosine(row: dict[str, Any]) -> float:
    own, other = row["first_first"], row["second_second"]
    return row["first_second"] / np.sqrt(own * other) if own > 0 and other > 0 else np.nan


def test_cosines_are_of_each_seed_and_shares_are_of_the_square() -> None:
    table, nulls = conflict_table(RESULTS), 0
    for model, regime in product(MODELS, [*SINGLES, "mixed"]):
        for row in table.filter(model=model, regime=regime).to_dicts():
            sums = RESULTS.conflicts.filter(pl.col("layer").is_null(), model=model, regime=regime, set=row["set"],
                                            control=row["control"]).to_dicts()  # fmt: skip
            cosines = [cosine(one) for one in sums]
            known = [one for one in cosines if not np.isnan(one)]
            assert row["n_seeds"] == len(known) and row["n_neurons"] == 2
            assert row["cosine_mean"] == (pytest.approx(np.mean(known)) if known else None)
            assert row["opposed_mean"] == pytest.approx(np.mean([one["opposed"] / one["square"] for one in sums]))
            nulls += len(cosines) - len(known)
    assert nulls


def test_contrasts_and_layers_of_conflict() -> None:
    table, layers = conflict_contrasts_table(RESULTS), conflict_layers_table(RESULTS)
    assert set(layers["model"]) == {*MODELS} and set(layers["layer"]) == {0, 1, 2, 3}
    sums = RESULTS.conflicts.filter(regime="mixed", model="ape")
    for against, (name, control) in {
        "matched-random": ("shared", "matched-random"), "random": ("random", "random"),
        "helpful-only": ("helpful-only", "size-matched"),
    }.items():  # fmt: skip
        differences = []
        for seed in SEEDS:
            [one], [other] = (sums.filter(seed=seed, set=s, control=c).to_dicts()
                              for s, c in (("shared", "size-matched"), (name, control)))  # fmt: skip
            differences.append(cosine(one) - cosine(other))
        row = table.filter(model="ape", regime="mixed", against=against).row(0, named=True)
        assert row["cosine_difference_mean"] == pytest.approx(np.nanmean(differences))
    row = layers.filter(model="ape", regime="mixed", layer=2).row(0, named=True)
    assert row["cosine_mean"] == pytest.approx(np.nanmean([cosine(one) for one in sums.filter(layer=2).to_dicts()]))


def test_studies_without_the_sections_have_the_tables_without_rows() -> None:
    bare = example(Study.model_validate(SETTINGS))
    for table in (
        patching_table, patching_contrasts_table, conflict_table, conflict_contrasts_table, conflict_layers_table
    ):  # fmt: skip
        assert table(bare).is_empty() and [*table(bare).schema.items()] == [*table(RESULTS).schema.items()]
