"""The tables of repairs: how much of what a mixed reward model falls short by is closed by other ways of joining two
objectives, and at what cost (docs/methods.md, section 15)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations, product
from typing import Any

import polars as pl
import polars.selectors as cs

from rmtension.analysis.length_tables import with_rest
from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE
from rmtension.analysis.statistics import REWARD_MODEL, TASK, Draws, concat, shares, with_mean_of_models
from rmtension.base.sums import summable
from rmtension.study.data import Method
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, BOTH, OWN_TASKS, OWN_TEST
from rmtension.study.sources import regime_sources
from rmtension.study.study import Study

REPAIR = ["model", "regime", "mixture"]
WHERE = ["orientation", "tasks", "measure"]
PLACE = [*REPAIR, *WHERE]
FIGURES = ["baseline", "target", "repaired", "gap", "gain"]
COSTS = ["pairs_seen", "pairs_needed", "scoring_cost"]
NEED_PARTS: list[Method] = ["merged", "frozen", "ensemble"]  # are made of the parts' reward models
NO_GAP, AHEAD = "the gap's interval holds 0", "the mixed reward model is ahead"


def on_splits(results: Results, parts: Sequence[str]) -> Iterator[tuple[str, Draws]]:
    """Measure, and every reward model's figure by it on the test split of each part; keyed by REWARD_MODEL, orientation
    and task (AVERAGE), and as results.task_accuracy by each source of the split.

    Accuracy is of all the split's pairs together, as ever; balanced accuracy the mean over its sources.
    """
    own, by = own_tests(results.study), [*REWARD_MODEL, "task"]
    made = [block.of_units(NONE) for block in results.blocks if block.benchmark in own]
    balanced, accuracy = results.pairs.own_balanced, results.bootstrap.accuracy(made) if made else None
    for part in parts:
        sources = pl.col("task").is_in(regime_sources(results.study, part, "test"))
        splits = [block for block in made if block.task in regime_sources(results.study, part, "test")]
        names = pl.lit(part).alias("orientation"), pl.lit(AVERAGE).alias("task")
        if splits and accuracy is not None:
            whole = results.bootstrap.pooled_accuracy(splits).mean(REWARD_MODEL).with_columns(*names)
            yield "accuracy", concat([accuracy.filter(sources).mean(by).with_columns(names[0]), whole])
            of = balanced.filter(sources).mean(by)
            yield "balanced", concat([of.with_columns(names[0]), of.mean(REWARD_MODEL).with_columns(*names)])


def measured(results: Results, parts: Sequence[str]) -> dict[tuple[str, str], Draws]:
    """(tasks, measure) -> every reward model's figure, keyed by REWARD_MODEL and TASK, averages among them."""
    averages = {"accuracy": results.task_accuracy, "balanced": results.pairs.length["balanced"]}
    columns = [*REWARD_MODEL, *TASK]
    found: dict[tuple[str, str], list[Draws]] = {
        (OWN_TASKS, measure): [every.filter(NONE)] for measure, every in averages.items()
    }
    for measure, every in on_splits(results, parts):
        found.setdefault((OWN_TEST, measure), []).append(every)
    return {place: concat([Draws(of.keys.select(columns), of.values) for of in several])
            for place, several in found.items()}  # fmt: skip


def on_both(figure: Draws, parts: Sequence[str]) -> Draws:
    """The rows of the two parts' orientations, and their mean where there are both."""
    first, second = (figure.filter(orientation=part) for part in parts)
    mean = first.combined(second, ["model", "seed"], lambda one, other: (one + other) / 2)
    return concat([first, second, mean.with_columns(pl.lit(BOTH).alias("orientation"))])


