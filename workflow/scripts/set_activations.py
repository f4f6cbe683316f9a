"""How active one reward model's sets are in each text of its test split."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import read_table, write_parquet
from rmtension.data.comparisons import read_comparisons
from rmtension.engine.set_activations import set_activations
from rmtension.neurons.ranking import SETS

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
with arithmetic(settings["precision"], device):
    found = set_activations(
        Path(snakemake.input.reward_model).parent,
        read_comparisons(Path(snakemake.input.pairs)),
        read_table(snakemake.input.selected, SETS),
        sets=settings["sets"],
        is_signed=settings["is_signed"],
        budget=settings["budget"],
        device=device,
    )
write_parquet(found, Path(snakemake.output[0]))
job.finish(device)
