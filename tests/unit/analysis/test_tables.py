"""Every table against loops over the same random scores, written without the package's arithmetic."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import example_results
import numpy as np
import polars as pl
import pytest
from example_results import CAUSES, HEADS, LAYERS, NEURONS, SETTINGS, STUDY, TASKS, example

from rmtension.analysis.ablation_tables import contrasted
from rmtension.analysis.accuracy_tables import contrasts_table, model_contrasts_table
from rmtension.analysis.loading import STYLES, load_control_overlaps, same_style
from rmtension.analysis.score_tables import histogram
from rmtension.analysis.tables import TABLES, make_tables
from rmtension.analysis.thirds_tables import thirds_table
from rmtension.analysis.units import UNITS, held
from rmtension.data.layouts.rm_bench import LAYOUT
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

RESULTS = example()
MADE = make_tables(RESULTS)
# (model, regime, seed, benchmark, ablation) -> task -> comparison -> score of chosen, of rejected
SCORES: dict[tuple[Any, ...], dict[str, dict[str, tuple[float, float]]]] = {}
for row in pl.concat(RESULTS.scores).iter_rows(named=True):
    tasks = SCORES.setdefault(tuple(row[k] for k in ("model", "regime", "seed", "benchmark", "ablation")), {})
    tasks.setdefault(row["task"], {})[row["comparison_id"]] = (row["chosen"], row["rejected"])
ORIENTED = {"helpful": ["sums", "focus_50%"], "harmless": ["tact & <tone>"]}
SINGLES = ("helpful", "harmless")


def row_of(table: str, **keys: Any) -> dict[str, Any]:
    return MADE[table].row(by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in keys.items()), named=True)


def right(model: str, regime: str, seed: int, benchmark: str, ablation: str, task: str) -> dict[str, bool]:
    """Comparison -> correct, of those with a score."""
    found = SCORES[model, regime, seed, benchmark, ablation].get(task, {})
    return {c: chosen > rejected for c, (chosen, rejected) in found.items() if chosen is not None}


def over_benchmarks(task: str, value: Any) -> float:
    """The mean over the benchmarks that hold a task."""
    return mean(float(value(b)) for b in TASKS if task in [t[0] for t in TASKS[b]])


def percent(model: str, regime: str, seed: int, ablation: str, task: str) -> float:
    return over_benchmarks(task, lambda b: 100 * mean(right(model, regime, seed, b, ablation, task).values()))


def assert_summary(row: dict[str, Any], name: str, value: Any) -> None:
    """value(model, seed) in a row's mean and standard deviation over seeds; in overall rows over models first."""
    models = list(STUDY.models) if row["model"] == OVERALL else [row["model"]]
    by_seed = [mean(value(m, s) for m in models) for s in STUDY.seeds]
    assert row[f"{name}_mean"] == pytest.approx(mean(by_seed), abs=1e-9)
    assert row[f"{name}_sd"] == pytest.approx(pstdev(by_seed), abs=1e-9)
    assert row["n_seeds"] == 3
    assert row[f"{name}_low"] <= row[f"{name}_mean"] + 1e-9 and row[f"{name}_mean"] <= row[f"{name}_high"] + 1e-9


MODELS = [*STUDY.models, OVERALL]


@pytest.mark.parametrize("model", MODELS)
def test_accuracy_and_orientation_averages(model: str) -> None:
    for regime, (orientation, tasks) in product(STUDY.regimes, ORIENTED.items()):
        for task in tasks:
            assert_summary(
                row_of("accuracy", model=model, regime=regime, task=task),
                "accuracy", lambda m, s, t=task, r=regime: percent(m, r, s, "none", t),
            )  # fmt: skip
        assert_summary(
            row_of("accuracy", model=model, regime=regime, orientation=orientation, task="average"),
            "accuracy", lambda m, s, ts=tasks, r=regime: mean(percent(m, r, s, "none", t) for t in ts),
        )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_contrasts_and_own_ablation_are_differences_within_a_seed(model: str) -> None:
    for task in ("sums", "tact & <tone>"):
        assert_summary(
            row_of("contrasts", model=model, first="helpful", second="mixed", task=task),
            "difference",
            lambda m, s, t=task: percent(m, "helpful", s, "none", t) - percent(m, "mixed", s, "none", t),
        )
        for value, name in (("zero", "change-p20"), ("mean", "change-p20@mean")):
            row = row_of("own_ablation", model=model, regime="harmless", scoring="change", replaced_by=value, task=task)
            assert_summary(row, "delta", lambda m, s, t=task, n=name: percent(m, "harmless", s, n, t)
                           - percent(m, "harmless", s, "none", t))  # fmt: skip
            assert_summary(row, "ablated", lambda m, s, t=task, n=name: percent(m, "harmless", s, n, t))
            assert_summary(row, "baseline", lambda m, s, t=task: percent(m, "harmless", s, "none", t))
    of_heads = MADE["own_ablation"].filter(pl.col("scoring").str.starts_with("head-"))
    assert set(of_heads["replaced_by"]) == {"zero"}


