"""The sets of one size that are ablated in one reward model."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.files import write_parquet
from rmtension.neurons import loudness_cells, oriented_set, oriented_sets, sets_to_frame, tension_sets

percent, tension = snakemake.params.percent, snakemake.params.tension
sets = oriented_sets(pl.read_parquet(snakemake.input.neurons), snakemake.params.scorings, [percent])
if tension:
    singles = {
        regime: oriented_set(pl.read_parquet(file), tension["scoring"], percent)
        for regime, file in zip(tension["mixes"], snakemake.input.parts, strict=True)
    }
    cells = loudness_cells(pl.read_parquet(snakemake.input.activations))
    reward_model = list(snakemake.wildcards)
    sets |= tension_sets(singles, cells, tension["draws"], tension["random_seed"], reward_model)
write_parquet(sets_to_frame(sets), Path(snakemake.output[0]))
job.finish()
