"""Studies of given reward models: each is judged once and by itself, and nothing is said of training."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from statistics import mean
from typing import Any

import polars as pl
import pytest
import yaml
from example_given import GIVEN, OF_GIVEN, SOURCE
from example_results import SETTINGS, STUDY, TASKS, example

from rmtension.analysis.claims import CLAIMS, OF_TRAINING
from rmtension.analysis.evidence import ONE_SEED
from rmtension.analysis.holes import SEARCHES, holes_table, orientations
from rmtension.analysis.ledger import ledger
from rmtension.analysis.results import Results
from rmtension.analysis.tables import make_tables
from rmtension.study.naming import OVERALL, tension_sets_index
from rmtension.study.study import Study

RESULTS = example(GIVEN)
MADE = make_tables(RESULTS)
CLAIMED = ledger(MADE, GIVEN)
BETWEEN = ["contrasts", "length_contrasts", "length_lead", "retention", "agreement", "score_shift", "neuron_retention",
           "stability", "patching", "patching_contrasts", "repair", "repair_contrasts", "published"]  # fmt: skip
WHOLE = ["accuracy", "benchmark_accuracy", "calibration", "reliability", "length", "length_correlation"]
OF_SETS = ["depth", "own_ablation", "ablation_curve", "scoring_contrasts", "thirds", "set_length", "compression",
           "rmsd", "top_neurons", "calibration_contrasts", "length_change"]  # fmt: skip
SINGLES = ["helpful", "harmless"]


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_reward_model_does_as_it_is_is_said_once(name: str) -> None:
    table = MADE[name]
    unablated = table.filter(ablation="none") if "ablation" in table.columns else table
    own = pl.col("benchmark") == "own-test" if "benchmark" in table.columns else pl.lit(value=False)
    assert unablated.filter(~own)["regime"].unique().to_list() == ["mixed"]
    if "benchmark" in table.columns:
        assert set(unablated.filter(own)["regime"]) == set(SINGLES)
    if "ablation" in table.columns:  # what an ablation does differs with the pairs that neurons were found on
        assert set(table.filter(pl.col("ablation") != "none")["regime"]) == set(GIVEN.regimes)


def test_tables_about_sets_have_every_regime_and_those_between_reward_models_no_row() -> None:
    for name in OF_SETS:
        assert set(MADE[name]["regime"]) == set(GIVEN.regimes), name
    overlap = MADE["neuron_overlap"].select("first", "second").unique()
    assert set(overlap.rows()) == {("helpful", "harmless"), ("helpful", "mixed"), ("harmless", "mixed")}
    assert set(MADE["calibration_contrasts"]["against"]) == {"unablated"}
    assert "R6" not in MADE["compatibility"]["switch"].to_list()
    holes = holes_table(GIVEN, MADE, CLAIMED)
    for name in BETWEEN:
        assert MADE[name].is_empty(), name
        reasons = holes.filter(pl.col("what").str.contains(rf"\b{name}\b"), line="")["why"].to_list()
        assert reasons and all("given" in why for why in reasons), name


def test_claims_about_training_have_no_part_and_the_others_have() -> None:
    parts = CLAIMED.filter(pl.col("part") != "")
    assert {*CLAIMS} - set(parts["claim"]) == {*OF_TRAINING}
    whole = CLAIMED.filter(part="")
    assert whole.filter(pl.col("claim").is_in(OF_TRAINING))["verdict"].unique().to_list() == ["undecided"]
    assert set(whole.filter(pl.col("note").str.contains("given"))["claim"]) == {*OF_TRAINING}
    assert parts["published"].null_count() == len(parts)
    assert not parts.filter(pl.col("note").str.contains(ONE_SEED, literal=True)).height
    assert not parts.filter(pl.col("part").str.contains("against (helpful|harmless)|retained in")).height
    assert "change" not in parts["control"].to_list()


def of_model(results: Results, model: str) -> Results:
    values = {field.name: getattr(results, field.name) for field in fields(results)}
    own = pl.col("model").cast(pl.String) == model
    frames = {name: frame for name, frame in values.items() if isinstance(frame, pl.DataFrame)}
    kept: dict[str, Any] = {name: frame.filter(own) for name, frame in frames.items() if "model" in frame.columns}
    kept |= {name: [part.filter(own) for part in of] for name, of in values.items() if isinstance(of, list)}
    settings = OF_GIVEN | {"models": {model: {"source": SOURCE}}}
    return replace(results, study=Study.model_validate(SETTINGS | settings), **kept)


def test_each_model_is_judged_by_itself() -> None:
    for model in GIVEN.models:
        alone = of_model(RESULTS, model)
        expected = ledger(make_tables(alone), alone.study).filter(pl.col("part") != "")
        ours = CLAIMED.filter(pl.col("part").str.starts_with(f"{model}: "))
        names = ours.with_columns(pl.col("part").str.strip_prefix(f"{model}: "))
        # Rules by length count tokens by all models' tokenizers, and stand in no claim here.
        assert names.equals(expected) and len(names) > 50


def test_a_line_for_given_reward_models_closes_its_hole() -> None:
    def added(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        deep = {k: isinstance(v, dict) and v and isinstance(settings.get(k), dict) for k, v in more.items()}
        return settings | {k: added(settings[k], v) if deep[k] else v for k, v in more.items()}

    bare: dict[str, Any] = {
        "regimes": {s: SETTINGS["regimes"][s] for s in SINGLES},
        "models": {"zebra": {"source": SOURCE}},
    }
    bare |= {"conflict": None}
    for change in ({}, bare, bare | {"regimes": {"helpful": SETTINGS["regimes"]["helpful"]}}):
        study = Study.model_validate(SETTINGS | OF_GIVEN | change)
        tables, settings = make_tables(example(study)), study.model_dump(mode="json")
        holes = holes_table(study, tables, ledger(tables, study))
        said = " ".join(holes["what"]).replace(",", " ").replace("(", " ").replace(")", " ").replace(";", " ").split()
        assert [name for name, table in tables.items() if table.is_empty() and name not in said] == []
        for line in holes["line"]:
            Study.model_validate(added(settings, yaml.safe_load(line) or {}))
        for search in (search for search in SEARCHES if search is not orientations):
            for hole in search(study, tables):
                more = Study.model_validate(added(settings, dict(hole.settings)))
                assert not hole.settings or hole.what not in [left.what for left in search(more, tables)], hole


# --- tables that say where objectives pull, against loops ---------------------------------------------------------


def right(results: Results, benchmark: str, task: str, **unit: Any) -> dict[str, bool]:
    """Comparison -> correct, of those with a score."""
    rows = pl.concat(results.scores).filter(benchmark=benchmark, task=task, **unit).drop_nulls("chosen")
    return {row["comparison_id"]: row["chosen"] > row["rejected"] for row in rows.iter_rows(named=True)}


def percent_of(results: Results, tasks: str, orientation: str, **unit: Any) -> float:
    """On the orientation's test split, or on its tasks, a task of two benchmarks once."""
    if tasks == "own test":
        return 100 * mean(map(float, right(results, "own-test", orientation, **unit).values()))
    by_task: dict[str, list[float]] = {}
    for benchmark, of in TASKS.items():
        for task in (task for task, side, *_ in of if side == orientation):
            found = right(results, benchmark, task, **unit)
            by_task.setdefault(task, []).append(100 * mean(map(float, found.values())))
    return mean(map(mean, by_task.values()))


