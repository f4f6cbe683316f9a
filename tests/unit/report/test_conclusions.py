"""The paragraph at the report's head says what ledger and tables say, for every kind of study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from example_results import MADE, OF_REPAIRS, SETTINGS, STUDY

from rmtension.report.conclusions import REAL_RESULT, SAID, beside_length, conclusions
from rmtension.study.naming import BOTH, OVERALL
from rmtension.study.study import Study

ROOT = Path(__file__).parents[3]
Rows = list[tuple[Any, ...]]
FORMS = {form: verdict for verdict, forms in SAID.items() for form in forms}


def frame(rows: Rows, *columns: str) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=list(columns), orient="row")


def ledger(*rows: tuple[str, str, str, str]) -> pl.DataFrame:
    """claim, verdict, control, control_verdict: each of a claim with one part, which has that one control."""
    whole = [(claim, "", f"It is {claim}", verdict, control, beside) for claim, verdict, control, beside in rows]
    parts = [(claim, "part", *rest) for claim, _, *rest in whole]
    columns = ["claim", "part", "statement", "verdict", "control", "control_verdict"]
    return pl.DataFrame([*whole, *parts], schema=dict.fromkeys(columns, pl.String), orient="row")


# Own tests of two sources and of one; `sums` is in two benchmarks. Figures are chosen to be reckoned by hand.
SURFACE = frame(
    [
        ("own", "helpful", "base", "longer", 30, 60.0), ("own", "helpful", "online", "longer", 10, 80.0),
        ("own", "helpful", "base", "words:mixed", 30, 61.0), ("own", "helpful", "online", "words:mixed", 10, 61.0),
        ("one", "helpful", "sums", "longer", 6, 10.0), ("two", "helpful", "sums", "longer", 6, 50.0),
        ("one", "helpful", "sums", "words:mixed", 6, 60.0), ("two", "helpful", "sums", "words:mixed", 6, 40.0),
        ("two", "helpful", "focus", "longer", 6, 90.0), ("two", "helpful", "focus", "words:mixed", 6, 60.0),
        ("two", "unoriented", "ties", "longer", 6, 100.0),
    ],
    "benchmark", "orientation", "task", "rule", "n_comparisons", "accuracy_mean",
)  # fmt: skip
REPAIRS: dict[str, Any] = dict.fromkeys(["model", "mixture", "regime", "orientation", "tasks", "measure"], pl.String)
REPAIRS |= dict.fromkeys([f"gain_{end}" for end in ("mean", "low", "high")], pl.Float64)
TWO: dict[str, Any] = dict.fromkeys(
    ["model", "mixture", "first", "second", "orientation", "tasks", "measure"], pl.String
)
TWO |= dict.fromkeys([f"difference_{end}" for end in ("mean", "low", "high")], pl.Float64)
PATCHING: dict[str, Any] = dict.fromkeys(["model", "regime", "donor", "tasks", "set", "control"], pl.String)
PATCHING |= {f"{name}_{end}": pl.Float64 for name in ("gap", "delta") for end in ("mean", "low", "high")}
VALUES = ["accuracy_mean", "accuracy_low", "accuracy_high"]
TABLES = {
    "repair": pl.DataFrame(schema=REPAIRS),
    "repair_contrasts": pl.DataFrame(schema=TWO),
    "patching": pl.DataFrame(schema=PATCHING),
    "surface": SURFACE.cast({"n_comparisons": pl.UInt32}),
    "benchmarks_card": frame([("own", "regime-test"), ("one", "synthetic"), ("two", "synthetic")], "benchmark", "kind"),
    "accuracy": frame(
        [(OVERALL, "helpful", "helpful", task, 70.0, 66.0, 75.0) for task in ("sums", "focus", "average")]
        + [(OVERALL, "mixed", "helpful", task, 62.0, 55.5, 65.0) for task in ("sums", "focus", "average")]
        + [("zebra", "helpful", "helpful", "average", 1.0, 1.0, 1.0)],
        "model", "regime", "orientation", "task", *VALUES,
    ),
    "benchmark_accuracy": frame(
        [(OVERALL, "helpful", "own", 40.0, 0.0, 64.0, 61.0, 67.0)]
        + [(OVERALL, "mixed", "own", 70.0, 0.0, 99.0, 99.0, 99.0)]
        + [(OVERALL, r, b, 12.0, 0.0, 50.0, 40.0, 60.0) for r in ("helpful", "mixed") for b in ("one", "two")],
        "model", "regime", "benchmark", "n_comparisons", "n_unscored", *VALUES,
    ),
}  # fmt: skip


def test_rules_are_held_against_the_reward_models_of_the_same_comparisons() -> None:
    text = conclusions(STUDY, TABLES, ledger())["Rules without a model."]
    # (30 * 60 + 10 * 80) / 40 = 65 beats 61; ((10 + 50) / 2 + 90) / 2 = 60 beats ((60 + 40) / 2 + 60) / 2 = 55.
    assert text == (
        "On helpful's own test split, accuracy is 64.0 % (helpful); without a model the best of 2 rules, the longer "
        "response, reaches 65.0 %. On the helpful tasks, accuracy is 70.0 % (helpful) and 62.0 % (mixed); without a "
        "model the best of 2 rules, the longer response, reaches 60.0 %. "
        "Above the best rule with the whole interval: helpful on the helpful tasks."
    )
    worse = TABLES | {"surface": TABLES["surface"].filter(rule="words:mixed")}
    text = conclusions(STUDY, worse, ledger())["Rules without a model."]
    assert "the best of 1 rule, the words that mixed pairs prefer, reaches 55.0 %" in text
    assert text.endswith("interval: helpful on the helpful tasks and mixed on the helpful tasks.")
    both = TABLES | {"surface": worse["surface"].with_columns(rule=pl.lit("words:both"))}
    text = conclusions(STUDY, both, ledger())["Rules without a model."]
    assert "the words that pairs of both kinds prefer, reaches 55.0 %" in text


@pytest.mark.parametrize(
    ("regime", "benchmark", "above", "apart"),
    [
        ("helpful", "one", "mixed on the helpful tasks", "helpful on the helpful tasks"),
        ("mixed", "two", "helpful on the helpful tasks", "mixed on the helpful tasks"),
        ("helpful", "own", "helpful on the helpful tasks and mixed on the helpful tasks",
         "helpful on helpful's own test split"),
    ],
)  # fmt: skip
def test_reward_models_are_held_against_rules_on_the_same_comparisons_alone(
    regime: str, benchmark: str, above: str, apart: str
) -> None:
    is_short = (pl.col("regime") == regime) & (pl.col("benchmark") == benchmark)
    counts = TABLES["benchmark_accuracy"].with_columns(n_unscored=pl.when(is_short).then(0.5).otherwise(0.0))
    worse = TABLES | {"surface": TABLES["surface"].filter(rule="words:mixed"), "benchmark_accuracy": counts}
    assert conclusions(STUDY, worse, ledger())["Rules without a model."].endswith(
        f"Above the best rule with the whole interval: {above}. Not held against rules, which score all comparisons, "
        f"as some could not be scored: {apart}."
    )


def by_name(*sentences: str) -> dict[str, list[str]]:
    """Verdict -> the claims of which a sentence says it."""
    found = [part for said in sentences for part in re.findall(
        rf"((?:[CL]\d(?:, | and )?)+) ({'|'.join(FORMS)})\b", said)]  # fmt: skip
    return {FORMS[verb]: re.findall(r"[CL]\d", names) for names, verb in found}


@pytest.mark.parametrize("words", list(product(SAID, repeat=3)))
def test_what_is_said_of_claims_is_the_ledger(words: tuple[str, str, str]) -> None:
    first, second, itself = words
    for beside in SAID:
        claims = ledger(("C1", first, "length", beside), ("C4", second, "random", "holds"), ("L1", itself, "", ""))
        said = conclusions(STUDY, TABLES, claims)
        by_verdict = {word: [c for c, w in zip(("C1", "C4", "L1"), words, strict=True) if w == word] for word in SAID}
        undecided = len(by_verdict["undecided"])
        if undecided == 3:
            assert said["Claims."] == "Nothing can be concluded about any of the 3 claims: all are undecided."
        else:
            itself_said, *controlled, parts = re.split(r"(?<=\.) ", said["Claims."])
            assert by_name(itself_said) == {w: names for w, names in by_verdict.items() if names and w != "undecided"}
            decided = [claim for names in (by_verdict["holds"], by_verdict["does not hold"]) for claim in names]
            controls = {claim: word for claim, word in (("C1", beside), ("C4", "holds")) if claim in decided}
            assert len(controlled) == bool(controls)
            assert by_name(*controlled) == {w: [c for c, of in controls.items() if of == w] for w in controls.values()}
            assert (
                parts == f"Decided parts of claims: {len(decided)} of 3, each by itself, uncorrected for their number."
            )
            assert f"; {undecided} " in said["Claims."] or not undecided
        assert f"It is L1 (L1): {itself}." in said["Is it length?"]
        assert ("C1 " + SAID[beside][0] in said["Is it length?"]) == (first == "holds")
        assert ("C4 has no control for length" in said["Is it length?"]) == (second == "holds")
        assert beside_length(claims) == {"C1": beside}


@pytest.mark.parametrize(
    ("lead", "left", "along", "said"),
    [
        ("holds", "undecided", "holds", "It may be"),  # length alone decides
        ("holds", "holds", "undecided", "Not length alone: "),  # length decides nothing
        ("holds", "holds", "holds", "; length plays its part as well."),  # both
        ("undecided", "undecided", "undecided", "This study cannot tell"),
        ("undecided", "does not hold", "holds", "This study cannot tell"),
        ("does not hold", "undecided", "undecided", "Not all reward models lead on their own orientation"),
    ],
)
def test_is_it_length_is_answered_in_plain_words(lead: str, left: str, along: str, said: str) -> None:
    claims = ledger(("C1", lead, "length", left), ("L1", along, "", ""), ("L2", left, "half", "undecided"))
    answer, statement = conclusions(STUDY, TABLES, claims)["Is it length?"].split(" It is L1")
    assert said in answer and statement.startswith(f" (L1): {along}.")


def test_beside_length_a_claim_is_as_good_as_its_worst_part() -> None:
    rows = [("C4", "a", "longer", "holds"), ("C4", "b", "shorter", "undecided"), ("C4", "c", "random", "does not hold"),
            ("C4", "", "longer", "does not hold"), ("C9", "a", "random", "holds")]  # fmt: skip
    assert beside_length(frame(rows, "claim", "part", "control", "control_verdict")) == {"C4": "undecided"}


def changed(**settings: Any) -> dict[str, str]:
    return conclusions(Study.model_validate(SETTINGS | settings), TABLES, ledger())


def repaired(regime: str, orientation: str, gain: Any, measure: str = "accuracy", **keys: Any) -> dict[str, Any]:
    """A row of the table of repairs, its gain from 1 below to 1 above; half of a gap of 4 is closed by 2."""
    ends = {"gain_mean": gain, "gain_low": gain - 1, "gain_high": gain + 1, "closed_mean": gain / 4}
    costs = {"pairs_seen": 1200.0, "pairs_needed": 3600.0, "scoring_cost": 1.0, "n_tasks": 4, "of_tasks": 4}
    gap = {"gap_mean": 4.0, "gap_low": 3.0, "gap_high": 5.0}
    change = {"squared_ce_change_low": -0.1, "squared_ce_change_high": 0.1}
    return {"model": OVERALL, "mixture": "mixed", "regime": regime, "orientation": orientation, "tasks": "own tasks",
            "measure": measure, **ends, **costs, **gap, **change} | keys  # fmt: skip


def two(first: str, second: str, difference: float, **keys: Any) -> dict[str, Any]:
    """A row of the contrasts of repairs, from 1 below to 2 above."""
    ends = {"difference_mean": difference, "difference_low": difference - 1, "difference_high": difference + 2}
    where = {"mixture": "mixed", "orientation": BOTH, "tasks": "own tasks", "measure": "accuracy"}
    return {"model": OVERALL, "first": first, "second": second, **where, **ends} | keys


def advised(*rows: dict[str, Any], study: Study = STUDY, contrasts: Sequence[dict[str, Any]] = ()) -> str:
    decoys = [row | {"model": "ape", "gain_low": 9.0, "gap_low": -9.0} for row in rows]
    others = [row | other for row in contrasts for other in ({"model": "ape"}, {"mixture": "again"},
              {"orientation": "helpful"}, {"tasks": "elsewhere"}, {"measure": "balanced"})]  # fmt: skip
    tables = {"repair": pl.DataFrame([*decoys, *rows]), "repair_contrasts": pl.DataFrame([*others, *contrasts], TWO)}
    return conclusions(study, TABLES | tables, ledger())["Which repair to take?"]


def patched(donor: str, control: str, gap: float, delta: float, **keys: Any) -> dict[str, Any]:
    """A row of the table of patching; intervals from 2 below to 2 above."""
    values = {f"{name}_{end}": value + more for name, value in (("gap", gap), ("delta", delta))
              for end, more in (("mean", 0.0), ("low", -2.0), ("high", 2.0))}  # fmt: skip
    where = {"model": OVERALL, "regime": "mixed", "donor": donor, "tasks": "own test", "set": "shared"}
    return where | {"control": control} | values | keys


def explained(*rows: dict[str, Any], verdict: str = "undecided", study: Study = STUDY) -> str:
    decoys = [
        row | other for row in rows for other in ({"model": "ape"}, {"set": "helpful-only"}, {"control": "whole"})
    ]
    tables = TABLES | {"patching": pl.DataFrame([*decoys, *rows])}
    verdicts = ledger(("P1", verdict, "random", ""), ("G1", "undecided", "share", ""), ("C9", "holds", "random", ""))
    return conclusions(study, tables, verdicts)["Why is the mixed one worse?"]


def test_why_the_mixed_one_is_worse_is_told_where_it_surely_is() -> None:
    helpful = patched("helpful", "size-matched", 9.0, 3.0), patched("helpful", "matched-random", 9.0, 1.0)
    harmless = patched("harmless", "size-matched", 1.0, 0.0), patched("harmless", "matched-random", 1.0, 0.0)
    told = (
        "On the own test of helpful, mixed falls short of it by 9.0 points [7.0, 11.0]. With its activations at shared "
        "neurons accuracy changes by 3.0 points [1.0, 5.0], at as many matched ones by 1.0 points [-1.0, 3.0]. "
    )
    answers = {
        "holds": "Its shared neurons are part of why, more than others as loud: P1 holds, G1 is undecided.",
        "does not hold": "By what patching tells, its shared neurons are not everywhere why, more than others as loud: "
        "P1 does not hold, G1 is undecided.",
        "undecided": "Whether its shared neurons are everywhere why, more than others as loud, cannot be told: "
        "P1 is undecided, G1 is undecided.",
    }
    for verdict, answer in answers.items():
        assert explained(*helpful, *harmless, verdict=verdict) == told + answer
    for epochs, less in {1: ["helpful for 2", "harmless for 3"], 2: ["harmless for 3"], 3: []}.items():
        regimes = SETTINGS["regimes"] | {"harmless": SETTINGS["regimes"]["harmless"] | {"epochs": 3}}
        mixed = {"mixed": {"mixes": ["helpful", "harmless"], "epochs": epochs}}
        text = explained(*helpful, study=Study.model_validate(SETTINGS | {"regimes": regimes | mixed}))
        said = f"mixed was trained for fewer epochs ({epochs}; {' and '.join(less)}): some of its shortfall may be want"
        assert (f"{said} of training. Whether its shared" in text) == bool(less) == ("epochs" in text)
    assert explained(*harmless) == (
        "Where it was patched, it does not surely fall short of a part: there is nothing to explain."
    )
    assert "Why is the mixed one worse?" not in changed()
    assert "why mixing costs what it does (nothing is patched)" in changed()["Beyond this study."]


FREE: dict[str, Any] = {"pairs_seen": 0.0, "pairs_needed": 2400.0}
PROJECTED = [repaired("projected", BOTH, 3.0), repaired("projected", BOTH, 0.5, "balanced")]


MERGED = [repaired("merged", BOTH, 2.0, **FREE), repaired("merged", BOTH, 1.5, "balanced", **FREE)]


def test_the_repair_to_take_gains_most_where_length_decides_nothing_and_loses_nowhere() -> None:
    frozen = [repaired("frozen", BOTH, 5.0), repaired("frozen", "helpful", -1.5)]
    ensemble = [repaired("ensemble", BOTH, 0.5, scoring_cost=2.0)]
    contrasts = [two("frozen", "merged", 3.0), two("projected", "merged", 8.0)]
    text = advised(*PROJECTED, *frozen, *MERGED, *ensemble, contrasts=contrasts)
    assert text == (
        "On the tasks of both orientations together, mixed falls short of its parts by 4.0 points [3.0, 5.0]. Take "
        "merged: it gains 2.0 points [1.0, 3.0] on the tasks of both orientations, 50 % of that (no training; parts "
        "on 2,400). On length-balanced accuracy that is 1.5 points [0.5, 2.5]. Surely gaining, too: projected by 3.0 "
        "(trained on 1,200 pairs; parts on 2,400). It was chosen among 4 by the figures that it is reported with: its "
        "gain is overrated a little; less that of the next, frozen, it is -3.0 points [-5.0, -2.0], which does not "
        "hold 0. Surely worse than mixed, on an orientation or on both: frozen."
    )
    turned = advised(*PROJECTED, *MERGED, contrasts=[two("merged", "projected", -0.5)])
    assert "less that of the next, projected, it is -0.5 points [-1.5, 1.5], which holds 0." in turned
    assert advised(*PROJECTED, *MERGED).endswith("its gain is overrated a little.")


def test_own_test_splits_come_first_and_tasks_stand_beside_them() -> None:
    """Judged by the splits, whatever the tasks say; but not a repair that loses on the tasks."""
    splits = [repaired("merged", BOTH, 2.0, tasks="own test", **FREE),
              repaired("merged", BOTH, 1.5, "balanced", tasks="own test", **FREE)]  # fmt: skip
    tasks = [repaired("merged", BOTH, 0.5, **FREE), repaired("projected", BOTH, 7.0)]
    text = advised(*tasks, *splits, repaired("projected", BOTH, 0.1, tasks="own test"))
    assert text == (
        "On the test splits of both parts together, mixed falls short of its parts by 4.0 points [3.0, 5.0]. On the "
        "tasks of both orientations together, mixed falls short of its parts by 4.0 points [3.0, 5.0]. Take merged: it "
        "gains 2.0 points [1.0, 3.0] on the test splits of both parts, 50 % of that (no training; parts on 2,400). On "
        "length-balanced accuracy that is 1.5 points [0.5, 2.5]. On the tasks of both orientations it gains 0.5 points "
        "[-0.5, 1.5], which is not sure. It was chosen among 2 by the figures that it is reported with: its gain is "
        "overrated a little."
    )
    losing = advised(*splits, repaired("merged", "harmless", -2.0))
    assert "Take" not in losing and losing.endswith("Surely worse than mixed, on an orientation or on both: merged.")


def test_an_end_of_a_curve_is_no_repair_to_take() -> None:
    curve = {"merged": OF_REPAIRS["merged"] | {"weights": [[0, 1], [0.4, 0.6], [1, 0]]}}
    study = Study.model_validate(SETTINGS | {"regimes": SETTINGS["regimes"] | curve})
    points = [repaired(f"merged-{share}", BOTH, gain) for share, gain in (("0", 9.0), ("0.4", 2.0), ("1", 8.0))]
    text = advised(*points, study=study)
    assert "Take merged-0.4: it gains 2.0 points" in text and "merged-0 " not in text and "merged-1" not in text
    assert "chosen among" not in text


@pytest.mark.parametrize(("n", "said"), [
    (3, "On length-balanced accuracy that is 1.5 points [0.5, 2.5], over 3 of 4 tasks."),
    (1, "Length-balanced accuracy is known on 1 of 4 tasks alone, and tells nothing of it."),
])  # fmt: skip
def test_it_is_said_on_how_many_tasks_balanced_accuracy_rests(n: int, said: str) -> None:
    few = [MERGED[0], MERGED[1] | {"n_tasks": n}]
    assert said in advised(*few)
    first = advised(*PROJECTED, *few).split("Take ")[1].split(":")[0]
    assert first == ("merged" if n == 3 else "projected")


def test_what_is_not_sure_of_a_repair_is_said_to_be_so() -> None:
    unsure = {"gap_low": -1.0, "closed_mean": None, "scoring_cost": 2.0, "pairs_seen": None, "pairs_needed": None,
              "squared_ce_change_low": 0.05}  # fmt: skip
    text = advised(PROJECTED[0] | unsure, PROJECTED[1])
    assert text == (
        "On the tasks of both orientations together, mixed does not surely fall short of its parts: 4.0 points [-1.0, "
        "5.0]. Take projected: it gains 3.0 points [2.0, 4.0] on the tasks of both orientations (pairs unknown, 2 "
        "models score). On length-balanced accuracy that is 0.5 points [-0.5, 1.5], which is not sure. Its "
        "probabilities are calibrated worse."
    )
    assert advised(repaired("merged", BOTH, 0.5), repaired("merged", BOTH, 3.0, "balanced")).endswith(
        "No repair surely gains on the tasks of both orientations and loses nowhere: there is no reason to take one."
    )


def test_advice_from_one_seed_says_so_and_a_mixture_without_both_orientations_is_named() -> None:
    one_seed = Study.model_validate(SETTINGS | {"seeds": [7]})
    said = "One seed: chance in training is not seen, and may be all of it."
    assert said in advised(*PROJECTED, study=one_seed) and said not in advised(*PROJECTED)
    assert advised(repaired("merged", "helpful", 0.5)) == (
        "Of mixed nothing is said: one of its parts has neither a test split nor tasks of its orientation."
    )


def test_a_shortfall_without_an_interval_is_not_sure() -> None:
    gap: dict[str, Any] = {"gap_low": None, "gap_high": None}
    assert "mixed does not surely fall short of its parts: 4.0 points." in advised(repaired("merged", BOTH, 0.5, **gap))


def test_an_ensemble_is_no_reward_model_more() -> None:
    regimes = SETTINGS["regimes"] | {"ensemble": OF_REPAIRS["ensemble"]}
    assert changed(regimes=regimes)["Judged."].startswith("This study judges 18 reward models (2 backbones, 3 regimes")


def test_every_study_is_told_what_it_cannot_say() -> None:
    whole = changed()
    assert whole["Judged."] == (
        "This study judges 18 reward models (2 backbones, 3 regimes, 3 seeds) on 2 helpful tasks and each "
        "regime's own test split."
    )
    assert whole["Claims."] == "No claim could be tested." and "Is it length?" not in whole
    assert "seed" not in whole["Beyond this study."] and "synthetic" in whole["Beyond this study."]
    assert (ROOT / REAL_RESULT).exists() and f" {REAL_RESULT}." in whole["Beyond this study."]
    assert "one seed" in changed(seeds=[1])["Beyond this study."]
    single = changed(regimes={"helpful": SETTINGS["regimes"]["helpful"]}, seeds=[1], models={"zebra": {"source": MADE}})
    assert "(1 backbone, 1 regime, 1 seed)" in single["Judged."]
    assert "one regime" in single["Beyond this study."] and "mixes" in single["Beyond this study."]
    assert "what would help" in whole["Beyond this study."] and "Which repair to take?" not in whole
    real = changed(
        regimes=SETTINGS["regimes"] | OF_REPAIRS,
        models={"given": {"source": {"kind": "pretrained", "path": "x"}, "trained": {"helpful": {7: "a", 3: "b"}}}},
        sources=SETTINGS["sources"] | {"helpful": {"kind": "hh-rlhf", "path": "hh", "folder": "helpful-base"}},
        benchmarks=SETTINGS["benchmarks"] | {"public": {"kind": "rm-bench", "path": "rm"}},
        patching={"benchmarks": ["public"]},
    )
    assert "; 2 trained elsewhere)" in real["Judged."]
    assert (
        real["Beyond this study."] == "This study cannot say what other backbones, data or ways of training would give."
    )


def test_a_study_without_shared_tasks_speaks_of_its_own_tests_alone() -> None:
    alone = {"accuracy": TABLES["accuracy"].clear(), "surface": TABLES["surface"].filter(benchmark="own")}
    said = conclusions(STUDY, TABLES | alone, ledger())
    assert said["Judged."].endswith("on each regime's own test split.")
    assert (
        "tasks, accuracy" not in said["Rules without a model."] and "own test split" in said["Rules without a model."]
    )
    assert (
        said["Rules without a model."].endswith("interval: none.")
        and "they share no task" in said["Beyond this study."]
    )
