"""The report of given reward models: it says what the tables say, whatever they say, and nothing of training."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from example_given import GIVEN, OF_GIVEN, SOURCE, cards
from example_results import SETTINGS, example

from rmtension.analysis.claims import CLAIMS, OF_TRAINING
from rmtension.analysis.holes import holes_table
from rmtension.analysis.ledger import ledger
from rmtension.analysis.tables import TABLES as ANALYSED
from rmtension.analysis.tables import make_tables
from rmtension.report.figures import lay_out, make_figures, svg
from rmtension.report.given_conclusions import given_conclusions, pulling
from rmtension.report.given_exhibits import GIVEN_FOREMOST, GIVEN_SECTIONS, of_each
from rmtension.report.glance import ACCURACY, SETS, at_a_glance
from rmtension.report.page import write_report
from rmtension.running.provenance import registered
from rmtension.study.naming import OVERALL
from rmtension.study.study import Study

ONE = Study.model_validate(SETTINGS | OF_GIVEN | {"models": {"zebra": {"source": SOURCE}}})
Tables = dict[str, pl.DataFrame]


MADE: dict[str, tuple[Tables, pl.DataFrame]] = {}


def made(study: Study) -> tuple[Tables, pl.DataFrame]:
    """All tables of a study, and its ledger; reckoned once."""
    asked = study.model_dump_json()
    if asked not in MADE:
        tables = make_tables(example(study))
        claims = ledger(tables, study)
        MADE[asked] = tables | cards(study) | {"holes": holes_table(study, tables, claims)}, claims
    return MADE[asked]


TABLES, CLAIMED = made(GIVEN)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("given")
    drawn = make_figures(TABLES | {"claims": CLAIMED}, GIVEN.figures, GIVEN.analysis)
    for name, pages in drawn.items():
        for one in pages:
            lay_out(one, 40)
        (folder / f"{name}.svg").write_text(svg(pages, 40))
    write_report(folder / "report.html", GIVEN, TABLES, CLAIMED, {name: folder / f"{name}.svg" for name in drawn}, {})
    return (folder / "report.html").read_text(encoding="utf-8")


def test_questions_come_first_and_what_is_of_training_is_left_out(page: str) -> None:
    headings = [html.unescape(heading) for heading in re.findall("<h2>(.*?)</h2>", page)]
    there = [heading for heading in GIVEN_SECTIONS if heading in headings]
    last = ["What this study did not measure", "Caveats", "Settings", "Provenance"]
    assert headings == [*GIVEN_FOREMOST, "Claims", *there, *last] and "Setup" in there
    figures = set(re.findall(r'alt="Figure (\w+)[.,]', page))
    assert figures >= {"surface", "accuracy", "tension", "overlap", "conflict_layers", "depth", "calibration_by_model"}
    assert figures.isdisjoint({"radar", "contrasts", "retention", "patching", "repair", "stability", "ablation_curve"})
    shown = page.partition('<section id="holes">')[0]
    assert OVERALL not in shown and "is empty" not in page
    for name in ("contrasts", "retention", "training_card", "published"):
        assert f'"tables/{name}.parquet"' not in page


def test_claims_that_are_not_asked_are_named_and_have_no_verdict(page: str) -> None:
    assert set(re.findall(r'<li id="(\w+)">', page)) == {*CLAIMS} - {*OF_TRAINING}
    assert ", ".join(OF_TRAINING) in page.replace("\n", " ")


def test_every_exhibit_of_given_reward_models_is_one_that_a_study_can_have() -> None:
    registries = [("analysis.tables", "TABLES"), ("analysis.tables", "DERIVED"), ("analysis.cards", "CARDS")]
    registries += [("analysis.data_cards", "DATA_CARDS"), ("analysis.answer_key", "ANSWER_KEY")]
    registries += [("report.figures", "FIGURES")]
    known = {name for registry in registries for name in registered(*registry)}
    listed = {exhibit.table for of in (GIVEN_FOREMOST | GIVEN_SECTIONS).values() for exhibit in of}
    assert listed <= known
    assert {name for name in known - listed if name in TABLES and len(TABLES[name])} == {"training_card"}


def test_tables_are_shown_of_each_reward_model_without_what_says_nothing() -> None:
    shown = {name: of_each(table) for name, table in TABLES.items()}
    assert shown["accuracy"].columns[:3] == ["model", "orientation", "task"]
    assert set(shown["accuracy"]["model"]) == {"zebra", "ape"}
    assert set(shown["depth"]["regime"]) == set(GIVEN.regimes)
    assert "n_seeds" not in shown["depth"].columns and "seed" not in shown["top_neurons"].columns


def test_the_head_has_the_numbers_of_the_tables(page: str) -> None:
    head = html.unescape(page.partition('id="conclusions"')[2].partition("</section>")[0])
    accuracy = TABLES["accuracy"].filter(task="average")
    for row in accuracy.filter(pl.col("model") != OVERALL).rows(named=True):
        assert "{accuracy_mean:.1f} [{accuracy_low:.1f}, {accuracy_high:.1f}]".format(**row) in head
    tests = TABLES["benchmark_accuracy"].filter(pl.col("model") != OVERALL, benchmark="own-test")
    glance = at_a_glance(TABLES)[ACCURACY]
    for model, regime, mean in tests.select("model", "regime", "accuracy_mean").rows():
        [cell] = glance.filter(on=f"{regime} test pairs")[model]
        assert cell.partition(" ")[0] == f"{mean:.1f}"
    assert (
        "2 given reward models, zebra and ape, on 11 helpful test pairs, 11 harmless test pairs, 2 helpful tasks"
        in head
    )
    assert "Is it length? zebra:" in head and "Is it length? ape:" in head


def test_sets_at_a_glance_say_which_are_missed_more_than_matched_ones() -> None:
    table = TABLES["tension"].with_columns(
        difference_high=pl.when(pl.col("set") == "shared", pl.col("orientation") == "harmless", control="size-matched")
        .then(-0.1)
        .when(control="size-matched")
        .then(0.1)
    )
    shown = at_a_glance(TABLES | {"tension": table})[SETS]
    assert shown["set"].unique(maintain_order=True).to_list() == ["shared", "helpful-only", "harmless-only"]
    assert shown["reward model"].to_list() == ["zebra", "ape"] * 3
    marked = {(row["set"], name) for row in shown.rows(named=True) for name, cell in row.items() if "†" in cell}
    assert marked == {("shared", "harmless test pairs")}
    assert shown.filter(set="shared")["harmless test pairs"].str.ends_with(" †").all()
    whole = table.filter(set="shared", control="whole", tasks="own test", orientation="helpful", replaced_by="zero")
    [mean] = whole.filter(model="ape")["delta_mean"]
    assert shown["helpful test pairs"][1].startswith(f"{mean:+z.1f} [")
    of_one = {name: t.filter(model="zebra") if "model" in t.columns else t for name, t in TABLES.items()}
    alone = at_a_glance(of_one)[SETS]
    assert alone.columns == ["set", "neurons", "helpful test pairs", "harmless test pairs"]


def said(study: Study = ONE, **tables: pl.DataFrame) -> dict[str, str]:
    whole, claims = made(study)
    return given_conclusions(study, whole | tables, claims)


def test_one_reward_model_is_not_named_before_every_sentence() -> None:
    head = said()
    assert list(head) == ["Looked at.", "What does it get right?", "Is it length?",
                          "Where do helpful and harmless pull?", "Do their gradients conflict?", "Which neurons?",
                          "Can its probabilities be believed?", "Claims.", "Beyond this study."]  # fmt: skip
    assert "zebra" not in " ".join(text for subject, text in head.items() if subject != "Looked at.")


def with_interval(table: pl.DataFrame, value: str, low: float, high: float, **keys: Any) -> pl.DataFrame:
    """Of the rows with these keys (of one other key, all), the figure's mean, low and high."""
    ends = {"mean": (low + high) / 2, "low": low, "high": high}
    is_row = pl.all_horizontal(*(pl.col(key) == word for key, word in keys.items())) if keys else pl.lit(value=True)
    return table.with_columns(
        pl.when(is_row).then(pl.lit(end)).otherwise(pl.col(f"{value}_{name}")).alias(f"{value}_{name}")
        for name, end in ends.items()
    )


