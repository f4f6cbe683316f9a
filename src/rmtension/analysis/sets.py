"""The sets of neurons that a study compares: the names they were ablated under, their sizes, and their members."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import polars as pl
import polars.selectors as cs

from rmtension.analysis.statistics import REWARD_MODEL
from rmtension.study.measured import compared_sets
from rmtension.study.naming import MEAN, OVERALL, ablation_name, exclusive_names, sized, tension_sets_index
from rmtension.study.study import Study

NONE = pl.col("ablation") == "none"


def mixtures(study: Study, regimes: Iterable[str]) -> list[tuple[str, str]]:
    """Each of these regimes that mixes two others, with each of its parts, where their reward models differ."""
    return [] if study.given else [(mixed, single) for mixed in regimes for single in study.regimes[mixed].mixes]


def shared_set(study: Study) -> str:
    """The name of the set that the claims call shared."""
    return "shared-authors" if study.analysis.shared == "authors" else "shared"


def listed(study: Study, regime: str) -> list[str]:
    """What is ablated where single pairs are looked at: nothing, the own main set, and a mixed regime's whole sets."""
    mixes = study.regimes[regime].mixes
    return ["none", study.ablation.main_set, *([shared_set(study), *exclusive_names(mixes)[1:]] if mixes else [])]


def own_sets(study: Study, *sizes: float | str) -> pl.DataFrame:
    """scoring, percent (null of a count), count (null of a percent), ablation: the name that each scoring's set of that
    size was ablated under; 0 % is no ablation."""
    schema = {"scoring": pl.String, "percent": pl.Float64, "count": pl.Int64, "ablation": pl.String}
    every = product(study.neurons.scorings, dict.fromkeys(sizes))
    rows = [(scoring, *sized(size), ablation_name(scoring, size) if size else "none") for scoring, size in every]
    return pl.DataFrame(rows, schema=schema, orient="row")


def mixed_sets(study: Study) -> pl.DataFrame:
    """regime, ablation (its name in the scores), set, control: what is ablated in each mixed regime."""
    rows = [
        (regime, s.name, s.set, s.control)
        for regime in study.with_neurons()
        for s in tension_sets_index(study.regimes[regime].mixes, study.ablation.control_draws)
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(["regime", "ablation", "set", "control"], pl.String), orient="row")


def compared(study: Study, regime: str) -> pl.DataFrame:
    """ablation (its name among those selected), set, control: what is patched in a mixed regime's reward models, and
    where gradients are compared."""
    rows = [(one.name, one.set, one.control) for one in compared_sets(study, regime)]
    return pl.DataFrame(rows, schema=dict.fromkeys(["ablation", "set", "control"], pl.String), orient="row")


def with_values(sets: pl.DataFrame, study: Study) -> pl.DataFrame:
    """own_sets or mixed_sets of the main size, once for each value that neurons are `replaced_by`.

    Heads are replaced by zeros alone: what stands here for their means is in no scores.
    """
    ends = {"zero": "", "mean": MEAN}
    name = pl.col("ablation")
    return pl.concat(sets.with_columns(name + ends[v], replaced_by=pl.lit(v)) for v in study.ablation.values)


def own_sizes(sizes: pl.DataFrame, study: Study) -> pl.DataFrame:
    """model, regime, scoring, percent, count; n_neurons, the mean size of that set. sizes: see load_sizes."""
    swept = own_sets(study, 0, study.ablation.percent, *study.ablation.sweep)
    return mean_sizes(sizes, study, swept, ["scoring", "percent", "count"])


def mixed_sizes(sizes: pl.DataFrame, study: Study) -> pl.DataFrame:
    """model, regime, set, control; n_neurons, the mean size over draws and seeds. sizes: see load_sizes."""
    return mean_sizes(sizes, study, mixed_sets(study), ["set", "control"])


def mean_sizes(sizes: pl.DataFrame, study: Study, named: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """An empty set has no rows in its file: its size is 0."""
    rows = pl.DataFrame(
        list(product(study.models, study.with_neurons(), study.seeds)), schema=REWARD_MODEL, orient="row"
    )
    every = rows.join(named, on="regime") if "regime" in named.columns else rows.join(named, how="cross")
    sizes = sizes.cast({cs.categorical(): pl.String, "seed": pl.Int64})
    joined = every.join(sizes, on=[*REWARD_MODEL, "ablation"], how="left").with_columns(
        pl.col("n_neurons").fill_null(0)
    )
    both = pl.concat([joined, joined.with_columns(model=pl.lit(OVERALL))])
    return both.group_by("model", "regime", *by, maintain_order=True).agg(pl.col("n_neurons").mean())
