"""Every claim on tables in which it is true, is false and is open, and with a control that agrees or does not."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from example_results import CAUSES, OF_REPAIRS, SETTINGS
from scipy.stats import spearmanr

from rmtension.analysis.claims import CLAIMS, RETAINED, without_temperature
from rmtension.analysis.evidence import Interval
from rmtension.analysis.judgement import Claim, Part
from rmtension.analysis.ledger import ledger, ledger_markdown
from rmtension.analysis.published import published_cells
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

ROOT = Path(__file__).parents[3]
MIXED = "helpful-harmless"
SINGLES = ["helpful", "harmless"]
STUDY = Study.model_validate(
    SETTINGS
    | CAUSES
    | {"regimes": {**{s: SETTINGS["regimes"][s] for s in SINGLES}, MIXED: {"mixes": SINGLES}, **OF_REPAIRS}}
    | {"ablation": {"percent": 10, "sweep": [10, 100], "sweep_benchmarks": ["own-test"]}}
)
TABLES = ["accuracy", "contrasts", "retention", "score_shift", "scoring_contrasts", "depth", "rmsd", "own_ablation",
          "compression", "neuron_overlap", "neuron_retention", "shared_ablation", "shared_contrasts",
          "surface", "length_contrasts", "length_change", "length_lead", "set_length", "patching_contrasts", "conflict",
          "conflict_contrasts", "repair", "repair_contrasts", "thirds", "calibration",
          "calibration_contrasts"]  # fmt: skip
ADVERSARIAL = [f"LLM Bar (Adver {kind})" for kind in ("Neighbor", "GPTInst", "GPTOut", "Manual")]
HIGH = [*(("helpful", f"Alpaca Eval ({kind})") for kind in ("Easy", "Length", "Hard")),
        ("harmless", "Refusals Dangerous"), ("harmless", "Refusals Offensive")]  # fmt: skip
LOW = [("helpful", task) for task in [*ADVERSARIAL, "Focus", "Factuality"]]
HARMLESS_AHEAD = [*ADVERSARIAL, "Focus", "Precise IF", "Factuality"]
HELPFUL_AHEAD = ["Safety Response", "XStest Should Respond"]

Deviations = dict[str, tuple[float, float, float]]
Row = tuple[str, str, float, dict[str, Any]]  # table, value, sign of a deviation that bears the claim out, keys


def on(orientation: str, task: str = "average", **keys: Any) -> dict[str, Any]:
    return {"orientation": orientation, "task": task, **keys}


def pair(first: str, second: str, **keys: Any) -> dict[str, Any]:
    return {"first": first, "second": second, **keys}


ZERO, MEAN = {"replaced_by": "zero"}, {"replaced_by": "mean"}


# Where repairs are judged.
PLACES = [{"orientation": o, "tasks": tasks} for tasks in ("own test", "own tasks") for o in SINGLES]


def repaired(regime: str, place: dict[str, str], measure: str = "accuracy") -> Row:
    return "repair", "gain", 1, {"regime": regime, "mixture": MIXED, "measure": measure, **place}


def two_repairs(place: dict[str, str], measure: str = "accuracy") -> Row:
    keys = pair("frozen", "frozen-matched", mixture=MIXED, measure=measure, **place)
    return "repair_contrasts", "difference", 1, keys


SPREAD = {"single_spread_mean": 1.0, "single_spread_low": 0.95, "single_spread_high": 1.05}

# claim -> its threshold, the size of a deviation, and the rows that it rests on. Pairs stand the way the tables have
# them, whichever way round the claim is.
EVIDENCE: dict[str, tuple[float, float, list[Row]]] = {
    "C1": (0, 5, [("contrasts", "difference", sign, pair(*SINGLES, **on(o)))
                  for o, sign in (("helpful", 1), ("harmless", -1))]),
    "C2": (0, 5, [("contrasts", "difference", 1, pair(o, MIXED, **on(o))) for o in SINGLES]),
    "C3": (0, 5, [("contrasts", "difference", sign, pair(*SINGLES, **on(o, task)))
                  for o, sign, tasks in (("harmless", 1, HELPFUL_AHEAD), ("helpful", -1, HARMLESS_AHEAD))
                  for task in tasks]),
    "C4": (0.75, 0.05, [("retention", "retention", sign, on(o, task, regime=MIXED, ablation="none"))
                        for sign, cases in ((-1, [*((o, "average") for o in SINGLES), *LOW]), (1, HIGH))
                        for o, task in cases]),
    "C5": (0, 0.1, [("score_shift", "closeness", -1, {"regime": MIXED, "single": s, "response": r} | SPREAD)
                    for s in SINGLES for r in ("chosen", "rejected")]),
    "C6": (0, 5, [("scoring_contrasts", "difference", -1,
                   pair(*scorings, regime=r, benchmark="own-test", percent=10.0))
                  for r in (*SINGLES, MIXED) for scorings in (("magnitude", "change"), ("change", "random"))]),
    "C7": (100 / 3, 5, [("depth", "share", 1,
                         {"regime": r, "scoring": "magnitude", "selection": "exact", "third": "late"})
                        for r in (*SINGLES, MIXED)]),
    "C8": (0.1, 0.01, [("rmsd", "ratio", -1, {"regime": r}) for r in (*SINGLES, MIXED)]),
    "C9": (0, 5, [("own_ablation", "delta", -1 if r == o else 1,
                   on(o, regime=r, scoring="magnitude", percent=10.0, **ZERO)) for r in SINGLES for o in SINGLES]),
    "C10": (1, 0.1, [("compression", "ratio", -1, {"regime": r, "scoring": "magnitude", **ZERO})
                     for r in (*SINGLES, MIXED)]),
    # Of 100 neurons, 10 and 10 with 5 in common; a third set of 10 meets 1.5 of those 15.
    "C11": (0.0526, 0.01, [("neuron_overlap", "jaccard", 1, pair(*SINGLES, scoring="magnitude", selection="exact",
                            chance=0.0526, intersection_mean=5, union_mean=15)),
                           ("neuron_retention", "retained", 2,
                            {"regime": MIXED, "scoring": "magnitude", "selection": "exact"})]),
    "C12": (0, 5, [*(("shared_ablation", "delta", -1,
                       on(o, regime=MIXED, ablation="shared", control="whole", **ZERO)) for o in SINGLES),
                   *(("shared_contrasts", "difference", -1,
                      on(o, regime=MIXED, control="whole", against=f"{s}-only", **ZERO))
                     for o in SINGLES for s in SINGLES)]),
    "D1": (0, 5, [("thirds", "difference", -1, {"regime": r, "orientation": o, "tasks": t, "third": "late"})
                  for r, parts in ((SINGLES[0], SINGLES[:1]), (SINGLES[1], SINGLES[1:]), (MIXED, SINGLES))
                  for o in parts for t in ("own test", "own tasks")]),
    "A1": (0, 5, [("scoring_contrasts", "difference", 1,
                   pair("magnitude", "attribution", regime=r, benchmark="own-test", percent=10.0))
                  for r in (*SINGLES, MIXED)]),
    "P1": (0, 0.2, [("patching_contrasts", "recovery_difference", 1,
                     {"regime": MIXED, "donor": s, "tasks": tasks, "against": "matched-random"})
                    for tasks in ("own test", "own tasks") for s in SINGLES]),
    "G1": (0, 0.1, [*(("conflict", "cosine", -1, {"regime": s, "mixture": MIXED, "set": "shared", "control": "whole"})
                      for s in SINGLES),
                    *(("conflict_contrasts", "cosine_difference", -1,
                       {"regime": s, "mixture": MIXED, "against": "matched-random"}) for s in SINGLES)]),
    "R1": (-1, 5, [repaired("merged", place) for place in PLACES]),
    "R2": (0, 5, [two_repairs(place) for place in PLACES]),
    "R3": (0, 5, [repaired("projected", place) for place in PLACES]),
    "L1": (0, 0.1, [("length_lead", "correlation", 1, pair(*SINGLES, tasks=tasks)) for tasks in ("all", *SINGLES)]),
    "L2": (0, 5, [("length_contrasts", "difference", sign, pair(*SINGLES, **on(o)))
                  for o, sign in (("helpful", 1), ("harmless", -1))]),
    "L3": (0, 0.1, [("set_length", "correlation", 1, {"regime": r, "set": "magnitude-p10"})
                    for r in (*SINGLES, MIXED)]),
    "K1": (0, 0.01, [("calibration_contrasts", "squared_ce_change", 1, {"regime": MIXED, "against": s, "benchmark": b})
                     for s in SINGLES for b in ("one", "two")]),
    "K2": (0.02, 0.01, [*(("calibration_contrasts", "rescaled_log_loss_change", -1,
                           {"regime": MIXED, "against": s, "benchmark": b}) for s in SINGLES for b in ("one", "two")),
                        *(("calibration_contrasts", "rescaled_log_loss_change", -1,
                           {"regime": r, "against": "unablated", "benchmark": b})
                          for r in (*SINGLES, MIXED) for b in ("own-test", "one", "two"))]),
}  # fmt: skip
# Verdict -> low, mean and high of the deviation from the threshold. That of a rival has its sign turned: it lies on the
# other side, further out, or overlaps.
TRUTHS: Deviations = {"holds": (1, 2, 3), "does not hold": (-3, -2, -1), "undecided": (-1, 0.5, 2)}
RIVALS: Deviations = {"holds": (1, 2, 3), "does not hold": (-7, -6, -5), "undecided": (-4, -3, -2)}


def figure(row: Row, centre: float, size: float, deviations: Sequence[float]) -> dict[str, Any]:
    """A row of a table with an interval at so many sizes from the centre."""
    table, value, sign, keys = row
    low, mean, high = sorted(centre + sign * size * deviation for deviation in deviations)
    ends = {f"{value}_mean": mean, f"{value}_low": low, f"{value}_high": high}
    return {"table": table, "model": OVERALL, "n_seeds": 3, **keys, **ends}


def evidence(claim: str, truth: str = "holds") -> list[dict[str, Any]]:
    threshold, size, rows = EVIDENCE[claim]
    return [figure(row, threshold, size, TRUTHS[truth]) for row in rows]


def as_tables(rows: list[dict[str, Any]]) -> dict[str, pl.DataFrame]:
    """The rows as tables, those with the same keys as one, and before them a model's that says something else: all but
    `surface`, which knows no models."""
    ends = ("_mean", "_low", "_high")
    joined: dict[tuple[tuple[str, Any], ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(item for item in row.items() if not item[0].endswith(ends))
        joined[key] = joined.get(key, {}) | row
    decoys = [r | {"model": "ape"} | {k: -99.0 for k in r if k.endswith(ends)} for r in joined.values()]
    made = {name: [r for r in [*decoys, *joined.values()] if r["table"] == name] for name in TABLES}
    keys = ["model", "orientation", "task", "first", "second", "scoring", "selection", "rule"]
    numbers = ["chance", "intersection_mean", "union_mean", "n_comparisons"]
    made["surface"] = [{"n_comparisons": 100} | {k: v for k, v in r.items() if k != "model"}
                       for r in made["surface"] if r["model"] == OVERALL]  # fmt: skip
    empty = pl.DataFrame(schema={**dict.fromkeys(keys, pl.String), **dict.fromkeys(numbers, pl.Float64)})
    return {name: pl.from_dicts(found, infer_schema_length=None) if found else empty for name, found in made.items()}


def judged(rows: list[dict[str, Any]], claim: str, study: Study = STUDY) -> tuple[dict[str, Any], pl.DataFrame]:
    """The row that sums a claim up, and the rows of its parts."""
    frame = ledger(as_tables(rows), study).filter(claim=claim)
    return frame.row(0, named=True), frame[1:]


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("claim", EVIDENCE)
def test_a_claim_holds_where_all_its_intervals_lie_on_its_side(claim: str, truth: str) -> None:
    whole, parts = judged(evidence(claim, truth), claim)
    assert whole["verdict"] == truth
    assert set(parts["verdict"]) == {truth} and parts["part"].n_unique() == len(EVIDENCE[claim][2])
    others = ledger(as_tables(evidence(claim, truth)), STUDY).filter(pl.col("claim") != claim)
    assert set(others["verdict"]) == {"undecided"}


@pytest.mark.parametrize("claim", EVIDENCE)
def test_one_part_is_enough_to_refute_a_claim_or_to_leave_it_open(claim: str) -> None:
    true = evidence(claim)
    for truth in ("does not hold", "undecided"):
        assert judged([evidence(claim, truth)[0], *true[1:]], claim)[0]["verdict"] == truth
    whole, parts = judged(true[1:], claim)
    assert whole["verdict"] == "undecided" and (parts["note"].str.starts_with("no such")).any()


def test_claims_about_every_size_are_about_counts_too() -> None:
    sweep = {"ablation": STUDY.ablation.model_dump() | {"sweep": [10, "5n", 100, "1n"]}}
    counted = Study.model_validate(STUDY.model_dump() | sweep)
    for claim in ("C6", "A1"):
        rows = evidence(claim)
        of_counts = [{**row, "percent": None, "count": n} for row in rows for n in (1, 5)]
        whole, parts = judged([*rows, *of_counts], claim, counted)
        assert whole["verdict"] == "holds" and parts["part"].n_unique() == 3 * len(rows)
        assert parts["part"].str.extract("own-test, (.*): ").unique(maintain_order=True)[:3].to_list() == [
            "n = 1", "n = 5", "p = 10 %"]  # fmt: skip
        assert judged([*rows, *of_counts[2:]], claim, counted)[0]["verdict"] == "undecided"


def test_a_figure_that_is_the_threshold_decides_nothing() -> None:
    """Of all neurons a third lies in late layers, and tables round it."""
    third = round(100 / 3, 12)
    exact = [row | {"share_mean": third, "share_low": third, "share_high": third} for row in evidence("C7")]
    assert judged(exact, "C7")[0]["verdict"] == "undecided"


def test_without_an_interval_or_without_data_nothing_is_decided() -> None:
    one_seed = [row | {"n_seeds": 1} for row in evidence("C8")]
    assert judged(one_seed, "C8")[0]["verdict"] == "holds"
    assert judged(one_seed, "C8")[1]["note"].str.starts_with("one seed").all()
    seeds = [row | {"n_seeds": n} for n, row in enumerate(evidence("C8"), start=2)]
    assert judged(seeds, "C8")[0]["n_seeds"] == 2
    for hole in (None, float("nan")):
        whole, parts = judged([row | {"ratio_low": hole, "ratio_high": hole} for row in one_seed], "C8")
        assert whole["verdict"] == "undecided" and parts["note"].str.starts_with("no interval").all()
        assert parts["estimate"].is_not_null().all() and parts["low"].is_null().all()
    nothing = ledger(as_tables([]), STUDY)
    assert set(nothing["verdict"]) == {"undecided"} and (nothing["note"] != "").all()
    assert set(nothing.filter(pl.col("claim") == "C3")[1:]["note"]) == {"no such task in this study"}
    single = Study.model_validate(
        STUDY.model_dump()
        | {"regimes": {"helpful": STUDY.regimes["helpful"].model_dump()}, "patching": None, "conflict": None}
    )
    assert judged([], "C12", single)[0]["note"] == "parts: none in this study"


# claim, control, its rows, and their intervals: centre, size and deviations, by the verdict that they lead to.
CONTROLS: list[tuple[str, str, list[Row], float, float, Deviations]] = [
    ("C5", "spread", [(t, "mixed_spread", s, k) for t, _, s, k in EVIDENCE["C5"][2]], 1, 0.1, TRUTHS),
    ("C6", "matched-random", [(t, v, s, k | {"second": "matched-random"})
                              for t, v, s, k in EVIDENCE["C6"][2] if k["first"] == "magnitude"], 0, 5, TRUTHS),
    *(("A1", name, [(t, v, -s, k | pair("attribution", name)) for t, v, s, k in EVIDENCE["A1"][2]], 0, 5, TRUTHS)
      for name in ("random", "matched-random")),
    ("P1", "random", [(t, v, s, k | {"against": "random"}) for t, v, s, k in EVIDENCE["P1"][2]], 0, 0.2, TRUTHS),
    ("G1", "random", [(t, v, s, k | {"against": "random"}) for t, v, s, k in EVIDENCE["G1"][2][2:]], 0, 0.1, TRUTHS),
    ("G1", "share", [(t, "opposed_difference", -s, k) for t, _, s, k in EVIDENCE["G1"][2][2:]], 0, 0.1, TRUTHS),
    ("C10", "margin", [(t, "margin_ratio", s, k) for t, _, s, k in EVIDENCE["C10"][2]], 1, 0.1, TRUTHS),
    ("C11", "change", [(t, v, s, k | {"scoring": "change"}) for t, v, s, k in EVIDENCE["C11"][2]],
     0.0526, 0.01, TRUTHS),
    ("C12", "size-matched", [(t, v, s, k | {"control": "size-matched"}) for t, v, s, k in EVIDENCE["C12"][2][2:]],
     0, 5, TRUTHS),
    *((claim, "length", [("length_contrasts", v, s, k) for _, v, s, k in EVIDENCE[claim][2]], 0, 5, TRUTHS)
      for claim in ("C1", "C2", "C3")),
    ("R1", "length", [repaired("merged", place, "balanced") for place in PLACES], -1, 5, TRUTHS),
    ("R2", "length", [two_repairs(place, "balanced") for place in PLACES], 0, 5, TRUTHS),
    ("R2", "mixed", [repaired("frozen", place) for place in PLACES], 0, 5, TRUTHS),
    ("R3", "length", [repaired("projected", place, "balanced") for place in PLACES], 0, 5, TRUTHS),
    ("C9", "length", [("length_change", "difference", s, on(k["orientation"], regime=k["regime"],
                       ablation="magnitude-p10", against="none")) for _, _, s, k in EVIDENCE["C9"][2]], 0, 5, TRUTHS),
    ("C12", "length", [("length_change", "difference", -1, on(o, regime=MIXED, ablation="shared", against=against))
                       for o in SINGLES for against in ("none", "helpful-only", "harmless-only")], 0, 5, TRUTHS),
    *(("C4", rule, [("surface", "accuracy", -s, on(k["orientation"], k["task"], rule=rule))
                    for _, _, s, k in EVIDENCE["C4"][2] if k["orientation"] == o and k["task"] != "average"],
       75, 5, RIVALS) for o, rule in (("helpful", "longer"), ("harmless", "shorter"))),
    *(("C12", name, [("shared_contrasts", "difference", -1.0,
                      on(o, regime=MIXED, control="size-matched", against=name, **ZERO))
                     for o in SINGLES], 0, 5, TRUTHS)
      for name in ("random", "matched-random")),
    *((claim, "mean", [(t, v, s, k | MEAN) for t, v, s, k in EVIDENCE[claim][2]], centre, size, TRUTHS)
      for claim, centre, size in (("C9", 0, 5), ("C10", 1, 0.1), ("C12", 0, 5))),
    ("C4", "independence", [("accuracy", "accuracy", -s, {x: k[x] for x in ("regime", "orientation", "task")})
                            for _, _, s, k in EVIDENCE["C4"][2]], 75, 5, RIVALS),
    ("C7", "random", [(t, v, -s, k | {"scoring": "random"}) for t, v, s, k in EVIDENCE["C7"][2]], 100 / 3, 5, RIVALS),
    ("D1", "alone", [(t, "delta", s, k) for t, _, s, k in EVIDENCE["D1"][2]], 0, 5, TRUTHS),
    *(("C9", name, [(t, v, -s, k | {"scoring": name}) for t, v, s, k in EVIDENCE["C9"][2]], 0, 5, RIVALS)
      for name in ("random", "matched-random")),
    *((claim, "chance", [(t, "repaired", s, k) for t, _, s, k in EVIDENCE[claim][2] if k["tasks"] == "own test"],
       50, 5, TRUTHS) for claim in ("R1", "R3")),
    ("L2", "lead", [("contrasts", v, s, k) for _, v, s, k in EVIDENCE["L2"][2]], 0, 5, TRUTHS),
    ("L2", "half", [("contrasts", v, s, k) for _, v, s, k in EVIDENCE["L2"][2]], 0, 10,
     {"holds": (0.2, 0.4, 0.8), "does not hold": (4, 5, 6), "undecided": (1, 2, 3)}),
    ("L3", "matched-random", [(t, v, -s, k | {"set": "matched-random-p10"}) for t, v, s, k in EVIDENCE["L3"][2]],
     0, 0.1, RIVALS),
    ("K2", "before", [(t, "log_loss_change", -s, k) for t, _, s, k in EVIDENCE["K2"][2]], 0.02, 0.01, RIVALS),
    ("K2", "learned", [("calibration", "rescaled_log_loss", s, {"benchmark": k["benchmark"], "ablation": "none",
                        "regime": k["regime"] if k["against"] == "unablated" else k["against"], "n_fitted": 6})
                       for _, _, s, k in EVIDENCE["K2"][2]], math.log(2) - 0.02, 0.01, TRUTHS),
    ("C10", "random", [(t, v, -s, k | {"scoring": "random"}) for t, v, s, k in EVIDENCE["C10"][2]], 1, 0.1, RIVALS),
]  # fmt: skip


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize(("claim", "control", "rows", "centre", "size", "deviations"), CONTROLS)
def test_a_claim_may_hold_but_not_beside_its_control(
    claim: str, control: str, rows: list[Row], centre: float, size: float, deviations: Any, truth: str
) -> None:
    beside = [figure(row, centre, size, deviations[truth]) for row in rows]
    whole, parts = judged([*evidence(claim), *beside], claim)
    assert whole["verdict"] == "holds"
    of_control = parts.filter(control=control)
    assert set(of_control["control_verdict"]) == {truth} and len(of_control) == len(rows)
    others = CLAIM_CONTROLS[claim] > 1 and control != "half"  # those are open here; where half of a lead is, it is one
    assert whole["control_verdict"] == ("undecided" if others and truth == "holds" else truth)


CLAIM_CONTROLS = {claim: sum(c[0] == claim for c in CONTROLS) for claim in EVIDENCE}


@pytest.mark.parametrize(("value", "note"), [(None, "fewer than 5 comparisons on a side of length"), (4.0, "")])
def test_what_has_no_balanced_accuracy_says_why(value: float | None, note: str) -> None:
    ends = {f"difference_{end}": value for end in ("mean", "low", "high")}
    rows = [figure(("length_contrasts", v, s, k), 0, 5, TRUTHS["holds"]) | ends for _, v, s, k in EVIDENCE["C1"][2]]
    whole, parts = judged([*evidence("C1"), *rows], "C1")
    assert all((note in said) and (bool(note) == ("length: no interval" in said)) for said in parts["note"])
    assert whole["verdict"] == "holds" and parts["control_estimate"].null_count() == (2 if note else 0)


def test_an_average_that_leaves_tasks_out_says_over_how_many_it_is() -> None:
    balanced = [("length_contrasts", v, s, k) for _, v, s, k in EVIDENCE["C1"][2] if k["orientation"] == "helpful"]
    of_tasks = [(t, v, s, k | {"task": task}) for t, v, s, k in balanced for task in ("a", "b", "c")]
    made = [figure(row, 0, 5, TRUTHS["holds"]) for row in (*balanced, *of_tasks)]
    for several, note in (
        (made, ""),
        ([*made[:-1], made[-1] | {"difference_mean": None}], "average over 2 of 3 tasks"),
    ):
        notes = judged([*evidence("C1"), *several], "C1")[1]["note"].to_list()
        assert notes == [f"length: {note}" if note else "", "length: no such row in length_contrasts"]


def test_the_rules_of_length_take_the_claimed_side_in_the_benchmarks_files() -> None:
    """Of a rule and its opposite, the one that explains more."""
    shares = pl.read_csv(ROOT / "resources" / "length.csv").rows_by_key("task", named=True, unique=True)
    named = [(side, rule, task) for (_, side, rule), tasks in RETAINED.items() for task in tasks if task in shares]
    assert len(named) == 9  # the other two are of RewardBench 2
    for side, rule, task in named:
        other = "shorter" if rule == "longer" else "longer"
        assert (shares[task][f"{rule}_characters"] > shares[task][f"{other}_characters"]) == (side == "above"), task


def test_the_lead_along_length_is_the_helpful_ones_whichever_regime_comes_first() -> None:
    turned = Study.model_validate(
        STUDY.model_dump() | {"regimes": dict(reversed(STUDY.model_dump()["regimes"].items()))}
    )
    rows = [
        figure((t, v, -s, k | pair(*reversed(SINGLES))), 0, 0.1, TRUTHS["holds"]) for t, v, s, k in EVIDENCE["L1"][2]
    ]
    whole, parts = judged(rows, "L1", turned)
    assert whole["verdict"] == "holds" and parts["estimate"].to_list() == pytest.approx([0.2] * 3)


@pytest.mark.parametrize("truth", TRUTHS)
def test_what_gains_is_looked_at_once_length_decides_nothing(truth: str) -> None:
    """Of five repairs one gains everywhere, one on one orientation's tasks, one surely loses, of one it is open."""
    every = [*PLACES, *({"orientation": "both orientations", "tasks": t} for t in ("own test", "own tasks"))]
    gaining = [("ensemble", place) for place in every] + [("projected", PLACES[3])]
    gained = [figure(repaired(*one), 0, 5, TRUTHS["holds"]) for one in gaining]
    others = [figure(repaired("merged", p), 0, 5, TRUTHS["undecided"]) for p in every]
    others += [figure(repaired("frozen", p), 0, 5, TRUTHS["does not hold"]) for p in every]
    beside = [figure(repaired(*one, "balanced"), 0, 5, TRUTHS[truth]) for one in gaining]
    beside += [figure(repaired("frozen", place, "balanced"), 0, 5, TRUTHS["holds"]) for place in every]
    whole, parts = judged([*gained, *others, *beside], "R4")
    assert whole["verdict"] == truth and set(parts["verdict"]) == {truth}
    names = [f"{repair} over {MIXED}, {place['orientation']}, {place['tasks']}" for repair, place in gaining]
    assert sorted(parts["part"]) == sorted(names)
    assert judged(others, "R4")[0]["note"] == "parts: none in this study"
    assert judged([*gained, *others], "R4")[0]["verdict"] == "undecided"


