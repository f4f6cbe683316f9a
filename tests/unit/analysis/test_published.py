"""The paper's figures: those of its tables, beside ours, and what the audit says of them."""

from __future__ import annotations

import csv
import runpy
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
import pytest
from scipy.stats import pearsonr, spearmanr

from rmtension.analysis.ledger import published_figures
from rmtension.analysis.published import CELL, published_cells, twin
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

ROOT = Path(__file__).parents[3]
PAPER = ROOT / "resources" / "paper"
AUDIT = runpy.run_path(str(ROOT / "docs" / "replication_audit.py"))
HUB = {
    "small": "openai-community/gpt2",
    "medium": "openai-community/gpt2-medium",
    "large": "openai-community/gpt2-large",
    "smol-135": "HuggingFaceTB/SmolLM2-135M",
    "smol-360": "HuggingFaceTB/SmolLM2-360M",
    "smol": "HuggingFaceTB/SmolLM2-1.7B",
}


def rows(file: str, **where: str) -> Iterator[dict[str, str]]:
    """Rows of a published file, read without the code under test."""
    with (PAPER / f"{file}.csv").open(encoding="utf-8") as lines:
        yield from (row for row in csv.DictReader(lines) if where.items() <= row.items())


def study(models: dict[str, str], **settings: Any) -> Study:
    pairs = {"kind": "synthetic", "train": 9, "test": 9}
    sources = {name: {"kind": "pretrained", "hub": hub, "revision": "0"} for name, hub in models.items()}
    return Study.model_validate({
        "name": "example", "seeds": [0],
        "models": {name: {"source": source} for name, source in sources.items()},
        "sources": {o: pairs | {"objective": o} for o in ("helpful", "harmless")},
        "regimes": {o: {"train": [o], "test": [o]} for o in ("helpful", "harmless")}
        | {"helpful-harmless": {"mixes": ["helpful", "harmless"]}},
        "benchmarks": {"b": {"kind": "synthetic", "per_task": 4}},
    } | settings)  # fmt: skip


def accuracy_table(*cells: tuple[str, str, str, float]) -> pl.DataFrame:
    """An accuracy table of helpful tasks, each interval two points to either side."""
    frame = pl.DataFrame(cells, schema=["model", "regime", "task", "accuracy_mean"], orient="row")
    value = pl.col("accuracy_mean")
    return frame.with_columns(orientation=pl.lit("helpful"), accuracy_low=value - 2, accuracy_high=value + 2)


def published(**cell: str) -> float:
    return float(published_cells().filter(**cell)["published"].item())


