"""What is said of repairs in words: what each costs, and which to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from rmtension.study.naming import BOTH, OVERALL

Row = Mapping[str, Any]


def cost(row: Row) -> list[str]:
    """What a repair takes to be made, and to score; row: of the table of repairs."""
    seen, needed, scoring = (row[name] for name in ("pairs_seen", "pairs_needed", "scoring_cost"))
    own = "pairs unknown" if seen is None else f"trained on {seen:,.0f} pairs" if seen else "no training"
    parts = f"; parts on {needed - seen:,.0f}" if None not in (seen, needed) and needed > seen else ""
    return [own + parts, *([f"{scoring:.0f} models score"] if scoring > 1 else [])]


def which_to_take(table: pl.DataFrame, n_seeds: int) -> Iterator[str]:
    """Of each mixed regime: what it falls short by, which repair to take, and which others gain or lose."""
    rows = table.filter(model=OVERALL).drop_nulls(["gain_mean", "gain_low"])
    for (mixed,), of in rows.group_by("mixture", maintain_order=True):
        plain = of.filter(measure="accuracy")
        losing = plain.filter(pl.col("gain_high") < 0)["regime"].unique(maintain_order=True)
        both = with_balanced(of.filter(orientation=BOTH))
        yield from shortfall(str(mixed), both)
        gaining = both.filter(pl.col("gain_low") > 0, ~pl.col("regime").is_in(losing.implode()))
        if len(gaining):
            yield from advice(gaining.to_dicts())
            yield from ["One seed: chance in training is not seen, and may be all of it."] if n_seeds == 1 else []
        elif len(both):
            yield "No repair surely gains on both together and loses on neither: there is no reason to take one."
        else:
            yield f"Of {mixed} nothing is said: one of its parts has no tasks of its orientation."
        if len(losing):
            yield f"Surely worse than {mixed}, on an orientation or on both: {', '.join(losing)}."


def with_balanced(both: pl.DataFrame) -> pl.DataFrame:
    """Rows of accuracy with the gain in balanced accuracy beside it; first those of which that is sure, then the
    greatest gain."""
    ends = [f"gain_{end}" for end in ("mean", "low", "high")]
    balanced = both.filter(measure="balanced").select("regime", pl.col(ends).name.prefix("balanced_"))
    rows = both.filter(measure="accuracy").join(balanced, on="regime", how="left", maintain_order="left")
    sure = (pl.col("balanced_gain_low") > 0).fill_null(value=False)
    return rows.sort(sure, "gain_mean", descending=True, maintain_order=True)


def shortfall(mixed: str, both: pl.DataFrame) -> Iterator[str]:
    for row in both.head(1).iter_rows(named=True):
        surely = "falls short of its parts by" if row["gap_low"] > 0 else "does not surely fall short of its parts:"
        yield f"On the tasks of both orientations together, {mixed} {surely} {points(row, 'gap')}."


def advice(gaining: Sequence[Row]) -> Iterator[str]:
    """gaining: of with_balanced, in its order."""
    best, *others = gaining
    share = "" if best["closed_mean"] is None else f", {100 * best['closed_mean']:.0f} % of that"
    yield f"Take {best['regime']}: it gains {points(best, 'gain')}{share} ({', '.join(cost(best))})."
    if (low := best["balanced_gain_low"]) is not None:
        sure = "" if low > 0 else ", a loss" if best["balanced_gain_high"] < 0 else ", which is not sure"
        yield f"On length-balanced accuracy that is {points(best, 'balanced_gain')}{sure}."
    low, high = best["squared_ce_change_low"], best["squared_ce_change_high"]
    if low is not None and (low > 0 or high < 0):
        yield f"Its probabilities are calibrated {'worse' if low > 0 else 'better'}."
    if others:
        named = [f"{row['regime']} by {row['gain_mean']:.1f} ({', '.join(cost(row))})" for row in others]
        yield f"Surely gaining, too: {'; '.join(named)}."


def points(row: Row, value: str) -> str:
    mean, low, high = (row[f"{value}_{end}"] for end in ("mean", "low", "high"))
    return f"{mean:.1f} points [{low:.1f}, {high:.1f}]"
