"""The set of neurons whose weights the training of one reward model leaves as they are."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

import polars as pl

from rmtension.base.files import read_table, write_parquet
from rmtension.neurons.ranking import RANKINGS, STATISTICS, frozen_set, oriented_set, sets_to_frame

settings = snakemake.params.settings
singles = {
    regime: oriented_set(read_table(file, RANKINGS), settings["scoring"], settings["percent"])
    for regime, file in zip(settings["mixes"], snakemake.input.neurons, strict=True)
}
statistics = pl.concat(read_table(file, STATISTICS).select(*STATISTICS) for file in snakemake.input.activations)
held = frozen_set(settings["frozen"], singles, statistics, list(snakemake.wildcards))
write_parquet(sets_to_frame({settings["frozen"]: held}), Path(snakemake.output[0]))
job.finish()
