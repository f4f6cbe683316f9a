"""What every neuron and attention head of one reward model adds to the margin of pairs."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import write_parquet
from rmtension.engine.attribution import reward_model_attributions
from rmtension.study.stages import Activations

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
with arithmetic(settings["precision"], device):
    found = reward_model_attributions(
        Path(snakemake.input.reward_model).parent,
        Path(snakemake.input.pairs),
        settings=Activations.model_validate(settings["activations"]),
        max_tokens=settings["max_tokens"],
        budget=settings["budget"],
        device=device,
    )
write_parquet(found, Path(snakemake.output[0]))
job.finish(device)