@pytest.mark.parametrize(
    ("low", "high", "above", "below"),
    [(97, 99, "helpful tasks", "nowhere"), (1, 2, "nowhere", "helpful tasks"), (20, 99, "nowhere", "nowhere")],
)
def test_what_is_surely_above_a_rule_or_below_chance(low: float, high: float, above: str, below: str) -> None:
    whole = made(ONE)[0]
    other = with_interval(whole["accuracy"], "accuracy", 30, 99)
    accuracy = with_interval(other, "accuracy", low, high, orientation="helpful", task="average")
    tests = with_interval(whole["benchmark_accuracy"], "accuracy", 20, 99).with_columns(n_unscored=pl.lit(0.0))
    text = said(accuracy=accuracy, benchmark_accuracy=tests)["What does it get right?"]
    assert text == f"Surely more than the best rule without a model: {above}. Surely less than chance: {below}."


def test_a_reward_model_is_not_surely_above_rules_that_were_judged_on_more_comparisons() -> None:
    accuracy = with_interval(TABLES["accuracy"], "accuracy", 97, 99)
    tests = with_interval(TABLES["benchmark_accuracy"], "accuracy", 97, 99)
    names = [name for name in tests["benchmark"].unique() if name != "own-test"]
    is_short = (pl.col("model") == "ape") & (
        pl.col("benchmark").is_in(names) | ((pl.col("benchmark") == "own-test") & (pl.col("regime") == "harmless"))
    )
    tests = tests.with_columns(n_unscored=pl.when(is_short).then(1.0).otherwise(0.0))
    tables = TABLES | {"accuracy": accuracy, "benchmark_accuracy": tests}
    shorter = given_conclusions(GIVEN, tables, CLAIMED)["What does it get right?"]
    apart = ["ape on helpful tasks", "ape on harmless test pairs", "ape on harmless tasks"]
    above, _, rest = shorter.removeprefix("Surely more than the best rule without a model: ").partition(". ")
    assert "ape on helpful test pairs" in above and not [place for place in apart if place in above]
    assert all(f"zebra on {o} {kind}" in above for o in ("helpful", "harmless") for kind in ("test pairs", "tasks"))
    assert rest.startswith("Not held against rules, which score all comparisons, as some could not be scored: ape on ")
    assert all(place in rest.partition(". ")[0] for place in apart) and "zebra" not in rest
    shown = at_a_glance(tables)[ACCURACY]
    marked = set(shown.filter(pl.col("ape").str.ends_with(" ‡"))["on"])
    assert marked == {"helpful tasks", "harmless test pairs", "harmless tasks"} and not any(
        "‡" in z for z in shown["zebra"]
    )


