"""Rank the neurons and attention heads of one reward model."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.files import write_parquet
from rmtension.neurons import rankings
from rmtension.study import Neurons

settings = Neurons.model_validate(snakemake.params.neurons)
statistics, heads = pl.read_parquet(snakemake.input.activations), pl.read_parquet(snakemake.input.heads)
ranked = rankings(statistics, heads, settings, snakemake.params.target, list(snakemake.wildcards))
write_parquet(ranked, Path(snakemake.output[0]))
job.finish()
