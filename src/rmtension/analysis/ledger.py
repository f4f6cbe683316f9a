"""The claims ledger: every claim as judged in a study, its parts and their controls (docs/claims.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import polars as pl

from rmtension.analysis.claims import CLAIMS, OF_TRAINING
from rmtension.analysis.evidence import ONE_SEED, Tables
from rmtension.analysis.judgement import together
from rmtension.analysis.presentation import as_markdown
from rmtension.analysis.published import (
    BY_CHARACTERS,
    SEVEN,
    UNSIGNED,
    has_paper_sets,
    is_signed,
    lengths,
    of_tasks,
    read,
    with_like_averages,
)
from rmtension.study.naming import AVERAGE, OVERALL
from rmtension.study.study import Study

NONE = "none in this study"
NOT_MEASURED = "not measured"
NONE_OF_GIVEN = f"{NONE}: it is about training, and the reward models are given"
OF_TASKS = ["C3", "C4"]  # whose parts are of one task each, by its name, where they are no averages
AS_GIVEN = "a given reward model: chance in training is not seen"
TEXT, NUMBER = pl.String(), pl.Float64()
SCHEMA = {
    "claim": TEXT, "part": TEXT, "statement": TEXT, "published": NUMBER, "unit": TEXT, "estimate": NUMBER,
    "low": NUMBER, "high": NUMBER, "threshold": NUMBER, "direction": TEXT, "verdict": TEXT, "control": TEXT,
    "control_estimate": NUMBER, "control_low": NUMBER, "control_high": NUMBER, "control_verdict": TEXT,
    "n_seeds": pl.Int64(), "note": TEXT,
}  # fmt: skip


def published_figures(tables: Tables, study: Study) -> pl.DataFrame:
    """claim, part, published, aside: the paper's figures that are the same quantities here. An average is one if it is
    over the same tasks, one about oriented neurons if they are as many, by mean activation, and one about length if the
    tasks whose lengths are known are all in this study; `aside` says what keeps the two apart even so."""
    tasks, known = tables["accuracy"].select("task", "orientation"), lengths().select("task", "orientation")
    same_tasks = with_like_averages(tables["accuracy"]).filter(pl.col("task") == AVERAGE)["orientation"].to_list()
    has_tasks = known.join(tasks, on=known.columns, how="anti").is_empty()
    conditions = [
        pl.col("average_of").is_in(same_tasks).fill_null(True),
        ~pl.col("of_sets") | has_paper_sets(study),
        ~pl.col("of_lengths") | has_tasks,
    ]
    unsigned = pl.col("of_sets") & (not is_signed(study.ablation.scoring, study))
    of_one = pl.col("part").str.split(": ").list.last()
    is_average = pl.col("average_of").is_not_null()
    task = pl.when(is_average).then(pl.lit(AVERAGE)).when(pl.col("claim").is_in(OF_TASKS)).then(of_one)
    asides = [
        *of_tasks(study),
        pl.when(pl.col("claim").is_in(["C4", "C12"])).then(pl.lit(SEVEN)),
        pl.when(unsigned).then(pl.lit(UNSIGNED)).when("of_lengths").then(pl.lit(BY_CHARACTERS)),
    ]
    aside = pl.concat_str(asides, separator="; ", ignore_nulls=True).replace("", None)
    conditions.append(pl.lit(not study.given))  # the paper's figures are of what it trained
    figures = read("claims").filter(conditions).with_columns(task=task.fill_null(""), orientation="average_of")
    return figures.select("claim", "part", "published", aside=aside)


def judged(name: str, tables: Tables, study: Study) -> list[dict[str, Any]]:
    """The rows of a claim's parts; where reward models are given, of each by itself, as their mean is of none."""
    if not study.given:
        return CLAIMS[name](tables, study)
    if name in OF_TRAINING:
        return []
    rows = []
    for model, settings in study.models.items():
        alone = study.model_copy(update={"models": {model: settings}})
        of_model = {table: as_all(frame, model) for table, frame in tables.items()}
        prefix = f"{model}: " if len(study.models) > 1 else ""
        rows += [row | {"part": prefix + row["part"], "note": row["note"].replace(ONE_SEED, AS_GIVEN)}
                 for row in CLAIMS[name](of_model, alone)]  # fmt: skip
    return rows


