"""The table of repairs against naive loops over an example's rows, and on results whose answer is known."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from statistics import fmean, mean
from typing import Any

import example_results
import polars as pl
import pytest
from example_results import REPAIRED, REPAIRS, STUDY, example

from rmtension.analysis.ablation_tables import ablation_curve_table
from rmtension.analysis.loading import load_loudness, load_pairs_seen
from rmtension.analysis.repair_tables import repair_contrasts_table, repair_table
from rmtension.base.errors import UserError
from rmtension.neurons.ranking import SETS, STATISTICS
from rmtension.study.naming import BOTH, OVERALL, OWN_TASKS, OWN_TEST

with pytest.MonkeyPatch.context() as patch:  # enough comparisons for either side of length
    patch.setitem(example_results.TASKS, "one", [("sums", "helpful", 6, 1), ("tact & <tone>", "harmless", 26, 1)])
    patch.setattr(
        example_results,
        "own_tasks",
        lambda study, regime: [
            (source, single, 15, 1)
            for single in study.regimes[regime].mixes or [regime]
            for source in study.regimes[single].test
        ],
    )
    RESULTS = example(REPAIRED)
MADE, CONTRASTS = repair_table(RESULTS), repair_contrasts_table(RESULTS)
SEEDS, MODELS, SINGLES = REPAIRED.seeds, [*REPAIRED.models], ("helpful", "harmless")
# Orientation -> of its tasks the (benchmark, task) that average makes one of.
TASKS = {
    "helpful": [[("one", "sums"), ("two", "sums")], [("two", "focus_50%")]],
    "harmless": [[("one", "tact & <tone>")]],
}
TWO = ["one", "two"]  # benchmarks that regimes share
LENGTHS = {
    tuple(row[key] for key in ("model", "benchmark", "comparison_id")): row for row in RESULTS.lengths.to_dicts()
}
ROWS = defaultdict(list)
for row in RESULTS.lists.filter(ablation="none").drop_nulls("chosen_scores").to_dicts():
    ROWS[tuple(row[key] for key in ("model", "regime", "seed", "benchmark", "task"))].append(row)


def plain(place: tuple[Any, ...]) -> float:
    return 100 * fmean(min(row["chosen_scores"]) > max(row["rejected_scores"]) for row in ROWS[place])


def balanced(place: tuple[Any, ...]) -> float | None:
    """Percent right where the chosen response is the longer one, and where it is the shorter: the mean of the two."""
    sides: dict[bool, list[tuple[str, bool]]] = {True: [], False: []}
    for row in ROWS[place]:
        size = LENGTHS[place[0], place[3], row["comparison_id"]]
        for (chosen, n), (rejected, m) in product(
            zip(row["chosen_scores"], size["chosen_tokens"], strict=True),
            zip(row["rejected_scores"], size["rejected_tokens"], strict=True),
        ):
            if n != m:
                sides[n > m].append((row["comparison_id"], chosen > rejected))
    if min(len({name for name, _ in side}) for side in sides.values()) < 5:
        return None
    return mean(100 * mean(right for _, right in side) for side in sides.values())


def average(measure: Any, model: str, regime: str, seed: int, orientation: str, tasks: str) -> float | None:
    if orientation == BOTH:
        both = [average(measure, model, regime, seed, single, tasks) for single in SINGLES]
        return fmean(one for one in both if one is not None) if None not in both else None
    if tasks == OWN_TEST:
        found: float | None = measure((model, regime, seed, "own-test", orientation))  # its one source has its name
        return found
    of_tasks = [[measure((model, regime, seed, *place)) for place in places] for places in TASKS[orientation]]
    known = [mean(here) for of in of_tasks if (here := [value for value in of if value is not None])]
    return mean(known) if known else None


def target(measure: Any, model: str, seed: int, orientation: str, tasks: str) -> float | None:
    of = SINGLES if orientation == BOTH else [orientation]
    found = [average(measure, model, single, seed, single, tasks) for single in of]
    return fmean(one for one in found if one is not None) if None not in found else None


@pytest.mark.parametrize("tasks", [OWN_TASKS, OWN_TEST])
@pytest.mark.parametrize(("name", "measure"), [("accuracy", plain), ("balanced", balanced)])
@pytest.mark.parametrize("mixture", ["mixed", "again"])
def test_gap_and_gain_are_against_the_mixed_one_within_each_seed(
    name: str, measure: Any, mixture: str, tasks: str
) -> None:
    known, table = 0, MADE.filter(mixture=mixture, measure=name, tasks=tasks)
    contrasts = CONTRASTS.filter(mixture=mixture, measure=name, tasks=tasks)
    for repair, orientation, model in product(REPAIRS, [*SINGLES, BOTH], [*MODELS, OVERALL]):
        row = table.filter(model=model, regime=repair, orientation=orientation).row(0, named=True)
        models = MODELS if model == OVERALL else [model]
        each = [
            (average(measure, m, mixture, s, orientation, tasks), target(measure, m, s, orientation, tasks),
             average(measure, m, repair, s, orientation, tasks), average(measure, m, "ensemble", s, orientation, tasks))
            for m, s in product(models, SEEDS)
        ]  # fmt: skip
        each = [one for one in each if None not in one]  # lengths differ between models
        if not each:
            assert row["gain_mean"] is row["gap_mean"] is row["closed_mean"] is None
            continue
        known += 1
        base, best, ours, last = (mean(one) for one in zip(*each, strict=True))
        found = [row[f"{figure}_mean"] for figure in ("baseline", "target", "repaired", "gap", "gain")]
        assert found == pytest.approx([base, best, ours, best - base, ours - base])
        assert row["closed_mean"] == (pytest.approx((ours - base) / (best - base)) if row["gap_low"] > 0 else None)
        assert bool(row["note"]) == (row["gap_low"] <= 0)
        if repair != "ensemble":
            two = contrasts.filter(model=model, first=repair, second="ensemble", orientation=orientation)
            assert two["difference_mean"].to_list() == [pytest.approx(ours - last)]
    assert known >= 12


def test_an_average_says_on_how_many_tasks_it_rests() -> None:
    """In the model with fewest, and of both orientations in the one that lacks more."""
    for measure, of in (("accuracy", plain), ("balanced", balanced)):
        rows = MADE.filter(regime="merged", mixture="mixed", measure=measure, tasks=OWN_TASKS)
        for model in MODELS:
            counts = {
                single: sum(any(of((model, "merged", SEEDS[0], *place)) is not None for place in places)
                            for places in TASKS[single]) for single in SINGLES
            }  # fmt: skip
            found = {
                row["orientation"]: (row["n_tasks"], row["of_tasks"]) for row in rows.filter(model=model).to_dicts()
            }
            assert {single: found[single] for single in SINGLES} == {s: (n, len(TASKS[s])) for s, n in counts.items()}
            assert found[BOTH] == min((found[single] for single in SINGLES), key=lambda one: one[0] / one[1])
        fewest = rows.filter(model=OVERALL).join(rows.filter(pl.col("model") != OVERALL), on="orientation", how="left")
        assert (fewest["n_tasks"] <= fewest["n_tasks_right"]).all()
    splits = MADE.filter(tasks=OWN_TEST, measure="accuracy").select("n_tasks", "of_tasks").unique().rows()
    assert splits == [(1, 1)]


def test_contrasts_of_repairs_are_of_every_two_of_one_mixture() -> None:
    empty = repair_contrasts_table(example(STUDY))
    assert empty.is_empty() and empty.schema == CONTRASTS.schema
    assert CONTRASTS.select("first", "second").unique(maintain_order=True).rows() == [*combinations(REPAIRS, 2)]


def test_what_is_held_against_a_mixed_regime_is_of_the_same_two_parts() -> None:
    assert REPAIRED.repaired() == [*product(REPAIRS, ["mixed", "again"])]
    assert MADE.select("regime", "mixture").unique(maintain_order=True).rows() == REPAIRED.repaired()
    empty = repair_table(example(STUDY))
    assert empty.schema == MADE.schema and empty.is_empty()


def test_calibration_is_the_mean_over_benchmarks_that_regimes_share() -> None:
    found = RESULTS.pairs.calibration["squared_ce"].filter(ablation="none").frame("error").drop_nulls("error")
    error = {tuple(place): value for *place, value in found.drop("ablation").rows()}
    rows = MADE.select("model", "regime", "mixture", "squared_ce_change_mean").unique().rows()
    assert len(rows) == 3 * 2 * len(REPAIRS)
    for model, repair, mixture, change in rows:
        changes = [
            [
                error[m, repair, s, b] - error[m, mixture, s, b]
                for b in TWO
                if (m, repair, s, b) in error and (m, mixture, s, b) in error
            ]
            for m, s in product(MODELS if model == OVERALL else [model], SEEDS)
        ]
        assert change == pytest.approx(mean(mean(of_seed) for of_seed in changes))


def test_cost_is_counted_in_pairs_and_in_reward_models_that_score() -> None:
    seen = {(*place, seed): n for *place, seed, n in RESULTS.pairs_seen.rows()}
    known = [seed for seed in SEEDS if seen["ape", "helpful", seed] is not None]
    assert len(known) == len(SEEDS) - 1
    of = MADE.filter(model=OVERALL, mixture="mixed", measure="accuracy", orientation=BOTH, tasks=OWN_TASKS)
    rows = of.rows_by_key("regime", named=True, unique=True)
    for repair, settings in REPAIRS.items():
        own = mean(seen[model, repair, seed] for model, seed in product(MODELS, SEEDS))
        parts = [] if settings["method"] == "projected" else SINGLES
        needed = mean(
            sum(seen[model, regime, seed] for regime in (repair, *parts))
            for model, seed in product(MODELS, known if parts else SEEDS)
        )
        row, scoring = rows[repair], 2 if repair == "ensemble" else 1
        assert (row["pairs_seen"], row["pairs_needed"]) == (pytest.approx(own), pytest.approx(needed))
        assert (row["method"], row["scoring_cost"]) == (settings["method"], scoring)
        assert (own == 0) == (repair in ("merged", "merged-most", "ensemble"))


def with_right(right: pl.Expr) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows of all models on accuracy, by repair and orientation, of a study in which `right` says what is right."""
    chosen = pl.when(right).then(pl.lit(1.0, pl.Float32)).otherwise(pl.lit(-1.0, pl.Float32))
    scores = pl.concat(RESULTS.scores).with_columns(chosen=chosen, rejected=pl.lit(0.0, pl.Float32))
    keys = {"model": OVERALL, "mixture": "mixed", "measure": "accuracy", "tasks": OWN_TASKS}
    table = repair_table(replace(RESULTS, scores=[scores])).filter(**keys)
    return {(row["regime"], row["orientation"]): row for row in table.to_dicts()}


