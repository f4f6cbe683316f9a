"""One repository of the hub, as far as a study reads it."""

from rmtension.running import jobs

job = jobs.start(snakemake, network=True)

from pathlib import Path

from rmtension.data.hub import fetch

fetch(snakemake.wildcards.piece, Path(snakemake.output[0]).parent)
job.finish()