@pytest.mark.parametrize(("chosen", "rejected"), [(3.3, 3.3), (0.0, 0.0), (-0.25, 0.25)])
def test_of_a_reward_model_to_which_all_is_a_tie_only_that_is_said(chosen: float, rejected: float) -> None:
    """One that is wrong on every comparison has the same accuracy of 0, which then says something."""
    given = example(GIVEN)
    is_ape = pl.col("model") == "ape"

    def of_ape(frame: pl.DataFrame, suffix: str, **values: pl.Expr) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(is_ape).then(value).otherwise(f"{side}{suffix}").alias(f"{side}{suffix}")
            for side, value in values.items()
        )

    sides = {"chosen": chosen, "rejected": rejected}
    one = {side: 0 * pl.col(side) + value for side, value in sides.items()}
    lists = {side: pl.col(f"{side}_scores").list.eval(0 * pl.element() + value) for side, value in sides.items()}
    scores = [of_ape(frame, "", **one) for frame in given.scores]
    flat = replace(given, scores=scores, lists=of_ape(given.lists, "_scores", **lists))
    names = ["accuracy", "benchmark_accuracy", "reliability", "model_contrasts"]
    head = given_conclusions(GIVEN, TABLES | {name: ANALYSED[name](flat) for name in names}, CLAIMED)
    said, is_tie = head["What does it get right?"], chosen == rejected
    assert said.startswith("ape gives all texts of a comparison the same reward") == is_tie
    assert ("ape on helpful tasks" in said.partition("Surely less than chance")[2]) != is_tie
    assert any(subject.endswith(" ape:") for subject in head) != is_tie and ("Side by side." in head) != is_tie
    assert any(subject.endswith(" zebra:") for subject in head) and ("zebra on" in said or "nowhere" in said)