def test_of_a_curve_of_merged_ones_the_most_even_is_judged_and_no_end_is_a_repair() -> None:
    weights = [[0.1, 0.9], [0.4, 0.6], [0.6, 0.4], [1, 0]]
    regimes = STUDY.model_dump()["regimes"]

    def curve(weights: Any) -> Study:
        merged = {"mixes": SINGLES, "method": "merged", "weights": weights}
        made = {name: regimes[name] for name in (*SINGLES, MIXED)} | {"merged": merged}
        return Study.model_validate(STUDY.model_dump() | {"regimes": made})

    parts = judged([], "R1", curve(weights))[1]["part"].unique(maintain_order=True).to_list()
    where = [f"{place['orientation']}, {place['tasks']}" for place in PLACES]
    assert parts == [f"merged-{share} over {MIXED}, {place}" for share in (0.4, 0.6) for place in where]
    ends = curve([[1, 0], [0, 1.0]])
    gained = [figure(repaired(f"merged-{w}", p), 0, 5, TRUTHS["holds"]) for w in (0, 1) for p in PLACES]
    for claim in ("R1", "R4"):
        assert judged(gained, claim, ends)[0]["note"] == "parts: none in this study"


@pytest.mark.parametrize(("n", "verdict", "note"), [
    (4, "holds", ""), (2, "holds", "average over 2 of 4 tasks"),
    (1, "undecided", "average over 1 of 4 tasks, fewer than half: no verdict"),
])  # fmt: skip
def test_what_rests_on_fewer_than_half_of_the_tasks_has_no_verdict(n: int, verdict: str, note: str) -> None:
    """By the table's own count, or by that of the rows of its tasks."""
    counted = [row | {"n_tasks": n, "of_tasks": 4} for row in evidence("R3")]
    of_tasks = [figure(("length_contrasts", v, s, k | {"task": task}), 0, 5, TRUTHS["holds"])
                | ({} if i < n else {"difference_mean": None})
                for _, v, s, k in EVIDENCE["L2"][2] for i, task in enumerate("abcd")]  # fmt: skip
    for claim, rows in (("R3", counted), ("L2", [*evidence("L2"), *of_tasks])):
        whole, parts = judged(rows, claim)
        assert whole["verdict"] == verdict and all(
            said.split("; ")[0] == note or note in said for said in parts["note"]
        )
        assert parts["estimate"].is_not_null().all() and parts["low"].is_null().all() == (verdict == "undecided")