def test_what_gets_half_of_what_the_mixed_one_lacks_closes_half_the_gap() -> None:
    """All of it with one of two models, and nothing with the other."""
    single, repair = pl.col("regime").is_in(SINGLES), pl.col("regime") == "merged"
    rows = with_right(single | (repair & (pl.col("model") == "ape")))
    for orientation in (*SINGLES, BOTH):
        half = rows["merged", orientation]
        assert [half[f"{name}_mean"] for name in ("gap", "gain", "closed")] == [100, 50, 0.5]
        assert [half["closed_low"], half["closed_high"], half["note"]] == [0.5, 0.5, ""]
        assert rows["ensemble", orientation]["closed_mean"] == 0


def test_what_is_as_good_as_the_part_closes_the_gap_in_every_draw() -> None:
    """Whatever the gap is there: the two are paired."""
    third = pl.col("comparison_id").str.ends_with("/1") | pl.col("comparison_id").str.ends_with("/4")
    rows = with_right(third & (pl.col("regime").is_in([*SINGLES, "projected"])))
    whole = rows["projected", BOTH]
    assert whole["gap_high"] - whole["gap_low"] > 10 and whole["gap_low"] > 0
    assert [whole[f"closed_{end}"] for end in ("mean", "low", "high")] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("ahead", "note"), [(False, "the gap's interval holds 0"), (True, "the mixed reward model is ahead")]
)
def test_where_there_is_no_gap_no_share_of_it_is_closed(ahead: bool, note: str) -> None:
    rows = with_right((pl.col("regime") == "frozen") | ((pl.col("regime") == "mixed") & ahead))
    row = rows["frozen", "helpful"]
    assert [row["gap_mean"], row["gain_mean"]] == ([-100, 0] if ahead else [0, 100])
    assert row["closed_mean"] is row["closed_low"] is row["closed_high"] is None and row["note"] == note