def test_every_printed_figure_has_one_cell_and_averages_are_added() -> None:
    cells = published_cells()
    assert not cells.select(CELL).is_duplicated().any()
    # With the mean over models where the paper has none (25 tasks each of three regimes; 3; 3), and an average for
    # each orientation of every 25 tasks.
    tasks = {
        "accuracy": 450 + 75,
        "retention": 250,
        "agreement": 50,
        "own_ablation": 3 * 525,
        "shared_ablation": 2 * 75,
    }
    expected = {table: n * 27 // 25 for table, n in tasks.items()} | {"rmsd": 18 + 3, "neuron_overlap": 18 + 3}
    assert dict(cells.group_by("table").len().rows()) == expected


def test_cells_hold_what_the_files_hold() -> None:
    [row] = rows("accuracy", model="gpt2-small", regime="harmless", task="Focus")
    cell = published_cells().filter(table="accuracy", model="gpt2-small", regime="harmless", task="Focus")
    assert cell.select("orientation", "quantity", "published", "published_sd").row(0) == (
        "helpful", "accuracy", float(row["accuracy_mean"]), float(row["accuracy_sd"])
    )  # fmt: skip
    [row] = rows("shared_ablation_top10", ablated_set="harmless_only", task="Safety")
    here = {"model": OVERALL, "regime": "helpful-harmless", "ablation": "harmless-only", "task": "Safety"}
    assert published(table="shared_ablation", quantity="delta", **here) == float(row["delta"])
    # An average over the 17 helpful tasks, of one model and of all of them.
    helpful = {row["task"] for row in rows("tasks", orientation="helpful")}
    for model, file_model in (("gpt2-large", "gpt2-large"), (OVERALL, "model_average")):
        kept = [
            float(r["delta"])
            for r in rows("ablation_top10", model=file_model, regime="helpful")
            if r["task"] in helpful
        ]
        where = {"table": "own_ablation", "regime": "helpful", "orientation": "helpful", "quantity": "delta"}
        assert len(kept) == 17
        assert published(model=model, task="average", **where) == pytest.approx(mean(kept), abs=1e-12)


def test_retention_under_ablation_is_set_by_set_and_not_the_running_mean_that_is_printed() -> None:
    order = ["baseline", "helpful_only", "harmless_only", "shared"]
    kept = {(row["ablated_set"], row["task"]): Fraction(row["retention"]) for row in rows("retention_under_ablation")}
    cells = published_cells().filter(pl.col("task") != "average", table="retention", model=OVERALL)
    found = {(ablation.replace("-", "_"), task): value
             for ablation, task, value in cells.select("ablation", "task", "published").iter_rows()}  # fmt: skip
    assert len(found) == 100
    for task in {task for _, task in found}:
        values = [found["none" if name == "baseline" else name, task] for name in order]
        running = [mean(values[:k]) for k in (1, 2, 3, 4)]  # what a list that is never emptied makes of them
        assert running == pytest.approx([float(kept[name, task]) for name in order], abs=1e-12)
    averages = {o: published(table="retention", model=OVERALL, ablation="shared", orientation=o, task="average")
                for o in ("helpful", "harmless")}  # fmt: skip
    assert averages == pytest.approx({"helpful": 0.485, "harmless": 0.519}, abs=0.0005)


def test_a_model_is_the_papers_by_its_source_and_not_by_its_name() -> None:
    table = accuracy_table(("mine", "helpful", "Focus", 50), ("gpt2-large", "helpful", "Focus", 50))
    [row] = rows("accuracy", model="smollm2-1.7b", regime="helpful", task="Focus")
    hubs = {"mine": "HuggingFaceTB/SmolLM2-1.7B", "gpt2-large": "someone/other"}
    found = twin({"accuracy": table}, study(hubs)).row(0, named=True)
    theirs = float(row["accuracy_mean"])
    assert found["model"] == "mine"
    assert (found["published"], found["ours"], found["low"], found["high"]) == (theirs, 50, 48, 52)
    assert found["difference"] == pytest.approx(50 - theirs)
    assert found["inside"] == (48 <= theirs <= 52)


@pytest.mark.parametrize(("distance", "inside"), [(-1.9, True), (2.1, False)])
def test_inside_is_about_our_interval(distance: float, inside: bool) -> None:
    [row] = rows("accuracy", model="gpt2-small", regime="helpful", task="Focus")
    table = accuracy_table(("small", "helpful", "Focus", float(row["accuracy_mean"]) + distance))
    assert twin({"accuracy": table}, study(HUB))["inside"].to_list() == [inside]


def test_means_are_compared_only_over_the_same_models_and_tasks() -> None:
    tasks = sorted({row["task"] for row in rows("tasks", orientation="helpful")})

    def compared(models: dict[str, str], tasks: list[str]) -> set[tuple[str, str]]:
        cells = [(m, "helpful", t, 50.0) for m in ("small", OVERALL) for t in [*tasks, "average"]]
        found = twin({"accuracy": accuracy_table(*cells)}, study(models))
        return {row for row in found.select("model", "task").rows() if row[0] == OVERALL or row[1] == "average"}

    assert compared(HUB, tasks) == {("small", "average"), *((OVERALL, task) for task in [*tasks, "average"])}
    assert compared(HUB, tasks[1:]) == {(OVERALL, task) for task in tasks[1:]}
    assert compared(HUB, [*tasks, "Code"]) == {(OVERALL, task) for task in tasks}
    for seventh in ("someone/other", "openai-community/gpt2"):
        assert compared(HUB | {"seventh": seventh}, tasks) == {("small", "average")}


def test_only_the_papers_setting_of_an_ablation_is_compared() -> None:
    place = {"model": "large", "regime": "harmless", "orientation": "harmless", "task": "Safety", "replaced_by": "zero"}
    scorings = (("magnitude", 10.0, 1.0), ("magnitude", 20.0, 2.0), ("random", 10.0, 3.0))
    own = [{**place, "scoring": name, "percent": percent, "delta_mean": delta} for name, percent, delta in scorings]
    place |= {"model": OVERALL, "regime": "helpful-harmless"}
    sets = (("shared", "whole", 4.0), ("shared", "size-matched", 5.0), ("shared-authors", "whole", 6.0))
    shared = [{**place, "ablation": name, "control": control, "delta_mean": delta} for name, control, delta in sets]
    by_means = {"replaced_by": "mean", "delta_mean": 7.0}
    own, shared = ([*rows, *(row | by_means for row in rows)] for rows in (own, shared))
    tables = {"own_ablation": pl.DataFrame(own), "shared_ablation": pl.DataFrame(shared)}
    assert twin(tables, study(HUB))["ours"].to_list() == [1, 4]
    assert twin(tables, study(HUB, compatibility="authors"))["ours"].to_list() == [1, 6]


@pytest.mark.parametrize(
    ("neurons", "ablation", "own", "mixed"),
    [
        ({"scorings": ["magnitude"]}, {}, (1.0, "absolute values"), (4.0, "absolute values")),
        ({"scorings": ["magnitude", "mean"]}, {}, (2.0, "our scoring mean"), (4.0, "absolute values")),
        ({"scorings": ["mean_abs", "mean"]}, {"scoring": "mean"}, (2.0, "our scoring mean"), (4.0, "our scoring mean")),
        ({"scorings": ["magnitude", "mean_abs"], "magnitude": "mean"}, {}, (1.0, ""), (4.0, "")),
        ({"scorings": ["change", "mean_abs"]}, {"scoring": "change"}, (3.0, "absolute values"), None),
        ({"scorings": ["magnitude"]}, {"percent": 20}, None, None),
    ],
)
def test_published_sets_of_signed_means_stand_beside_ours_of_signed_means_or_it_is_said(
    neurons: dict[str, Any], ablation: dict[str, Any], own: tuple[float, str] | None, mixed: tuple[float, str] | None
) -> None:
    made = study(HUB, neurons=neurons, ablation=ablation, analysis={"shared": "authors"})
    place = {"model": "large", "regime": "harmless", "orientation": "harmless", "task": "Safety", "replaced_by": "zero"}
    values = {"magnitude": 1.0, "mean": 2.0, "mean_abs": 3.0, "change": 9.0}
    tables = {"own_ablation": pl.DataFrame([
        {**place, "scoring": name, "percent": made.ablation.percent, "delta_mean": values[name], "baseline_mean": 50.0}
        for name in made.neurons.scorings
    ])}  # fmt: skip
    place |= {"model": OVERALL, "regime": "helpful-harmless", "ablation": "shared-authors"}
    tables["shared_ablation"] = pl.DataFrame([{**place, "control": "whole", "delta_mean": 4.0}])
    tables["retention"] = pl.DataFrame([{**place, "ablation": a, "retention_mean": 0.5} for a in ("none", "shared")])
    tables["retention"] = tables["retention"].with_columns(pl.col("ablation").replace("shared", "shared-authors"))
    of_seven = "^published mean over seven models, one of them not named(; )?"  # is said of other rows as well
    found = twin(tables, made).with_columns(pl.col("note").str.replace(of_seven, ""))
    for table, expected in (("own_ablation", own), ("shared_ablation", mixed)):
        cells = found.filter(table=table, quantity="delta").select("ours", "note").rows()
        assert [value for value, _ in cells] == ([expected[0]] if expected else [])
        assert all(note.endswith(expected[1]) if expected and expected[1] else not note for _, note in cells)
    assert set(found.filter(quantity="baseline")["note"]) <= {""}
    notes = dict(found.filter(table="retention").select("ablation", "note").rows())
    assert notes.pop("none") == "" and len(notes) == bool(mixed)
    assert all(note.startswith("un-mixed") for note in notes.values())


@pytest.mark.parametrize("form", ["hh", "paper"])
@pytest.mark.parametrize("styles", ["strict", "same-style"])
def test_what_is_judged_otherwise_than_in_the_paper_is_said(styles: str, form: str) -> None:
    """In both places where a published figure stands: beside a table's row and beside a claim's part."""
    benchmark = {"kind": "rm-bench", "path": "x", "template": form}
    made = study({"small": HUB["small"]}, analysis={"rm_bench": styles}, benchmarks={"b": benchmark})
    tasks = [(row["task"], row["orientation"]) for row in rows("tasks") if row["orientation"] != "unoriented"]
    places = [*dict.fromkeys(tasks), ("average", "helpful"), ("average", "harmless")]
    known = pl.DataFrame(places, schema=["task", "orientation"], orient="row").with_columns(
        model=pl.lit("small"), regime=pl.lit("helpful"), accuracy_mean=0.0, accuracy_low=0.0, accuracy_high=0.0
    )
    notes = dict(twin({"accuracy": known}, made).select("task", "note").rows())
    parts = dict(published_figures({"accuracy": known}, made).filter(claim="C3").select("part", "aside").rows())
    styled = {row["task"] for row in rows("tasks", benchmark="rm-bench")} | {"average"}
    assert len(notes) > 20
    for task, note in notes.items():
        assert ("one style" in note) == (styles == "strict" and task in styled)
        assert ("the form `paper`" in note) == (form == "hh")
    for part, aside in parts.items():
        assert ("one style" in (aside or "")) == (styles == "strict" and part.split(": ")[-1] in styled)
        assert ("the form `paper`" in (aside or "")) == (form == "hh")


def test_means_over_seven_models_are_said_to_be() -> None:
    made = study(HUB)
    tables = {"retention": accuracy_table((OVERALL, "helpful-harmless", "Focus", 0.5)).rename(
        {f"accuracy_{end}": f"retention_{end}" for end in ("mean", "low", "high")}).with_columns(
            ablation=pl.lit("none")),
        "accuracy": accuracy_table((OVERALL, "helpful-harmless", "Focus", 50.0))}  # fmt: skip
    notes = dict(twin(tables, made).select("table", "note").rows())
    assert {table: "seven models" in note for table, note in notes.items()} == {"retention": True, "accuracy": False}


def test_a_pair_of_regimes_has_no_order() -> None:
    pair = {"model": "large", "scoring": "magnitude", "jaccard_mean": 0.5, "jaccard_low": 0.4, "jaccard_high": 0.6}
    rows = [("helpful-harmless", "authors"), ("helpful", "authors"), ("helpful", "exact")]
    table = pl.DataFrame([pair | {"first": "harmless", "second": b, "selection": s} for b, s in rows])
    found = twin({"neuron_overlap": table}, study(HUB))
    assert found.select("regime", "single", "published", "inside").rows() == [
        ("helpful-harmless", "harmless", 0.1, False),
        ("helpful", "harmless", 0.1, False),
    ]


def test_rmsd_is_the_papers_kind_and_has_no_interval() -> None:
    table = pl.DataFrame({"model": ["large"], "regime": "helpful", "rmsd": 0.1, "rmsd_mean": 0.2,
                          "rmsd_low": 0.0, "rmsd_high": 0.3})  # fmt: skip
    assert twin({"rmsd": table}, study(HUB)).select("ours", "low", "high", "inside").rows() == [(0.1, None, None, None)]


def test_nothing_in_common_leaves_an_empty_table_of_the_same_columns() -> None:
    table = accuracy_table(("small", "helpful", "Focus", 50))
    full, empty = (twin({"accuracy": table}, study(models)) for models in (HUB, {"small": "someone/other"}))
    assert full.height == 1 and empty.is_empty() and twin({}, study(HUB)).schema == full.schema == empty.schema


# --- the audit --------------------------------------------------------------------------------------------------


def test_the_audit_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "replication-audit.md").read_text(encoding="utf-8")
    assert AUDIT["page"]() == page, "run python docs/replication_audit.py"


