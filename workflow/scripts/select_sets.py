"""The sets of one size that are ablated in one reward model."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.files import read_table, write_parquet
from rmtension.neurons.ranking import (
    RANKINGS,
    STATISTICS,
    loudness_cells,
    oriented_set,
    oriented_sets,
    sets_to_frame,
    tension_sets,
    thirds_sets,
)

settings = snakemake.params.settings
percent, tension = settings["percent"], settings["tension"]
statistics, reward_model = read_table(snakemake.input.activations, STATISTICS), list(snakemake.wildcards)
drawn = settings["draws"], settings["random_seed"], reward_model
sets = oriented_sets(read_table(snakemake.input.neurons, RANKINGS), settings["scorings"], [percent])
if tension:
    singles = {
        regime: oriented_set(read_table(file, RANKINGS), tension["scoring"], percent)
        for regime, file in zip(tension["mixes"], snakemake.input.parts, strict=True)
    }
    sets |= tension_sets(singles, loudness_cells(statistics), *drawn)
sets |= thirds_sets(statistics, percent, *drawn)
write_parquet(sets_to_frame(sets), Path(snakemake.output[0]))
job.finish()
