"""Given reward models at a glance: two small tables for the head of their report, every cell of them text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import polars as pl

from rmtension.report.accuracy_figures import with_chance
from rmtension.report.conclusions import Tables, rule
from rmtension.report.rules import PLACE, judged_each, ruled
from rmtension.study.naming import AVERAGE, OVERALL, OWN_TASKS, OWN_TEST

Row = Mapping[str, Any]
PAIR = 50.0  # percent of pairs that are right by chance
ACCURACY = "Accuracy (%) beside the best of the rules without a model, and chance; ‡: of what the model could score, "
ACCURACY += "while rules score all"
SETS = "Change in accuracy (points) with a set of neurons at zero; †: surely missed more than random neurons, as many, "
SETS += "as deep and as loud"


class Place(NamedTuple):
    """Where reward models are judged: an orientation's own test split, or its tasks on average."""

    where: str
    models: dict[str, Row]  # of each, accuracy_mean, accuracy_low, accuracy_high, and same: see judged
    rule: str
    best: float  # accuracy of that rule, the best one without a model
    chance: float


def interval(row: Row, value: str, places: int = 1, sign: str = "") -> str:
    """A figure with its interval, if it has one; sign "+": of a difference."""
    mean, low, high = (row[f"{value}_{end}"] for end in ("mean", "low", "high"))
    shown = f"{mean:{sign}z.{places}f}"
    return shown if low is None or high is None else f"{shown} [{low:z.{places}f}, {high:z.{places}f}]"


def side(row: Row, value: str, middle: float = 0) -> int:
    """1 or -1 where the whole interval lies above or below the middle, else 0."""
    low, high = row[f"{value}_low"], row[f"{value}_high"]
    return 0 if low is None or high is None else int(low > middle) - int(high < middle)


def judged_in(tables: Tables) -> Iterator[Place]:
    every = ruled(tables["surface"], tables["benchmarks_card"]).drop_nulls("accuracy_mean")
    rules = every.filter(pl.col("own") | (pl.col("task") == AVERAGE))
    models = judged_each(rules, tables["accuracy"], tables["benchmark_accuracy"]).drop_nulls("accuracy_mean")
    averages = with_chance(tables["accuracy"], tables["benchmarks_card"]).filter(task=AVERAGE)
    chances = dict(averages.select("orientation", "chance").unique(maintain_order=True).rows())
    for of in rules.partition_by(PLACE, maintain_order=True):
        best = of.row(of["accuracy_mean"].arg_max() or 0, named=True)
        where = f"{best['orientation']} {'test pairs' if best['own'] else 'tasks'}"
        chance = PAIR if best["own"] else chances.get(best["orientation"], PAIR)
        here = models.join(of, on=PLACE, how="semi", maintain_order="left").rows(named=True)
        if here:
            yield Place(where, {row["regime"]: row for row in here}, rule(best["rule"]), best["accuracy_mean"], chance)


def at_a_glance(tables: Tables) -> dict[str, pl.DataFrame]:
    """Caption -> table; those without rows are left out."""
    found = {ACCURACY: accuracy_beside_rules(list(judged_in(tables))), SETS: cost_of_sets(tables["tension"])}
    return {caption: table for caption, table in found.items() if len(table)}


def accuracy_beside_rules(places: list[Place]) -> pl.DataFrame:
    """A row for each place, a column for each model: last, as many of them go beyond the right edge."""
    models = list(dict.fromkeys(model for place in places for model in place.models))
    rows = []
    for place in places:
        cells = {
            model: interval(row, "accuracy") + ("" if row["same"] else " ‡") for model, row in place.models.items()
        }
        without = {"by chance": f"{place.chance:.0f}", "best rule": f"{place.best:.1f}: {place.rule}"}
        rows.append({"on": place.where} | without | {model: cells.get(model, "") for model in models})
    return pl.DataFrame(rows)


def on_one_kind(tension: pl.DataFrame) -> pl.DataFrame:
    """The table of tension by zeros and without the authors' set, on own test splits; without any, on tasks."""
    rows = tension.filter(pl.col("set") != "shared-authors", replaced_by="zero").drop_nulls("delta_mean")
    tests = rows.filter(tasks=OWN_TEST)
    return tests if len(tests) else rows.filter(tasks=OWN_TASKS)


def cost_of_sets(tension: pl.DataFrame) -> pl.DataFrame:
    """A row for each set of each mixture and each model, a column for each orientation."""
    table = on_one_kind(tension).filter(pl.col("model") != OVERALL)
    is_one, several = table["model"].n_unique() == 1, table["regime"].n_unique() > 1
    missed = table.filter(pl.col("difference_high") < 0, control="size-matched")
    beyond = set(missed.select("model", "regime", "set", "orientation").rows())
    whole, keys = table.filter(control="whole"), ["regime", "set", "model"]
    order = whole.select("regime", "set").unique(maintain_order=True).join(whole.select("model").unique(
        maintain_order=True), how="cross")  # fmt: skip
    rows = []
    for of in order.join(whole, on=keys, maintain_order="left").partition_by(keys, maintain_order=True):
        regime, name, model, size, tasks = of.select(*keys, "n_neurons", "tasks").row(0)
        kind = "test pairs" if tasks == OWN_TEST else "tasks"
        cells = {"set": f"{name} ({regime})" if several else name} | ({} if is_one else {"reward model": model})
        cells["neurons"] = f"{size:,.0f}"
        for row in of.rows(named=True):
            mark = " †" if (model, regime, name, row["orientation"]) in beyond else ""
            cells[f"{row['orientation']} {kind}"] = interval(row, "delta", sign="+") + mark
        rows.append(cells)
    return pl.DataFrame(rows).fill_null("")