def retained(model: str, seed: int, benchmark: str, ablation: str, task: str) -> float:
    kept = {c for c, ok in right(model, "mixed", seed, benchmark, ablation, task).items() if ok}
    known = {c for single in SINGLES for c, ok in right(model, single, seed, benchmark, "none", task).items() if ok}
    return len(kept & known) / len(known)


@pytest.mark.parametrize(
    ("model", "ablation"), [*product(MODELS, ["none", "shared", "harmless-only", "shared-authors"])]
)
def test_retention_counts_what_the_mixed_one_keeps_of_what_a_part_gets_right(model: str, ablation: str) -> None:
    for task in ("sums", "focus_50%", "tact & <tone>"):
        assert_summary(
            row_of("retention", model=model, ablation=ablation, task=task),
            "retention",
            lambda m, s, t=task: over_benchmarks(t, lambda b: retained(m, s, b, ablation, t)),
        )
    assert set(MADE["retention"]["ablation"]) == {"none", "shared", "helpful-only", "harmless-only", "shared-authors"}


def test_agreement_is_the_jaccard_index_of_what_two_get_right() -> None:
    def jaccard(model: str, seed: int) -> float:
        sets = [
            {c for c, ok in right(model, r, seed, "one", "none", "tact & <tone>").items() if ok}
            for r in ("mixed", "harmless")
        ]
        return len(sets[0] & sets[1]) / len(sets[0] | sets[1])

    assert_summary(row_of("agreement", model="ape", single="harmless", task="tact & <tone>"), "overlap", jaccard)


@pytest.mark.parametrize(("ablation", "control", "names"), [
    ("shared", "whole", ["shared"]),
    ("shared", "size-matched", ["shared-sized-0", "shared-sized-1"]),
    ("helpful-only", "matched-random", ["helpful-only-matched-0", "helpful-only-matched-1"]),
    ("random", "random", ["random-sized-0", "random-sized-1"]),
])  # fmt: skip
def test_draws_of_a_control_are_averaged_within_a_reward_model(ablation: str, control: str, names: list[str]) -> None:
    sizes = RESULTS.sizes.filter(pl.col("regime") == "mixed", pl.col("ablation").is_in(names))
    for value, end in (("zero", ""), ("mean", "@mean")):
        keys = {"model": OVERALL, "ablation": ablation, "control": control, "replaced_by": value, "task": "sums"}
        row = row_of("shared_ablation", **keys)
        assert_summary(row, "delta", lambda m, s, e=end: mean(
            percent(m, "mixed", s, name + e, "sums") - percent(m, "mixed", s, "none", "sums")
            for name in names))  # fmt: skip
        assert row["n_neurons"] == pytest.approx(sizes["n_neurons"].mean())


def test_contrasts_of_shared_sets_are_with_sets_of_the_same_kind() -> None:
    others = {
        "helpful-only": "helpful-only-sized",
        "matched-random": "shared-matched",
        "random": "random-sized",
    }
    for (against, other), (value, end) in product(others.items(), (("zero", ""), ("mean", "@mean"))):
        keys = {"control": "size-matched", "against": against, "replaced_by": value, "task": "sums"}
        assert_summary(
            row_of("shared_contrasts", model="zebra", **keys),
            "difference",
            lambda m, s, o=other, e=end: mean(percent(m, "mixed", s, f"shared-sized-{d}{e}", "sums") for d in (0, 1))
            - mean(percent(m, "mixed", s, f"{o}-{d}{e}", "sums") for d in (0, 1)),
        )  # fmt: skip


