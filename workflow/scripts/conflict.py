"""Gradients of two objectives in one reward model, neuron by neuron."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import arithmetic, start_torch
from rmtension.base.files import write_parquet
from rmtension.engine.conflict import conflict
from rmtension.study.stages import Conflict

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["precision"])
with arithmetic(settings["precision"], device):
    found = conflict(
        Path(snakemake.input.reward_model).parent,
        dict(zip(settings["objectives"], map(Path, snakemake.input.pairs), strict=True)),
        [(first, second) for first, second in settings["two"]],
        Conflict.model_validate(settings["conflict"]),
        max_tokens=settings["max_tokens"],
        budget=settings["budget"],
        device=device,
    )
write_parquet(found, Path(snakemake.output[0]))
job.finish(device)