def test_neurons_that_all_score_zero_have_no_first_and_nothing_in_common() -> None:
    table = made(ONE)[0]["top_neurons"]
    before = said()
    assert "in common than" in before["Where do helpful and harmless pull?"]
    none = table.with_columns(score=pl.when(regime="helpful").then(0.0).otherwise("score"))
    head = said(top_neurons=none)
    assert "in common than" not in head["Where do helpful and harmless pull?"]
    assert "on helpful pairs the first by attribution all score 0." in head["Where do helpful and harmless pull?"]
    first = head["Which neurons?"]
    assert first.startswith("On helpful pairs its first neurons by attribution all score 0")
    assert "% (helpful)" not in first and "% (harmless)" in first and "Size for size" not in first
    assert re.search(r"The first is neuron \d+ of layer \d+ on harmless pairs\.$", first)
    some = table.with_columns(score=pl.when(pl.col("rank") > 1).then(0.0).otherwise("score"))
    assert said(top_neurons=some) == before


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.1, 0.3, "longer responses get"), (-0.3, -0.1, "shorter responses get"), (-0.2, 0.2, "there is no sure taste")],
)
def test_a_taste_for_length_is_said_as_sure_as_it_is(low: float, high: float, words: str) -> None:
    table = with_interval(made(ONE)[0]["length_correlation"], "correlation", low, high)
    text = said(length_correlation=table)["Is it length?"]
    figure = f"{(low + high) / 2:z.2f} [{low:.2f}, {high:.2f}]"
    assert (
        f"Among test pairs, {words}" in text and f"(rank correlation: helpful {figure} and harmless {figure})" in text
    )
    assert text.count("Among test pairs") == 1


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.2, 3, "too sure on"),
        (0.1, 0.8, "not sure enough on"),
        (0.5, 2, "neither surely too sure nor surely not sure enough on"),
    ],
)
def test_temperatures_are_read_the_right_way(low: float, high: float, words: str) -> None:
    table = with_interval(made(ONE)[0]["calibration"], "temperature", low, high)
    text = said(calibration=table)["Can its probabilities be believed?"]
    assert text.startswith(f"By its temperature on held-out pairs (above 1: too sure) it is {words} helpful pairs (")
    assert text.count("helpful pairs") == 1 and "harmless pairs (" in text
    both = table.with_columns(pl.col("regime").replace("mixed", "both"))
    assert "and pairs of both kinds (" in said(calibration=both)["Can its probabilities be believed?"]
    none = table.with_columns(temperature_mean=pl.lit(None, pl.Float64))
    assert "as none fits its scores" in said(calibration=none)["Can its probabilities be believed?"]


