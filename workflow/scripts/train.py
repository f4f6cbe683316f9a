"""Train one reward model."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.environment import environment
from rmtension.base.processes import together
from rmtension.engine.training import TrainingRun, train_reward_model
from rmtension.study.stages import Training

settings = snakemake.params.settings
device = start_torch(settings["threads"], settings["gpus"], settings["training"]["precision"])
run = TrainingRun(
    backbone=Path(snakemake.input.backbone).parent,
    train=Path(snakemake.input.train),
    validation=Path(snakemake.input.validation),
    code=[Path(file) for file in snakemake.input.code],
    settings=Training.model_validate(settings["training"]),
    epochs=settings["epochs"],
    seed=int(snakemake.wildcards.seed),
    budget=settings["budget"],
    threads=settings["threads"],
    gpus=settings["gpus"],
    sharded=settings["sharded"],
    method=settings["method"],
    parts=settings["parts"],
    objectives=settings["objectives"],
    frozen=Path(snakemake.input.frozen) if settings["method"] == "frozen" else None,
)
minutes = snakemake.resources.checkpoint_minutes
output = Path(snakemake.output[0]).parent
together(
    max(settings["gpus"], 1),
    lambda: train_reward_model(run, Path(settings["checkpoint"]), output, environment(), minutes),
)
job.finish(device)
