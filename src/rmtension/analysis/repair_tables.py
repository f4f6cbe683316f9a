"""The table of repairs: how much of what a mixed reward model falls short by is closed by other ways of joining two
objectives, and at what cost (docs/methods.md, section 15)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import polars as pl
import polars.selectors as cs

from rmtension.analysis.results import Results, empty_table
from rmtension.analysis.sets import NONE
from rmtension.analysis.statistics import REWARD_MODEL, Draws, concat, shares
from rmtension.study.data import Method
from rmtension.study.measured import own_tests
from rmtension.study.naming import AVERAGE, BOTH, OVERALL
from rmtension.study.study import Study

REPAIR = ["model", "regime", "mixture"]
PLACE = [*REPAIR, "orientation", "measure"]
FIGURES = ["baseline", "target", "repaired", "gap", "gain"]
COSTS = ["pairs_seen", "pairs_needed", "scoring_cost"]
NEED_PARTS: list[Method] = ["merged", "frozen", "ensemble"]  # are made of the parts' reward models
NO_GAP, AHEAD = "the gap's interval holds 0", "the mixed reward model is ahead"


def on_both(accuracy: Draws, parts: Sequence[str]) -> Draws:
    """The rows of the two parts' orientations, and their mean where there are both."""
    first, second = (accuracy.filter(orientation=part) for part in parts)
    mean = first.combined(second, ["model", "seed"], lambda one, other: (one + other) / 2)
    return concat([first, second, mean.with_columns(pl.lit(BOTH).alias("orientation"))])


def differences(results: Results) -> dict[str, Draws]:
    """FIGURES, keyed by PLACE and seed; within each seed. Without keys where nothing is repaired."""
    averages = {"accuracy": results.task_accuracy, "balanced": results.pairs.length["balanced"]}
    found: dict[str, list[Draws]] = {name: [] for name in FIGURES}
    on = ["model", "seed", "orientation"]
    for measure, every in averages.items():
        accuracy = every.filter(NONE, task=AVERAGE)
        for repair, mixture in results.study.repaired():
            parts = results.study.regimes[mixture].mixes
            mixed, repaired = (on_both(accuracy.filter(regime=regime), parts) for regime in (mixture, repair))
            own = on_both(accuracy.filter(pl.col("regime") == pl.col("orientation")), parts)
            figures = mixed, own, repaired, own.minus(mixed, on), repaired.minus(mixed, on)
            names = {"regime": repair, "mixture": mixture, "measure": measure}
            for name, figure in zip(FIGURES, figures, strict=True):
                keyed = figure.with_columns(*(pl.lit(word).alias(key) for key, word in names.items()))
                found[name].append(Draws(keyed.keys.select(*PLACE, "seed"), keyed.values))
    return {name: concat(several) for name, several in found.items() if several}


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
    of_models = means.agg(pl.col(COSTS).mean())
    overall = of_models.group_by("regime", "method", maintain_order=True).agg(pl.col(COSTS).mean())
    return pl.concat([of_models, overall.select(pl.lit(OVERALL).alias("model"), pl.all())])


def repair_table(results: Results) -> pl.DataFrame:
    """model, regime (in which two objectives come together otherwise), mixture (the mixed regime of the same parts),
    method, orientation (a part's, or both: the mean of the two), measure (accuracy, or balanced: length-balanced
    accuracy; averages over that orientation's tasks); baseline, that of the mixture, target, that of the part whose
    orientation it is, and repaired, that of the regime; gap, target minus baseline, gain, repaired minus baseline, and
    closed, mean gain over mean gap, null unless the gap lies above 0 with the whole interval, as note then says. Then
    the same in every row of a repair: squared_ce_change, the mixture's squared calibration error to its own, averaged
    over benchmarks; pairs_seen in its own training, once for each epoch, pairs_needed, with those of the parts where it
    is made of them (merged, frozen, ensemble), both null where a reward model was trained elsewhere; scoring_cost, how
    many reward models score a text."""
    columns = [*REPAIR, "method", *PLACE[3:], *(cs.starts_with(f"{name}_") for name in [*FIGURES, "closed"])]
    columns += [cs.starts_with("squared_ce_change_"), *COSTS, "n_seeds", "p", "note"]
    found = differences(results)
    if not found or found["gain"].keys.is_empty():
        empty = empty_table([*FIGURES, "closed", "squared_ce_change"], [*PLACE, "method", "note"], "p", *COSTS)
        return empty.drop("closed_sd").select(columns)
    table = results.table(found["gain"], PLACE, "gain", **{name: found[name] for name in FIGURES[:-1]})
    closed = shares(results.bootstrap, found["gain"], PLACE, found["gap"], PLACE, "closed", pl.col("low") > 0)
    table = table.join(closed, on=PLACE, how="left", maintain_order="left")
    table = table.join(calibration_changes(results), on=REPAIR, how="left", maintain_order="left")
    paid = costs(results.study, results.pairs_seen)
    table = table.join(paid, on=["model", "regime"], how="left", maintain_order="left")
    is_clear = pl.col("gap_mean").is_null() | (pl.col("gap_low") > 0)
    note = pl.when(is_clear).then(pl.lit("")).when(pl.col("gap_high") < 0).then(pl.lit(AHEAD)).otherwise(pl.lit(NO_GAP))
    return table.with_columns(note=note).select(columns)
