"""The sets of one size that are ablated in one reward model."""

from rmtension import jobs

jobs.start(snakemake.log[0])

from pathlib import Path

import polars as pl

from rmtension.files import write_parquet
from rmtension.neurons import oriented_set, oriented_sets, sets_to_frame, tension_sets

params, regime = snakemake.params, snakemake.wildcards.regime
ranked = {name: pl.read_parquet(snakemake.input[name]) for name in [regime, *params.mixes]}
sets = oriented_sets(ranked[regime], params.scorings, [params.percent])
if params.mixes:
    singles = {name: oriented_set(ranked[name], params.scoring, params.percent) for name in params.mixes}
    sets |= tension_sets(singles)
write_parquet(sets_to_frame(sets), Path(snakemake.output[0]))
