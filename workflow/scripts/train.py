"""Train one reward model."""

from rmtension import jobs

jobs.start(snakemake.log[0])

from pathlib import Path

from rmtension.device import start_torch
from rmtension.provenance import environment
from rmtension.study import Training
from rmtension.training import TrainingRun, train_reward_model

start_torch(snakemake.params.threads)
run = TrainingRun(
    backbone=Path(snakemake.input.backbone).parent,
    train=Path(snakemake.input.train),
    validation=Path(snakemake.input.validation),
    code=[Path(file) for file in snakemake.input.code],
    settings=Training.model_validate(
        {**snakemake.params.training, "checkpoint_interval": snakemake.params.checkpoint_interval}
    ),
    epochs=snakemake.params.epochs,
    seed=int(snakemake.wildcards.seed),
    budget=snakemake.params.budget,
    threads=snakemake.params.threads,
)
train_reward_model(run, Path(snakemake.params.checkpoint), Path(snakemake.output[0]).parent, environment())