def test_every_control_is_tested() -> None:
    made = ledger(as_tables([]), STUDY).filter(pl.col("part") != "", pl.col("control") != "")
    assert {(c[0], c[1]) for c in CONTROLS} == set(made.select("claim", "control").rows())


def test_intervals_that_are_not_paired_are_subtracted_at_their_worst() -> None:
    rows = [figure((t, "mixed_spread", s, k), 1, 0.1, TRUTHS["holds"]) for t, _, s, k in EVIDENCE["C5"][2]]
    [row, *_] = judged([*evidence("C5"), *rows], "C5")[1].iter_rows(named=True)
    # 0.7 to 0.9 less 0.95 to 1.05.
    found = [row[f"control_{end}"] for end in ("estimate", "low", "high")]
    assert found == pytest.approx([-0.2, -0.35, -0.05])


def test_a_difference_of_zero_has_no_sign_whichever_way_round() -> None:
    turned = Interval(0.0, -1.0, 0.0).times(-1)
    assert f"{turned.estimate} {turned.low} {turned.high}" == "0.0 0.0 1.0"


def test_chance_is_that_of_sets_of_the_same_sizes() -> None:
    parts = judged(evidence("C11"), "C11")[1]
    assert parts["threshold"].to_list() == pytest.approx([0.0526, 1.5 / (15 + 10 - 1.5)])


