"""One mixed reward model on one benchmark, with activations of its parts' written in."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.files import read_table, write_parquet
from rmtension.data.comparisons import read_comparisons
from rmtension.engine.patching import patch
from rmtension.neurons.ranking import SETS

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
donors = [Path(file).parent for file in snakemake.input.donors]
scores = patch(
    Path(snakemake.input.reward_model).parent,
    dict(zip(settings["donors"], donors, strict=True)),
    read_comparisons(Path(snakemake.input.comparisons)),
    read_table(snakemake.input.selected, SETS),
    sets=settings["sets"],
    budget=settings["budget"],
    precision=settings["precision"],
    device=device,
    place=snakemake.input.comparisons,
)
write_parquet(scores, Path(snakemake.output[0]))
job.finish(device)
