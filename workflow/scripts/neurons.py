"""Rank the neurons and attention heads of one reward model."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.files import read_table, write_parquet
from rmtension.neurons import HEADS, STATISTICS, rankings
from rmtension.study import Neurons

settings = Neurons.model_validate(snakemake.params.neurons)
statistics = read_table(snakemake.input.activations, STATISTICS)
heads = read_table(snakemake.input.heads, HEADS)
ranked = rankings(statistics, heads, settings, snakemake.params.target, list(snakemake.wildcards))
write_parquet(ranked, Path(snakemake.output[0]))
job.finish()