def test_a_temperature_that_stands_nowhere_is_not_said_to_be_lacking() -> None:
    """As of what is the same for two regimes, and has a row for one of them."""
    card = {"model": [OVERALL], "regime": ["helpful"], "ablation": ["none"], "benchmark": ["one"], "n_fitted": [4]}
    found = {regime: without_temperature({"calibration": pl.DataFrame(card)}, STUDY, regime, "none", "one")
             for regime in ("helpful", "harmless")}  # fmt: skip
    assert found == {"helpful": "helpful: 2 of 6 without a temperature", "harmless": ""}


def test_an_interval_without_width_decides_nothing() -> None:
    """All comparisons of a task are right: of the claim's own figure, and of a control's."""
    same = [row | {"difference_low": row["difference_mean"], "difference_high": row["difference_mean"]}
            for row in evidence("C1")]  # fmt: skip
    whole, parts = judged(same, "C1")
    assert whole["verdict"] == "undecided" and parts["estimate"].null_count() == 0
    assert all("without width" in note for note in parts["note"])
    balanced = [row | {"table": "length_contrasts"} for row in same]
    whole, parts = judged([*evidence("C1"), *balanced], "C1")
    assert (whole["verdict"], whole["control_verdict"]) == ("holds", "undecided")
    assert all(note.startswith("length: an interval without width") for note in parts["note"])


