"""Rank the neurons and attention heads of one reward model."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.base.files import read_table, write_parquet
from rmtension.neurons.ranking import ATTRIBUTIONS, HEADS, STATISTICS, rankings
from rmtension.study.scorings import Neurons

settings = snakemake.params.settings
neurons = Neurons.model_validate(settings["neurons"])
statistics = read_table(snakemake.input.activations, STATISTICS)
heads = read_table(snakemake.input.heads, HEADS)
asked = neurons.takes_attributions
attributions = read_table(snakemake.input.attributions, ATTRIBUTIONS) if asked else pl.DataFrame(schema=ATTRIBUTIONS)
ranked = rankings(statistics, heads, attributions, neurons, settings["target"], list(snakemake.wildcards))
write_parquet(ranked, Path(snakemake.output[0]))
job.finish()
