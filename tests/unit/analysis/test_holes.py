"""What a study did not measure: named wherever tables and claims are empty, and measured by the line that is given."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import example_results
import polars as pl
import pytest
import yaml
from example_results import OF_REPAIRS, SETTINGS, TASKS, example

from rmtension.analysis.holes import SEARCHES, empty_metrics, holes_table, orientations
from rmtension.analysis.ledger import ledger
from rmtension.analysis.study_holes import DRAWN, drawn
from rmtension.analysis.tables import make_tables
from rmtension.data.tasks import known_tasks
from rmtension.study.naming import UNORIENTED
from rmtension.study.study import Study

SINGLE = {"helpful": SETTINGS["regimes"]["helpful"]}
OWN_TEST = {"own-test": {"kind": "regime-test"}}
PUBLISHED = {"kind": "reward-bench", "path": "x"}
SHORTENED = {"source": {"kind": "gguf", "path": "x.gguf", "layers": 3}, "compute": {"mem_mb": 1000}}
STUDIES: dict[str, dict[str, Any]] = {
    "all": {},
    "one seed, one model": {"seeds": [7], "models": {"ape": SETTINGS["models"]["ape"]}},
    "one regime": {"regimes": SINGLE},
    "no mixed regime": {"regimes": SINGLE | {"harmless": SETTINGS["regimes"]["harmless"]}},
    "other regimes": {"regimes": {"good": SINGLE["helpful"], "safe": SETTINGS["regimes"]["harmless"]}},
    "repaired": {"regimes": SETTINGS["regimes"] | OF_REPAIRS},
    "merged alone": {"regimes": SETTINGS["regimes"] | {"merged": OF_REPAIRS["merged"]}},
    "nothing swept": {"ablation": {"percent": 20, "sweep": []}},
    "swept whole": {"ablation": {"percent": 20, "sweep": [100], "sweep_benchmarks": ["one"]}},
    "few scorings": {"neurons": {"scorings": ["magnitude"]}},
    "heads alone": {"neurons": {"scorings": ["mean_abs", "head-norm"]}, "ablation": {"scoring": "mean_abs"}},
    "own tests alone": {"benchmarks": OWN_TEST},
    "no own tests": {"benchmarks": {"one": SETTINGS["benchmarks"]["one"]}, "ablation": {"percent": 20}},
    "authors": {"compatibility": "authors", "seeds": [7, 3]},
    "parts of benchmarks": {"benchmarks": OWN_TEST | {
        "one": PUBLISHED | {"tasks": ["mt-bench-easy"]}, "two": PUBLISHED | {"max_per_task": 3}},
        "activations": {"max_pairs": 9}, "training": {"evaluation_pairs": 8}},
    "first layers": {"models": {"ape": SHORTENED}},
    "adopted": {"models": {"ape": SETTINGS["models"]["ape"] | {"trained": {"helpful": {7: "mine"}}}}},
}  # fmt: skip


def study(change: dict[str, Any]) -> Study:
    return Study.model_validate(SETTINGS | {"analysis": {"draws": 40}} | change)


def added(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """A line of the page put into a study file as the page says: lists, and what is emptied, take the place."""
    is_filled = {key: isinstance(value, dict) and value and isinstance(settings.get(key), dict)
                 for key, value in more.items()}  # fmt: skip
    return settings | {key: added(settings[key], v) if is_filled[key] else v for key, v in more.items()}


@pytest.fixture(scope="module", params=STUDIES)
def case(request: pytest.FixtureRequest) -> tuple[Study, dict[str, pl.DataFrame]]:
    made = study(STUDIES[request.param])
    return made, make_tables(example(made))


def test_whatever_is_empty_is_named(case: tuple[Study, dict[str, pl.DataFrame]]) -> None:
    made, tables = case
    claims = ledger(tables, made)
    holes = holes_table(made, tables, claims)
    said = " ".join(holes["what"]).replace(",", " ").replace("(", " ").replace(")", " ").replace(";", " ").split()
    assert [name for name, table in tables.items() if table.is_empty() and name not in said] == []
    tested = claims.filter(pl.col("part") != "", pl.col("low").is_not_null()).group_by("claim").agg(pl.col("part"))
    every = claims.filter(pl.col("part") != "").group_by("claim").agg(pl.col("part"))
    whole = {row for row in every.explode("part").rows() if row in set(tested.explode("part").rows())}
    short = {c for c in claims["claim"] if not {p for n, p in whole if n == c}
             or {(c, p) for n, p in every.explode("part").rows() if n == c} - whole}  # fmt: skip
    untested = {what.split()[1].strip(":"): line for what, _, line in holes.rows() if what.startswith("claim ")}
    assert set(untested) == short
    assert [claim for claim, line in untested.items() if not line] == []
    assert not holes.filter(pl.any_horizontal(pl.col("what", "why") == "")).height and not holes.is_duplicated().any()


def test_a_line_put_into_the_study_file_closes_its_hole(case: tuple[Study, dict[str, pl.DataFrame]]) -> None:
    made, tables = case
    settings, closed = made.model_dump(mode="json"), 0
    for line in holes_table(made, tables, ledger(tables, made))["line"]:
        Study.model_validate(added(settings, yaml.safe_load(line) or {}))
    for search in (search for search in SEARCHES if search is not orientations):  # it goes by what was scored
        for hole in search(made, tables):
            if not hole.settings:
                continue
            more = Study.model_validate(added(settings, dict(hole.settings)))
            assert hole.what not in [left.what for left in search(more, tables)], hole
            closed += 1
    assert closed > 3


def test_whatever_is_drawn_is_named() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "choosing-a-study.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| (\w+)[^|]* \| `(\w+)` \| .*drawn by ", page, re.MULTILINE)) == DRAWN.keys()
    made = study(STUDIES["parts of benchmarks"] | {"conflict": {"max_pairs": 7}})
    assert {hole.why: hole.settings for hole in drawn(made, {})} == {
        "benchmarks.two.max_per_task: so many are drawn": {"benchmarks": {"two": {"max_per_task": None}}},
        "training.evaluation_pairs: so many are drawn": {"training": {"evaluation_pairs": None}},
        "activations.max_pairs: so many are drawn": {"activations": {"max_pairs": None}},
        "conflict.max_pairs: so many are drawn": {"conflict": {"max_pairs": None}},
    }


def test_layers_that_are_not_there_are_named() -> None:
    made = study(STUDIES["first layers"])
    tables = make_tables(example(made))
    lines = {what: line for what, _, line in holes_table(made, tables, ledger(tables, made)).rows()}
    assert lines["layers of the backbone of ape beyond its first 3"] == "models: {ape: {source: {layers: null}}}"


def test_repairs_that_are_lacking_see_the_pairs_of_the_mixed_regime() -> None:
    regimes = SETTINGS["regimes"] | {"mixed": SETTINGS["regimes"]["mixed"] | {"epochs": 5}}
    made = study({"regimes": regimes})
    tables = make_tables(example(made))
    lines = [line for line in holes_table(made, tables, ledger(tables, made))["line"] if "method" in line]
    assert lines and not any("&" in line or "*" in line for line in lines), "each can be copied alone"
    for line in lines:
        for repair in yaml.safe_load(line)["regimes"].values():
            trained = repair["method"] in ("projected", "frozen")
            assert repair["mixes"] == ["helpful", "harmless"] and repair.get("epochs") == (5 if trained else None)


def test_official_metrics_without_a_value_are_named_with_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, benchmarks = dict(TASKS), dict(SETTINGS["benchmarks"])
    for kind in ("reward-bench", "reward-bench-2"):
        tasks = known_tasks(kind).filter(pl.col("orientation") != UNORIENTED).select("task", "orientation").rows()
        rows[kind] = [(task, orientation, 1, 1) for task, orientation in tasks]
        benchmarks[kind] = {"kind": kind, "path": "x"}
    rows["reward-bench"] = [row for row in rows["reward-bench"] if row[0] != "Do Not Answer"]  # not in the file
    monkeypatch.setattr(example_results, "TASKS", rows)
    made = study({"benchmarks": benchmarks, "seeds": [7], "models": {"ape": SETTINGS["models"]["ape"]}})
    tables = make_tables(example(made))
    empty = tables["official"].filter(pl.col("value_mean").is_null()).select("benchmark", "metric").unique()
    assert set(empty.rows()) == {("reward-bench", "Reasoning"), ("reward-bench", "overall"), ("reward-bench", "Safety"),
                                 ("reward-bench-2", "Ties"), ("reward-bench-2", "overall")}  # fmt: skip
    holes = {what: (why, line) for what, why, line in holes_table(made, tables, ledger(tables, made)).rows()}
    subsets = "hep-cpp, hep-go, hep-java, hep-js, hep-python, hep-rust"
    why = "tasks without an orientation are taken only if named"
    for name, left_out, metric in (("reward-bench", subsets, "Reasoning"), ("reward-bench-2", "Ties", "Ties")):
        what = f"subsets of {name}: {left_out}; so its official metrics {metric}, overall are empty (official)"
        assert holes[what] == (why, f"benchmarks: {{{name}: {{tasks: all}}}}")
    assert holes["official metrics of reward-bench: Safety (official)"][1] == ""


def test_metrics_of_one_subset_are_named_together() -> None:
    made = study({"benchmarks": {"rm-bench": {"kind": "rm-bench", "path": "x"}}, "ablation": {"percent": 20}})
    values = {"math: hard": None, "math: easy": None, "chat: hard": 50.0, "chat: easy": 50.0}
    official = pl.DataFrame({"benchmark": "rm-bench", "metric": [*values], "value_mean": [*values.values()]})
    assert [hole.what for hole in empty_metrics(made, {"official": official})] == [
        "official metrics of rm-bench: math (official)"
    ]


def test_published_figures_without_a_match_are_counted_by_what_is_missing() -> None:
    hubs = {"ape": "openai-community/gpt2-large", "zebra": "HuggingFaceTB/SmolLM2-135M"}
    models = {name: {"source": {"kind": "pretrained", "hub": hub, "revision": "0"}} for name, hub in hubs.items()}
    made = study({"models": models})
    tables = make_tables(example(made))
    found = {why: (what, yaml.safe_load(line) if line else {}) for what, why, line in
             holes_table(made, tables, ledger(tables, made)).rows() if "published figures" in what}  # fmt: skip
    counts = [int(what.split(" of ")[0].replace(",", "")) for what, _ in found.values()]
    every = int(next(iter(found.values()))[0].split()[2].replace(",", ""))
    assert sum(counts) + len(tables["published"]) == every
    _, settings = found["of backbones that are not in this study"]
    assert set(settings["models"]) == {"gpt2-small", "gpt2-medium", "smollm2-360m", "smollm2-1.7b"}
    # The example's mixed regime is called mixed, and none of its tasks is of the paper.
    assert "agreement" in found["of regimes called helpful, harmless and helpful-harmless"][0]
    assert "accuracy" in found["on tasks, or averages over tasks, that are not in this study"][0]