@pytest.mark.parametrize(("n", "verdict"), [((5,), "undecided"), ((6,), "holds"), ((3, 3), "holds")])
def test_fewer_than_six_comparisons_of_a_task_decide_nothing(n: tuple[int, ...], verdict: str) -> None:
    """In all benchmarks that have the task; of an average nothing is known but its interval."""
    counts = [{"table": "surface", "model": OVERALL, "benchmark": f"{i}", "rule": "longer", "n_comparisons": of,
               "orientation": row["orientation"], "task": row["task"]}
              for row in evidence("C3") for i, of in enumerate(n)]  # fmt: skip
    whole, parts = judged([*evidence("C3"), *counts], "C3")
    assert whole["verdict"] == verdict and parts["estimate"].null_count() == 0
    assert all(("5 comparisons: no verdict" in note) == (n == (5,)) for note in parts["note"])
    of_averages = [row | {"task": "average"} for row in counts]
    assert judged([*evidence("C1"), *of_averages], "C1")[0]["verdict"] == "holds"


def test_what_was_not_measured_is_told_from_what_is_open() -> None:
    notes = {claim: judged(evidence("C1", "undecided"), claim)[0]["note"] for claim in ("C1", "C8")}
    assert notes == {"C1": "parts: 2 undecided", "C8": "parts: 3 not measured"}


