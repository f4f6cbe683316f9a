"""What is said of repairs in words: what each costs, and which to take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from rmtension.study.naming import BOTH, OVERALL, OWN_TASKS, OWN_TEST

Row = Mapping[str, Any]
NAMED = {OWN_TEST: "the test splits of both parts", OWN_TASKS: "the tasks of both orientations"}


def cost(row: Row) -> list[str]:
    """What a repair takes to be made, and to score; row: of the table of repairs."""
    seen, needed, scoring = (row[name] for name in ("pairs_seen", "pairs_needed", "scoring_cost"))
    own = "pairs unknown" if seen is None else f"trained on {seen:,.0f} pairs" if seen else "no training"
    parts = f"; parts on {needed - seen:,.0f}" if None not in (seen, needed) and needed > seen else ""
    return [own + parts, *([f"{scoring:.0f} models score"] if scoring > 1 else [])]


def which_to_take(table: pl.DataFrame, contrasts: pl.DataFrame, ends: Sequence[str], n_seeds: int) -> Iterator[str]:
    """Of each mixed regime: what it falls short by, which repair to take, and which others gain or lose.

    table, contrasts: of repairs; ends: regimes that are one of their parts. What is taken is the best of those that
    surely gain on both orientations together and surely lose nowhere: on the parts' own test splits, or where a study
    has none, on the orientations' tasks.
    """
    rows = table.filter(~pl.col("regime").is_in(ends), model=OVERALL).drop_nulls(["gain_mean", "gain_low"])
    for (mixed,), of in rows.group_by("mixture", maintain_order=True):
        plain = of.filter(measure="accuracy")
        losing = plain.filter(pl.col("gain_high") < 0)["regime"].unique(maintain_order=True)
        places = [tasks for tasks in (OWN_TEST, OWN_TASKS) if tasks in of.filter(orientation=BOTH)["tasks"]]
        both = {tasks: with_balanced(of.filter(orientation=BOTH, tasks=tasks)) for tasks in places}
        for tasks in places:
            yield from shortfall(str(mixed), tasks, both[tasks])
        if not places:
            yield f"Of {mixed} nothing is said: one of its parts has neither a test split nor tasks of its orientation."
            continue
        first, *others = [both[tasks] for tasks in places]
        gaining = first.filter(pl.col("gain_low") > 0, ~pl.col("regime").is_in(losing.implode()))
        if len(gaining):
            yield from advice(gaining.to_dicts(), others)
            yield from chosen(gaining["regime"][0], first, contrasts.filter(mixture=mixed, model=OVERALL))
            if n_seeds == 1:
                yield "One seed: chance in training is not seen, and may be all of it."
        else:
            yield f"No repair surely gains on {NAMED[places[0]]} and loses nowhere: there is no reason to take one."
        if len(losing):
            yield f"Surely worse than {mixed}, on an orientation or on both: {', '.join(losing)}."


def with_balanced(both: pl.DataFrame) -> pl.DataFrame:
    """Rows of accuracy with the gain in balanced accuracy beside it; first those of which that is sure, then the
    greatest gain."""
    ends = [f"gain_{end}" for end in ("mean", "low", "high")]
    beside = pl.col(*ends, "n_tasks", "of_tasks").name.prefix("balanced_")
    balanced = both.filter(measure="balanced").select("regime", beside)
    rows = both.filter(measure="accuracy").join(balanced, on="regime", how="left", maintain_order="left")
    enough = 2 * pl.col("balanced_n_tasks") >= pl.col("balanced_of_tasks")
    sure = ((pl.col("balanced_gain_low") > 0) & enough).fill_null(value=False)
    return rows.sort(sure, "gain_mean", descending=True, maintain_order=True)


def shortfall(mixed: str, tasks: str, both: pl.DataFrame) -> Iterator[str]:
    for row in both.head(1).iter_rows(named=True):
        is_sure = not unsure(row, "gap")
        surely = "falls short of its parts by" if is_sure else "does not surely fall short of its parts:"
        yield f"On {NAMED[tasks]} together, {mixed} {surely} {points(row, 'gap')}."


def advice(gaining: Sequence[Row], elsewhere: Sequence[pl.DataFrame]) -> Iterator[str]:
    """gaining: of with_balanced, in its order; elsewhere: the same of the other places, not of these alone."""
    best, *others = gaining
    share = "" if best["closed_mean"] is None else f", {100 * best['closed_mean']:.0f} % of that"
    where = f"on {NAMED[best['tasks']]}{share} ({', '.join(cost(best))})"
    yield f"Take {best['regime']}: it gains {points(best, 'gain')} {where}."
    yield from of_balanced(best)
    for there in elsewhere:
        for row in there.filter(regime=best["regime"]).iter_rows(named=True):
            yield f"On {NAMED[row['tasks']]} it gains {points(row, 'gain')}{unsure(row, 'gain')}."
    low, high = best["squared_ce_change_low"], best["squared_ce_change_high"]
    if low is not None and (low > 0 or high < 0):
        yield f"Its probabilities are calibrated {'worse' if low > 0 else 'better'}."
    if others:
        named = [f"{row['regime']} by {row['gain_mean']:.1f} ({', '.join(cost(row))})" for row in others]
        yield f"Surely gaining, too: {'; '.join(named)}."


def of_balanced(row: Row) -> Iterator[str]:
    """Its gain once length decides nothing, on how many tasks that rests, and whether it is sure."""
    n, of = row["balanced_n_tasks"], row["balanced_of_tasks"]
    if row["balanced_gain_low"] is None:
        return
    rests = "" if n == of else f", over {n} of {of} tasks"
    if 2 * n < of:
        yield f"Length-balanced accuracy is known on {n} of {of} tasks alone, and tells nothing of it."
    else:
        rests += unsure(row, "balanced_gain")
        yield f"On length-balanced accuracy that is {points(row, 'balanced_gain')}{rests}."


def chosen(best: str, candidates: pl.DataFrame, contrasts: pl.DataFrame) -> Iterator[str]:
    """Of how many repairs it is the best, and whether it is surely better than the second: of those that were not
    taken, the one of the greatest gain."""
    others = candidates.filter(pl.col("regime") != best).sort("gain_mean", descending=True, maintain_order=True)
    if others.is_empty():
        return
    second = others["regime"][0]
    of_two = contrasts.filter(orientation=BOTH, tasks=candidates["tasks"][0], measure="accuracy")
    lead = [f"difference_{end}" for end in ("mean", "low", "high")]
    turned = [(-pl.col(lead[i])).alias(name) for name, i in zip(lead, (0, 2, 1), strict=True)]
    rows = of_two.filter(first=best, second=second), of_two.filter(first=second, second=best).with_columns(turned)
    ahead = list[str]()
    for row in pl.concat(rows).drop_nulls(lead).iter_rows(named=True):
        holds = "which holds 0" if row[lead[1]] <= 0 <= row[lead[2]] else "which does not hold 0"
        ahead.append(f"; less that of the next, {second}, it is {points(row, 'difference')}, {holds}")
    told = (
        f"It was chosen among {len(candidates)} by the figures that it is reported with: its gain is overrated a little"
    )
    yield f"{told}{''.join(ahead)}."


def unsure(row: Row, value: str) -> str:
    low, high = row[f"{value}_low"], row[f"{value}_high"]
    if low is None or high is None:
        return ", which is not sure"
    return "" if low > 0 else ", a loss" if high < 0 else ", which is not sure"


def points(row: Row, value: str) -> str:
    mean, low, high = (row[f"{value}_{end}"] for end in ("mean", "low", "high"))
    return f"{mean:.1f} points" + ("" if low is None or high is None else f" [{low:.1f}, {high:.1f}]")
