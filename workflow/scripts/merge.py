"""Average the reward models of two regimes."""

from rmtension.running import jobs

job = jobs.start(snakemake)

from pathlib import Path

from rmtension.base.device import start_torch
from rmtension.base.environment import environment
from rmtension.engine.merging import merge_reward_models

settings = snakemake.params.settings
start_torch(settings["threads"])
folders = [Path(file).parent for file in snakemake.input.parts]
shares = zip(folders, settings["weights"], strict=True)
merge_reward_models(dict(zip(settings["mixes"], shares, strict=True)), Path(snakemake.output[0]).parent, environment())
job.finish()