def test_the_authors_sets_are_looked_up_where_the_study_says_so() -> None:
    settings = STUDY.model_dump() | {"analysis": {"selection": "authors", "shared": "authors"}}
    authors = Study.model_validate(settings)
    for claim, old, new in (
        ("C7", "exact", "authors"),
        ("C11", "exact", "authors"),
        ("C12", "shared", "shared-authors"),
    ):
        assert judged(evidence(claim), claim, authors)[0]["verdict"] == "undecided"
        rows = [{k: new if v == old else v for k, v in row.items()} for row in evidence(claim)]
        assert judged(rows, claim, authors)[0]["verdict"] == "holds"
    # Random neurons have no such selection.
    random = [row | {"scoring": "random"} for row in evidence("C7")]
    assert judged(random, "C7", authors)[1].filter(control="random")["control_estimate"].is_not_null().all()


def paper_tables() -> dict[str, pl.DataFrame]:
    """The paper's figures in the form of our tables, without intervals."""
    cells = published_cells().filter(pl.col("model") == OVERALL).with_columns(n_seeds=3)
    found = {(t, q): f.rename({"published": f"{q}_mean"}) for (t, q), f in cells.group_by("table", "quantity")}
    accuracy, delta = found["accuracy", "accuracy"], found["shared_ablation", "delta"]
    both = accuracy.join(accuracy, on=["orientation", "task", "model"], suffix="_b")
    difference = pl.col("accuracy_mean") - pl.col("accuracy_mean_b")
    contrasts = both.rename({"regime": "first", "regime_b": "second"}).with_columns(difference_mean=difference)
    sets = delta.filter(ablation="shared").join(delta, on=["regime", "orientation", "task", "model"], suffix="_b")
    difference = pl.col("delta_mean") - pl.col("delta_mean_b")
    whole, zero = pl.lit("whole").alias("control"), pl.lit("zero").alias("replaced_by")
    chance = [pl.lit(0.05).alias(name) for name in ("chance", "intersection_mean", "union_mean")]
    overlap = found["neuron_overlap", "jaccard"].rename({"regime": "first", "single": "second"})
    won = pl.read_csv(ROOT / "resources" / "length.csv").join(
        contrasts.filter(first="helpful", second="harmless"), on="task"
    )
    along = [{"model": OVERALL, "first": "helpful", "second": "harmless", "tasks": tasks, "n_seeds": 3,
              "correlation_mean": spearmanr(of["difference_mean"], of["longer_characters"]).statistic}
             for tasks, of in (("all", won), *((o, won.filter(orientation=o)) for o in SINGLES))]  # fmt: skip
    return as_tables([]) | {
        "accuracy": accuracy,
        "contrasts": contrasts,
        "length_lead": pl.DataFrame(along),
        "retention": found["retention", "retention"],
        "own_ablation": found["own_ablation", "delta"].with_columns(zero, scoring=pl.lit("magnitude"), percent=10.0),
        "shared_ablation": delta.with_columns(whole, zero),
        "shared_contrasts": sets.rename({"ablation_b": "against"}).with_columns(
            whole, zero, difference_mean=difference
        ),
        "neuron_overlap": overlap.with_columns(*chance, scoring=pl.lit("magnitude"), selection=pl.lit("exact")),
    }