def on_own_test(model: str, regime: str, seed: int, ablation: str) -> float:
    tasks = SINGLES if regime == "mixed" else [regime]
    return 100 * mean(ok for task in tasks for ok in right(model, regime, seed, "own-test", ablation, task).values())


def test_curves_and_sizes_pool_a_benchmark_s_comparisons() -> None:
    row = row_of("ablation_curve", model="zebra", regime="mixed", scoring="magnitude", percent=50)
    assert_summary(row, "accuracy", lambda m, s: on_own_test(m, "mixed", s, "magnitude-p50"))
    assert_summary(
        row, "delta", lambda m, s: on_own_test(m, "mixed", s, "magnitude-p50") - on_own_test(m, "mixed", s, "none")
    )
    row = row_of("ablation_curve", model="zebra", regime="mixed", scoring="magnitude", count=3)
    assert_summary(row, "accuracy", lambda m, s: on_own_test(m, "mixed", s, "magnitude-n3"))
    here = {"model": "zebra", "regime": "mixed"}
    sizes = RESULTS.sizes.filter(**here, ablation="magnitude-n3")["n_neurons"]
    assert row["percent"] is None and row["n_neurons"] == pytest.approx(sizes.mean())
    set_size = row_of("set_size", **here, family="magnitude", control="", count=3)
    assert [set_size[k] for k in ("delta_mean", "n_neurons")] == [row[k] for k in ("delta_mean", "n_neurons")]
    swept = MADE["ablation_curve"].filter(**here, scoring="random").select("percent", "count").rows()
    assert swept == [(None, 3), (0, None), (20, None), (50, None), (100, None)]
    heads = row_of("ablation_curve", model="zebra", regime="mixed", scoring="head-norm", percent=100)
    assert_summary(heads, "accuracy", lambda m, s: on_own_test(m, "mixed", s, "all-heads"))
    none = row_of("ablation_curve", model="zebra", regime="mixed", scoring="random", percent=0)
    assert (none["n_neurons"], none["delta_mean"]) == (0, 0)
    row = row_of("set_size", model=OVERALL, regime="mixed", family="shared", control="size-matched")
    sized = [f"shared-sized-{draw}" for draw in (0, 1)]
    assert_summary(row, "delta", lambda m, s: mean(
        on_own_test(m, "mixed", s, name) - on_own_test(m, "mixed", s, "none") for name in sized))  # fmt: skip
    row = row_of("scoring_contrasts", model="ape", regime="helpful", percent=20, first="magnitude", second="random")
    assert_summary(row, "difference", lambda m, s: on_own_test(m, "helpful", s, "magnitude-p20")
                   - on_own_test(m, "helpful", s, "random-p20"))  # fmt: skip
    row = row_of("scoring_contrasts", model="ape", regime="helpful", count=3, first="magnitude", second="random")
    assert_summary(row, "difference", lambda m, s: on_own_test(m, "helpful", s, "magnitude-n3")
                   - on_own_test(m, "helpful", s, "random-n3"))  # fmt: skip
    assert set(MADE["scoring_contrasts"].select("percent", "count").rows()) == {(20, None), (50, None), (None, 3)}
    pairs = set(MADE["scoring_contrasts"].select("first", "second").rows())
    assert pairs == {
        ("magnitude", "change"),
        ("magnitude", "random"),
        ("change", "random"),
        ("head-norm", "head-random"),
    }


@pytest.mark.parametrize(("main", "first"), [("magnitude", "magnitude"), ("attribution", "attribution"),
                                             ("change", "attribution")])  # fmt: skip
def test_attribution_is_held_against_magnitude_once_whatever_the_main_scoring(main: str, first: str) -> None:
    scorings = ["change", "magnitude", "attribution", "random", "matched-random", "head-norm", "head-attribution"]
    settings = {"neurons": {"scorings": scorings}, "ablation": {"scoring": main}}
    found = contrasted(Study.model_validate(SETTINGS | settings))
    pairs = [{"attribution", "magnitude"}, {"attribution", "matched-random"}, {"head-attribution", "head-norm"}]
    assert all([{*pair} for pair in found].count(pair) == 1 for pair in pairs)
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert (first, ({"attribution", "magnitude"} - {first}).pop()) in found
    assert {other for one, other in found if one == main} == {*scorings[:5]} - {main}