def test_pairs_seen_are_read_from_what_reward_models_say_of_themselves(tmp_path: Path) -> None:
    trained = {"settings": {"epochs": 3}, "pairs": {"train": 70, "validation": 6}}
    said = {"merged": {"method": "merged"}, "ensemble": {"method": "ensemble"}, "helpful": {"adopted": "mine"}}
    for model, regime, seed in product(MODELS, REPAIRED.regimes, SEEDS):
        file = tmp_path / f"reward_models/{model}/{regime}/seed-{seed}/provenance.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(said.get(regime, trained)))
    found = load_pairs_seen(tmp_path, REPAIRED)
    numbers = dict(found.select("regime", "pairs_seen").unique().iter_rows())
    assert len(found) == len(MODELS) * len(REPAIRED.regimes) * len(SEEDS)
    assert numbers == dict.fromkeys(REPAIRED.regimes, 210) | {"merged": 0, "ensemble": 0, "helpful": None}
    assert load_pairs_seen(tmp_path, STUDY).is_empty()
    file.write_text(json.dumps({"pairs": {}}))
    with pytest.raises(UserError, match="not as this version"):
        load_pairs_seen(tmp_path, REPAIRED)


def test_how_loud_matched_neurons_are_stands_beside_what_holds_them_fixed(tmp_path: Path) -> None:
    """Two layers of two neurons; shared ones have a mean |a| of 6 and 2, matched ones of 3 and 1."""
    study = STUDY.model_copy(update={"regimes": REPAIRED.regimes, "seeds": [7, 3]})
    adopted = study.models["ape"].model_copy(update={"trained": {"frozen-matched": {3: "folder"}}})
    study = study.model_copy(update={"models": study.models | {"ape": adopted}})
    places = {"layer": [0, 0, 1, 1] * 2, "neuron": [0, 1, 0, 1] * 2}
    for model, seed in product(MODELS, study.seeds):
        for part, extra in (("helpful", 1), ("harmless", -1)):
            loud = [float(value + extra) for value in (6, 3, 2, 1)] * 2
            filled = {name: [0.0] * 8 for name in STATISTICS if name not in (*places, "response")}
            response = ["chosen"] * 4 + ["rejected"] * 4
            write(
                pl.DataFrame(filled | places | {"response": response, "mean_abs": loud}).cast(pl.Schema(STATISTICS)),
                tmp_path / f"activations/{model}/{part}/seed-{seed}.parquet",
            )
        for name, regime, file, neuron in (("shared", "mixed", "sets", 0), ("matched", "frozen-matched", "frozen", 1)):
            held = pl.DataFrame({"ablation": name, "unit": "neuron", "layer": [0, 1], "neuron": neuron})
            write(held.cast(pl.Schema(SETS)), tmp_path / f"selected/{model}/{regime}/seed-{seed}/{file}.parquet")
    found = load_loudness(tmp_path, study)
    assert found.rows() == [("zebra", "frozen-matched", s, 0.5) for s in (7, 3)] + [("ape", "frozen-matched", 7, 0.5)]
    assert load_loudness(tmp_path, STUDY).is_empty()
    ratios = [row[3] for row in RESULTS.loudness.rows()]
    rows = MADE.select("model", "regime", "loudness").unique().rows_by_key(("model", "regime"), unique=True)
    assert rows[OVERALL, "frozen-matched"] == pytest.approx((mean(ratios),)) and rows[OVERALL, "frozen"] == (None,)


def write(frame: pl.DataFrame, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(file)


def test_what_has_no_neurons_has_no_curve() -> None:
    ablation = REPAIRED.ablation.model_copy(update={"sweep": [20.0], "sweep_benchmarks": ["two"]})
    curves = ablation_curve_table(replace(RESULTS, study=REPAIRED.model_copy(update={"ablation": ablation})))
    assert set(curves["percent"]) == {0, 20}
    assert set(curves["regime"]) == {*REPAIRED.regimes} - {"ensemble"}
