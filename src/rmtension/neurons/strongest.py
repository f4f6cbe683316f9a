"""The strongest neurons of sets."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from rmtension.base.files import Columns
from rmtension.neurons.ranking import NEURON

STRONGEST: Columns = {"set": pl.String(), "layer": pl.Int32(), "neuron": pl.Int32(), "rank": pl.Int32()}


def strongest(ranked: pl.DataFrame, selected: pl.DataFrame, sets: Mapping[str, str], most: int) -> pl.DataFrame:
    """STRONGEST: of each of `sets` (name -> scoring), at most `most` neurons, those of the best rank by its scoring.

    ranked: see RANKINGS; selected: see SETS. A set without neurons has no row; rank is that among all neurons.
    """
    frames = [pl.DataFrame(schema=STRONGEST)]
    for of, scoring in sets.items():
        members = selected.filter(ablation=of, unit="neuron").select(NEURON)
        best = ranked.filter(scoring=scoring).join(members, on=NEURON, how="semi").sort("rank").head(most)
        frames.append(
            best.with_columns(set=pl.lit(of)).select(pl.col(name).cast(kind) for name, kind in STRONGEST.items())
        )
    return pl.concat(frames)
