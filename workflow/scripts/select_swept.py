"""Every set that is ablated in one reward model: those of one size, and the sweep over sizes."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.files import read_table, write_parquet
from rmtension.neurons import RANKINGS, SETS, oriented_sets, sets_to_frame

params = snakemake.params
sets = read_table(snakemake.input.sets, SETS)
swept = sets_to_frame(oriented_sets(read_table(snakemake.input.neurons, RANKINGS), params.scorings, params.sweep))
both = pl.concat([sets, swept]).unique(maintain_order=True)
write_parquet(both, Path(snakemake.output[0]))
job.finish()