@pytest.mark.parametrize(
    ("stated", "value", "agrees"),
    [("-7.3", -7.298, True), ("-7.3", -7.351, False), ("about -1", -0.5001, True), ("about -1", -0.49, False),
     ("184,320", 184320, True), ("0.477", 0.4764, False)],
)  # fmt: skip
def test_a_stated_figure_agrees_by_its_own_digits(stated: str, value: float, agrees: bool) -> None:
    assert (AUDIT["line"]("quantity", stated, value)[3] == "yes") == agrees


@pytest.mark.parametrize(("models", "fits"), [(6, False), (7, True), (8, False)])
def test_the_shared_ablation_tables_are_means_over_seven_models(models: int, fits: bool) -> None:
    # Exactly: is there a whole number of correct comparisons that, as a percentage, rounds to the figure?
    prompts = {row["task"]: int(row["n_prompts"]) for row in rows("tasks") if row["benchmark"] != "rm-bench"}

    def prints(figure: str, total: int) -> bool:
        count = round(Fraction(figure) * total / 100)
        return abs(Fraction(100 * count, total) - Fraction(figure)) <= Fraction(1, 200)

    found = [prints(row[c], 3 * models * prompts[row["task"]]) for row in rows("shared_ablation_top10")
             for c in ("baseline", "delta") if prompts.get(row["task"], 161) <= 160]  # fmt: skip
    assert all(found) == fits
    possible = AUDIT["possible"](models)
    assert (possible.sum() == len(possible) == 64) == fits


