"""Figures with their intervals, looked up in a study's tables."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan, nan
from typing import Any, NamedTuple

import polars as pl

from rmtension.analysis.surface import LONGER
from rmtension.study.naming import AVERAGE, OVERALL

Tables = Mapping[str, pl.DataFrame]


ONE_SEED = "one seed: chance in training is not seen"
ONE_SET = "analysis.selection: one set for all seeds"
NO_INTERVAL = "no interval"
NO_VERDICT = ": no verdict"
FEW = f", fewer than half{NO_VERDICT}"
ALIKE = f"an interval without width, as what it is of is all alike{NO_VERDICT}"
LEAST = 6  # comparisons: all of one mind, these have a p-value of 0.03 by a sign test, and one fewer 0.06


class Interval(NamedTuple):
    """An estimate between low and high, each NaN where the study has none; then `note` says why."""

    estimate: float = nan
    low: float = nan
    high: float = nan
    n_seeds: int | None = None
    note: str = ""

    def times(self, factor: float) -> Interval:
        # A zero is added so that no zero has a sign.
        low, high = sorted([factor * self.low + 0.0, factor * self.high + 0.0])
        return self._replace(estimate=factor * self.estimate + 0.0, low=low, high=high)

    def minus(self, other: Interval) -> Interval:
        """The widest difference of two separate intervals: wider than a paired one, so it errs towards undecided."""
        estimate, low, high = self.estimate - other.estimate, self.low - other.high, self.high - other.low
        return Interval(estimate, low, high, self.n_seeds, self.note or other.note)


def exactly(value: float) -> Interval:
    return Interval(value, value, value)


# Table -> why a row of it can be without a figure.
UNDEFINED = {
    "length_contrasts": "fewer than 5 comparisons on a side of length",
    "length_change": "fewer than 5 comparisons on a side of length",
    "length_lead": "fewer than 6 tasks, or all of one share",
    "patching_contrasts": "the mixed reward model does not fall short there",
    "repair": "fewer than 5 comparisons on a side of length",
    "repair_contrasts": "fewer than 5 comparisons on a side of length",
    "conflict": "no gradient beyond sampling noise",
    "conflict_contrasts": "no gradient beyond sampling noise",
    "thirds": "no decile of loudness in every third of the layers",
    "set_length": "all texts of one length, or as active",
    "calibration_contrasts": "no temperature",
}


def look(tables: Tables, table: str, value: str, **keys: Any) -> Interval:
    """The figure `value` from the row of a table that has these keys, over all models if it is one of models."""
    frame = tables[table]
    keys |= {"model": OVERALL} if "model" in frame.columns else {}
    rows = frame if frame.is_empty() else frame.filter(**keys)
    if rows.is_empty():
        absent = "task" in keys and keys["task"] not in [AVERAGE, *frame["task"]]
        return Interval(note="no such task in this study" if absent else f"no such row in {table}")
    row = rows.row(0, named=True)
    found = (row.get(name) for name in (f"{value}_mean", f"{value}_low", f"{value}_high"))
    estimate, low, high = (nan if figure is None else figure for figure in found)
    unknown = NO_INTERVAL if isnan(low) or isnan(high) else ""
    reason = UNDEFINED.get(table, "") if isnan(estimate) else ""
    is_pooled = keys.get("selection") == "authors"
    single = ONE_SET if is_pooled else ONE_SEED if row.get("n_seeds") == 1 else ""
    n, of = tasks_behind(frame, row, value, keys)
    few, alike, drawn = 2 * n < of, low == high, compared(tables, keys)
    left_out = f"average over {n} of {of} tasks{FEW if few else ''}" if 0 < n < of else ""
    scarce = f"{drawn} comparison{'s' if drawn > 1 else ''}{NO_VERDICT}" if 0 < drawn < LEAST else ""
    notes = [unknown, reason, noise(row), single, left_out, scarce, ALIKE if alike else "",
             models_left_out(frame, value, keys)]  # fmt: skip
    ends = (nan, nan) if few or alike or scarce else (low, high)
    return Interval(estimate, *ends, row.get("n_seeds"), "; ".join(filter(None, notes)))


def tasks_behind(frame: pl.DataFrame, row: Mapping[str, Any], value: str, keys: Mapping[str, Any]) -> tuple[int, int]:
    """Over how many tasks an average is, and how many there are; of what is none, 0 of 0."""
    if row.get("of_tasks") is not None:
        return row["n_tasks"], row["of_tasks"]
    if keys.get("task") != AVERAGE or f"{value}_mean" not in frame.columns:
        return 0, 0
    tasks = frame.filter(pl.col("task") != AVERAGE, **{name: key for name, key in keys.items() if name != "task"})
    return tasks[f"{value}_mean"].count(), len(tasks)


def compared(tables: Tables, keys: Mapping[str, Any]) -> int:
    """How many comparisons the task of a figure has in all benchmarks; 0 for an average, and of what has no task."""
    if keys.get("task", AVERAGE) == AVERAGE:
        return 0
    of_task = tables["surface"].filter(rule=LONGER, orientation=keys["orientation"], task=keys["task"])
    return int(of_task["n_comparisons"].sum())


def noise(row: Mapping[str, Any]) -> str:
    """Of a figure of gradients, in how many reward models it is noise by itself; "" if in none."""
    n = row.get("n_noise") or 0
    return f"gradients within noise in {n} of the reward models" if n else ""


def models_left_out(frame: pl.DataFrame, value: str, keys: Mapping[str, Any]) -> str:
    """Of a mean over models, how many of them it is over; "" if over all."""
    if keys.get("model") != OVERALL or f"{value}_mean" not in frame.columns:
        return ""
    models = frame.filter(pl.col("model") != OVERALL, **{name: key for name, key in keys.items() if name != "model"})
    known = models[f"{value}_mean"].count()
    return f"mean over {known} of {len(models)} models" if 0 < known < len(models) else ""


def look_pair(tables: Tables, table: str, value: str, first: str, second: str, **keys: Any) -> Interval:
    """`look`, whichever way round a table has the two; a difference, or a correlation with one, changes its sign."""
    direct = look(tables, table, value, first=first, second=second, **keys)
    turned = look(tables, table, value, first=second, second=first, **keys)
    if turned.n_seeds is None:
        return direct
    return turned.times(-1 if value in ("difference", "correlation") else 1)
