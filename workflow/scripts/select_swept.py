"""Every set that is ablated in one reward model: those of one size, and the sweep over sizes."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.files import write_parquet
from rmtension.neurons import oriented_sets, sets_to_frame

params = snakemake.params
sets = pl.read_parquet(snakemake.input.sets)
swept = sets_to_frame(oriented_sets(pl.read_parquet(snakemake.input.neurons), params.scorings, params.sweep))
both = pl.concat([sets, swept]).unique(maintain_order=True)
write_parquet(both, Path(snakemake.output[0]))
job.finish()
