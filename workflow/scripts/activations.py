"""Activation statistics of one reward model and its base."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import write_parquet
from rmtension.engine.activations import Standing, reward_model_statistics
from rmtension.study.stages import Activations

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"])
with arithmetic(settings["precision"], device):
    statistics = reward_model_statistics(
        Path(snakemake.input.reward_model).parent,
        Path(snakemake.input.backbone).parent if snakemake.input.backbone else None,
        Path(snakemake.input.pairs),
        settings=Activations.model_validate(settings["activations"]),
        max_tokens=settings["max_tokens"],
        budget=settings["budget"],
        device=device,
        standing=Standing(**settings["standing"]) if settings["standing"] else None,
    )
write_parquet(statistics.neurons, Path(snakemake.output.neurons))
write_parquet(statistics.heads, Path(snakemake.output.heads))
job.finish(device)