def differences(results: Results) -> tuple[dict[str, Draws], pl.DataFrame]:
    """FIGURES, keyed by PLACE and seed, within each seed; without keys where nothing is repaired. And of PLACE,
    with_rest of the repairs' figures."""
    found: dict[str, list[Draws]] = {name: [] for name in FIGURES}
    on, rests = ["model", "seed", "orientation"], [pl.DataFrame()]
    for mixture in dict.fromkeys(mixture for _, mixture in results.study.repaired()):
        parts = results.study.regimes[mixture].mixes
        for (tasks, measure), every in measured(results, parts).items():
            accuracy = every.filter(task=AVERAGE)
            own = on_both(accuracy.filter(pl.col("regime") == pl.col("orientation")), parts)
            mixed = on_both(accuracy.filter(regime=mixture), parts)
            for repair in (repair for repair, of in results.study.repaired() if of == mixture):
                names = {"regime": repair, "mixture": mixture, "tasks": tasks, "measure": measure}
                columns = [pl.lit(word).alias(key) for key, word in names.items()]
                repaired = on_both(accuracy.filter(regime=repair), parts)
                figures = mixed, own, repaired, own.minus(mixed, on), repaired.minus(mixed, on)
                for name, figure in zip(FIGURES, figures, strict=True):
                    keyed = figure.with_columns(*columns)
                    found[name].append(Draws(keyed.keys.select(*PLACE, "seed"), keyed.values))
                rests.append(rest(every.filter(regime=repair), parts).with_columns(*columns))
    known = {name: concat(several) for name, several in found.items() if several}
    return known, pl.concat(rests, how="diagonal")


def rest(every: Draws, parts: Sequence[str]) -> pl.DataFrame:
    """model, orientation, n_tasks, of_tasks of a repair's averages; of both orientations, those of the one of which the
    lesser share is there."""
    of_parts = with_rest(every, ["model"]).filter(pl.col("orientation").is_in(parts), task=AVERAGE)
    both = of_parts.sort(pl.col("n_tasks") / pl.col("of_tasks"), maintain_order=True).group_by(
        "model", maintain_order=True
    )
    worst = both.first().with_columns(orientation=pl.lit(BOTH))
    return pl.concat([of_parts, worst.select(of_parts.columns)]).drop("task")


def calibration_changes(results: Results) -> pl.DataFrame:
    """REPAIR; squared_ce_change, on average over the benchmarks that regimes share."""
    error = results.pairs.calibration["squared_ce"].filter(NONE)
    error, parts = error.filter(~pl.col("benchmark").is_in(own_tests(results.study))), list[Draws]()
    for repair, mixture in results.study.repaired():
        change = error.filter(regime=repair).minus(error.filter(regime=mixture), ["model", "seed", "benchmark"])
        parts.append(change.mean(REWARD_MODEL).with_columns(pl.lit(mixture).alias("mixture")))
    return results.table(concat(parts), REPAIR, "squared_ce_change").drop("p", "n_seeds")


def costs(study: Study, pairs_seen: pl.DataFrame) -> pl.DataFrame:
    """model, regime, method and COSTS of every repair: means over the seeds, and over the models, of which they are
    known. pairs_seen: see load_pairs_seen."""
    seen, rows = {tuple(place): n for *place, n in pairs_seen.rows()}, []
    for repair, model, seed in product(study.repairs(), study.models, study.seeds):
        method, parts = study.regimes[repair].method, study.regimes[repair].mixes
        paid = [seen[model, name, seed] for name in (repair, *(parts if method in NEED_PARTS else []))]
        needed = None if None in paid else sum(paid)
        rows.append((model, repair, method, paid[0], needed, len(parts) if method == "ensemble" else 1))
    names = dict.fromkeys(["model", "regime", "method"], pl.String) | dict.fromkeys(COSTS, pl.Float64)
    means = pl.DataFrame(rows, schema=names, orient="row").group_by("model", "regime", "method", maintain_order=True)
    return with_mean_of_models(means.agg(pl.col(COSTS).mean()), ["regime", "method"], COSTS)


def loudness(of_seeds: pl.DataFrame) -> pl.DataFrame:
    """model, regime, loudness (see load_loudness): means over seeds, and over models."""
    means = of_seeds.group_by("model", "regime", maintain_order=True).agg(summable(pl.col("loudness")).mean())
    return with_mean_of_models(means, ["regime"], ["loudness"])