def test_thirds_are_what_a_regime_loses_where_it_was_trained() -> None:
    """Its own orientations' tasks, and of its own test the tasks of each; draws averaged, and minus the early third."""

    def change(model: str, regime: str, seed: int, third: str, orientation: str, tasks: str) -> float:
        def accuracy(name: str) -> float:
            if tasks == "own test":
                return 100 * mean(right(model, regime, seed, "own-test", name, orientation).values())
            return mean(percent(model, regime, seed, name, task) for task in ORIENTED[orientation])

        return mean(accuracy(f"{third}-matched-{draw}") - accuracy("none") for draw in (0, 1))

    places = [("helpful", "helpful"), ("harmless", "harmless"), ("mixed", "helpful"), ("mixed", "harmless")]
    thirds, tasks = ("early", "middle", "late"), ("own tasks", "own test")
    for model, (regime, orientation), kind, third in product(MODELS, places, tasks, thirds):
        row = row_of("thirds", model=model, regime=regime, orientation=orientation, tasks=kind, third=third)
        keys = {"regime": regime, "orientation": orientation, "tasks": kind}
        assert_summary(row, "delta", lambda m, s, t=third, k=keys: change(m, seed=s, third=t, **k))
        if third == "early":
            assert row["difference_mean"] is None
        else:
            assert_summary(row, "difference", lambda m, s, t=third, k=keys: change(m, seed=s, third=t, **k)
                           - change(m, seed=s, third="early", **k))  # fmt: skip
        sizes = RESULTS.sizes.filter(pl.col("ablation").str.starts_with(f"{third}-matched"), regime=regime)
        of_model = sizes if model == OVERALL else sizes.filter(model=model)
        assert row["n_neurons"] == pytest.approx(of_model["n_neurons"].mean()) and row["note"] == ""
    assert len(MADE["thirds"]) == len(MODELS) * len(places) * len(tasks) * len(thirds)


def test_a_third_without_a_set_has_no_figure_and_says_why() -> None:
    def thirds(*lacking: pl.Expr) -> pl.DataFrame:
        of_thirds = pl.col("ablation").str.contains("^(early|middle|late)-matched")
        return thirds_table(replace(RESULTS, sizes=RESULTS.sizes.filter(~pl.all_horizontal(of_thirds, *lacking))))

    whole = MADE["thirds"].filter(pl.col("third") != "early")
    none, some = (frame.filter(pl.col("third") != "early") for frame in (thirds(), thirds(pl.col("model") == "ape")))
    values = ["delta_mean", "delta_low", "difference_mean", "difference_high"]
    assert none.select(values).null_count().row(0) == (len(none),) * 4 and none["n_neurons"].sum() == 0
    assert none["note"].unique().to_list() == ["no decile of loudness has neurons in every third of the layers"]
    assert some.filter(model="ape").drop("n_seeds").equals(none.filter(model="ape").drop("n_seeds"))
    assert some.filter(model="zebra").equals(whole.filter(model="zebra"))
    over, of_zebra = (some.filter(model=name)["delta_mean"].to_list() for name in (OVERALL, "zebra"))
    assert over == of_zebra


def test_benchmark_accuracy_counts_what_could_not_be_scored() -> None:
    row = row_of("benchmark_accuracy", model="ape", regime="helpful", benchmark="two")
    assert (row["n_comparisons"], row["n_unscored"]) == (17, 1)


def kept_scores(model: str, seed: int, state: str, side: int) -> list[float]:
    """Scores of the mixed or the helpful one on what both get right, on all oriented tasks."""
    scores = []
    for benchmark, rows in TASKS.items():
        for task, orientation, *_ in rows:
            both = [right(model, regime, seed, benchmark, "none", task) for regime in ("mixed", "helpful")]
            own = SCORES[model, state, seed, benchmark, "none"][task]
            kept = orientation in SINGLES
            scores += [own[c][side] for c in both[0] if both[0][c] and both[1][c] and kept]
    return scores


