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


Sums = list[dict[str, Any]]  # of one set's neurons, a row a seed


def total(sums: Sums, name: str) -> float:
    return float(sum(row[name] for row in sums))


def cosine(sums: Sums) -> float:
    own, other = total(sums, "first_first"), total(sums, "second_second")
    return total(sums, "first_second") / np.sqrt(own * other) if own > 0 and other > 0 else np.nan


def are_noise(sums: Sums) -> int:
    return sum(np.isnan(cosine([row])) for row in sums)


def test_cosines_and_shares_are_of_sums_over_seeds() -> None:
    """Seeds that have none by themselves are in the sums, and counted."""
    table, noise = conflict_table(RESULTS), 0
    sums = RESULTS.conflicts.filter(pl.col("layer").is_null())
    for regime, (name, control) in product([*SINGLES, "mixed"], sums.select("set", "control").unique().rows()):
        of = table.filter(regime=regime, set=name, control=control)
        every = [sums.filter(model=m, regime=regime, set=name, control=control).to_dicts() for m in MODELS]
        for model, here in zip(MODELS, every, strict=True):
            row = of.filter(model=model).row(0, named=True)
            assert row["n_seeds"] == 3 and row["n_neurons"] == 2 and row["n_noise"] == are_noise(here)
            assert row["cosine_mean"] == (None if np.isnan(cosine(here)) else pytest.approx(cosine(here)))
            assert row["opposed_mean"] == pytest.approx(total(here, "opposed") / total(here, "square"))
            noise += row["n_noise"]
        known = [cosine(here) for here in every if not np.isnan(cosine(here))]
        row = of.filter(model="all models").row(0, named=True)
        assert row["cosine_mean"] == (pytest.approx(np.mean(known)) if known else None)
        assert row["n_noise"] == sum(map(are_noise, every)) and row["n_seeds"] == 3
    assert noise > 9


def test_intervals_of_conflict_are_of_seeds_drawn_anew() -> None:
    """Every way of drawing three of three seeds, as often as it was drawn; nothing where too many have no figure."""
    table, bootstrap = conflict_table(RESULTS), RESULTS.bootstrap
    kinds = {"every draw has one", "some have none"}
    for model, regime in product(MODELS, [*SINGLES, "mixed"]):
        counts = bootstrap.counts(3, "seeds", model)[:, 1:].astype(int)
        for row in table.filter(model=model, regime=regime).to_dicts():
            sums = RESULTS.conflicts.filter(pl.col("layer").is_null(), model=model, regime=regime, set=row["set"],
                                            control=row["control"]).sort("seed").to_dicts()  # fmt: skip
            whole = cosine(sums)
            drawn = [cosine([one for one, times in zip(sums, draw, strict=True) for _ in range(times)])
                     for draw in counts.T]  # fmt: skip
            unknown = float(np.mean(np.isnan(drawn)))
            kinds.discard("some have none" if unknown else "every draw has one")
            if unknown > 0.025:
                assert row["cosine_low"] is row["cosine_high"] is None
            else:
                spread = whole + np.sqrt(3 / 2) * (np.array(drawn) - whole)
                ends = np.nanpercentile(spread, [2.5, 97.5]).tolist()
                assert [row["cosine_low"], row["cosine_high"]] == pytest.approx(ends)
    assert not kinds


def test_of_all_models_a_draw_counts_in_which_each_has_a_figure() -> None:
    """One model whose seeds agree and one that is noise in a third of its seeds: no interval of the two."""
    of_seeds = pl.when(pl.col("seed") == SEEDS[0]).then(-0.4).otherwise(1.0)
    squares = pl.when(pl.col("model") == "ape").then(1.0).otherwise(of_seeds)
    sums = {"first_first": squares, "second_second": pl.lit(1.0), "first_second": pl.lit(-0.5)}
    table = conflict_table(replace(RESULTS, conflicts=RESULTS.conflicts.with_columns(**sums)))
    both, sure, unsure = (table.filter(model=m, regime="mixed", set="all") for m in ("all models", "ape", "zebra"))
    assert sure["cosine_mean"][0] == sure["cosine_low"][0] == -0.5 and sure["n_noise"][0] == 0
    assert unsure["cosine_mean"][0] == pytest.approx(-1.5 / np.sqrt(1.6 * 3)) and unsure["n_noise"][0] == 1
    assert both["cosine_mean"][0] == pytest.approx((unsure["cosine_mean"][0] - 0.5) / 2)
    assert both["cosine_low"][0] is unsure["cosine_low"][0] is None and both["n_noise"][0] == 1


def test_one_seed_has_no_interval_of_gradients() -> None:
    one = replace(RESULTS, conflicts=RESULTS.conflicts.filter(pl.col("seed") == SEEDS[0]))
    for made in (conflict_table(one), conflict_contrasts_table(one), conflict_layers_table(one)):
        ends = [name for name in made.columns if name.endswith(("_low", "_high")) or name == "p"]
        assert len(made) and made.select(pl.col(ends).is_null().all()).row(0) == (True,) * len(ends)


def test_contrasts_and_layers_of_conflict() -> None:
    table, layers = conflict_contrasts_table(RESULTS), conflict_layers_table(RESULTS)
    assert set(layers["model"]) == {*MODELS} and set(layers["layer"]) == {0, 1, 2, 3}
    sums = RESULTS.conflicts.filter(regime="mixed", model="ape").sort("seed")
    for against, (name, control) in {
        "matched-random": ("shared", "matched-random"), "random": ("random", "random"),
        "helpful-only": ("helpful-only", "size-matched"),
    }.items():  # fmt: skip
        both = ("shared", "size-matched"), (name, control)
        here, there = (sums.filter(set=s, control=c).to_dicts() for s, c in both)
        row = table.filter(model="ape", regime="mixed", against=against).row(0, named=True)
        assert row["cosine_difference_mean"] == pytest.approx(cosine(here) - cosine(there))
        shares = [total(of, "opposed") / total(of, "square") for of in (here, there)]
        assert row["opposed_difference_mean"] == pytest.approx(shares[0] - shares[1])
        noise = [are_noise([one]) or are_noise([other]) for one, other in zip(here, there, strict=True)]
        assert row["n_noise"] == sum(noise)
    row = layers.filter(model="ape", regime="mixed", layer=2).row(0, named=True)
    assert row["cosine_mean"] == pytest.approx(cosine(sums.filter(layer=2).to_dicts()))


def test_studies_without_the_sections_have_the_tables_without_rows() -> None:
    bare = example(Study.model_validate(SETTINGS))
    for table in (
        patching_table, patching_contrasts_table, conflict_table, conflict_contrasts_table, conflict_layers_table
    ):  # fmt: skip
        assert table(bare).is_empty() and [*table(bare).schema.items()] == [*table(RESULTS).schema.items()]