def test_published_figures_stand_beside_the_parts_that_they_are_about() -> None:
    frame = ledger(paper_tables(), STUDY)
    beside = frame.filter(pl.col("published").is_not_null())
    assert set(beside["claim"]) == {"C1", "C2", "C3", "C4", "C9", "C11", "C12", "L1"}
    assert set(beside.filter(claim="L1")["note"]) == {
        "no interval; published lead over the tasks of resources/length.csv, by characters"
    }
    assert beside["estimate"].to_list() == pytest.approx(beside["published"].to_list(), abs=0.0051)
    about = pl.col("claim").is_in(beside["claim"].to_list()) & pl.col("estimate").is_not_null()
    assert frame.filter(about, pl.col("published").is_null()).is_empty()


def test_published_figures_do_not_stand_beside_other_quantities() -> None:
    tables = paper_tables()
    tables["accuracy"] = tables["accuracy"].filter(pl.col("task") != "Chat")  # a helpful task
    frame = ledger(tables, STUDY).filter(pl.col("part").str.contains("helpful: average"))
    assert len(frame) > 5 and frame["published"].null_count() == len(frame)
    assert ledger(tables, STUDY).filter(claim="L1")["published"].null_count() == 4  # Chat is among the tasks
    fewer = Study.model_validate(STUDY.model_dump() | {"ablation": {"percent": 20}})
    frame = ledger(paper_tables(), fewer).filter(pl.col("published").is_not_null())
    assert set(frame["claim"]) == {"C1", "C2", "C3", "C4", "L1"}


