"""What the explorer shows of single neurons: where they lie and rank, what they do alone, and what they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from rmtension.analysis.explorer import Json, floats
from rmtension.base.files import Columns, read_table
from rmtension.neurons.ranking import NEURON, RANKINGS, SETS, STATISTICS
from rmtension.neurons.strongest import strongest
from rmtension.study.explored import explored, explored_sets
from rmtension.study.study import Study

# What is read of the files that are about single neurons.
PASSAGES: Columns = {
    **dict.fromkeys(NEURON, pl.Int32()),
    **dict.fromkeys(["response", "comparison_id"], pl.String()),
    **dict.fromkeys(["place", "peak", "start", "n_tokens"], pl.Int32()),
    "activation": pl.Float32(),
    "tokens": pl.List(pl.String()),
    "activations": pl.List(pl.Float32()),
}
WITHOUT: Columns = {
    **dict.fromkeys(NEURON, pl.Int32()),
    **dict.fromkeys(["comparison_id", "orientation"], pl.String()),
    **dict.fromkeys(["chosen_scores", "rejected_scores"], pl.List(pl.Float32())),
}
SHOWN = ["comparison_id", "peak", "start", "n_tokens", "tokens"]
MARGIN = pl.col("chosen_scores").list.min().cast(pl.Float64) - pl.col("rejected_scores").list.max().cast(pl.Float64)


def effects(scores: pl.DataFrame) -> pl.DataFrame:
    """layer, neuron, orientation; n, pairs that were scored; right and right_without, how many of them are right with
    all neurons and without this one; margin and change, the mean margin and what it changes by (float64).

    scores: WITHOUT, those of all neurons with layer and neuron null.
    """
    margins = scores.with_columns(margin=MARGIN).filter(pl.col("margin").is_not_null())
    whole = margins.filter(pl.col("layer").is_null()).select("comparison_id", whole="margin")
    both = margins.filter(pl.col("layer").is_not_null()).join(whole, on="comparison_id", maintain_order="left")
    before, after = pl.col("whole") > 0, pl.col("margin") > 0
    by = both.with_columns(before=before, after=after).group_by(*NEURON, "orientation", maintain_order=True)
    return by.agg(
        n=pl.len(),
        right=pl.col("before").sum(),
        right_without=pl.col("after").sum(),
        lost=pl.col("comparison_id").filter(pl.col("before") & ~pl.col("after")),
        gained=pl.col("comparison_id").filter(~pl.col("before") & pl.col("after")),
        margin=pl.col("whole").mean(),
        change=(pl.col("margin") - pl.col("whole")).mean(),
    )


class RewardModel:
    """The files of one regime's reward model, by the place of a model and a seed."""

    def __init__(self, folder: Path, model: str, regime: str, seed: int) -> None:
        self.place = f"{model}/{regime}/seed-{seed}"
        self.statistics = read_table(folder / f"activations/{self.place}.parquet", STATISTICS)
        ranked = read_table(folder / f"neurons/{self.place}.parquet", RANKINGS)
        self.ranked = ranked.filter(unit="neuron")

    def ranks(self, layer: int, neuron: int) -> dict[str, list[Any]]:
        """Scoring -> rank and score."""
        rows = self.ranked.filter(layer=layer, neuron=neuron).select("scoring", "rank", "score").rows()
        return {scoring: [rank, score] for scoring, rank, score in rows}

    def measured(self, layer: int, neuron: int) -> dict[str, Json]:
        """Response -> statistic -> value."""
        rows = self.statistics.filter(layer=layer, neuron=neuron).drop(NEURON).rows(named=True)
        return {row.pop("response"): row for row in rows}


def neurons_block(folder: Path, study: Study, model: str, regime: str) -> Json:
    """The neurons of a regime's reward model of the first seed that have pages, and beside them what those of other
    regimes' reward models are at the same place.

    activations: floats, of all tokens of all passages in the order of neurons, chosen before rejected.
    """
    seed = study.seeds[0]
    every = {name: RewardModel(folder, model, name, seed) for name in study.with_neurons()}
    own, sets = every[regime], explored_sets(study, regime)
    selected = read_table(folder / "selected" / own.place / "sets.parquet", SETS)
    top = strongest(own.ranked, selected, sets, study.explore.neurons)
    passages = read_table(folder / f"passages/{own.place}.parquet", PASSAGES)
    found = effects(read_table(folder / f"passages/{own.place}/scores.parquet", WITHOUT))
    neurons, activations = [], list[float]()
    for layer, neuron in top.select(NEURON).unique().sort(NEURON).rows():
        here = {"layer": layer, "neuron": neuron}
        read = passages.filter(**here).sort("response", "place")
        activations += read["activations"].explode().to_list()
        neurons.append(
            here
            | {"sets": dict(top.filter(**here).select("set", "rank").rows())}
            | {"ranks": {name: one.ranks(layer, neuron) for name, one in every.items()}}
            | {"statistics": {name: one.measured(layer, neuron) for name, one in every.items()}}
            | {"effects": found.filter(**here).drop(NEURON).rows(named=True)}
            | {"passages": {side: read.filter(response=side).select(SHOWN).rows() for side in ("chosen", "rejected")}}
        )
    layers = own.statistics.filter(response="chosen")["layer"].value_counts().sort("layer")["count"].to_list()
    return {
        "model": model,
        "regime": regime,
        "seed": seed,
        "sets": {name: by_layer(selected.filter(ablation=name), len(layers)) for name in sets},
        "scorings": sets,
        "layers": layers,
        "neurons": neurons,
        "activations": floats(activations),
    }


def by_layer(members: pl.DataFrame, n: int) -> list[int]:
    """How many of a set lie in each of `n` layers."""
    return [len(members.filter(layer=layer)) for layer in range(n)]


def neurons_blocks(folder: Path, study: Study) -> dict[str, Json]:
    """`neurons MODEL REGIME` of every model and regime whose neurons are shown."""
    return {
        f"neurons {model} {regime}": neurons_block(folder, study, model, regime)
        for model in study.models
        for regime in explored(study)
    }
