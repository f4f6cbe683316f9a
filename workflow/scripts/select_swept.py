"""Every set that is ablated in one reward model: those of one size, and the sweep over sizes."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.base.files import read_table, write_parquet
from rmtension.neurons.ranking import RANKINGS, SETS, oriented_sets, sets_to_frame

settings = snakemake.params.settings
sets, ranked = read_table(snakemake.input.sets, SETS), read_table(snakemake.input.neurons, RANKINGS)
swept = oriented_sets(ranked, settings["scorings"], settings["sweep"])
both = pl.concat([sets, sets_to_frame(swept)]).unique(maintain_order=True)
write_parquet(both, Path(snakemake.output[0]))
job.finish()