def whole(helpful: tuple[float, float], harmless: tuple[float, float], value: str = "zero") -> pl.DataFrame:
    rows = [("shared", "own test", value, o, *of) for o, of in (("helpful", helpful), ("harmless", harmless))]
    columns = ["set", "tasks", "replaced_by", "orientation", "delta_low", "delta_high"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_the_two_pull_against_each_other_where_one_surely_loses_and_the_other_surely_gains() -> None:
    costs, helps, open_ = (-3.0, -1.0), (1.0, 3.0), (-1.0, 3.0)
    both = pl.concat([whole(costs, helps), whole(costs, helps, "mean")])
    [text] = pulling(both)
    assert text == ("The two surely pull against each other at shared, whose loss costs helpful and helps harmless on "
                    "test pairs (by zeros and means).")  # fmt: skip
    for helpful, harmless in ((costs, costs), (costs, open_), (open_, helps), (helps, helps)):
        assert "".join(pulling(whole(helpful, harmless))).startswith("At no set do the two surely pull")
    assert "costs harmless and helps helpful" in "".join(pulling(whole(helps, costs)))


@pytest.mark.parametrize(
    ("cosine", "words"),
    [(-0.5, "the two oppose each other: cosine -0.50;"), (0.25, "the two do not oppose each other: cosine 0.25;"),
     (1.5, "cosine 1.50 (beyond 1 is sampling noise);"), (None, "are not beyond sampling noise.")],
)  # fmt: skip
def test_the_gradients_conflict_as_the_table_says(cosine: float | None, words: str) -> None:
    table = made(ONE)[0]["conflict"]
    changed = table.with_columns(cosine_mean=pl.lit(cosine, pl.Float64), opposed_mean=pl.lit(0.625))
    text = said(conflict=changed)["Do their gradients conflict?"]
    assert words in text and ("62 % of their squares" in text) == (cosine is not None)


def test_models_side_by_side_are_surely_apart_or_not() -> None:
    table = TABLES["model_contrasts"]
    sure = with_interval(with_interval(table, "difference", -1, 1), "difference", 2, 4, task="helpful")
    text = given_conclusions(GIVEN, TABLES | {"model_contrasts": sure}, CLAIMED)["Side by side."]
    assert text == ("zebra minus ape, points of accuracy on the same comparisons: surely +3.0 [2.0, 4.0] on test pairs "
                    "of helpful; not surely different: +0.0 [-1.0, 1.0] on test pairs of harmless, +0.0 [-1.0, 1.0] on "
                    "helpful tasks and +0.0 [-1.0, 1.0] on harmless tasks.")  # fmt: skip
    third = sure.with_columns(second=pl.lit("yak"), difference_low=pl.lit(-9.0))
    several = TABLES | {"model_contrasts": pl.concat([sure, third])}
    assert given_conclusions(GIVEN, several, CLAIMED)["Side by side."] == (
        "zebra minus ape, points of accuracy on the same comparisons: surely +3.0 [2.0, 4.0] on test pairs of helpful. "
        "Without a sure difference anywhere: 1 of 2 pairs of reward models."
    )


def test_a_study_of_given_reward_models_without_results_still_has_a_report(tmp_path: Path) -> None:
    empty = {name: table.clear() for name, table in TABLES.items()}
    write_report(tmp_path / "report.html", GIVEN, empty, CLAIMED.clear(), {}, {})
    assert "No claim could be tested" in (tmp_path / "report.html").read_text()


def test_neither_a_mixture_nor_a_shared_task_is_needed(tmp_path: Path) -> None:
    alone = {"regimes": {s: SETTINGS["regimes"][s] for s in ("helpful", "harmless")}, "conflict": None,
             "benchmarks": {"own-test": {"kind": "regime-test"}}, "models": {"zebra": {"source": SOURCE}}}  # fmt: skip
    study = Study.model_validate(SETTINGS | OF_GIVEN | alone)
    tables, claims = made(study)
    write_report(tmp_path / "report.html", study, tables, claims, {}, {})
    head = given_conclusions(study, tables, claims)
    assert "on 11 helpful test pairs and 11 harmless test pairs." in head["Looked at."]
    assert "Where do helpful and harmless pull?" not in head
    assert at_a_glance(tables)[ACCURACY]["on"].to_list() == ["helpful test pairs", "harmless test pairs"]