def test_score_shift_is_taken_over_decisions_that_both_get_right() -> None:
    row = row_of("score_shift", model="ape", single="helpful", response="rejected")
    assert_summary(row, "mixed", lambda m, s: mean(kept_scores(m, s, "mixed", 1)))
    assert_summary(row, "single_spread", lambda m, s: pstdev(kept_scores(m, s, "helpful", 1)))
    assert_summary(row, "closeness", lambda m, s: mean(map(abs, kept_scores(m, s, "mixed", 1)))
                   - mean(map(abs, kept_scores(m, s, "helpful", 1))))  # fmt: skip
    assert row["n"] == pytest.approx(mean(len(kept_scores("ape", s, "mixed", 1)) for s in STUDY.seeds), abs=1e-12)


def test_compression_compares_sizes_of_scores_and_margins() -> None:
    def sizes(model: str, seed: int, ablation: str, margin: bool) -> float:
        pairs = [
            pair
            for benchmark, rows in TASKS.items()
            for task, orientation, *_ in rows
            for pair in SCORES[model, "helpful", seed, benchmark, ablation][task].values()
            if orientation in SINGLES and pair[0] is not None
        ]
        return mean(abs(c - r) if margin else (abs(c) + abs(r)) / 2 for c, r in pairs)

    for value, name in (("zero", "random-p20"), ("mean", "random-p20@mean")):
        row = row_of("compression", model=OVERALL, regime="helpful", scoring="random", replaced_by=value)
        assert_summary(row, "ratio", lambda m, s, n=name: sizes(m, s, n, False) / sizes(m, s, "none", False))
        assert_summary(row, "margin_ratio", lambda m, s, n=name: sizes(m, s, n, True) / sizes(m, s, "none", True))


def test_histograms_hold_every_score_once() -> None:
    table = MADE["score_histogram"]
    groups = table.group_by("model", "figure", "regime", "single", "state", "response").agg(pl.col("share").sum())
    assert groups["share"].to_list() == pytest.approx([1.0] * len(groups))
    scores = pl.DataFrame({"model": "m", "seed": 1, "figure": "shift", "regime": "r", "single": "", "state": "mixed",
                           "response": "chosen", "score": [0.0, 0.1, 0.9, 1.0]})  # fmt: skip
    found = histogram(scores, bins=2).filter(model="m")
    assert found["share"].to_list() == [0.5, 0.5]
    assert found["left"][1] == pytest.approx(found["right"][0])


# --- neurons -------------------------------------------------------------------------------------------------


def top(model: str, regime: str, seed: int, scoring: str) -> set[tuple[int, int]]:
    size = round(0.2 * LAYERS * (HEADS if scoring.startswith("head") else NEURONS))
    ranked = pl.concat(RESULTS.neurons).filter(model=model, regime=regime, seed=seed, scoring=scoring)
    return set(ranked.filter(pl.col("rank") <= size).select("layer", "neuron").rows())


def test_overlap_retention_and_depth_of_exact_sets() -> None:
    def jaccard(m: str, s: int) -> float:
        one, other = (top(m, regime, s, "change") for regime in SINGLES)
        return len(one & other) / len(one | other)

    def kept(m: str, s: int) -> float:
        parts, mixed = top(m, "helpful", s, "change") | top(m, "harmless", s, "change"), top(m, "mixed", s, "change")
        return len(parts & mixed) / len(parts | mixed)

    keys = {"model": OVERALL, "scoring": "change", "selection": "exact"}
    row = row_of("neuron_overlap", first="helpful", second="harmless", **keys)
    assert_summary(row, "jaccard", jaccard)
    # 4 of 20 each: by chance 4 * 4 / 20 = 0.8 shared of 8 - 0.8.
    assert row["chance"] == pytest.approx(0.8 / 7.2)
    assert_summary(row_of("neuron_retention", **keys), "retained", kept)
    late = row_of("depth", regime="helpful", third="late", **keys)
    assert_summary(late, "share", lambda m, s: 100 * mean(layer == 3 for layer, _ in top(m, "helpful", s, "change")))
    heads = row_of("depth", model="ape", regime="mixed", scoring="head-norm", selection="exact", third="early")
    assert_summary(heads, "share", lambda m, s: 100 * mean(layer <= 1 for layer, _ in top(m, "mixed", s, "head-norm")))