def as_all(frame: pl.DataFrame, model: str) -> pl.DataFrame:
    """A table with the rows of one model in the place of those of all."""
    return frame.filter(model=model).with_columns(model=pl.lit(OVERALL)) if "model" in frame.columns else frame


def summary(rows: Sequence[Mapping[str, Any]], study: Study) -> dict[str, Any]:
    """The row of a whole claim: its parts together, and what is left of them beside their controls."""
    parts = {row["part"]: row for row in rows}.values()
    verdicts = [row["verdict"] for row in parts]
    controls = {row["control"]: row for row in rows if row["control"]}
    seeds = [row["n_seeds"] for row in rows if row["n_seeds"] is not None]
    words = [NOT_MEASURED if isnan(row["estimate"]) else row["verdict"] for row in parts]
    counted = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
    beside = [row["control_verdict"] for row in rows if row["control"]]
    return {
        "part": "", "unit": "", "direction": "", "verdict": together(verdicts), "control": ", ".join(controls),
        "control_verdict": together(beside) if beside else "", "n_seeds": min(seeds, default=None),
        "note": f"parts: {', '.join(counted) or (NONE_OF_GIVEN if study.given else NONE)}",
    }  # fmt: skip


def ledger(tables: Tables, study: Study) -> pl.DataFrame:
    """Every claim: a row that sums it up, part "", then one for each part and control (docs/outputs.md, Claims)."""
    lines: list[dict[str, Any]] = []
    for name, claim in CLAIMS.items():
        rows = judged(name, tables, study)
        lines += [row | {"claim": name, "statement": claim.statement} for row in (summary(rows, study), *rows)]
    frame = pl.DataFrame(lines, schema=SCHEMA).drop("published").fill_nan(None)
    frame = frame.join(published_figures(tables, study), on=["claim", "part"], how="left", maintain_order="left")
    frame = frame.with_columns(pl.when(pl.col("estimate").is_not_null()).then("published").alias("published"))
    inside = pl.col("published").is_between("low", "high")
    place = pl.when(inside).then(pl.lit("inside")).when(~inside).then(pl.lit("outside"))
    notes = [pl.col("note").replace("", None), pl.format("published figure {} the interval", place),
             pl.when(pl.col("published").is_not_null()).then("aside")]  # fmt: skip
    note = pl.concat_str(notes, separator="; ", ignore_nulls=True)
    return frame.with_columns(note=note).select(*SCHEMA)


def ledger_markdown(frame: pl.DataFrame) -> str:
    """The ledger for reading: the claims, then their parts."""
    texts = frame.with_columns(pl.col(pl.Float64).round_sig_figs(3).cast(pl.String))

    def interval(stem: str) -> pl.Expr:
        ends = pl.format(" [{}, {}]", f"{stem}low", f"{stem}high").fill_null("")
        return pl.format("{}{}", f"{stem}estimate", ends).fill_null("")

    whole = texts.filter(part="").select("claim", "statement", "verdict", "control", "control_verdict", "note")
    parts = texts.filter(pl.col("part") != "").select(
        "claim", "part", published=pl.col("published").fill_null(""), ours=pl.format("{} {}", interval(""), "unit"),
        holds_if=pl.format("{} {}", "direction", pl.col("threshold").fill_null("chance")), verdict="verdict",
        control=pl.format("{} {}", "control", interval("control_")).str.strip_chars(),
        control_verdict="control_verdict", note="note",
    )  # fmt: skip
    guide = "Estimates with their intervals; what is tested, and why so, is explained in docs/claims.md."
    return f"# Claims\n\n{guide}\n\n{as_markdown(whole)}\n## Parts\n\n{as_markdown(parts)}"