def test_retention_under_ablation_is_impossible_as_printed_and_possible_un_mixed() -> None:
    order = ["baseline", "helpful_only", "harmless_only", "shared"]
    kept = {(row["ablated_set"], row["task"]): float(row["retention"]) for row in rows("retention_under_ablation")}
    impossible = {"printed": 0, "un-mixed": 0}
    for row in rows("shared_ablation_top10"):
        k, task = order.index(row["ablated_set"]), row["task"]
        accuracies = rows("accuracy", regime=row["orientation"], task=task)
        union = mean(float(single["accuracy_mean"]) for single in accuracies)  # at least
        right = float(row["baseline"]) + float(row["delta"])
        printed, before = (kept[order[i], task] for i in (k, k - 1))
        for name, value in (("printed", printed), ("un-mixed", (k + 1) * printed - k * before)):
            met = value * union
            impossible[name] += not max(0, right + union - 100) - union / 200 <= met <= right + union / 200
    assert impossible == {"printed": 10, "un-mixed": 0}
    assert "orientation | 10 of 75 | 0 of 75 |" in AUDIT["running_means"]()


def test_bounds_of_retained_neurons_are_the_sharpest_that_pairs_allow() -> None:
    # A has 10 neurons, B 12, both 6; of M's 9, x are in A alone, y in B alone, z in both, the rest elsewhere.
    found: dict[tuple[int, int], list[float]] = {}
    for x, y, z in product(range(5), range(7), range(7)):
        if (kept := x + y + z) <= 9:
            found.setdefault((x + z, y + z), []).append(kept / (16 + 9 - kept))
    mixed = "helpful-harmless"
    for (am, bm), shares in found.items():
        sizes = [("helpful", "harmless", 6, 22), (mixed, "helpful", am, 19), (mixed, "harmless", bm, 21)]
        pairs = [{"regime_a": a, "regime_b": b, "intersection": n, "union": both - n} for a, b, n, both in sizes]
        assert AUDIT["retained"](pl.DataFrame(pairs)) == pytest.approx((min(shares), max(shares)))