def test_the_authors_selection_averages_scores_over_seeds_clips_them_and_takes_a_percentile() -> None:
    sets = []
    for regime in SINGLES:
        ranked = pl.concat(RESULTS.neurons).filter(model="ape", regime=regime, scoring="magnitude")
        by_neuron = [(place, max(0.0, mean(of["score"]))) for place, of in ranked.group_by("layer", "neuron")]
        limit = np.percentile([score for _, score in by_neuron], 80)
        sets.append({place for place, score in by_neuron if score >= limit})
    row = row_of(
        "neuron_overlap", model="ape", first="helpful", second="harmless", scoring="magnitude", selection="authors"
    )
    assert row["jaccard_mean"] == pytest.approx(len(sets[0] & sets[1]) / len(sets[0] | sets[1]))
    assert row["jaccard_low"] is None


def test_clipping_lets_ties_at_zero_select_everything() -> None:
    negative = pl.concat(RESULTS.neurons).with_columns(score=pl.when(scoring="magnitude").then(-1.0).otherwise("score"))
    results = replace(RESULTS, neurons=[negative])
    table = TABLES["neuron_overlap"](results).filter(model="ape", scoring="magnitude", selection="authors")
    assert table["union_mean"].unique().to_list() == [LAYERS * NEURONS]


def test_stability_is_over_pairs_of_seeds() -> None:
    values = []
    for one, other in ((3, 5), (3, 7), (5, 7)):
        a, b = (top("ape", "mixed", seed, "random") for seed in (one, other))
        values.append(len(a & b) / len(a | b))
    row = row_of("stability", model="ape", regime="mixed", scoring="random")
    assert (row["jaccard_mean"], row["jaccard_low"], row["jaccard_high"], row["n_pairs"]) == pytest.approx(
        (mean(values), min(values), max(values), 3)
    )


def test_rmsd_takes_the_root_over_layers_and_the_mean_over_indices() -> None:
    by_seed = {s: np.zeros((2, LAYERS, NEURONS)) for s in STUDY.seeds}
    for a in pl.concat(RESULTS.activations).filter(model="ape", regime="helpful").iter_rows(named=True):
        by_seed[a["seed"]][int(a["response"] == "chosen"), a["layer"], a["neuron"]] = a["mean"]

    def rmsd(values: Any) -> float:
        return float(np.sqrt(((values[1] - values[0]) ** 2).mean(axis=0)).mean())

    row = row_of("rmsd", model="ape", regime="helpful")
    assert row["rmsd"] == pytest.approx(rmsd(np.mean(list(by_seed.values()), axis=0)))
    assert_summary(row, "rmsd", lambda m, s: rmsd(by_seed[s]))
    levels = {s: float(np.sqrt((v.mean(axis=0) ** 2).mean(axis=0)).mean()) for s, v in by_seed.items()}
    assert_summary(row, "ratio", lambda m, s: rmsd(by_seed[s]) / levels[s])


def test_a_control_is_held_against_its_own_target(tmp_path: Path) -> None:
    sets = {"magnitude-p20": [0, 1], "matched-random-p20": [0, 3], "shared-sized-0": [2], "shared-matched-0": [2],
            "shared-sized-1": [1, 2], "shared-matched-1": [3, 4]}  # fmt: skip
    rows = [(name, 0, neuron) for name, neurons in sets.items() for neuron in neurons]
    frame = pl.DataFrame(rows, schema=["ablation", "layer", "neuron"], orient="row").with_columns(unit=pl.lit("neuron"))
    for model, regime, seed in product(STUDY.models, STUDY.regimes, STUDY.seeds):
        path = tmp_path / f"selected/{model}/{regime}/seed-{seed}/sets.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    found = load_control_overlaps(tmp_path, STUDY).filter(model="ape", seed=7)
    assert dict(found.filter(regime="mixed").select("set", "share").rows()) == {
        "magnitude": 50,
        "shared": (100 + 0) / 2,
    }
    assert found.filter(regime="helpful")["set"].to_list() == ["magnitude"]


# --- all of them ---------------------------------------------------------------------------------------------