@pytest.mark.parametrize("study", [GIVEN, STUDY])
def test_tension_is_what_each_set_costs_each_objective_beyond_matched_neurons(study: Study) -> None:
    results = RESULTS if study is GIVEN else example()
    table = MADE["tension"] if study is GIVEN else make_tables(results)["tension"]
    index = tension_sets_index(SINGLES, study.ablation.control_draws)
    model, value = "zebra", {"zero": "", "mean": "@mean"}

    def change(orientation: str, tasks: str, which: str, control: str, replaced_by: str) -> float:
        names = [one.name + value[replaced_by] for one in index if (one.set, one.control) == (which, control)]
        unit = {"model": model, "regime": "mixed"}
        return mean(
            percent_of(results, tasks, orientation, seed=seed, ablation=name, **unit)
            - percent_of(results, tasks, orientation, seed=seed, ablation="none", **unit)
            for seed in study.seeds for name in names
        )  # fmt: skip

    for orientation, tasks, which, replaced_by in product(
        SINGLES, ("own test", "own tasks"), ("shared", "helpful-only"), value
    ):
        keys = {"orientation": orientation, "tasks": tasks, "set": which, "replaced_by": replaced_by, "model": model}
        place = orientation, tasks, which
        for control in ("whole", "size-matched", "matched-random"):
            row = table.filter(**keys, control=control).row(0, named=True)
            assert row["delta_mean"] == pytest.approx(change(*place, control, replaced_by))
            if control == "size-matched":
                beyond = row["delta_mean"] - change(*place, "matched-random", replaced_by)
                assert row["difference_mean"] == pytest.approx(beyond)
                assert row["difference_low"] <= beyond <= row["difference_high"]
            else:
                assert row["difference_mean"] is None
    assert set(table["model"]) == {*study.models, OVERALL}


def test_a_set_without_neurons_costs_nothing_that_could_be_measured() -> None:
    empty = replace(RESULTS, sizes=RESULTS.sizes.filter(pl.col("ablation") != "helpful-only"))
    table = make_tables(empty)["tension"].filter(set="helpful-only", control="whole")
    assert table["delta_mean"].null_count() == table["delta_low"].null_count() == len(table) > 0
    assert table["n_neurons"].unique().to_list() == [0.0]


def test_models_are_held_against_each_other_on_the_same_comparisons() -> None:
    table = MADE["model_contrasts"]
    assert table.select("first", "second").unique().rows() == [("zebra", "ape")]
    for row in table.iter_rows(named=True):
        unit = {"regime": row["regime"], "ablation": "none", "seed": 4}
        tasks = "own test" if row["task"] in SINGLES else "own tasks"
        if row["task"] in ("average", *SINGLES):
            one, other = (percent_of(RESULTS, tasks, row["orientation"], model=m, **unit) for m in ("zebra", "ape"))
            assert row["difference_mean"] == pytest.approx(one - other)
        assert row["difference_low"] <= row["difference_mean"] <= row["difference_high"]
        assert row["regime"] == (row["orientation"] if row["task"] in SINGLES else "mixed")
    assert len(table) == 2 + 3 + 2


def test_top_neurons_say_where_else_they_are() -> None:
    for row in MADE["top_neurons"].iter_rows(named=True):
        ranks = {
            regime: pl.concat(RESULTS.neurons).filter(model=row["model"], regime=regime, scoring="attribution",
                                           layer=row["layer"], neuron=row["neuron"]).row(0, named=True)
            for regime in GIVEN.regimes
        }  # fmt: skip
        assert ranks[row["regime"]]["rank"] == row["rank"] <= 10
        assert ranks[row["regime"]]["score"] == row["score"]
        also = [f"{r} {of['rank']}" for r, of in ranks.items() if r != row["regime"] and of["rank"] <= 4]  # 20 % of 20
        assert row["also"] == ", ".join(also)