def test_a_published_figure_is_said_to_lie_inside_the_interval_or_outside() -> None:
    rows = evidence("C3", "undecided")  # -5 to 10 points
    notes = {row["part"]: row["note"] for row in judged(rows, "C3")[1].iter_rows(named=True)}
    said = {part: note.split("; ") for part, note in notes.items()}
    assert said["harmless over helpful, helpful: Focus"][1:] == ["published figure outside the interval"]
    assert said["harmless over helpful, helpful: Precise IF"][1:] == ["published figure inside the interval"]


def test_published_sets_of_signed_means_beside_others_are_said_to_be() -> None:
    def notes(study: Study) -> dict[str, set[str]]:
        frame = ledger(paper_tables(), study).filter(pl.col("published").is_not_null())
        return {claim: set(rows["note"]) for (claim,), rows in frame.group_by("claim")}

    said, signed = "published sets by signed mean, ours by mean of absolute values", {"neurons": {"magnitude": "mean"}}
    for study, of_sets in ((STUDY, True), (Study.model_validate(STUDY.model_dump() | signed), False)):
        found = notes(study)
        assert {said in note for note in found["C9"] | found["C11"] | found["C12"]} == {of_sets}
        assert not any(said in note for note in found["C1"] | found["C4"])


def test_a_new_claim_is_a_function_and_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = Claim(lambda *_: [Part("all", Interval(2, 1, 3, 3))], "More is more", "points", "above", 0)
    monkeypatch.setitem(CLAIMS, "C13", claim)
    frame = ledger(as_tables([]), STUDY).filter(claim="C13")
    assert frame["verdict"].to_list() == ["holds", "holds"] and frame["control_verdict"].to_list() == ["", ""]


def test_the_page_shows_every_claim_and_part() -> None:
    frame = ledger(as_tables(evidence("C12")), STUDY)
    page = ledger_markdown(frame)
    lines = [line for line in page.splitlines() if re.match(r"\| [A-Z]\d", line)]
    assert len(lines) == len(frame)
    assert "-10.0 [-15.0, -5.0] points | below 0.0 | holds" in page


DOCS = ROOT / "docs"


def test_the_documentation_lists_every_column() -> None:
    section = (DOCS / "outputs.md").read_text(encoding="utf-8").partition("\n## Claims\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    listed = [(name, kind.strip()) for names, kind in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(listed) == sorted((n, str(k)) for n, k in ledger(as_tables([]), STUDY).schema.items())


def test_the_documentation_lists_every_test() -> None:
    page = (DOCS / "claims.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if re.match(r"\| [A-Z]\d", line)
    ]
    listed = {row[0]: (row[1], row[3]) for row in rows}
    tests = {
        name: f"{c.direction} " + ("chance" if math.isnan(c.threshold) else f"{c.threshold:.3g} {c.unit}")
        for name, c in CLAIMS.items()
    }
    assert listed == {name: (claim.statement, tests[name]) for name, claim in CLAIMS.items()}
