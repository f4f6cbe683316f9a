"""A report from small tables that have the columns of a study's."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from matplotlib.figure import Figure

from rmtension.report.drawing import PAGE_WIDTH
from rmtension.report.figures import write_figure
from rmtension.report.page import write_report
from rmtension.study.naming import BOTH, OVERALL
from rmtension.study.study import Study

STUDY = Study.model_validate(yaml.safe_load((Path(__file__).parents[2] / "config.yaml").read_text()))
RNG = np.random.default_rng(0)
TASKS = {"orientation": ["helpful", "harmless"], "task": ["tact & <tone>", "focus_50%", "average"]}
REGIMES, SCORINGS = ["helpful", "harmless", "helpful-harmless"], ["magnitude", "change", "random"]
SETS = ["shared", "helpful-only", "harmless-only"]


def made(values: str, keys: dict[str, list[Any]], scale: float = 10, **others: float) -> pl.DataFrame:
    """A row of every combination of keys, the means over models first, with random values and their intervals."""
    keys = {"model": [OVERALL, "zebra", "ape"]} | keys
    table = pl.DataFrame(list(product(*keys.values())), schema=list(keys), orient="row")
    for value in values.split():
        mean = pl.Series(RNG.normal(0, scale, len(table)))
        low, high, sd = mean - scale / 5, mean + scale / 5, pl.Series([scale / 7] * len(table))
        parts = zip(("mean", "sd", "low", "high"), (mean, sd, low, high), strict=True)
        table = table.with_columns(part.alias(f"{value}_{name}") for name, part in parts)
    return table.with_columns(n_seeds=pl.lit(3), **{name: pl.lit(value) for name, value in others.items()})


MIXED: dict[str, list[Any]] = {"regime": ["helpful-harmless"]}
RULES = ["longer", "shorter", *(f"words:{regime}" for regime in REGIMES)]
PLACES = [("own", regime, f"{regime}-base") for regime in REGIMES[:2]]
PLACES += [("bench", orientation, task) for orientation in TASKS["orientation"] for task in TASKS["task"][:2]]
SURFACE = pl.DataFrame([(*place, rule) for place in PLACES for rule in RULES], orient="row",
                       schema=["benchmark", "orientation", "task", "rule"])  # fmt: skip
TABLES = {
    "benchmarks_card": pl.DataFrame(PLACES, schema=["benchmark", "orientation", "task"], orient="row").with_columns(
        kind=pl.when(benchmark="own").then(pl.lit("regime-test")).otherwise(pl.lit("synthetic"))
    ),
    "benchmark_accuracy": made("accuracy", {"regime": REGIMES, "benchmark": ["own", "bench"]}, 20, n_comparisons=50.0,
                               n_unscored=0.0),
    "surface": SURFACE.with_columns(n_comparisons=pl.lit(50, pl.UInt32), accuracy_mean=pl.int_range(pl.len()) / 2),
    "length_lead": made("correlation", {"first": ["helpful"], "second": ["harmless"], "tasks": ["all"]}, 0.3),
    "models_card": pl.DataFrame({"model": ["zebra", "ape"], "parameters": [124_000_000, 1_700_000_000]}),
    "accuracy": made("accuracy", {"regime": REGIMES, **TASKS}, 20),
    "contrasts": made("difference", {"first": ["helpful"], "second": ["harmless"], **TASKS}, p=0.0005, q=0.01),
    "retention": made("retention", {**MIXED, "ablation": ["none", *SETS], **TASKS}, 0.2),
    "agreement": made("overlap", {**MIXED, "single": REGIMES[:2], **TASKS}, 0.2),
    "score_shift": made("single mixed closeness", {**MIXED, "single": REGIMES[:2], "response": ["chosen", "rejected"]}),
    "ablation_curve": made(
        "accuracy delta",
        {"regime": REGIMES, "benchmark": ["own"], "scoring": SCORINGS, "percent": [0.0, 2.5, 10.0, 100.0]},
    ),
    "depth": made("share", {"regime": REGIMES, "scoring": SCORINGS, "third": ["early", "middle", "late"]}, 30),
    "rmsd": made("rmsd ratio", {"regime": REGIMES}, 0.003, rmsd=0.0021),
    "own_ablation": made(
        "baseline ablated delta",
        {"regime": REGIMES, "scoring": SCORINGS, "percent": [9.0], "replaced_by": ["zero", "mean"], **TASKS},
    ),
    "shared_ablation": made(
        "baseline ablated delta", {**MIXED, "ablation": [*SETS, "random"], "control": ["whole", "random"], **TASKS}
    ),
    "repair": made(
        "gap gain closed squared_ce_change",
        {"regime": ["merged", "ensemble"], "mixture": MIXED["regime"], "orientation": [*REGIMES[:2], BOTH],
         "tasks": ["own tasks", "own test"], "measure": ["accuracy", "balanced"]},
        3, pairs_seen=0.0, pairs_needed=1200.0, scoring_cost=1.0, n_tasks=2, of_tasks=2,
    ),
    "repair_contrasts": made(
        "difference", {"mixture": MIXED["regime"], "first": ["merged"], "second": ["ensemble"], "orientation": [BOTH],
                       "tasks": ["own tasks", "own test"], "measure": ["accuracy"]}, 3,
    ),
    "patching": made(
        "gap delta",
        {"regime": MIXED["regime"], "donor": REGIMES[:2], "tasks": ["own test"], "set": ["shared"],
         "control": ["size-matched", "matched-random"]},
        9,
    ),
    "official": pl.DataFrame(schema={"model": pl.String, "value_mean": pl.Float64}),
    "published": pl.DataFrame({
        "table": ["accuracy", "own_ablation"], "model": OVERALL, "regime": "helpful", "ablation": "none", "single": "",
        "orientation": "helpful", "task": "focus_50%", "quantity": ["accuracy", "delta"], "published": [61.5, -7.25],
        "ours": [60.0, 1.0], "low": 50.0, "high": 70.0, "difference": [-1.5, 8.25], "inside": [True, False],
    }),
    "holes": pl.DataFrame({
        "what": ["<b>what</b> mixing keeps", "claim C3"], "why": ["no regime mixes", "no task"],
        "line": ["regimes: {a-b: {mixes: [a, 'b & c']}}", ""],
    }),
    "novel": pl.DataFrame({"model": ["zebra"], "share": [0.25]}),
    "score_histogram": made("share", {"figure": ["shift"], "left": list(np.linspace(-3, 3, 400))}, 0.1),
}  # fmt: skip
NUMBERS = {"published": 1.5, "low": -2.25, "high": 3.125, "threshold": 0.0, "control_low": -1.0, "control_high": 0.5}


def claim_row(claim: str, part: str, verdict: str, control: str) -> dict[str, Any]:
    row: dict[str, Any] = {"claim": claim, "part": part, "statement": f"Statement of {claim}", "unit": "points"}
    row |= {"estimate": 1.0625, "control_estimate": -0.125, **NUMBERS} if part else {}
    return row | {"direction": "above", "verdict": verdict, "control": control, "control_verdict": "undecided",
                  "n_seeds": 3, "note": ""}  # fmt: skip


LEDGER = pl.DataFrame([
    claim_row(claim, part, verdict, control)
    for claim, verdict, control in [("C1", "holds", "random"), ("C2", "does not hold", "length"),
                                    ("L1", "undecided", "random")]
    for part in ("", "first <part>", "second part")
])  # fmt: skip


def figure(path: Path) -> Path:
    """As wide as the widest, on two pages of different height."""
    pages = [Figure(figsize=(PAGE_WIDTH, height)) for height in (3, 2)]
    for page in pages:
        page.subplots().plot([0, 1], [1, 0])
    write_figure(pages, path.with_suffix(""), 150)
    return path.with_suffix(".svg")


FIGURES = ["accuracy", "retention", "radar", "unheard-of", "claims"]


def write_example(folder: Path) -> Path:
    """A report of the tables above, with a figure that has a table, one that has none, and the claims'."""
    image = figure(folder / "image.png")
    report = folder / "report.html"
    write_report(report, STUDY, TABLES, LEDGER, dict.fromkeys(FIGURES, image), {"code": "<1>"})
    return report