def test_rows_follow_the_study_with_averages_and_all_models_last() -> None:
    table = MADE["accuracy"]
    assert table["model"].unique(maintain_order=True).to_list() == MODELS
    assert table["regime"].unique(maintain_order=True).to_list() == list(STUDY.regimes)
    tasks = table.filter(model="ape", regime="mixed").select("orientation", "task").rows()
    assert tasks == [("helpful", "sums"), ("helpful", "focus_50%"), ("helpful", "average"),
                     ("harmless", "tact & <tone>"), ("harmless", "average")]  # fmt: skip


@pytest.mark.parametrize(("column", "make", "keys"), [
    ("regime", contrasts_table, {"model": OVERALL, "first": "helpful", "second": "harmless"}),
    ("model", model_contrasts_table, {"regime": "helpful"}),
])  # fmt: skip
def test_no_p_value_lies_below_that_of_a_sign_test(column: str, make: Any, keys: dict[str, str]) -> None:
    """Of four comparisons that all agree every draw does, and a coin throws four alike one time in eight."""
    is_first = pl.col(column) == {"regime": "helpful", "model": next(iter(STUDY.models))}[column]
    scores = pl.concat(RESULTS.scores).with_columns(chosen=pl.when(is_first).then(1.0).otherwise(0.0), rejected=0.5)
    few = scores.filter(pl.col("task") != "tact & <tone>", ~pl.col("comparison_id").str.contains(r"/[4-9]$"))
    both = pl.col("comparison_id").str.ends_with("/0")  # get this one right
    many = scores.filter(pl.col("task") == "tact & <tone>").with_columns(
        chosen=pl.when(both).then(1.0).otherwise("chosen")
    )
    made = make(replace(RESULTS, scores=[few, many])).filter(**keys)
    found = {task: (p, q) for task, p, q in made.select("task", "p", "q").rows()}
    drawn = 2 / (1 + STUDY.analysis.draws)  # of one draw
    assert found["sums"][0] == max(drawn, 2 / 2**8)  # four in either benchmark
    assert found["focus_50%"][0] == 2 / 2**4
    assert found["tact & <tone>"][0] == drawn > 2 / 2**9
    assert found["average"] == (drawn, None)


def test_the_same_results_give_the_same_tables() -> None:
    again = make_tables(example())
    for name, table in MADE.items():
        assert table.equals(again[name], null_equal=True), name


@pytest.mark.parametrize("change", [
    {"seeds": [7]},
    {"regimes": {k: SETTINGS["regimes"][k] for k in SINGLES}},
    {"models": {"ape": SETTINGS["models"]["ape"]}},
    {"ablation": {"percent": 20, "sweep": [100]}},
    {"compatibility": "authors"},
    {"benchmarks": {"own-test": {"kind": "regime-test"}}},
])  # fmt: skip
def test_other_studies_have_the_same_tables_with_the_same_columns(change: dict[str, Any]) -> None:
    study = Study.model_validate(SETTINGS | change)
    for name, table in make_tables(example(study)).items():
        assert set(table.columns) == set(MADE[name].columns), name
        assert not [c for c in table.columns if table[c].dtype.is_float() and table[c].is_nan().any()], name


def test_one_seed_has_intervals_where_comparisons_vary_and_none_where_only_seeds_do() -> None:
    tables = make_tables(example(Study.model_validate(SETTINGS | {"seeds": [7]})))
    assert tables["accuracy"]["accuracy_low"].null_count() == 0
    assert tables["neuron_overlap"]["jaccard_low"].null_count() == len(tables["neuron_overlap"])


RANGES = {"%": (0, 100), "points": (-100, 100), "fraction": (0, 1), "ratio": (0, inf), "activation": (0, inf),
          "neurons": (0, inf), "reward": (-inf, inf), "correlation": (-1, 1), "nats": (0, inf),
          "cosine": (-inf, inf), "of the gap": (-inf, inf)}  # fmt: skip
CHANGES = {"fraction": (-1, 1), "nats": (-inf, inf), "cosine": (-inf, inf), "of the gap": (-inf, inf)}


