"""Train one reward model."""

from rmtension import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.device import start_torch
from rmtension.processes import together
from rmtension.environment import environment
from rmtension.study import Training
from rmtension.training import TrainingRun, train_reward_model

params = snakemake.params
device = start_torch(params.threads, params.gpus)
run = TrainingRun(
    backbone=Path(snakemake.input.backbone).parent,
    train=Path(snakemake.input.train),
    validation=Path(snakemake.input.validation),
    code=[Path(file) for file in snakemake.input.code],
    settings=Training.model_validate(params.training),
    epochs=params.epochs,
    seed=int(snakemake.wildcards.seed),
    budget=params.budget,
    threads=params.threads,
    gpus=params.gpus,
    sharded=params.sharded,
)
minutes = snakemake.resources.checkpoint_minutes
output = Path(snakemake.output[0]).parent
together(
    max(params.gpus, 1),
    lambda: train_reward_model(run, Path(params.checkpoint), output, environment(), minutes),
)
job.finish(device)
