"""Rank the neurons of one reward model."""

from rmtension import jobs

jobs.start(snakemake.log[0])

from pathlib import Path

import polars as pl

from rmtension.files import write_parquet
from rmtension.neurons import neuron_scores, rank_neurons, seed_of
from rmtension.study import Neurons

settings = Neurons.model_validate(snakemake.params.neurons)
seed = seed_of(settings.random_seed, *snakemake.wildcards)
scores = neuron_scores(pl.read_parquet(snakemake.input.activations), settings.magnitude, seed)
write_parquet(rank_neurons(scores, settings.scorings), Path(snakemake.output[0]))