def test_audited_counts_of_the_claims() -> None:
    accuracy = {(r["model"], r["regime"], r["task"]): float(r["accuracy_mean"]) for r in rows("accuracy")}
    helpful = {row["task"] for row in rows("tasks", orientation="helpful")}
    own = [(m, t) for m, r, t in accuracy if r == "helpful" and t in helpful]
    wins = sum(accuracy[m, "helpful", t] > accuracy[m, "harmless", t] for m, t in own)
    falls = sum(accuracy[m, "helpful", t] > accuracy[m, "helpful-harmless", t] for m, t in own)
    page = AUDIT["single_regimes"]()
    assert f"other one, helpful tasks | {wins} of {len(own)} |" in page
    assert f"mixed one, helpful tasks | {falls} of {len(own)} |" in page


FILES = [ROOT / "../shared/data" / name for name in ("reward-bench/filtered.parquet", "rm-bench/train.parquet")]


@pytest.mark.skipif(not all(file.exists() for file in FILES), reason="the benchmarks' files are not at hand")
def test_shares_of_length_are_those_of_the_benchmarks_files() -> None:
    subsets = {row["task"]: row["subset"] for row in rows("tasks")}
    won: dict[str, list[tuple[int, int]]] = {}
    for row in pl.read_parquet(FILES[0]).to_dicts():
        won.setdefault(row["subset"], []).append((len(row["chosen"]), len(row["rejected"])))
    for row in pl.read_parquet(FILES[1]).to_dicts():
        of = [(len(row["chosen"][i]), len(row["rejected"][i])) for i in range(3)]
        won.setdefault(row["domain"], []).extend(of)
    for row in pl.read_csv(ROOT / "resources" / "length.csv").to_dicts():
        pairs = won[subsets[row["task"]]]
        assert row["n"] == len(pairs)
        assert row["longer_characters"] == pytest.approx(mean(a > b for a, b in pairs), abs=1e-6)
        assert row["shorter_characters"] == pytest.approx(mean(a < b for a, b in pairs), abs=1e-6)
    assert AUDIT["shares"](*FILES).write_csv() == (ROOT / "resources" / "length.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tasks", "n", "pearson"), [("all", 20, 0.78), ("helpful", 13, 0.82), ("harmless", 7, 0.92)]
)  # fmt: skip
def test_the_published_lead_goes_with_length(tasks: str, n: int, pearson: float) -> None:
    orientation = {row["task"]: row["orientation"] for row in rows("tasks")}
    pairs = []
    for row in pl.read_csv(ROOT / "resources" / "length.csv").to_dicts():
        if tasks in ("all", orientation[row["task"]]):
            helpful, harmless = (mean(float(r["accuracy_mean"]) for r in rows("accuracy", regime=o, task=row["task"]))
                                 for o in ("helpful", "harmless"))  # fmt: skip
            pairs.append((helpful - harmless, row["longer_characters"]))
    leads, shares = zip(*pairs, strict=True)
    expected = pearsonr(leads, shares).statistic, spearmanr(leads, shares).statistic
    assert AUDIT["with_length"]("lead", "characters", tasks) == pytest.approx(expected)
    assert (len(pairs), round(expected[0], 2)) == (n, pearson)
    assert "{:.2f} / {:.2f}".format(*expected) in AUDIT["length_correlations"]()