def repair_table(results: Results) -> pl.DataFrame:
    """model, regime (in which two objectives come together otherwise), mixture (the mixed regime of the same parts),
    method, orientation (a part's, or both: the mean of the two), tasks (`own tasks`: the average over those of the
    orientation; `own test`: its part's test split), measure (accuracy, or balanced: length-balanced accuracy); n_tasks,
    the tasks (of own test, sources) that have such a figure, of_tasks, of how many, in both orientations those of the
    one with fewer; baseline, that of the mixture, target, that of the part whose orientation it is, and repaired, that
    of the regime; gap, target minus baseline, gain, repaired minus baseline, and closed, mean gain over mean gap, null
    unless the gap lies above 0 with the whole interval, as note then says. Then the same in every row of a repair:
    squared_ce_change, the mixture's squared calibration error to its own, averaged over benchmarks; pairs_seen in its
    own training, once for each epoch, pairs_needed, with those of the parts where it is made of them (merged, frozen,
    ensemble), both null where a reward model was trained elsewhere; scoring_cost, how many reward models score a
    text; loudness, of one that held matched neurons fixed, their mean |a| over that of the shared ones."""
    columns: list[Any] = [*REPAIR, "method", *WHERE, "n_tasks", "of_tasks"]
    columns += [cs.starts_with(f"{name}_") for name in [*FIGURES, "closed"]]
    columns += [cs.starts_with("squared_ce_change_"), *COSTS, "loudness", "n_seeds", "p", "note"]
    found, rests = differences(results)
    if not found or found["gain"].keys.is_empty():
        empty = empty_table(
            [*FIGURES, "closed", "squared_ce_change"], [*PLACE, "method", "note"], "p", *COSTS, "loudness"
        )
        numbers = pl.lit(0, pl.UInt32)
        return empty.drop("closed_sd").with_columns(n_tasks=numbers, of_tasks=numbers).select(columns)
    table = results.table(found["gain"], PLACE, "gain", **{name: found[name] for name in FIGURES[:-1]})
    closed = shares(results.bootstrap, found["gain"], PLACE, found["gap"], PLACE, "closed", pl.col("low") > 0)
    beside: Mapping[str, tuple[pl.DataFrame, list[str]]] = {
        "closed": (closed, PLACE),
        "rest": (rests, PLACE),
        "calibration": (calibration_changes(results), REPAIR),
        "costs": (costs(results.study, results.pairs_seen), REPAIR[:2]),
        "loudness": (loudness(results.loudness), REPAIR[:2]),
    }
    table = reduce(lambda one, two: one.join(two[0], on=two[1], how="left", maintain_order="left"), beside.values(),
                   table)  # fmt: skip
    is_clear = pl.col("gap_mean").is_null() | (pl.col("gap_low") > 0)
    note = pl.when(is_clear).then(pl.lit("")).when(pl.col("gap_high") < 0).then(pl.lit(AHEAD)).otherwise(pl.lit(NO_GAP))
    return table.with_columns(note=note).select(columns)


def repair_contrasts_table(results: Results) -> pl.DataFrame:
    """model, mixture, first, second (two repairs of it), orientation, tasks, measure (as in repair), n_tasks, of_tasks;
    difference, accuracy of the first minus that of the second on the same comparisons."""
    by, on = ["model", "mixture", "first", "second", *WHERE], ["model", "seed", *WHERE]
    (found, rests), parts = differences(results), list[Draws]()
    for mixture in dict.fromkeys(mixture for _, mixture in results.study.repaired()):
        repaired = found["repaired"].filter(mixture=mixture)
        repairs = [repair for repair, of in results.study.repaired() if of == mixture]
        for first, second in combinations(repairs, 2):
            names = [pl.lit(first).alias("first"), pl.lit(second).alias("second")]
            of_two = repaired.filter(regime=first).minus(repaired.filter(regime=second), on)
            parts.append(of_two.with_columns(*names))
    if not parts or parts[0].keys.is_empty():
        numbers = pl.lit(0, pl.UInt32)
        empty = empty_table(["difference"], by, "p").with_columns(n_tasks=numbers, of_tasks=numbers)
        return empty.select(*by, "n_tasks", "of_tasks", cs.starts_with("difference_"), "n_seeds", "p")
    table = results.table(concat(parts), by, "difference")
    of_first = rests.rename({"regime": "first"})
    table = table.join(of_first, on=["model", "mixture", "first", *WHERE], how="left", maintain_order="left")
    return table.select(*by, "n_tasks", "of_tasks", cs.starts_with("difference_"), "n_seeds", "p")