def test_every_limit_of_every_table_is_within_what_its_figure_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    # With one comparison a task and two seeds, a figure is 0 in one and all there is in the other, and the interval's
    # limits lie 0.2 times that beyond.
    few = {name: [(task, orientation, 1, n) for task, orientation, _, n in tasks] for name, tasks in TASKS.items()}
    monkeypatch.setattr(
        example_results, "TASKS", few | {"rb2": [("Focus", "helpful", 1, 3), ("Ties", "unoriented", 1, 3)]}
    )
    benchmarks = SETTINGS["benchmarks"] | {"rb2": {"kind": "reward-bench-2", "path": "x", "tasks": "all"}}
    study = Study.model_validate(SETTINGS | CAUSES | {"seeds": [7, 3], "benchmarks": benchmarks})
    at_their_end = set()
    for name, table in make_tables(example(study, seed=1)).items():
        for limit in (column for column in table.columns if column.endswith(("_low", "_high"))):
            stem = limit.rpartition("_")[0]
            least, greatest = (CHANGES if stem.endswith(("_change", "_difference")) else RANGES)[UNITS[stem].name]
            found = table[limit].drop_nulls()
            assert found.is_between(least, greatest).all(), (name, limit)
            at_their_end |= {stem} if len(found) and (found.min() == least or found.max() == greatest) else set()
    assert at_their_end >= {"accuracy", "retention", "overlap", "baseline", "ablated", "delta", "difference", "value"}


def test_an_estimate_beyond_what_is_usual_stays_within_its_interval() -> None:
    row = {"value_mean": [100.5, 99.0, None], "value_low": [90.0, None, None], "value_high": [121.0, None, None]}
    found = held(pl.DataFrame(row, schema=dict.fromkeys(row, pl.Float64)), "value")
    assert found.select("value_low", "value_high").rows() == [(90, 100.5), (None, None), (None, None)]


def test_same_style_pairs_are_comparisons_of_their_own() -> None:
    scores = pl.LazyFrame(
        {"comparison_id": ["a"], "chosen_scores": [[1.0, 2.0, 3.0]], "rejected_scores": [[0.0, 5.0, 6.0]]}
    )
    unscored = scores.with_columns(comparison_id=pl.lit("b"), chosen_scores=None, rejected_scores=None)
    found = same_style(pl.concat([scores, unscored], how="vertical_relaxed"), ["chosen_scores", "rejected_scores"])
    ids, rejected = found.collect().select("comparison_id", pl.col("rejected_scores").list.first())
    assert ids.to_list() == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert rejected.to_list() == [0.0, 5.0, 6.0, None, None, None]
    assert LAYOUT.responses == dict.fromkeys(LAYOUT.responses, STYLES)


def test_a_set_that_holds_nothing_is_compared_with_none() -> None:
    """As the exclusive ones are where both parts have the same neurons: what costs nothing by itself proves nothing."""
    is_empty = pl.col("ablation").cast(pl.String).str.starts_with("helpful-only")
    results = replace(RESULTS, sizes=RESULTS.sizes.filter(~is_empty))
    columns = {"shared_ablation": ("ablation", "delta_mean"), "shared_contrasts": ("against", "difference_mean"),
               "set_size": ("family", "delta_mean")}  # fmt: skip
    for name, (column, figure) in columns.items():
        of_none = pl.col(column) == "helpful-only"
        found = TABLES[name](results).group_by(of_none=of_none).agg(pl.len(), known=pl.col(figure).count())
        known = {of: (count, n) for of, n, count in found.rows()}
        assert known[True][0] == 0 < known[True][1] and known[False][0] == known[False][1], name


def test_validation_splits_without_scores_leave_no_temperature() -> None:
    unscored = pl.when(pl.lit(value=False)).then(pl.col("chosen_scores", "rejected_scores"))
    results = replace(RESULTS, validation=RESULTS.validation.with_columns(unscored))
    found = {name: TABLES[name](results) for name in ("calibration", "calibration_contrasts")}
    assert set(found["calibration"]["n_fitted"].fill_null(0)) == {0}
    for name, column in (("calibration", "rescaled_log_loss"), ("calibration_contrasts", "rescaled_log_loss_change")):
        assert found[name][f"{column}_mean"].is_null().all()
        assert (
            found[name]
            .drop("n_fitted", strict=False)
            .select(pl.exclude("^rescaled.*$", "^temperature.*$"))
            .equals(MADE[name].drop("n_fitted", strict=False).select(pl.exclude("^rescaled.*$", "^temperature.*$")))
        )
